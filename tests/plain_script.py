"""An evaluation as the authors' script does it, step by step, with the network alone: no product code beside it.

Database first, then queries, each sorted by path and cut into batches of 16 in order; Pillow decodes, torch scales to
0..1, takes off the mean, divides by the spread and resizes the tensor without antialias; positives lie within 25 m,
the border included; ranking by Euclidean distance; recall over all queries in per cent. Run it:

    python -m tests.plain_script TREE WEIGHTS
"""

from __future__ import annotations

import glob
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

BATCH = 16
NS = (1, 5, 10, 100)


def paths_of(folder: str) -> list[str]:
    return sorted(glob.glob(f"{folder}/**/*.jpg", recursive=True))  # noqa: PTH207  # as the authors have it


def metres_of(paths: list[str]) -> np.ndarray:  # (N, 2)
    return np.array([(path.split("@")[1], path.split("@")[2]) for path in paths]).astype(float)


def tensor_of(path: str, size: tuple[int, int], antialias: bool) -> torch.Tensor:  # (3, h, w)
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels - mean[:, None, None]) / std[:, None, None]
    if normalised.shape[1:] == size:
        return normalised
    return torch.nn.functional.interpolate(normalised[None], size, mode="bilinear", antialias=antialias)[0]


def descriptors_of(network: Any, paths: list[str], size: tuple[int, int], antialias: bool) -> np.ndarray:  # (N, D)
    rows = []
    with torch.no_grad():
        for start in range(0, len(paths), BATCH):  # whoever is in a batch sees the others
            batch = torch.stack([tensor_of(path, size, antialias) for path in paths[start : start + BATCH]])
            rows.append(network(batch, [len(batch)]).numpy())
    return np.concatenate(rows)


def evaluate(network: Any, tree: str, size: tuple[int, int], antialias: bool) -> dict[str, Any]:
    database, queries = paths_of(f"{tree}/images/test/database"), paths_of(f"{tree}/images/test/queries")
    base = descriptors_of(network, database, size, antialias)
    asked = descriptors_of(network, queries, size, antialias)
    squared = ((asked[:, None].astype(np.float64) - base[None].astype(np.float64)) ** 2).sum(axis=2)  # (Q, N)
    predictions = squared.argsort(axis=1)[:, : max(NS)]
    apart = np.linalg.norm(metres_of(queries)[:, None] - metres_of(database)[None], axis=2)
    recalls = np.zeros(len(NS))
    for query, found in enumerate(predictions):
        positives = np.flatnonzero(apart[query] <= 25)
        for place, n in enumerate(NS):
            if np.isin(found[:n], positives).any():
                recalls[place:] += 1
                break
    return {"database": base, "queries": asked, "recalls": recalls / len(queries) * 100, "predictions": predictions}


def tiny_network(weights: str) -> Any:
    """The network that ships, in eval mode."""
    from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig
    from cricavpr.models.vit import BACKBONES

    config = CricaVPRConfig(backbone=BACKBONES["tiny"], tuning="full", encoder_heads=6, encoder_ffn=256)
    network = CricaVPR(config)
    network.load_state_dict(load_file(weights))
    return network.eval()


if __name__ == "__main__":
    result = evaluate(tiny_network(sys.argv[2]), sys.argv[1], (112, 112), antialias=True)
    print(", ".join(f"R@{n}: {recall:.1f}" for n, recall in zip(NS, result["recalls"], strict=True)))
