"""Published methods, ready to run: the METHODS table and `load_method`, the one door to a network with weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cricavpr.errors import InputError
from cricavpr.methods.base import Method
from cricavpr.schema import nearest

DEFAULT_METHOD = "cricavpr-tiny"


@dataclass(frozen=True)
class Entry:
    """One row of the table of methods.

    Attributes:
        summary: one line for people.
        default_weights: a known name, or None where the method has no weights.
        load: called with name, weights, device and overrides.
    """

    summary: str
    default_weights: str | None
    load: Callable[..., Method]


def _load_cricavpr(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.cricavpr import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_cosplace(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.cosplace import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_gcl(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.gcl import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_mixvpr(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.mixvpr import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_netvlad(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.netvlad import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_patch_netvlad(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.patch_netvlad import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_transvpr(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.transvpr import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_salad(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.salad import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_boq(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.boq import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_megaloc(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.megaloc import load

    assert weights is not None
    return load(name, weights, device, **overrides)


def _load_pixels(name: str, weights: str | Path | None, device: str, **overrides: Any) -> Method:
    from cricavpr.methods.pixels import PixelMatcher

    if weights is not None or overrides:
        raise InputError("the pixel matcher has no weights and no settings. Leave them out.")
    return PixelMatcher()


METHODS: dict[str, Entry] = {
    "cricavpr-tiny": Entry(
        "CricaVPR at 3 M parameters and 112 px, trained on drawn towns; ships here", "cricavpr-tiny", _load_cricavpr
    ),
    "cricavpr": Entry(
        "CricaVPR (CVPR 2024): ViT-B/14 at 224 px, 10752-d, with the authors' weights", "cricavpr", _load_cricavpr
    ),
    "netvlad": Entry(
        "NetVLAD (CVPR 2016): VGG-16 at native size, 4096-d, or 32768-d from Nanne's file",
        "netvlad_pitts30k_4096",
        _load_netvlad,
    ),
    "sfrs": Entry(
        "SFRS (ECCV 2020): NetVLAD at 480 x 640 px, trained by regions, 4096-d", "sfrs_pitts30k_4096", _load_netvlad
    ),
    "patch_netvlad": Entry(
        "Patch-NetVLAD (CVPR 2021), performance: re-ranks by patches of three sizes and RANSAC, 4096-d",
        "patch_netvlad_pitts_4096",
        _load_patch_netvlad,
    ),
    "patch_netvlad-speed": Entry(
        "Patch-NetVLAD, speed: patches of one size and rapid spatial scoring, 512-d",
        "patch_netvlad_pitts_512",
        _load_patch_netvlad,
    ),
    "patch_netvlad-storage": Entry(
        "Patch-NetVLAD, storage: as speed, with 128 values a patch", "patch_netvlad_pitts_128", _load_patch_netvlad
    ),
    "cosplace": Entry(
        "CosPlace (CVPR 2022): VGG-16 or ResNet with GeM, native size, 32-d to 2048-d",
        "cosplace_resnet50_2048",
        _load_cosplace,
    ),
    "eigenplaces": Entry(
        "EigenPlaces (ICCV 2023): CosPlace's network, trained for changes of viewpoint",
        "eigenplaces_resnet50_2048",
        _load_cosplace,
    ),
    "gcl": Entry(
        "GCL (CVPR 2023): ResNet-152 with GeM at 480 x 640 px, 2048-d, whitening on the database apart",
        "gcl_resnet152_2048",
        _load_gcl,
    ),
    "mixvpr": Entry(
        "MixVPR (WACV 2023): ResNet-50 and a feature mixer at 320 px, 4096-d, 512-d or 128-d",
        "mixvpr_resnet50_4096",
        _load_mixvpr,
    ),
    "transvpr": Entry(
        "TransVPR (CVPR 2022): convolutions and a transformer at 480 x 640 px, 256-d, re-ranks by patches",
        "transvpr_msls",
        _load_transvpr,
    ),
    "salad": Entry("SALAD (CVPR 2024): DINOv2 ViT-B/14 and optimal transport at 322 px, 8448-d", "salad", _load_salad),
    "boq": Entry(
        "BoQ (CVPR 2024): DINOv2 ViT-B/14 and learnt queries at 322 px, 12288-d", "boq_dinov2_12288", _load_boq
    ),
    "boq-resnet50": Entry("BoQ on ResNet-50 at 384 px, 16384-d", "boq_resnet50_16384", _load_boq),
    "megaloc": Entry("MegaLoc (2025): SALAD trained on many datasets, any size, 8448-d", "megaloc", _load_megaloc),
    "pixels": Entry("64 x 32 grey pixels, normalised patch by patch: the floor to beat", None, _load_pixels),
}


def load_method(
    name: str = DEFAULT_METHOD, weights: str | Path | None = None, device: str = "cpu", **config: Any
) -> Method:
    """Load a method with its weights.

    Args:
        name: a row of METHODS.
        weights: a file, a known name, or "random:SEED"; left out, the method's own.
        device: where torch runs it: cpu, cuda, mps.
        config: settings that depart from the file's, such as image_size=(322, 322) or region_cuts="authors".

    Raises:
        InputError: no such method, setting or device.
        WeightsError: the weights are missing, unsafe or do not fit.
    """
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}. {nearest(name, METHODS)}")
    entry = METHODS[name]
    _require_device(device)
    return entry.load(name, weights if weights is not None else entry.default_weights, device, **config)


def _require_device(device: str) -> None:
    """Make sure that torch can compute there, before anything is read."""
    import torch

    try:
        known = torch.device(device).type in ("cpu", "cuda", "mps")
        if known:
            torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0][:100].rstrip(".")
        raise InputError(f"device {device!r} cannot be used here ({reason}). Use cpu, or another machine.") from error
    if not known:
        raise InputError(f"device {device!r} is not supported. Use cpu, cuda or mps.")
