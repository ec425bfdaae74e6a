"""The simplest way to recognise a place: compare small grey pictures, patch by patch. No learning."""

import numpy as np
from PIL import Image

from cricavpr.town import CONDITIONS, Town, View, render_arrays

RADIUS_M = 25.0


def describe(
    pictures: np.ndarray,  # (N, h, w, 3) uint8
) -> np.ndarray:  # (N, 2048) unit length
    """64 x 32 grey pixels in patches of 8 x 8, each patch with mean 0 and deviation 1."""
    small = [Image.fromarray(p).convert("L").resize((64, 32), Image.Resampling.BILINEAR) for p in pictures]
    grey = np.stack([np.asarray(image, np.float32) for image in small])
    patches = grey.reshape(-1, 4, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 32, 64)
    patches = patches - patches.mean(axis=2, keepdims=True)
    patches = patches / (patches.std(axis=2, keepdims=True) + 1e-6)
    flat = patches.reshape(len(patches), -1)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


def positions(views: list[View]) -> np.ndarray:  # (N, 2) metres
    return np.array([(view.camera.x_m, view.camera.y_m) for view in views])


def recall_at_1(seed: int, places: int, image_size: tuple[int, int], workers: int = 1) -> dict[str, float]:
    """Shares of queries answered within 25 m: of "all", and of each condition."""
    town = Town(seed, places)
    database = [town.view(k, 0, "database") for k in range(places)]
    queries = [town.view(k, 0, "query") for k in range(places)]
    drawn = render_arrays(town, database + queries, image_size, workers)
    described = describe(drawn)
    best = np.argmax(described[places:] @ described[:places].T, axis=1)
    off = positions(queries) - positions(database)[best]
    right = (off**2).sum(axis=1) <= RADIUS_M**2
    conditions = np.array([view.scene.condition for view in queries])
    return {"all": float(right.mean())} | {c: float(right[conditions == c].mean()) for c in CONDITIONS}
