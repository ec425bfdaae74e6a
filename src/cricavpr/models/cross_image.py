"""The cross-image encoder: region r of each image attends to region r of all images in the same group.

Source: the CricaVPR paper, section 3.4: transformer encoder layers across images, not across patches. For each group
and each region r, the features of the group's images form one sequence. Groups of the same size are computed as one
batch. So images of different groups never attend to each other, and no attention mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CrossImageEncoder(nn.Module):
    """Transformer encoder layers over the images of a group. With a depth of 0 the output is the input."""

    def __init__(self, width: int, depth: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, ffn_width, dropout, activation="gelu", batch_first=True)
            for _ in range(depth)
        )

    def forward(self, regions: Tensor, groups: Sequence[int]) -> Tensor:  # (B, R, C)
        """Correlate the region features of the images in each group: (B, R, C) to (B, R, C).

        `groups` holds the group sizes in the order of the images; they add up to B.
        """
        if not self.layers:
            return regions
        out = torch.empty_like(regions)
        sizes = torch.tensor(groups, device=regions.device)
        starts = sizes.cumsum(0) - sizes
        for size in sorted(set(groups)):
            rows = starts[sizes == size][:, None] + torch.arange(size, device=regions.device)  # (G, g)
            sequences = regions[rows].transpose(1, 2).flatten(0, 1)  # (G R, g, C): a sequence for each group and region
            for layer in self.layers:
                sequences = layer(sequences)
            correlated = sequences.view(len(rows), -1, size, regions.shape[2]).transpose(1, 2)  # (G, g, R, C)
            out[rows] = correlated.to(out.dtype)  # autocast may give half precision
        return out
