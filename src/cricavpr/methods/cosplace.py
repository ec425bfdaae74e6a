"""CosPlace and EigenPlaces with their authors' weights: any trunk and dimension they published, at native size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.errors import WeightsError
from cricavpr.methods.single import Settings, SingleImageMethod, shape_of, with_weights

if TYPE_CHECKING:
    from torch import Tensor

    from cricavpr.models.cosplace import CosPlace

PUBLISHED = Settings(image_size=None)  # each photo in its own size


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> SingleImageMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting.
    """
    from cricavpr.models.cosplace import CosPlace, from_authors_names

    settings = PUBLISHED.overridden(overrides, name)
    model, mark = with_weights(
        weights,
        settings.dtype,
        published=lambda: CosPlace("resnet50", 2048),
        fitting=_network_of,
        renamed=from_authors_names,
    )
    return SingleImageMethod(name, model, settings, mark, device)


def _network_of(tensors: Mapping[str, Tensor], source: str) -> CosPlace:
    from cricavpr.models.cosplace import CosPlace

    dim, _ = shape_of(tensors, "projection.weight", 2, source)
    return CosPlace(trunk_of(tensors, source), dim)


def trunk_of(tensors: Mapping[str, Tensor], source: str) -> str:
    """Which trunk stands under `backbone.` with numbered children.

    Raises:
        WeightsError: none that we know.
    """
    from cricavpr.models.cnn import TRUNKS, numbered_trunk_of

    prefix = "backbone."
    trunk = numbered_trunk_of(name.removeprefix(prefix) for name in tensors if name.startswith(prefix))
    if trunk is None:
        raise WeightsError(f"{source} holds no trunk that we know under {prefix!r}. Known: {', '.join(TRUNKS)}.")
    return trunk
