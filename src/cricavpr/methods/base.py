"""Interfaces that methods implement: images to arrays, arrays to descriptors, and local features for re-ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.grouping import Grouping

if TYPE_CHECKING:
    from torch import nn

Pixels = NDArray[np.float32]  # input of a network: (3, h, w) for one image, (B, 3, h, w) for several


@runtime_checkable
class Method(Protocol):
    """A method of visual place recognition, which turns images into descriptors.

    The interface uses NumPy arrays, so that a method need not run on torch.

    Attributes:
        name: name in the table of methods.
        dim: length of a descriptor.
        correlates: whether the descriptor of an image depends on the other images of its group.
        image_size: (height, width) in pixels of the images that the network takes; None for any size.
        weights: SHA-256 of the weights file, or another text that identifies the weights.
        preprocessing: one line of text with all other settings that change descriptors.
        device: device that the method computes on, such as cpu, cuda, cuda:1 or mps.
    """

    name: str
    dim: int
    correlates: bool
    image_size: tuple[int, int] | None
    weights: str
    preprocessing: str
    device: str

    def preprocess(self, image: NDArray[np.uint8]) -> Pixels:
        """Turn an image (H, W, 3) into the array that the network takes, (3, h, w) float32.

        Raises:
            ImageError: the image is too small for the network.
        """
        ...

    def describe(self, images: Pixels, groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return the descriptors of images, (B, D) float32 of unit length.

        Args:
            images: (B, 3, h, w), each from `preprocess`.
            groups: sizes of the groups, in the order of the images, which add up to B; None puts each image into a
                group of its own.
        """
        ...


@runtime_checkable
class HasNetwork(Protocol):
    """A method whose network is a torch module in this process, as training and some measurements need."""

    @property
    def network(self) -> nn.Module:
        """The torch network. It takes images (B, 3, h, w) on the method's device."""
        ...


LocalFeatures = Mapping[str, NDArray[np.generic]]  # named arrays of one image, for re-ranking


@runtime_checkable
class TwoStageMethod(Method, Protocol):
    """A method that finds candidates by descriptors, then re-ranks them by local features.

    `cricavpr.reranking.rerank` stores local features on disk. It calls `compare` for each candidate of a query, and
    `fuse` once for each query.

    Attributes:
        local: one line of text with the settings that change local features but not descriptors.
        matching: one line of text with the settings that change only scores. Stored local features stay valid if these
            settings change.
    """

    local: str
    matching: str

    def local_features(self, images: Pixels) -> list[LocalFeatures]:
        """Return the local features of each image in `images`, (B, 3, h, w).

        Use float16 in an implementation where it is precise enough.
        """
        ...

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        """Return the raw scores of a pair of images, (S,). Higher is better; 0 means no match."""
        ...

    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one score for each of the n candidates of a query, (n,), from their raw scores, (n, S).

        Higher is better.
        """
        ...


def network_of(method: Method) -> nn.Module | None:
    """Return the torch network of a method, or None if it has none in this process."""
    return method.network if isinstance(method, HasNetwork) else None


def made_by(method: Method, grouping: Grouping) -> MadeBy:
    """Return the provenance of the descriptors that `method` computes with `grouping`.

    Example:
        >>> from cricavpr import load_method
        >>> made_by(load_method("pixels"), Grouping("in_order", 4)).grouping  # this method ignores groups
        'none'
    """
    return MadeBy(
        method=method.name,
        weights=method.weights,
        image_size=method.image_size,
        preprocessing=method.preprocessing,
        grouping=str(grouping) if method.correlates else "none",
        pca=None,
        dim=method.dim,
    )
