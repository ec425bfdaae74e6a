"""Patch-NetVLAD as a method: it finds candidates by a NetVLAD descriptor, and re-ranks them by patch descriptors.

Source: Hausler et al., "Patch-NetVLAD: Multi-Scale Fusion of Locally-Global Descriptors for Place Recognition" (CVPR
2021), sections 3.3 to 3.5. Scores have the opposite sign of the authors' scores, so that higher is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.methods.base import LocalFeatures, Pixels
from cricavpr.methods.matching import homography_inliers, mutual_matches
from cricavpr.methods.netvlad import VLADMethod, VLADSettings, from_torch
from cricavpr.models.netvlad import CLUSTERS, NANNE, VLADNet
from cricavpr.models.patch_netvlad import patch_centres_px, patch_descriptors, patch_grid, patch_positions

Matcher = Literal["ransac", "rapid"]
Kept = Literal["float16", "float32", "float64"]

INLIER_PX = 24.0  # one and a half times the stride of conv5_3, which is 16 px


@dataclass(frozen=True)
class PatchSettings(VLADSettings):
    """Settings of Patch-NetVLAD that a user may change.

    Attributes:
        patch_sizes: sides of the square patches, in cells of the feature map of conv5_3. Neighbouring cells are 16
            pixels apart.
        patch_weights: weight of each patch size in the score.
        matcher: how matches of patches are scored. "ransac" counts the matches that agree with one homography; "rapid"
            measures how similar the shifts of the matches are.
        kept: precision of stored patch descriptors. The authors store float32; float16 gives the same ranking.
    """

    image_size: tuple[int, int] | None = (480, 640)
    patch_sizes: tuple[int, ...] = (2, 5, 8)
    patch_weights: tuple[float, ...] = (0.45, 0.15, 0.4)
    matcher: Matcher = "ransac"
    kept: Kept = "float16"

    def __post_init__(self) -> None:
        sizes, weights = len(self.patch_sizes), len(self.patch_weights)
        if sizes != weights or not sizes:
            raise InputError(
                f"patch_sizes and patch_weights must have the same length, at least 1, got {sizes} and {weights}."
            )


class Published(NamedTuple):
    """One of the authors' configurations: its settings, and the length of its descriptors."""

    settings: PatchSettings
    dim: int


_RAPID = PatchSettings(patch_sizes=(5,), patch_weights=(1.0,), matcher="rapid")
CONFIGURATIONS = {
    "patch_netvlad": Published(PatchSettings(), 4096),  # the authors' "performance"
    "patch_netvlad-speed": Published(_RAPID, 512),
    "patch_netvlad-storage": Published(_RAPID, 128),
}


class PatchNetVLADMethod(VLADMethod):
    """Patch-NetVLAD: a method that describes images and compares their patches."""

    def __init__(self, name: str, network: VLADNet, settings: PatchSettings, weights: str, device: str) -> None:
        super().__init__(name, network, settings, weights, device)
        self.patch_settings = settings
        sizes = ",".join(map(str, settings.patch_sizes))
        shares = ",".join(map(str, settings.patch_weights))
        self.local = f"patches {sizes} in {settings.kept}"
        self.matching = f"{settings.matcher}, sizes weighted {shares}"

    def local_features(self, images: Pixels) -> list[LocalFeatures]:  # (B, 3, h, w)
        """Return the patches of each image.

        For each patch size N there are two arrays: `patches_N` (P, D), descriptors of unit length, and `grid_N` (2,),
        the numbers of rows and columns of patches.
        """
        sizes, dtype = self.patch_settings.patch_sizes, self.patch_settings.kept
        with torch.inference_mode():
            maps = self.network.backbone(self.tensor(images))  # (B, C, h, w)
            grids = {size: np.array(patch_grid(size, *maps.shape[-2:]), np.int64) for size in sizes}
            found: list[LocalFeatures] = []
            for own in maps.split(1):  # one image at a time: each patch takes K C values of memory
                patches = zip(sizes, patch_descriptors(self.network, own, sizes), strict=True)
                kept = {f"patches_{n}": of_size[0].cpu().numpy().astype(dtype) for n, of_size in patches}
                found.append({**kept, **{f"grid_{size}": grid for size, grid in grids.items()}})
        return found

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        """Return a score for each of the S patch sizes, (S,). Higher is better; 0 means no match."""
        score = _SCORES[self.patch_settings.matcher]
        scores = []
        for size in self.patch_settings.patch_sizes:
            pairs = self.matches(query, candidate, size)
            grids = query[f"grid_{size}"], candidate[f"grid_{size}"]
            scores.append(score(pairs, *grids, size) / len(query[f"patches_{size}"]) if len(pairs) else 0.0)
        return np.array(scores, np.float64)

    def matches(self, query: LocalFeatures, candidate: LocalFeatures, size: int) -> NDArray[np.intp]:
        """Return the mutual matches of patches of side `size`, (M, 2): index in the query, index in the candidate."""
        patches = query[f"patches_{size}"], candidate[f"patches_{size}"]  # (n, D), (m, D)
        dtype = torch.float64 if patches[0].dtype == np.float64 else torch.float32  # float16 is too coarse for sums
        one, other = (torch.from_numpy(np.ascontiguousarray(side)).to(self.device, dtype) for side in patches)
        return mutual_matches((one @ other.T).cpu().numpy())

    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:  # (n, S) to (n,)
        """Standardise the scores of each patch size over the candidates, and return their weighted sum.

        If all candidates have the same score for a patch size, that size adds 0. (The authors' code divides by 0.)
        """
        if not len(raw):
            return np.zeros(0)
        speaking = np.ptp(raw, axis=0) > 0  # (S,); a test by std would fail: that of equal scores may not be exactly 0
        deviations = (raw - raw.mean(axis=0)) / np.where(speaking, raw.std(axis=0), 1.0)
        fused: NDArray[np.float64] = np.where(speaking, deviations, 0.0) @ np.array(self.patch_settings.patch_weights)
        return fused


def _ransac_score(pairs: NDArray[np.intp], query: NDArray[Any], candidate: NDArray[Any], size: int) -> float:
    pairs = pairs[np.argsort(pairs[:, 1])]  # in the authors' order, which decides RANSAC's samples
    here = patch_centres_px(size, *query.tolist())[pairs[:, 0]]
    there = patch_centres_px(size, *candidate.tolist())[pairs[:, 1]]
    return homography_inliers(there, here, INLIER_PX)


def _rapid_score(pairs: NDArray[np.intp], query: NDArray[Any], candidate: NDArray[Any], size: int) -> float:
    """Return the rapid spatial score, which is higher if the matches have more similar shifts."""
    here, there = patch_positions(*query.tolist()), patch_positions(*candidate.tolist())
    shifts = there[pairs[:, 1]] - here[pairs[:, 0]]  # (M, 2)
    oddness = np.abs(shifts - shifts.mean(axis=0))
    most = there.max(axis=0)
    return float(np.square(most - oddness).sum())


_SCORES: dict[str, Callable[[NDArray[np.intp], NDArray[Any], NDArray[Any], int], float]] = {
    "ransac": _ransac_score,
    "rapid": _rapid_score,
}


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> PatchNetVLADMethod:
    """Load one of the CONFIGURATIONS of Patch-NetVLAD; see `cricavpr.methods.load_method`."""
    published = CONFIGURATIONS[name]
    settings = published.settings.overridden(overrides, name)
    network, mark = from_torch(weights, settings.dtype, NANNE, (CLUSTERS, "clusters", published.dim))
    return PatchNetVLADMethod(name, network, settings, mark, device)
