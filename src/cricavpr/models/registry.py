"""The known weights, where their files are on this machine, and whether they are still the same files.

Nothing here imports torch, so that `cricavpr weights list` and --help are fast.
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

RECORD_SUFFIX = ".sha256.json"  # CricaVPR.pth.sha256.json: the SHA-256 of the file that was first used


@dataclass(frozen=True)
class KnownWeights:
    """Weights that have a name.

    Attributes:
        url: where the file is; None if it ships with this package.
        page: web page for people.
        about_bytes: size for planning: the exact size, or 4 bytes a parameter and what else is known.
        size_bytes: exact size; None if it is not published.
        sha256: pinned; None if it is not published, and then the first file is recorded and later ones must match.
        by_hand_only: the address is a page for people, which a program cannot download from.
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


_GITHUB = "https://github.com"
_FIRST_KEPT = "No SHA-256 is published: that of the first file is recorded, and later files must match."
_DIMS = (32, 64, 128, 256, 512, 1024, 2048)
_TRUNKS = {  # parameters, channels
    "VGG16": (14_714_688, 512),
    "ResNet18": (11_176_512, 512),
    "ResNet50": (23_508_032, 2048),
    "ResNet101": (42_500_160, 2048),
    "ResNet152": (58_143_808, 2048),
}
_VGG16_BYTES = 4 * 14_714_688


def _vlad_bytes(clusters: int, dim: int) -> int:
    """Return the bytes of VGG-16, NetVLAD and a whitening."""
    return _VGG16_BYTES + 4 * (2 * clusters * 512 + dim * (clusters * 512 + 1))


def _dinov2(model: str, millions: str, sha256: str, size_bytes: int | None, about_bytes: int = 0) -> KnownWeights:
    """`model` is "b" for ViT-B/14, "b_reg" with registers."""
    size, _, registers = model.partition("_")
    filename = f"dinov2_vit{size}14{'_reg4' if registers else ''}_pretrain.pth"
    return KnownWeights(
        name=f"dinov2_vit{size}14{'_reg' if registers else ''}",
        filename=filename,
        url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{size}14/{filename}",
        page=f"{_GITHUB}/facebookresearch/dinov2",
        licence="Apache-2.0",
        about_bytes=size_bytes or about_bytes,
        note=f"DINOv2 ViT-{size}/14{' with 4 registers' if registers else ''}, {millions} M parameters. Its authors "
        "publish no SHA-256; several unrelated public projects record this one.",
        size_bytes=size_bytes,
        sha256=sha256,
    )


def _places(method: str, trunk: str, dim: int) -> KnownWeights:
    """CosPlace and EigenPlaces: one network, many trunks and dimensions, one release page each."""
    repository, paper = {
        "cosplace": ("CosPlace", "CosPlace (CVPR 2022)"),
        "eigenplaces": ("EigenPlaces", "EigenPlaces (ICCV 2023)"),
    }[method]
    page = f"{_GITHUB}/gmberton/{repository}"
    parameters, channels = _TRUNKS[trunk]
    filename = f"{trunk}_{dim}_{method}.pth"
    return KnownWeights(
        name=f"{method}_{trunk.lower()}_{dim}",
        filename=filename,
        url=f"{page}/releases/download/v1.0/{filename}",
        page=page,
        licence="MIT",
        about_bytes=4 * (parameters + (channels + 1) * dim + 1),
        note=f"{paper}: {trunk} with GeM, {dim}-d. {_FIRST_KEPT}",
    )


def _mixvpr(channels: int, rows: int, drive_id: str, about_bytes: int) -> KnownWeights:
    dim = channels * rows
    return KnownWeights(
        name=f"mixvpr_resnet50_{dim}",
        filename=f"resnet50_MixVPR_{dim}_channels({channels})_rows({rows}).ckpt",
        url=f"https://drive.google.com/file/d/{drive_id}/view",
        page=f"{_GITHUB}/amaralibey/MixVPR",
        licence="none stated",
        about_bytes=about_bytes,
        note=f"MixVPR (WACV 2023): ResNet-50 to its third stage, {channels} x {rows} = {dim}-d. {_FIRST_KEPT}",
        by_hand_only=True,
    )


