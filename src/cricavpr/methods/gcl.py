"""GCL with its authors' weights, without and with what they call PCA whitening (see `cricavpr.pca`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.methods.cosplace import trunk_of
from cricavpr.methods.single import Settings, SingleImageMethod, with_weights

if TYPE_CHECKING:
    from torch import Tensor

    from cricavpr.models.gcl import GCL

PUBLISHED = Settings(image_size=(480, 640))  # squeezed to exactly that


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> SingleImageMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting.
    """
    from cricavpr.models.gcl import GCL, from_authors_names

    settings = PUBLISHED.overridden(overrides, name)
    model, mark = with_weights(
        weights,
        settings.dtype,
        published=lambda: GCL("resnet152"),
        fitting=_network_of,
        renamed=from_authors_names,
    )
    return SingleImageMethod(name, model, settings, mark, device)


def _network_of(tensors: Mapping[str, Tensor], source: str) -> GCL:
    from cricavpr.models.gcl import GCL

    return GCL(trunk_of(tensors, source))
