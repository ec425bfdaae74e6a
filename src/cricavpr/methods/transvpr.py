"""TransVPR with weights: a global descriptor, and patches to look again at the first matches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.images import Resize
from cricavpr.methods.base import LocalFeatures
from cricavpr.methods.matching import homography_inliers, mutual_matches
from cricavpr.methods.single import Settings, SingleImageMethod, with_weights
from cricavpr.methods.whole_patches import check_patches

if TYPE_CHECKING:
    from torch import Tensor

    from cricavpr.models.transvpr import TransVPR


@dataclass(frozen=True)
class TransVPRSettings(Settings):
    """What a user may set.

    Attributes:
        mask_threshold: patches that attention values at most so much, of 0 to 1, are masked when patches are compared.
        inlier_px: how far a match may lie from where the homography puts it.
    """

    image_size: tuple[int, int] | None = (480, 640)
    resize: Resize = "tensor_no_antialias"
    mask_threshold: float = 0.02
    inlier_px: float = 24.0


class TransVPRMethod(SingleImageMethod):
    """A TransVPR ready to describe images and to compare their patches."""

    def __init__(self, name: str, model: TransVPR, settings: TransVPRSettings, weights: str, device: str) -> None:
        super().__init__(name, model, settings, weights, device)
        self.network = model
        self.mask_threshold, self.inlier_px = settings.mask_threshold, settings.inlier_px
        self.local = "patches and their masks"
        self.matching = f"ransac within {settings.inlier_px:g} px, masked at {settings.mask_threshold:g}"

    def local_features(self, images: Tensor) -> list[LocalFeatures]:  # (B, 3, h, w)
        """For each image: patches (n, C), their mask from 0 to 1 (n,), and their centres (n, 2) as x, y in pixels."""
        import torch

        from cricavpr.models.transvpr import combined_mask

        weight = next(self.network.parameters())
        with torch.inference_mode():
            outputs = self.network.outputs(images.to(weight.device, weight.dtype))  # (B, depth, 1 + n, C)
            masks = combined_mask(self.network.pool.masks(outputs)).cpu().numpy()  # (B, n)
        patches = outputs[:, self.network.config.local_level, 1:].cpu().numpy()  # (B, n, C)
        centres = patch_centres(*images.shape[-2:])
        return [{"patches": own, "mask": mask, "centres": centres} for own, mask in zip(patches, masks, strict=True)]

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        """How many patches of the two choose each other and agree on one homography, (1,)."""
        pairs = self.matches(query, candidate)
        here, there = query["centres"][pairs[:, 0]], candidate["centres"][pairs[:, 1]]
        return np.array([homography_inliers(here, there, self.inlier_px)], np.float64)

    def matches(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.intp]:
        """Patches that choose each other, (M, 2).

        A masked patch keeps its place, with a similarity of 0 to every other; where all real similarities are
        negative it is even chosen. The authors' scores include this, and so do ours.
        """
        similarity = _wide(query["patches"]) @ _wide(candidate["patches"]).T  # (n, m), not of unit length
        similarity[_wide(query["mask"]) <= self.mask_threshold] = 0.0
        similarity[:, _wide(candidate["mask"]) <= self.mask_threshold] = 0.0
        return mutual_matches(similarity)

    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:  # (n, 1) to (n,)
        return raw[:, 0]


def _wide(values: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """At least float32: half precision is for keeping, not for sums."""
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def patch_centres(height: int, width: int) -> NDArray[np.float32]:
    """Centres of the patches as x, y in pixels, row by row: (h w, 2)."""
    from cricavpr.models.transvpr import PATCH

    y, x = np.mgrid[PATCH // 2 : height : PATCH, PATCH // 2 : width : PATCH]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> TransVPRMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting, or a size that is not made of whole patches.
    """
    from cricavpr.models.transvpr import PATCH, TransVPR, TransVPRConfig, from_authors_names, network_of

    settings = TransVPRSettings().overridden(overrides, name)
    assert isinstance(settings, TransVPRSettings)
    check_patches(settings.image_size, PATCH)
    model, mark = with_weights(
        weights,
        settings.dtype,
        published=lambda: TransVPR(TransVPRConfig()),
        fitting=network_of,
        renamed=from_authors_names,
    )
    return TransVPRMethod(name, model, settings, mark, device)
