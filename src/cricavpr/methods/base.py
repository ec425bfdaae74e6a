"""Interfaces of methods: images to arrays, arrays to descriptors, and local features for re-ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.grouping import Grouping

if TYPE_CHECKING:
    from torch import nn

Pixels = NDArray[np.float32]  # (3, h, w) of one image, (B, 3, h, w) of several: what a network takes


@runtime_checkable
class Method(Protocol):
    """A method with weights. Its interface is NumPy, so that any runtime can implement it.

    Attributes:
        name: name in the table of methods.
        dim: length of a descriptor.
        correlates: whether a descriptor depends on the other images of its group.
        image_size: (height, width) in pixels that the network takes; None for any.
        weights: SHA-256 of the weights file, or what identifies the weights otherwise.
        preprocessing: one line with every other setting that changes descriptors.
        device: device that it computes on: cpu, cuda, cuda:1, mps.
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
        """Describe images (B, 3, h, w): descriptors of unit length, (B, D) float32.

        Args:
            groups: group sizes that add up to B, in order; None for every image alone.
        """
        ...


@runtime_checkable
class HasNetwork(Protocol):
    """A method whose network is a torch module in this process, for training, precision, costs and figures."""

    @property
    def network(self) -> nn.Module:
        """The network; it takes images (B, 3, h, w) on the method's device."""
        ...


LocalFeatures = Mapping[str, NDArray[np.generic]]  # arrays of one image for re-ranking, by name


@runtime_checkable
class TwoStageMethod(Method, Protocol):
    """A method that re-ranks the first matches by local features.

    `cricavpr.reranking.rerank` keeps local features on disk, calls `compare` for each candidate and `fuse` for each
    query.

    Attributes:
        local: one line with the settings that change local features but not descriptors.
        matching: one line with the settings that change scores only; stored local features stay valid.
    """

    local: str
    matching: str

    def local_features(self, images: Pixels) -> list[LocalFeatures]:
        """Return the named arrays of each of the images (B, 3, h, w), in float16 where that is enough."""
        ...

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        """Return the raw scores of a pair, (S,): higher is better, 0 for no match."""
        ...

    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Combine the raw scores of all candidates of a query, (n, S), to one score each, (n,); higher is better."""
        ...


def network_of(method: Method) -> nn.Module | None:
    """Return the torch network of a method, or None if it has none in this process."""
    return method.network if isinstance(method, HasNetwork) else None


def made_by(method: Method, grouping: Grouping) -> MadeBy:
    """Return the provenance of descriptors computed by `method` under `grouping`.

    Example:
        >>> from cricavpr import load_method
        >>> made_by(load_method("pixels"), Grouping("in_order", 4)).grouping  # it does not correlate
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
