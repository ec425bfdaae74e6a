"""SALAD with weights: DINOv2 and optimal transport. Trained at 224 x 224, tested by its authors at 322 x 322."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cricavpr.methods.single import Settings, SingleImageMethod, with_weights
from cricavpr.methods.whole_patches import check_patches

PUBLISHED = Settings((322, 322), "pil")


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> SingleImageMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting, or a size that is not made of whole patches.
    """
    from cricavpr.models.salad import Salad, SaladConfig, from_authors_names, network_of

    settings = PUBLISHED.overridden(overrides, name)
    model, mark = with_weights(
        weights,
        settings.dtype,
        published=lambda: Salad(SaladConfig()),
        fitting=network_of,
        renamed=from_authors_names,
    )
    check_patches(settings.image_size, model.config.backbone.patch)
    return SingleImageMethod(name, model, settings, mark, device)
