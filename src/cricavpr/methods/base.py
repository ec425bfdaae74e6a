"""What a method is: a published network with its weights and its own preprocessing, ready to describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.grouping import Grouping

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


@runtime_checkable
class Method(Protocol):
    """A method with weights.

    Attributes:
        name: its name in the table of methods.
        dim: length of a descriptor.
        correlates: whether a descriptor depends on the other images of its group.
        image_size: (height, width) that the network takes, None where it takes any.
        weights: SHA-256 of the weights, or what stands for it.
        preprocessing: one line that says how pixels become a tensor.
    """

    name: str
    dim: int
    correlates: bool
    image_size: tuple[int, int] | None
    weights: str
    preprocessing: str

    def preprocess(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) to (3, h, w); no resampling when the image already has the network's size."""
        ...

    def describe(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, 3, h, w) to (B, D) of unit length. Group sizes add up to B; left out, every image is alone."""
        ...


LocalFeatures = Mapping[str, NDArray[np.generic]]  # what one image needs for re-ranking, by name


@runtime_checkable
class TwoStageMethod(Method, Protocol):
    """A method that looks again at the first matches, with local features.

    `rerank` (row 4) keeps the local features on disk, calls `compare` for each candidate and `fuse` once a query.

    Attributes:
        local: one line that says what local features are kept, beside what decides the descriptors; features of
            another one must not be compared.
        matching: one line that says how a pair is compared; another one needs no photo again.
    """

    local: str
    matching: str

    def local_features(self, images: Tensor) -> list[LocalFeatures]:
        """(B, 3, h, w) to one set of named arrays per image, float16 where that is enough."""
        ...

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        """Raw scores of one pair: (S,), higher is better, 0 where nothing matches."""
        ...

    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores of all candidates of one query, (n, S), to one score each, (n,); higher is better."""
        ...


def made_by(method: Method, grouping: Grouping) -> MadeBy:
    """How descriptors come about when `method` describes under `grouping`."""
    return MadeBy(
        method=method.name,
        weights=method.weights,
        image_size=method.image_size,
        preprocessing=method.preprocessing,
        grouping=str(grouping) if method.correlates else "none",
        pca=None,
        dim=method.dim,
    )


def parameters_of(method: Method) -> list[Parameter]:
    """Of the method's network; none for a method without one."""
    from torch import nn

    network = getattr(method, "model", None)
    return list(network.parameters()) if isinstance(network, nn.Module) else []


def device_of(method: Method) -> str:
    """cpu, cuda or mps: where the network's first parameter lies; cpu for a method without a network."""
    return next((parameter.device.type for parameter in parameters_of(method)), "cpu")
