"""Known weights: the table of published weights files, their paths on this machine, and checks that they are unchanged.

This module does not import torch, so that `cricavpr weights list` and --help are fast.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import importlib.resources
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cricavpr.errors import InputError, WeightsError
from cricavpr.files import sha256_of, write_text
from cricavpr.schema import parse_json

RECORD_SUFFIX = ".sha256.json"  # CricaVPR.pth.sha256.json: SHA-256 of CricaVPR.pth at its first use
SUFFIXES = {".pth", ".pt", ".tar", ".ckpt", ".safetensors", ".bin", ".mat"}  # file name endings of weights files
PRETRAINED = "model.safetensors"  # file of weights in a folder of `save_pretrained`
FIRST_KEPT = (
    "No SHA-256 is published, so the SHA-256 of the first download is recorded, and later downloads must match it."
)


@dataclass(frozen=True)
class KnownWeights:
    """One row of the table of known weights.

    Attributes:
        name: the name that users give, such as "cricavpr".
        filename: name of the file in the folder of weights.
        url: address of the file; None if it ships with this package.
        page: web page about the weights.
        licence: licence of the weights.
        about_bytes: approximate size of the file, to plan a download.
        note: remark for users.
        size_bytes: exact size of the file; None if it is not published.
        sha256: expected SHA-256; None if it is not published. Then the SHA-256 is recorded when the file is first used,
            and later files must match it.
        by_hand_only: whether the file can only be downloaded in a browser.
    """

    name: str
    filename: str
    url: str | None
    page: str
    licence: str
    about_bytes: int
    note: str
    size_bytes: int | None = None
    sha256: str | None = None
    by_hand_only: bool = False

    @property
    def shipped(self) -> bool:
        """Whether the file ships with the package."""
        return self.url is None


def _known(row: dict[str, str]) -> KnownWeights:
    kept = "" if row["sha256"] or not row["url"] else f" {FIRST_KEPT}"
    converted = {
        "url": row["url"] or None,
        "about_bytes": int(row["about_bytes"]),
        "size_bytes": int(row["size_bytes"]) if row["size_bytes"] else None,
        "sha256": row["sha256"] or None,
        "note": row["note"] + kept,
        "by_hand_only": row["by_hand_only"] == "yes",
    }
    return KnownWeights(**{**row, **converted})  # type: ignore[arg-type]


_TABLE = (importlib.resources.files("cricavpr") / "weights" / "known.csv").read_text(encoding="utf-8")
KNOWN = {row["name"]: _known(row) for row in csv.DictReader(io.StringIO(_TABLE))}


def known_weights(name: str) -> KnownWeights:
    """Return the entry of KNOWN with this name.

    Raises:
        WeightsError: the name is unknown; the message suggests the most similar name.

    Example:
        >>> known_weights("cricavpr").licence
        'MIT (backbone Apache-2.0)'
    """
    if name in KNOWN:
        return KNOWN[name]
    near = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise WeightsError(f"found neither a file nor known weights {name[:80]!r}. {meant}See `cricavpr weights list`.")


# Where files are


def weights_folder() -> Path:
    """Return the folder of downloaded weights: $CRICAVPR_HOME/weights, or cricavpr/weights in the user's cache.

    Raises:
        WeightsError: CRICAVPR_HOME is not set, and the user has no home folder.
    """
    home = os.environ.get("CRICAVPR_HOME")
    if home:
        return Path(home).expanduser().absolute() / "weights"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if Path(cache).is_absolute():
        return Path(cache) / "cricavpr" / "weights"
    try:
        return Path.home() / ".cache" / "cricavpr" / "weights"
    except RuntimeError:
        raise WeightsError("this user has no home folder. Set CRICAVPR_HOME to a folder for weights.") from None


def place_of(known: KnownWeights) -> Path:
    """Return the path at which a file of known weights is expected. The file may be missing."""
    if not known.shipped:
        return weights_folder() / known.filename
    return Path(str(importlib.resources.files("cricavpr"))) / "weights" / known.filename


def find_weights(name_or_path: str | Path) -> Path:
    """Return the path of a weights file.

    The file of known weights must have the published SHA-256. If none is published, it must have the SHA-256 that was
    recorded when the file was first used on this machine.

    Args:
        name_or_path: path of a weights file or of a folder written by `save_pretrained`, or the name of known weights.

    Raises:
        WeightsError: the file is missing (the message says how to get it), or it has changed.

    Example:
        >>> find_weights("cricavpr-tiny").name
        'cricavpr-tiny.safetensors'
    """
    path = Path(name_or_path).expanduser()
    if _is_file(path):
        return path
    if _is_file(path / PRETRAINED):
        return path / PRETRAINED
    name = str(name_or_path)
    if name not in KNOWN and (len(path.parts) > 1 or path.suffix in SUFFIXES):
        what = f"is a folder without {PRETRAINED}" if path.is_dir() else "does not exist"
        raise WeightsError(f"{path} {what}; expected a weights file or a name from `cricavpr weights list`.")
    known = known_weights(name)
    place = place_of(known)
    if not place.is_file():
        raise WeightsError(how_to_get(known))
    if not known.shipped:
        _check_identity(known, place, sha256_of(place))
    return place


def how_to_get(known: KnownWeights) -> str:
    """Return a message that says how to get known weights: by a command, or by hand with the address and the path."""
    if known.shipped:
        return f"{known.name} ships with this package but {place_of(known)} is missing. Reinstall cricavpr."
    if known.by_hand_only:
        return f"the weights {known.name} are not here and cannot be downloaded by a program: {by_hand(known)}"
    run = f"`cricavpr weights pull {known.name}`"
    return f"the weights {known.name} are not here. Run {run}, or {by_hand(known)}"


def by_hand(known: KnownWeights) -> str:
    """Return a clause for messages: which file to download by hand, and where to put it."""
    if known.by_hand_only:
        return (
            f"open {known.url} in a browser (see {known.page}), download {known.filename} "
            f"and put it at {place_of(known)}."
        )
    return f"download {known.url} (see {known.page}) and put it at {place_of(known)}."


# Whether a file is still the same


def _check_identity(known: KnownWeights, path: Path, sha256: str) -> None:
    """Raise WeightsError if the SHA-256 is not the published one or, if none is published, not the recorded one.

    If there is neither a published nor a recorded SHA-256, record this one.
    """
    if known.sha256 is not None:
        if sha256 != known.sha256:
            raise WeightsError(
                f"{path} is not the known file of {known.name}: expected SHA-256 {known.sha256}, got {sha256}. "
                f"Delete it and run `cricavpr weights pull {known.name}`."
            )
        return
    check_recorded(path, sha256)
    if recorded_sha256(path) is None:
        record(path, sha256, source="found in place")


def check_recorded(path: Path, sha256: str) -> None:
    """Raise WeightsError if the file has changed: its SHA-256 is not the one in the record beside it.

    Without a record do nothing.
    """
    expected = recorded_sha256(path)
    if expected is not None and expected != sha256:
        raise WeightsError(
            f"{path} has changed since it was first used here: expected SHA-256 {expected}, got {sha256}. "
            f"If you replaced it on purpose, delete {record_of(path).name} beside it; else download it again."
        )


def record_of(path: Path) -> Path:
    """Return the path of the record beside a weights file: a small JSON file with the SHA-256 of the weights file."""
    return path.with_name(path.name + RECORD_SUFFIX)


def recorded_sha256(path: Path) -> str | None:
    """Return the SHA-256 recorded beside a file; return None if there is no record.

    Raises:
        WeightsError: the record cannot be read.
    """
    beside = record_of(path)
    try:
        found = parse_json(beside.read_bytes(), str(beside))
    except FileNotFoundError:
        return None
    except (OSError, InputError) as error:
        raise WeightsError(
            f"cannot read {beside}, which records the SHA-256 of the weights ({error}). If you trust the weights, "
            f"delete {beside.name}; then they are not compared."
        ) from None
    sha256 = found.get("sha256") if isinstance(found, dict) else None
    if not isinstance(sha256, str) or len(sha256) != 64:
        raise WeightsError(
            f"{beside} must hold the SHA-256 of the weights, but holds none. "
            f"If you trust the weights, delete {beside.name}."
        )
    return sha256


def record(path: Path, sha256: str, source: str) -> None:
    """Write the record beside a weights file: its SHA-256, and where it came from. In a read-only folder do nothing."""
    entry = {"sha256": sha256, "size_bytes": path.stat().st_size, "source": source}
    with contextlib.suppress(InputError):
        write_text(record_of(path), json.dumps(entry, indent=1, sort_keys=True) + "\n")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long or has a zero byte
        return False
