"""Checkpoint files: safetensors with JSON in the header, the SHA-256 of the whole file in its name.

A file is written beside, synced, hashed and renamed, so a name that ends in its own hash is a whole checkpoint
whenever the power fails. The newest two are kept.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.errors import InputError
from cricavpr.files import sha256_of, sync

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "cricavpr.checkpoint.1"
KEPT = 2
_NAME = re.compile(r"(\d{9})-([0-9a-f]{64})\.safetensors")
_BESIDE = "being-written.partial"  # one name, so that what a crash leaves is overwritten by the next


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that going on needs, as tensors and plain values."""

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint durably, then remove all but the newest two up to its step.

    Raises:
        InputError: it cannot be written; those before it are untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    facts = json.dumps({"format": FORMAT, "step": checkpoint.step, **checkpoint.facts}, sort_keys=True)
    beside = folder / _BESIDE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(checkpoint.tensors), beside, metadata={"cricavpr": facts})
        sync(beside)
        path = folder / f"{checkpoint.step:09d}-{sha256_of(beside)}.safetensors"
        beside.replace(path)
        sync(folder)
        _remove_others(folder, path)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"cannot write a checkpoint of step {checkpoint.step:,} to {folder}: {reason}. Free the place, then go on "
            "with --resume."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    return path


def _remove_others(folder: Path, newest: Path) -> None:
    """Keep `newest` and the one before it; those of later steps were broken, or a run has gone back behind them."""
    earlier = [path for path in found(folder) if path != newest and step_of(path) <= step_of(newest)]
    for path in found(folder):
        if path != newest and path not in earlier[: KEPT - 1]:
            path.unlink()


def found(folder: Path) -> list[Path]:
    """Files that are named like checkpoints, newest first; whether they are whole is not yet known."""
    paths = [path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (step_of(path), path.stat().st_mtime_ns), reverse=True)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.name[:9])


def load_newest(folder: Path) -> tuple[Checkpoint, Path, list[str]]:
    """The newest checkpoint that is whole, where it lies, and what is wrong with each newer one.

    Raises:
        InputError: there is none.
    """
    complaints: list[str] = []
    for path in found(folder):
        try:
            return load(path), path, complaints
        except InputError as error:
            complaints.append(str(error))
    why = f" Of those there: {' '.join(complaints)}" if complaints else ""
    raise InputError(f"there is no checkpoint to go on from in {folder}.{why} Begin anew with another --out.")


def load(path: Path) -> Checkpoint:
    """Read a checkpoint whose hash fits its name.

    Raises:
        InputError: it is damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    name = _NAME.fullmatch(path.name)
    try:
        if name is None or sha256_of(path) != name[2]:
            raise InputError(f"the checkpoint {path} is damaged: its contents are not those that were written.")
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("cricavpr", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"the checkpoint {path} cannot be read: {error}.") from None
    if facts.get("format") != FORMAT:
        raise InputError(f"the checkpoint {path} is of format {facts.get('format')!r}, not {FORMAT!r}.")
    return Checkpoint(int(facts["step"]), tensors, facts)
