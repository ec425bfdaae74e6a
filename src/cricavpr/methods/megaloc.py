"""MegaLoc with weights: photos keep their own size and shape, rounded to whole patches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.methods.single import Settings, SingleImageMethod, with_weights
from cricavpr.methods.whole_patches import WholePatches, check_patches

if TYPE_CHECKING:
    from cricavpr.models.megaloc import MegaLoc

PUBLISHED = Settings(None, "tensor")


class MegaLocMethod(SingleImageMethod):
    """A MegaLoc ready to describe images of any size."""

    def __init__(self, name: str, model: MegaLoc, settings: Settings, weights: str, device: str) -> None:
        super().__init__(name, model, settings, weights, device)
        if settings.image_size is None:
            native, self.preprocess = self.preprocess, WholePatches(patch=model.config.salad.backbone.patch)
            self.preprocessing = self.preprocessing.replace(native.describe(), self.preprocess.describe())


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> MegaLocMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting, or a size that is not made of whole patches.
    """
    from cricavpr.models.megaloc import MegaLoc, MegaLocConfig, from_authors_names, network_of

    settings = PUBLISHED.overridden(overrides, name, fixed=("resize",))
    model, mark = with_weights(
        weights,
        settings.dtype,
        published=lambda: MegaLoc(MegaLocConfig()),
        fitting=network_of,
        renamed=from_authors_names,
    )
    check_patches(settings.image_size, model.config.salad.backbone.patch)
    return MegaLocMethod(name, model, settings, mark, device)
