"""Published methods, ready to run: the table METHODS, and `load_method`, which loads a method with its weights."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.errors import InputError
from cricavpr.schema import nearest

if TYPE_CHECKING:
    from cricavpr.methods.embedding import LoadedMethod

DEFAULT_METHOD = "cricavpr-tiny"


@dataclass(frozen=True)
class Entry:
    """One row of the table of methods.

    Attributes:
        summary: one line about the method, for users.
        default_weights: a name from `cricavpr weights list`; None for a method without weights.
        module: module of `cricavpr.methods` with the function `load(name, weights, device, **settings)`.
    """

    summary: str
    default_weights: str | None
    module: str = "families"


METHODS: dict[str, Entry] = {
    "cricavpr-tiny": Entry(
        "CricaVPR with 3 M parameters at 112 px, trained on computer-drawn towns; its weights ship with this package",
        "cricavpr-tiny",
        "cricavpr",
    ),
    "cricavpr": Entry(
        "CricaVPR (CVPR 2024): ViT-B/14 at 224 px, 10752-d, with the authors' weights", "cricavpr", "cricavpr"
    ),
    "netvlad": Entry(
        "NetVLAD (CVPR 2016): VGG-16 at each photo's own size, 4096-d, or 32768-d with Nanne's weights",
        "netvlad_pitts30k_4096",
        "netvlad",
    ),
    "sfrs": Entry(
        "SFRS (ECCV 2020): NetVLAD at 480 x 640 px, trained with similarities of image regions, 4096-d",
        "sfrs_pitts30k_4096",
        "netvlad",
    ),
    "patch_netvlad": Entry(
        "Patch-NetVLAD (CVPR 2021), performance setting: re-ranks by patches of three sizes and RANSAC, 4096-d",
        "patch_netvlad_pitts_4096",
        "patch_netvlad",
    ),
    "patch_netvlad-speed": Entry(
        "Patch-NetVLAD, speed setting: re-ranks by patches of one size and rapid spatial scoring, 512-d",
        "patch_netvlad_pitts_512",
        "patch_netvlad",
    ),
    "patch_netvlad-storage": Entry(
        "Patch-NetVLAD, storage setting: like patch_netvlad-speed, with 128 values per patch, 128-d",
        "patch_netvlad_pitts_128",
        "patch_netvlad",
    ),
    "cosplace": Entry(
        "CosPlace (CVPR 2022): VGG-16 or ResNet with GeM at each photo's own size, 32-d to 2048-d",
        "cosplace_resnet50_2048",
    ),
    "eigenplaces": Entry(
        "EigenPlaces (ICCV 2023): CosPlace's network, trained for changes of viewpoint", "eigenplaces_resnet50_2048"
    ),
    "gcl": Entry(
        "GCL (CVPR 2023): ResNet-152 with GeM at 480 x 640 px, 2048-d; fit its whitening to the database separately",
        "gcl_resnet152_2048",
    ),
    "mixvpr": Entry(
        "MixVPR (WACV 2023): ResNet-50 and a feature mixer at 320 px, 4096-d, 512-d or 128-d", "mixvpr_resnet50_4096"
    ),
    "transvpr": Entry(
        "TransVPR (CVPR 2022): convolutions and a transformer at 480 x 640 px, 256-d, re-ranks by patches",
        "transvpr_msls",
        "transvpr",
    ),
    "salad": Entry("SALAD (CVPR 2024): DINOv2 ViT-B/14 and optimal transport at 322 px, 8448-d", "salad"),
    "boq": Entry("BoQ (CVPR 2024): DINOv2 ViT-B/14 and learnt queries at 322 px, 12288-d", "boq_dinov2_12288"),
    "boq-resnet50": Entry("BoQ on ResNet-50 at 384 px, 16384-d", "boq_resnet50_16384"),
    "megaloc": Entry("MegaLoc (2025): SALAD trained on many datasets, any size, 8448-d", "megaloc"),
    "pixels": Entry("64 x 32 grey pixels, normalised patch by patch: the baseline to beat", None, "pixels"),
}


def load_method(
    name: str = DEFAULT_METHOD, weights: str | Path | None = None, device: str = "auto", **settings: Any
) -> LoadedMethod:
    """Load a method with its weights.

    Args:
        name: a key of METHODS; `cricavpr methods` lists them.
        weights: a weights file, a folder written by `save_pretrained`, a name from `cricavpr weights list`, or
            "random:SEED" for random weights; None for the method's default weights.
        device: cpu, cuda or mps; "auto" takes the first of cuda, mps and cpu that works on this machine. The
            attribute `device` of the method says which.
        settings: settings that replace published ones, such as image_size=(322, 322) or region_cuts="authors".

    Raises:
        InputError: the method, a setting or the device is unknown or cannot be used.
        WeightsError: the weights are missing or unsafe, or do not fit the network.

    Example:
        >>> load_method(device="cpu", image_size=(168, 168))
        <CricaVPRMethod cricavpr-tiny: 168 x 168 px, 2688-d, weights 8ce0ba2c0383, cpu>
    """
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}. {nearest(name, METHODS)}")
    from cricavpr.models.devices import choose_device

    chosen, entry = choose_device(device), METHODS[name]
    wanted = entry.default_weights if weights is None else weights
    module = importlib.import_module(f"cricavpr.methods.{entry.module}")
    method: LoadedMethod = module.load(name, wanted, chosen, **settings)
    return method
