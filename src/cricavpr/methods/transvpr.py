"""TransVPR as a method: it finds candidates by a global descriptor, and re-ranks them by their patches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cricavpr.images import Resize
from cricavpr.methods.base import LocalFeatures, Pixels
from cricavpr.methods.families import Settings, TorchMethod, load_network
from cricavpr.methods.matching import homography_inliers, mutual_matches
from cricavpr.models.transvpr import PATCH, TransVPR, combined_mask


@dataclass(frozen=True)
class TransVPRSettings(Settings):
    """Settings of TransVPR that a user may change.

    Attributes:
        mask_threshold: a patch is masked in the comparison of images if its attention, from 0 to 1, is at most this
            threshold.
        inlier_px: a match agrees with a homography if the error is at most this many pixels.
    """

    image_size: tuple[int, int] | None = (480, 640)
    resize: Resize = "tensor_no_antialias"
    mask_threshold: float = 0.02
    inlier_px: float = 24.0


class TransVPRMethod(TorchMethod):
    """TransVPR: a method that describes images and compares their patches."""

    network: TransVPR

    def __init__(self, name: str, network: TransVPR, settings: TransVPRSettings, weights: str, device: str) -> None:
        super().__init__(name, network, settings, weights, device)
        self.mask_threshold, self.inlier_px = settings.mask_threshold, settings.inlier_px
        self.local = "patches and their masks"
        self.matching = f"ransac within {settings.inlier_px:g} px, masked at {settings.mask_threshold:g}"

    def local_features(self, images: Pixels) -> list[LocalFeatures]:  # (B, 3, h, w)
        """Return the patches of each image.

        The arrays are `patches` (n, C), the patch tokens; `mask` (n,), their attention from 0 to 1; and `centres`
        (n, 2), their centres as x, y in pixels.
        """
        with torch.inference_mode():
            outputs = self.network.outputs(self.tensor(images))  # (B, depth, 1 + n, C)
            masks = combined_mask(self.network.pool.masks(outputs)).cpu().numpy()  # (B, n)
        patches = outputs[:, self.network.config.local_level, 1:].cpu().numpy()  # (B, n, C)
        centres = patch_centres(*images.shape[-2:])
        return [{"patches": own, "mask": mask, "centres": centres} for own, mask in zip(patches, masks, strict=True)]

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        """Return the number of mutual matches of patches that agree with one homography, (1,)."""
        pairs = self.matches(query, candidate)
        here, there = query["centres"][pairs[:, 0]], candidate["centres"][pairs[:, 1]]
        return np.array([homography_inliers(here, there, self.inlier_px)], np.float64)

    def matches(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.intp]:
        """Return the mutual matches of patches, (M, 2): index of the query patch and of the candidate patch.

        The similarity of a masked patch to every patch is set to 0. So a masked patch can still match if all other
        similarities are negative. Such matches are kept, because the authors' scores include them.
        """
        similarity = _wide(query["patches"]) @ _wide(candidate["patches"]).T  # (n, m), not of unit length
        similarity[_wide(query["mask"]) <= self.mask_threshold] = 0.0
        similarity[:, _wide(candidate["mask"]) <= self.mask_threshold] = 0.0
        return mutual_matches(similarity)

    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:  # (n, 1) to (n,)
        """Return the score of each candidate: its only raw score."""
        return raw[:, 0]


def _wide(values: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Convert half precision, which is too coarse for sums, to float32; return other floats unchanged."""
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def patch_centres(height: int, width: int) -> NDArray[np.float32]:
    """Return the centres of the patches of an image as x, y in pixels, row by row: (number of patches, 2)."""
    y, x = np.mgrid[PATCH // 2 : height : PATCH, PATCH // 2 : width : PATCH]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> TransVPRMethod:
    """Load the method `transvpr`; see `cricavpr.methods.load_method`."""
    settings = TransVPRSettings().overridden(overrides, name)
    network, mark = load_network(name, weights, settings.dtype)
    return TransVPRMethod(name, network, settings, mark, device)