def _transvpr(trained_on: str) -> KnownWeights:
    """The files are in the authors' repository; the address names a commit."""
    repository, commit = "RuotongWANG/TransVPR-model-implementation", "58cf3eeddd3634416f9e1256cc61e226abc5c6d0"
    filename = f"TransVPR_{trained_on}.pth"
    return KnownWeights(
        name=f"transvpr_{trained_on.lower()}",
        filename=filename,
        url=f"https://raw.githubusercontent.com/{repository}/{commit}/{filename}",
        page=f"{_GITHUB}/{repository}",
        licence="none stated",
        about_bytes=21_700_000,
        note=f"TransVPR (CVPR 2022) trained on {trained_on}, 5.4 M parameters. {_FIRST_KEPT}",
    )


def _boq(backbone: str, dim: int, licence: str, about_bytes: int, millions: str) -> KnownWeights:
    page = f"{_GITHUB}/amaralibey/Bag-of-Queries"
    return KnownWeights(
        name=f"boq_{backbone}_{dim}",
        filename=f"boq_{backbone}_{dim}.pth",
        url=f"{page}/releases/download/v1.0/{backbone}_{dim}.pth",
        page=page,
        licence=licence,
        about_bytes=about_bytes,
        note=f"BoQ (CVPR 2024) on {backbone}, {dim}-d, {millions} M parameters. {_FIRST_KEPT}",
    )


def _netvlad(trained_on: str) -> KnownWeights:
    """The networks of the first authors, as redistributed by hloc."""
    filename = f"{trained_on}_struct.mat"
    return KnownWeights(
        name=f"netvlad_{trained_on.lower()}_4096",
        filename=f"VGG16-NetVLAD-{filename}",
        url=f"https://cvg-data.inf.ethz.ch/hloc/netvlad/{filename}",
        page="https://www.di.ens.fr/willow/research/netvlad/",
        licence="none stated",
        about_bytes=_vlad_bytes(64, 4096),
        note=f"NetVLAD (CVPR 2016) trained on {trained_on} by its authors: VGG-16, whitened, 4096-d. {_FIRST_KEPT}",
    )


def _patch_netvlad(trained_on: str, clusters: int, dim: int) -> KnownWeights:
    filename = f"{trained_on}_WPCA{dim}.pth.tar"
    return KnownWeights(
        name=f"patch_netvlad_{trained_on}_{dim}",
        filename=f"patch_netvlad_{filename}",
        url=f"https://huggingface.co/TobiasRobotics/Patch-NetVLAD/resolve/main/{filename}",
        page=f"{_GITHUB}/QVPR/Patch-NetVLAD",
        licence="MIT",
        about_bytes=_vlad_bytes(clusters, dim),
        note=f"Patch-NetVLAD (CVPR 2021) trained on {trained_on}: VGG-16, {dim} values a patch. {_FIRST_KEPT}",
    )


