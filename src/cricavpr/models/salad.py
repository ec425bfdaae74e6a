"""SALAD and MegaLoc: optimal transport assigns patches to clusters, and uninformative patches to a dustbin.

Sources: Izquierdo and Civera, "Optimal Transport Aggregation for Visual Place Recognition" (CVPR 2024), section 3;
Cuturi, "Sinkhorn Distances" (2013); Berton and Masone, "MegaLoc: One Retrieval to Place Them All" (2025), which is
SALAD with wider clusters and a last linear layer. Written from the papers. Letters: B images, n patches, m clusters,
l width of a cluster, C width of a token. The papers' symbols t, s, z, f, g are named tokens, scores, dustbin,
features, scene here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.fitting import ImageNeeds, dinov2_of, renamed, shape_of
from cricavpr.models.vit import BACKBONES, Tokens, VisionTransformer, ViTConfig


@dataclass(frozen=True)
class SaladConfig:
    """Sizes of the network; in the published SALAD, a descriptor has 64 x 128 + 256 = 8448 values.

    Attributes:
        backbone: sizes of the transformer.
        clusters: number of clusters.
        cluster_width: number of values for each cluster in the descriptor.
        scene_width: number of values of the scene feature, which comes from the class token.
        hidden: hidden width of the perceptrons.
        dropout: dropout probability in the perceptrons.
        iterations: number of iterations of Sinkhorn's algorithm.
        reduced_to: length of a descriptor after MegaLoc's last linear layer; None for SALAD, which has no such layer.
    """

    backbone: ViTConfig = field(default_factory=lambda: BACKBONES["vitb14"])
    clusters: int = 64
    cluster_width: int = 128
    scene_width: int = 256
    hidden: int = 512
    dropout: float = 0.3
    iterations: int = 3
    reduced_to: int | None = None

    @property
    def dim(self) -> int:
        """Length of a descriptor before the last linear layer."""
        return self.clusters * self.cluster_width + self.scene_width


class SaladAggregator(nn.Module):
    """Aggregator that turns tokens into one descriptor: the scene feature from the class token, then the clusters."""

    def __init__(self, config: SaladConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.backbone.width, config.hidden
        self.features = self._perceptron(config.cluster_width)
        self.scores = self._perceptron(config.clusters)
        self.dustbin = nn.Parameter(torch.tensor(1.0))
        self.scene = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, config.scene_width))

    def _perceptron(self, outputs: int) -> nn.Sequential:
        """Return a perceptron with one hidden layer, which is applied to each patch."""
        width, hidden = self.config.backbone.width, self.config.hidden
        return nn.Sequential(
            nn.Conv2d(width, hidden, 1), nn.Dropout(self.config.dropout), nn.ReLU(), nn.Conv2d(hidden, outputs, 1)
        )

    def forward(self, tokens: Tokens) -> Tensor:
        """Return descriptors of unit length, (B, D).

        Raises:
            InputError: the images do not have more patches than there are clusters.
        """
        maps = tokens.patches.permute(0, 3, 1, 2)  # (B, C, h, w)
        features = self.features(maps).flatten(2)  # (B, l, n)
        assignment = self._assign(self.scores(maps).flatten(2))  # (B, m, n)
        clusters = F.normalize(features @ assignment.transpose(1, 2), dim=1)  # (B, l, m)
        scene = F.normalize(self.scene(tokens.class_token), dim=1)
        return F.normalize(torch.cat([scene, clusters.flatten(1)], dim=1), dim=1)

    def _assign(self, scores: Tensor) -> Tensor:  # (B, m, n)
        """Return the mass that goes from each patch to each cluster, (B, m, n).

        Each patch has a mass of 1. Each cluster takes 1, and the dustbin takes the remaining n - m.
        """
        batch, clusters, patches = scores.shape
        if patches <= clusters:
            raise InputError(f"images must have more than {clusters} patches, got {patches}; use larger images.")
        dustbin = self.dustbin.expand(batch, 1, patches)
        scores = torch.cat([scores, dustbin], dim=1)  # (B, m + 1, n)
        taken = scores.new_zeros(clusters + 1)  # logarithm of each mass
        taken[-1] = log(patches - clusters)
        plan = log_sinkhorn(scores, taken, scores.new_zeros(patches), self.config.iterations)
        return plan[:, :-1].exp()


def log_sinkhorn(
    scores: Tensor,  # (B, r, c)
    rows: Tensor,  # (r,) logarithm of the mass of each row
    columns: Tensor,  # (c,) logarithm of the mass of each column
    iterations: int,
) -> Tensor:  # (B, r, c)
    """Return the logarithm of the transport plan, computed by Sinkhorn's algorithm.

    The sums of the plan's columns are exactly the masses in `columns`. The sums of its rows are approximately those in
    `rows`.
    """
    u = torch.zeros_like(scores[:, :, :1])  # (B, r, 1)
    v = torch.zeros_like(scores[:, :1, :])  # (B, 1, c)
    for _ in range(iterations):
        u = rows[:, None] - (scores + v).logsumexp(dim=2, keepdim=True)
        v = columns - (scores + u).logsumexp(dim=1, keepdim=True)
    return scores + u + v


class Salad(nn.Module):
    """The whole network of SALAD or MegaLoc."""

    def __init__(self, config: SaladConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.reduced_to or config.dim
        self.needs = ImageNeeds(config.backbone.patch, config.clusters + 1, whole=True)  # more patches than clusters
        self.backbone = VisionTransformer(config.backbone)
        self.aggregator = SaladAggregator(config)
        self.project = nn.Linear(config.dim, config.reduced_to) if config.reduced_to else None

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, D)
        descriptors: Tensor = self.aggregator(self.backbone(images))
        return descriptors if self.project is None else F.normalize(self.project(descriptors), dim=1)


# ---- the authors' checkpoints

PUBLISHED = {"salad": SaladConfig(), "megaloc": SaladConfig(cluster_width=256, reduced_to=8448)}

_AUTHORS_NAMES = {
    r"backbone\.model\.": "backbone.",
    r"aggregator\.linear\.": "project.",
    r"aggregator\.(agg\.)?dust_bin$": "aggregator.dustbin",
    r"aggregator\.(agg\.)?token_features\.": "aggregator.scene.",
    r"aggregator\.(agg\.)?cluster_features\.": "aggregator.features.",
    r"aggregator\.(agg\.)?score\.": "aggregator.scores.",
}
_MASK = "backbone.mask_token"  # DINOv2 does not use its mask token for descriptors; MegaLoc's file has none


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' weights file to this package's parameter names.

    MegaLoc's file has no mask token, which descriptors do not need; add zeros for it.
    """
    ours = renamed(tensors, _AUTHORS_NAMES)
    if "project.weight" not in ours:
        return ours
    return {_MASK: torch.zeros(1, shape_of(ours, "backbone.cls_token", (1, 1, 768))[-1]), **ours}


def network_of(tensors: Mapping[str, Tensor], name: str) -> Salad:
    """Build a network with the sizes found in `tensors`, a state dict with this package's parameter names.

    If `tensors` is empty, build the published network `name`.
    """
    plain = PUBLISHED[name]
    hidden = plain.hidden
    width, hidden = shape_of(tensors, "aggregator.features.3.weight", (plain.cluster_width, hidden, 1, 1))[:2]
    config = SaladConfig(
        backbone=dinov2_of(tensors, "backbone."),
        clusters=shape_of(tensors, "aggregator.scores.3.weight", (plain.clusters, hidden, 1, 1))[0],
        cluster_width=width,
        scene_width=shape_of(tensors, "aggregator.scene.2.weight", (plain.scene_width, hidden))[0],
        hidden=hidden,
    )
    reduced_to = plain.reduced_to and shape_of(tensors, "project.weight", (plain.reduced_to, config.dim))[0]
    return Salad(replace(config, reduced_to=reduced_to))
