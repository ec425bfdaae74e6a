"""The pictures of the re-ranking golden files: a query, and four candidates in falling likeness."""

import numpy as np

from .seeded import seeded_scenes

MARGIN = 160  # pixels that the scenes are larger, for the candidates to be cut elsewhere
GRAIN = 6  # pixels of a side of the texture's cells


def rerank_set(height: int, width: int, salt: int = 0) -> np.ndarray:  # (5, height, width, 3) uint8
    """The query, then it shifted, scaled and rotated, half covered by another scene, and a third scene."""
    high, wide = height + MARGIN, width + MARGIN
    seen, covering, other = _textured(seeded_scenes(3, high, wide, salt + 500).astype(np.int64), salt)
    query = seen[64 : 64 + height, 64 : 64 + width]
    shifted = seen[80 : 80 + height, 96 : 96 + width] * 9 // 10 + 10
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    rows = np.clip(np.rint(64 + 20 + 1.02 * y - 0.035 * x).astype(int), 0, high - 1)
    columns = np.clip(np.rint(64 - 4 + 0.035 * y + 1.02 * x).astype(int), 0, wide - 1)
    rotated = seen[rows, columns]
    covered = seen[64 : 64 + height, 48 : 48 + width].copy()
    covered[:, width // 2 :] = covering[64 : 64 + height, 64 : 64 + width][:, width // 2 :]
    elsewhere = other[64 : 64 + height, 64 : 64 + width]
    return np.clip(np.stack([query, shifted, rotated, covered, elsewhere]), 0, 255).astype(np.uint8)


def _textured(scenes: np.ndarray, salt: int) -> np.ndarray:  # (3, high, wide, 3)
    _, high, wide, _ = scenes.shape
    cells = np.random.default_rng([91, salt]).integers(-40, 41, (3, high // GRAIN + 1, wide // GRAIN + 1, 3))
    texture = np.repeat(np.repeat(cells, GRAIN, 1), GRAIN, 2)[:, :high, :wide]
    return np.clip(scenes + texture, 0, 255)