_ALL = (
    KnownWeights(
        name="cricavpr-tiny",
        filename="cricavpr-tiny.safetensors",
        url=None,
        page="",
        licence="MIT",
        about_bytes=0,
        note="A small CricaVPR that ships with this package, for first steps and tests, not for results.",
    ),
    KnownWeights(
        name="cricavpr",
        filename="CricaVPR.pth",
        url=f"{_GITHUB}/Lu-Feng/CricaVPR/releases/download/v1.0/CricaVPR.pth",
        page=f"{_GITHUB}/Lu-Feng/CricaVPR",
        licence="MIT (backbone Apache-2.0)",
        about_bytes=590_000_000,
        note="CricaVPR (CVPR 2024) as its authors released it: ViT-B/14, 106.8 M parameters, and more that is "
        f"skipped. {_FIRST_KEPT}",
    ),
    _dinov2("s", "22.1", "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9", 88_283_115),
    _dinov2("b", "86.6", "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73", 346_378_731),
    _dinov2("l", "304.4", "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428", 1_217_586_395),
    _dinov2("g", "1136.5", "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3", 4_546_108_579),
    _dinov2("s_reg", "22.1", "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb", None, 88_300_000),
    _dinov2("b_reg", "86.6", "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71", 346_393_545),
    _dinov2("l_reg", "304.4", "36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51", 1_217_607_321),
    _dinov2("g_reg", "1136.5", "746ecb8c6301c645c5c855be91687d274587d6e48fdaec4a729753160b34a283", 4_546_140_349),
    *(
        _places(method, trunk, dim)
        for method, trunk, smallest, largest in (
            ("cosplace", "VGG16", 64, 512), ("cosplace", "ResNet18", 32, 512), ("cosplace", "ResNet50", 32, 2048),
            ("cosplace", "ResNet101", 32, 2048), ("cosplace", "ResNet152", 32, 2048),
            ("eigenplaces", "VGG16", 512, 512), ("eigenplaces", "ResNet18", 256, 512),
            ("eigenplaces", "ResNet50", 128, 2048), ("eigenplaces", "ResNet101", 128, 2048),
        )
        for dim in _DIMS if smallest <= dim <= largest
    ),
    KnownWeights(
        name="gcl_resnet152_2048",
        filename="MSLS_resnet152_GeM_480_GCL.pth",
        url="https://doi.org/10.34894/W4LIGP",
        page=f"{_GITHUB}/marialeyvallina/generalized_contrastive_loss",
        licence="MIT (code; none stated for the weights)",
        about_bytes=232_600_000,
        note="GCL (CVPR 2023): ResNet-152 with GeM, trained on MSLS, 58.1 M parameters, 2048-d.",
        by_hand_only=True,
    ),
    _mixvpr(1024, 4, "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L", 43_500_000),
    _mixvpr(256, 2, "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj", 40_400_000),
    _mixvpr(64, 2, "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz", 39_600_000),
    _netvlad("Pitts30K"),
    _netvlad("TokyoTM"),
    KnownWeights(
        name="netvlad_nanne",
        filename="netvlad_nanne.pth.tar",
        url="https://drive.google.com/open?id=17luTjZFCX639guSVy00OUtzfTQo4AMF2",
        page=f"{_GITHUB}/Nanne/pytorch-NetVlad",
        licence="none stated",
        about_bytes=2 * _VGG16_BYTES,
        note="NetVLAD (CVPR 2016) trained again by Nanne/pytorch-NetVlad: VGG-16, 64 clusters, 32768-d, not whitened; "
        f"the file is checkpoints/model_best.pth.tar of the folder at the address. {_FIRST_KEPT}",
        by_hand_only=True,
    ),
    KnownWeights(
        name="sfrs_pitts30k_4096",
        filename="vgg16_netvlad.pth",
        url=f"{_GITHUB}/yxgeee/OpenIBL/releases/download/v0.1.0-beta/vgg16_netvlad.pth",
        page=f"{_GITHUB}/yxgeee/OpenIBL",
        licence="MIT",
        about_bytes=_vlad_bytes(64, 4096),
        note=f"SFRS (ECCV 2020): VGG-16 with NetVLAD, trained on Pitts30k, whitened, 4096-d. {_FIRST_KEPT}",
    ),
    *(_patch_netvlad("pitts", 64, dim) for dim in (4096, 512, 128)),
    *(_patch_netvlad("mapillary", 16, dim) for dim in (4096, 512, 128)),
    _transvpr("MSLS"),
    _transvpr("Pitts30k"),
    KnownWeights(
        name="salad",
        filename="dino_salad.ckpt",
        url=f"{_GITHUB}/serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
        page=f"{_GITHUB}/serizba/salad",
        licence="GPL-3.0 (backbone Apache-2.0)",
        about_bytes=352_000_000,
        note=f"SALAD (CVPR 2024) as its authors released it: ViT-B/14, 8448-d, 88.0 M parameters. {_FIRST_KEPT}",
    ),
    _boq("dinov2", 12288, "MIT (backbone Apache-2.0)", 381_000_000, "95.2"),
    _boq("resnet50", 16384, "MIT", 95_600_000, "23.8"),
    KnownWeights(
        name="megaloc",
        filename="MegaLoc.safetensors",
        url="https://huggingface.co/gberton/MegaLoc/resolve/main/model.safetensors",
        page=f"{_GITHUB}/gmberton/MegaLoc",
        licence="MIT (backbone Apache-2.0)",
        about_bytes=914_600_000,
        note=f"MegaLoc (2025) as its authors released it: ViT-B/14, 8448-d, 228.6 M parameters. {_FIRST_KEPT}",
    ),
)  # fmt: skip

KNOWN: dict[str, KnownWeights] = {known.name: known for known in _ALL}


