"""Which weights are known by name, where they lie on this machine, and whether they are still the same file.

Nothing here imports torch, so that listing weights and `--help` answer at once.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.resources
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cricavpr.errors import InputError, WeightsError
from cricavpr.files import sha256_of, write_text

NAMES_IN_MESSAGE = 12
RECORD_SUFFIX = ".sha256.json"  # CricaVPR.pth.sha256.json: which file was first used under this name


@dataclass(frozen=True)
class KnownWeights:
    """Weights that can be asked for by name."""

    name: str
    filename: str
    url: str | None  # None: ships inside this package
    page: str  # where a person reads about them
    licence: str
    size_bytes: int | None  # exact size of the file; None where nobody has told us
    about_bytes: int  # for planning: the exact size, or 4 bytes a parameter and what else is known
    sha256: str | None  # pinned; None: unknown, so the first download is recorded and kept to
    note: str
    by_hand_only: bool = False  # the address is a page in front of the file, made for people

    @property
    def shipped(self) -> bool:
        """Whether the file comes with the package."""
        return self.url is None


_DINOV2_PAGE = "https://github.com/facebookresearch/dinov2"
_DINOV2_HASH = "Its authors publish no SHA-256; several unrelated public projects record this one."


def _dinov2(
    size: str, registers: bool, millions: str, size_bytes: int | None, about_bytes: int, sha256: str
) -> KnownWeights:
    with_registers = " with 4 registers" if registers else ""
    filename = f"dinov2_vit{size}14{'_reg4' if registers else ''}_pretrain.pth"
    return KnownWeights(
        name=f"dinov2_vit{size}14{'_reg' if registers else ''}",
        filename=filename,
        url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{size}14/{filename}",
        page=_DINOV2_PAGE,
        licence="Apache-2.0",
        size_bytes=size_bytes,
        about_bytes=about_bytes,
        sha256=sha256,
        note=f"DINOv2 ViT-{size}/14{with_registers}, {millions} M parameters. {_DINOV2_HASH}",
    )


_DIMS = (32, 64, 128, 256, 512, 1024, 2048)
_TRUNKS = {  # parameters, channels
    "VGG16": (14_714_688, 512),
    "ResNet18": (11_176_512, 512),
    "ResNet50": (23_508_032, 2048),
    "ResNet101": (42_500_160, 2048),
    "ResNet152": (58_143_808, 2048),
}
_FIRST_KEPT = "No SHA-256 is published: the first file is recorded and kept to."


def _places(method: str, paper: str, backbone: str, dim: int) -> KnownWeights:
    """CosPlace and EigenPlaces: one network, many trunks and dimensions, one release page each."""
    repository = {"cosplace": "CosPlace", "eigenplaces": "EigenPlaces"}[method]
    page = f"https://github.com/gmberton/{repository}"
    parameters, channels = _TRUNKS[backbone]
    filename = f"{backbone}_{dim}_{method}.pth"
    return KnownWeights(
        name=f"{method}_{backbone.lower()}_{dim}",
        filename=filename,
        url=f"{page}/releases/download/v1.0/{filename}",
        page=page,
        licence="MIT",
        size_bytes=None,
        about_bytes=4 * (parameters + (channels + 1) * dim + 1),
        sha256=None,
        note=f"{paper}: {backbone} with GeM, {dim}-d. {_FIRST_KEPT}",
    )


def _mixvpr(dim: int, channels: int, rows: int, drive_id: str, about_bytes: int) -> KnownWeights:
    return KnownWeights(
        name=f"mixvpr_resnet50_{dim}",
        filename=f"resnet50_MixVPR_{dim}_channels({channels})_rows({rows}).ckpt",
        url=f"https://drive.google.com/file/d/{drive_id}/view",
        page="https://github.com/amaralibey/MixVPR",
        licence="none stated",
        size_bytes=None,
        about_bytes=about_bytes,
        sha256=None,
        note=f"MixVPR (WACV 2023): ResNet-50 to its third stage, {channels} x {rows} = {dim}-d. {_FIRST_KEPT}",
        by_hand_only=True,
    )


_TRANSVPR = "RuotongWANG/TransVPR-model-implementation"


def _transvpr(trained_on: str) -> KnownWeights:
    """The files lie in the repository itself; the address names the commit they were looked at in."""
    filename, commit = f"TransVPR_{trained_on}.pth", "58cf3eeddd3634416f9e1256cc61e226abc5c6d0"
    return KnownWeights(
        name=f"transvpr_{trained_on.lower()}",
        filename=filename,
        url=f"https://raw.githubusercontent.com/{_TRANSVPR}/{commit}/{filename}",
        page=f"https://github.com/{_TRANSVPR}",
        licence="none stated",
        size_bytes=None,
        about_bytes=21_700_000,
        sha256=None,
        note=f"TransVPR (CVPR 2022) trained on {trained_on}, 5.4 M parameters. {_FIRST_KEPT}",
    )


def _boq(backbone: str, dim: int, licence: str, about_bytes: int, millions: str) -> KnownWeights:
    page = "https://github.com/amaralibey/Bag-of-Queries"
    return KnownWeights(
        name=f"boq_{backbone}_{dim}",
        filename=f"boq_{backbone}_{dim}.pth",
        url=f"{page}/releases/download/v1.0/{backbone}_{dim}.pth",
        page=page,
        licence=licence,
        size_bytes=None,
        about_bytes=about_bytes,
        sha256=None,
        note=f"BoQ (CVPR 2024) on {backbone}, {dim}-d, {millions} M parameters. {_FIRST_KEPT}",
    )


_VGG16_BYTES = 4 * 14_714_688
_NETVLAD_PAGE = "https://www.di.ens.fr/willow/research/netvlad/"


def _netvlad(name: str, trained_on: str) -> KnownWeights:
    """The first authors' networks, as hloc hands them on."""
    filename = f"{trained_on}_struct.mat"
    return KnownWeights(
        name=f"netvlad_{name}_4096",
        filename=f"VGG16-NetVLAD-{filename}",
        url=f"https://cvg-data.inf.ethz.ch/hloc/netvlad/{filename}",
        page=_NETVLAD_PAGE,
        licence="none stated",
        size_bytes=None,
        about_bytes=_VGG16_BYTES + 4 * (2 * 64 * 512 + 4096 * (64 * 512 + 1)),
        sha256=None,
        note=f"NetVLAD (CVPR 2016) trained on {trained_on} by its authors: VGG-16, whitened, 4096-d. {_FIRST_KEPT}",
    )


