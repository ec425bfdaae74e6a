"""The pixel matcher: a 64 x 32 grey picture, normalised patch by patch. What any learnt method has to beat.

Source: the image comparison of SeqSLAM (Milford and Wyeth, ICRA 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cricavpr.images import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

HEIGHT, WIDTH, PATCH = 32, 64, 8


class PixelMatcher:
    """Grey pixels as a descriptor: no weights, nothing learnt, every image by itself."""

    name = "pixels"
    dim = HEIGHT * WIDTH
    correlates = False
    image_size: tuple[int, int] | None = (HEIGHT, WIDTH)
    weights = "none"

    def __init__(self) -> None:
        self.preprocess = Preprocess((HEIGHT, WIDTH), resize="tensor", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.preprocessing = self.preprocess.describe()

    def describe(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, 32, 64)
        import torch.nn.functional as F

        rows, columns = HEIGHT // PATCH, WIDTH // PATCH
        patches = images.mean(dim=1).view(-1, rows, PATCH, columns, PATCH)
        centred = patches - patches.mean(dim=(2, 4), keepdim=True)
        spread = centred.square().mean(dim=(2, 4), keepdim=True).sqrt()
        return F.normalize((centred / (spread + 1e-3)).flatten(1), dim=1)  # (B, 2048)
