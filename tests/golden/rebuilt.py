"""Weights and tensors of the golden files, rebuilt from names and seeds."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cricavpr.methods.families import TorchMethod

from .seeded import seeded_array, seeded_images, seeded_scenes

__all__ = ["GOLDEN", "arrays", "described", "lengths", "normalised", "scenes", "seeded_images", "state"]

GOLDEN = Path(__file__).parent
MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]


def arrays(name: str) -> dict[str, np.ndarray]:
    """All arrays of one golden file."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


@lru_cache(maxsize=1)  # one set of ViT-B weights in float64 is 850 MB
def state(name: str) -> dict[str, Tensor]:
    """The authors' state dict of one golden file, in float64, batch norm's counters left out."""
    keys = json.loads((GOLDEN / f"{name}.keys.json").read_text())
    return {
        key: torch.from_numpy(np.asarray(seeded_array(key, entry["shape"], entry["role"])))
        for key, entry in keys.items()
        if not key.endswith("num_batches_tracked")
    }


def normalised(images: np.ndarray) -> Tensor:
    """(N, H, W, 3) bytes to the (N, 3, H, W) float64 tensor that the golden outputs were made from."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255 - MEAN) / STD


def scenes(count: int, height: int, width: int, sha256: object) -> np.ndarray:
    """Rebuilt scenes, checked against the hash in the golden file."""
    import hashlib

    images = seeded_scenes(count, height, width)
    assert hashlib.sha256(images.tobytes()).hexdigest() == str(sha256)
    return images


def described(method: TorchMethod, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:
    """Descriptors in the precision of the network, where `describe` gives float32."""
    if next(method.network.parameters()).dtype == torch.float32:
        return torch.from_numpy(method.describe(images.numpy(), groups))
    with torch.inference_mode():
        return method.forward(method.tensor(images.numpy()), groups)


def lengths(ours: Tensor, theirs: np.ndarray) -> float:
    """The greatest length of the difference between two descriptors of one image."""
    return (ours.double() - torch.from_numpy(theirs)).norm(dim=1).max().item()