def _patch_netvlad(trained_on: str, clusters: int, dim: int) -> KnownWeights:
    filename = f"{trained_on}_WPCA{dim}.pth.tar"
    return KnownWeights(
        name=f"patch_netvlad_{trained_on}_{dim}",
        filename=f"patch_netvlad_{filename}",
        url=f"https://huggingface.co/TobiasRobotics/Patch-NetVLAD/resolve/main/{filename}",
        page="https://github.com/QVPR/Patch-NetVLAD",
        licence="MIT",
        size_bytes=None,
        about_bytes=_VGG16_BYTES + 4 * (2 * clusters * 512 + dim * (clusters * 512 + 1)),
        sha256=None,
        note=f"Patch-NetVLAD (CVPR 2021) trained on {trained_on}: VGG-16, {dim} values a patch. {_FIRST_KEPT}",
    )


_ALL = (
    KnownWeights(
        name="cricavpr-tiny",
        filename="cricavpr-tiny.safetensors",
        url=None,
        page="",
        licence="MIT",
        size_bytes=None,
        about_bytes=0,
        sha256=None,
        note="A small CricaVPR that ships with this package, for first steps and tests, not for results.",
    ),
    KnownWeights(
        name="cricavpr",
        filename="CricaVPR.pth",
        url="https://github.com/Lu-Feng/CricaVPR/releases/download/v1.0/CricaVPR.pth",
        page="https://github.com/Lu-Feng/CricaVPR",
        licence="MIT (backbone Apache-2.0)",
        size_bytes=None,
        about_bytes=590_000_000,
        sha256=None,
        note=(
            "CricaVPR (CVPR 2024) as its authors released it: ViT-B/14, 106.8 M parameters, and more that is "
            "skipped. No SHA-256 is published: the first download is recorded and kept to."
        ),
    ),
    _dinov2("s", False, "22.1", 88_283_115, 88_283_115,
            "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    _dinov2("b", False, "86.6", 346_378_731, 346_378_731,
            "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    _dinov2("l", False, "304.4", 1_217_586_395, 1_217_586_395,
            "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
    _dinov2("g", False, "1136.5", 4_546_108_579, 4_546_108_579,
            "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3"),
    _dinov2("s", True, "22.1", None, 88_300_000,
            "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb"),
    _dinov2("b", True, "86.6", 346_393_545, 346_393_545,
            "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71"),
    _dinov2("l", True, "304.4", 1_217_607_321, 1_217_607_321,
            "36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51"),
    _dinov2("g", True, "1136.5", 4_546_140_349, 4_546_140_349,
            "746ecb8c6301c645c5c855be91687d274587d6e48fdaec4a729753160b34a283"),
    *(
        _places("cosplace", "CosPlace (CVPR 2022)", backbone, dim)
        for backbone, smallest, largest in (
            ("VGG16", 64, 512), ("ResNet18", 32, 512), ("ResNet50", 32, 2048), ("ResNet101", 32, 2048),
            ("ResNet152", 32, 2048),
        )
        for dim in _DIMS if smallest <= dim <= largest
    ),
    *(
        _places("eigenplaces", "EigenPlaces (ICCV 2023)", backbone, dim)
        for backbone, smallest, largest in (
            ("VGG16", 512, 512), ("ResNet18", 256, 512), ("ResNet50", 128, 2048), ("ResNet101", 128, 2048),
        )
        for dim in _DIMS if smallest <= dim <= largest
    ),
    KnownWeights(
        name="gcl_resnet152_2048",
        filename="MSLS_resnet152_GeM_480_GCL.pth",
        url="https://doi.org/10.34894/W4LIGP",
        page="https://github.com/marialeyvallina/generalized_contrastive_loss",
        licence="MIT (code; none stated for the weights)",
        size_bytes=None,
        about_bytes=232_600_000,
        sha256=None,
        note="GCL (CVPR 2023): ResNet-152 with GeM, trained on MSLS, 58.1 M parameters, 2048-d.",
        by_hand_only=True,
    ),
    _mixvpr(4096, 1024, 4, "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L", 43_500_000),
    _mixvpr(512, 256, 2, "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj", 40_400_000),
    _mixvpr(128, 64, 2, "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz", 39_600_000),
    _netvlad("pitts30k", "Pitts30K"),
    _netvlad("tokyotm", "TokyoTM"),
    KnownWeights(
        name="netvlad_nanne",
        filename="netvlad_nanne.pth.tar",
        url="https://drive.google.com/open?id=17luTjZFCX639guSVy00OUtzfTQo4AMF2",
        page="https://github.com/Nanne/pytorch-NetVlad",
        licence="none stated",
        size_bytes=None,
        about_bytes=2 * _VGG16_BYTES,
        sha256=None,
        note=(
            "NetVLAD (CVPR 2016) trained again by Nanne/pytorch-NetVlad: VGG-16, 64 clusters, 32768-d, not whitened; "
            f"the file is checkpoints/model_best.pth.tar of the folder at the address. {_FIRST_KEPT}"
        ),
        by_hand_only=True,
    ),
    KnownWeights(
        name="sfrs_pitts30k_4096",
        filename="vgg16_netvlad.pth",
        url="https://github.com/yxgeee/OpenIBL/releases/download/v0.1.0-beta/vgg16_netvlad.pth",
        page="https://github.com/yxgeee/OpenIBL",
        licence="MIT",
        size_bytes=None,
        about_bytes=_VGG16_BYTES + 4 * (2 * 64 * 512 + 4096 * (64 * 512 + 1)),
        sha256=None,
        note=f"SFRS (ECCV 2020): VGG-16 with NetVLAD, trained on Pitts30k, whitened, 4096-d. {_FIRST_KEPT}",
    ),
    *(_patch_netvlad("pitts", 64, dim) for dim in (4096, 512, 128)),
    *(_patch_netvlad("mapillary", 16, dim) for dim in (4096, 512, 128)),
    _transvpr("MSLS"),
    _transvpr("Pitts30k"),
    KnownWeights(
        name="salad",
        filename="dino_salad.ckpt",
        url="https://github.com/serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
        page="https://github.com/serizba/salad",
        licence="GPL-3.0 (backbone Apache-2.0)",
        size_bytes=None,
        about_bytes=352_000_000,
        sha256=None,
        note=f"SALAD (CVPR 2024) as its authors released it: ViT-B/14, 8448-d, 88.0 M parameters. {_FIRST_KEPT}",
    ),
    _boq("dinov2", 12288, "MIT (backbone Apache-2.0)", 381_000_000, "95.2"),
    _boq("resnet50", 16384, "MIT", 95_600_000, "23.8"),
    KnownWeights(
        name="megaloc",
        filename="MegaLoc.safetensors",
        url="https://huggingface.co/gberton/MegaLoc/resolve/main/model.safetensors",
        page="https://github.com/gmberton/MegaLoc",
        licence="MIT (backbone Apache-2.0)",
        size_bytes=None,
        about_bytes=914_600_000,
        sha256=None,
        note=f"MegaLoc (2025) as its authors released it: ViT-B/14, 8448-d, 228.6 M parameters. {_FIRST_KEPT}",
    ),
)  # fmt: skip

KNOWN: dict[str, KnownWeights] = {known.name: known for known in _ALL}


def known_weights(name: str) -> KnownWeights:
    """The entry of this name.

    Raises:
        WeightsError: no such name; the message lists the known ones and the nearest.
    """
    if name in KNOWN:
        return KNOWN[name]
    nearest = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    meant = f" Did you mean {nearest[0]}?" if nearest else ""
    raise WeightsError(f"no weights are called {name[:80]!r}, and no such file exists.{meant} Known: {_known_names()}.")


def _known_names() -> str:
    first = list(KNOWN)[:NAMES_IN_MESSAGE]
    rest = len(KNOWN) - len(first)
    return ", ".join(first) + (f" and {rest} more, see `cricavpr weights list`" if rest > 0 else "")


def weights_folder() -> Path:
    """Where pulled weights live: $CRICAVPR_HOME/weights, or cricavpr/weights in the user's cache folder."""
    home = os.environ.get("CRICAVPR_HOME")
    if home:
        return Path(home).expanduser().absolute() / "weights"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if Path(cache).is_absolute():
        return Path(cache) / "cricavpr" / "weights"
    try:
        return Path.home() / ".cache" / "cricavpr" / "weights"
    except RuntimeError:
        raise WeightsError("no home folder is known. Set CRICAVPR_HOME to where weights may be kept.") from None


def place_of(known: KnownWeights) -> Path:
    """Where the file of these weights lies, or would lie."""
    if not known.shipped:
        return weights_folder() / known.filename
    shipped = importlib.resources.files("cricavpr") / "weights" / known.filename
    return Path(str(shipped))


def is_here(known: KnownWeights) -> bool:
    """Whether the file is on this machine already (unchecked)."""
    return place_of(known).is_file()


def find_weights(name_or_path: str | Path) -> Path:
    """The file behind a path, a shipped name, or a known name that was pulled or put in place by hand.

    A file found by name is checked before it is returned: against the pinned SHA-256, or, where none is
    known, against the one recorded when it was first used here.

    Raises:
        WeightsError: it is not here; the message says what to run, or what to fetch and where to put it.
    """
    path = Path(name_or_path).expanduser()
    if _is_file(path):
        return path
    name = str(name_or_path)
    if name not in KNOWN and _looks_like_path(path):
        what = "is a folder, not a weights file" if path.is_dir() else "does not exist"
        raise WeightsError(f"{path} {what}. Give a file, or one of these names: {_known_names()}.")
    known = known_weights(name)
    place = place_of(known)
    if not place.is_file():
        raise WeightsError(how_to_get(known))
    if not known.shipped:
        check_identity(known, place, sha256_of(place))
    return place


def how_to_get(known: KnownWeights) -> str:
    """One line: what to run, or what to fetch by hand and where to put it."""
    if known.shipped:
        return f"{known.name} ships with this package but {place_of(known)} is missing. Reinstall cricavpr."
    if known.by_hand_only:
        return f"the weights {known.name} are not here, and no program can fetch them: {by_hand(known)}"
    run = f"`cricavpr weights pull {known.name}`"
    return f"the weights {known.name} are not here. Run {run}, or {by_hand(known)}"


def by_hand(known: KnownWeights) -> str:
    """Half a sentence: what a person can fetch, and where to put it."""
    if known.by_hand_only:
        return (
            f"open {known.url} in a browser (see {known.page}), fetch {known.filename} and put it at {place_of(known)}."
        )
    return f"fetch {known.url} (see {known.page}) and put it at {place_of(known)}."


def check_identity(known: KnownWeights, path: Path, sha256: str) -> None:
    """Refuse a file that is neither the pinned one nor the one first used here; record it if it is the first.

    Raises:
        WeightsError: it is another file.
    """
    if known.sha256 is not None:
        if sha256 != known.sha256:
            raise WeightsError(
                f"{path} is not the {known.name} we know: SHA-256 {sha256}, pinned {known.sha256}. "
                f"Delete it and run `cricavpr weights pull {known.name}`."
            )
        return
    check_recorded(path, sha256)
    if recorded_sha256(path) is None:
        record(path, sha256, source="found in place")


def check_recorded(path: Path, sha256: str) -> None:
    """Refuse a file that differs from the record beside it; without a record everything passes.

    Raises:
        WeightsError: the file was exchanged or damaged since it was first used.
    """
    expected = recorded_sha256(path)
    if expected is not None and expected != sha256:
        raise WeightsError(
            f"{path} has changed since it was first used here: SHA-256 {sha256}, recorded {expected}. "
            f"If you replaced it on purpose, delete {record_of(path).name} beside it; else fetch it again."
        )


def record_of(path: Path) -> Path:
    """The small JSON beside a weights file that says which file it was when first used."""
    return path.with_name(path.name + RECORD_SUFFIX)


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 recorded beside a file, or None without a record.

    Raises:
        WeightsError: there is a record, but it cannot be read.
    """
    beside = record_of(path)
    try:
        text = beside.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read {beside} ({error}). Delete it if you trust the weights.") from None
    sha256 = _field(text, "sha256")
    if not isinstance(sha256, str) or len(sha256) != 64:
        raise WeightsError(f"{beside} holds no SHA-256. Delete it if you trust the weights.")
    return sha256


def record(path: Path, sha256: str, source: str) -> None:
    """Write the record beside a file, where the folder lets us."""
    entry = {"sha256": sha256, "size_bytes": path.stat().st_size, "source": source}
    with contextlib.suppress(InputError):  # a folder that is read-only for us keeps its file but no record
        write_text(record_of(path), json.dumps(entry, indent=1, sort_keys=True) + "\n")


def _field(text: str, name: str) -> Any:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry.get(name) if isinstance(entry, dict) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte in it
        return False


def _looks_like_path(path: Path) -> bool:
    return len(path.parts) > 1 or path.suffix in {".pth", ".pt", ".tar", ".ckpt", ".safetensors", ".bin", ".mat"}
