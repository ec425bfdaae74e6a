"""The cross-image encoder: region r of an image attends to region r of the images of its group.

Source: paper section 3.4: transformer encoder layers across images, not across patches. Groups of one size are
separate sequences of a batch, so images of different groups never meet and there is no mask that could leak.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class CrossImageEncoder(nn.Module):
    """Transformer encoder layers over the images of a group; without layers regions stay as they are."""

    def __init__(self, width: int, depth: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, ffn_width, dropout, activation="gelu", batch_first=True)
            for _ in range(depth)
        )

    def forward(self, regions: Tensor, groups: Sequence[int]) -> Tensor:  # (B, R, C)
        """Correlate regions within groups; group sizes add up to B, in the order of the images."""
        if not self.layers:
            return regions
        out = torch.empty_like(regions)
        for rows in _rows_by_size(groups, regions.device):
            out[rows] = self._correlate(regions[rows]).to(out.dtype)  # autocast may give half precision
        return out

    def _correlate(self, regions: Tensor) -> Tensor:  # (G, g, R, C): G groups of g images
        count, size, number, width = regions.shape
        sequences = regions.transpose(1, 2).reshape(count * number, size, width)  # one sequence per group and region
        for layer in self.layers:
            sequences = layer(sequences)
        return sequences.view(count, number, size, width).transpose(1, 2)


def _rows_by_size(groups: Sequence[int], device: torch.device) -> Iterator[Tensor]:
    """Yield, for each group size, the row numbers of its groups, (G, g)."""
    sizes = torch.tensor(groups, device=device)
    starts = sizes.cumsum(0) - sizes
    for size in sorted(set(groups)):
        yield starts[sizes == size][:, None] + torch.arange(size, device=device)