def known_weights(name: str) -> KnownWeights:
    """Return the known weights of this name.

    Raises:
        WeightsError: unknown name; the message has the nearest one.

    Example:
        >>> known_weights("cricavpr").licence
        'MIT (backbone Apache-2.0)'
    """
    if name in KNOWN:
        return KNOWN[name]
    near = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise WeightsError(f"no file and no known weights {name[:80]!r}. {meant}See `cricavpr weights list`.")


# Where files are


def weights_folder() -> Path:
    """Return the folder of downloaded weights: $CRICAVPR_HOME/weights, or cricavpr/weights in the user's cache.

    Raises:
        WeightsError: neither is known.
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
        raise WeightsError("there is no home folder. Set CRICAVPR_HOME to a folder for weights.") from None


def place_of(known: KnownWeights) -> Path:
    """Return the path where the file of known weights is, or would be."""
    if not known.shipped:
        return weights_folder() / known.filename
    return Path(str(importlib.resources.files("cricavpr"))) / "weights" / known.filename


def is_here(known: KnownWeights) -> bool:
    """Return whether the file is on this machine; its content is not checked."""
    return place_of(known).is_file()


def find_weights(name_or_path: str | Path) -> Path:
    """Return the path of a weights file: a path, a folder of `save_pretrained`, or the name of known weights.

    The file of known weights is checked: against the pinned SHA-256 or, if none is published, against the one that was
    recorded when the file was first used here.

    Raises:
        WeightsError: the file is not here (the message says how to get it), or it has changed.

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
    if name not in KNOWN and _looks_like_path(path):
        what = f"is a folder without {PRETRAINED}" if path.is_dir() else "does not exist"
        raise WeightsError(f"{path} {what}; expected a weights file or a name from `cricavpr weights list`.")
    known = known_weights(name)
    place = place_of(known)
    if not place.is_file():
        raise WeightsError(how_to_get(known))
    if not known.shipped:
        _check_identity(known, place, sha256_of(place))
    return place


PRETRAINED = "model.safetensors"  # the weights in a folder of `save_pretrained`


def how_to_get(known: KnownWeights) -> str:
    """Return one line: the command to run, or what to download by hand and where to put it."""
    if known.shipped:
        return f"{known.name} ships with this package but {place_of(known)} is missing. Reinstall cricavpr."
    if known.by_hand_only:
        return f"the weights {known.name} are not here and cannot be downloaded by a program: {by_hand(known)}"
    run = f"`cricavpr weights pull {known.name}`"
    return f"the weights {known.name} are not here. Run {run}, or {by_hand(known)}"


def by_hand(known: KnownWeights) -> str:
    """Return a clause: what a person can download, and where to put it."""
    if known.by_hand_only:
        return (
            f"open {known.url} in a browser (see {known.page}), download {known.filename} "
            f"and put it at {place_of(known)}."
        )
    return f"download {known.url} (see {known.page}) and put it at {place_of(known)}."


# Whether a file is still the same


def _check_identity(known: KnownWeights, path: Path, sha256: str) -> None:
    """Raise if a file is neither the pinned one nor the one first used here; record it if it is the first."""
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
    """Raise if a file differs from the record beside it; without a record do nothing.

    Raises:
        WeightsError: the file has changed since it was first used.
    """
    expected = recorded_sha256(path)
    if expected is not None and expected != sha256:
        raise WeightsError(
            f"{path} has changed since it was first used here: expected SHA-256 {expected}, got {sha256}. "
            f"If you replaced it on purpose, delete {record_of(path).name} beside it; else fetch it again."
        )


def record_of(path: Path) -> Path:
    """Return the path of the record beside a weights file: a small JSON with its SHA-256."""
    return path.with_name(path.name + RECORD_SUFFIX)


def recorded_sha256(path: Path) -> str | None:
    """Return the SHA-256 recorded beside a file, or None without a record.

    Raises:
        WeightsError: the record cannot be read.
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
    """Write the record beside a file; a read-only folder gets none."""
    entry = {"sha256": sha256, "size_bytes": path.stat().st_size, "source": source}
    with contextlib.suppress(InputError):
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
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False


def _looks_like_path(path: Path) -> bool:
    return len(path.parts) > 1 or path.suffix in {".pth", ".pt", ".tar", ".ckpt", ".safetensors", ".bin", ".mat"}
