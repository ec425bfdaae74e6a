"""Compare machines that must compute equal bytes: their programs, their processors, and what they make of noise.

Sums of floats depend on their order, which libraries choose by processor, number of threads and shape of the batch. So
programs must be equal, and every machine describes one batch of known noise, with equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata

import numpy as np

from cricavpr.methods.base import Method

PACKAGES = ("cricavpr", "torch", "numpy", "pillow", "pillow-heif")  # they decide pixels, sums, and failures
NOISE_SIZE = (224, 224)  # (height, width) for a method that takes any

Platform = tuple[tuple[str, str], ...]  # program or processor, and its version or name


def platform_here(device: str) -> Platform:
    """Return the programs and the processor of this machine."""
    import torch
    from PIL import features

    found = {name: _version(name) for name in PACKAGES}
    found["libjpeg"] = str(features.version("jpg"))
    found["processor"] = torch.backends.cpu.get_cpu_capability()
    if torch.device(device).type == "cuda":
        found["accelerator"] = torch.cuda.get_device_name(device)
    return tuple(found.items())


def differences(wanted: Platform, found: Platform) -> str:
    """Return `torch 2.12.0 there, 2.13.0 here` or ""; `wanted` is here, `found` is there."""
    here, there = dict(wanted), dict(found)
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    return "; ".join(f"{name} {there.get(name, 'none')} there, {here.get(name, 'none')} here" for name in names)


def noise_digest(method: Method, groups: Sequence[int]) -> str:
    """Return a SHA-256 of the descriptors of known noise, in groups of these sizes."""
    height, width = method.image_size or NOISE_SIZE
    draw = np.random.default_rng(0)
    images = np.stack(
        [method.preprocess(draw.integers(0, 256, (height, width, 3), np.uint8)) for _ in range(sum(groups))]
    )  # (B, 3, h, w)
    vectors = method.describe(images, list(groups) if max(groups) > 1 else None)  # (B, D)
    return hashlib.sha256(vectors.tobytes()).hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
