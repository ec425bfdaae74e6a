"""SALAD: patches are assigned to clusters by optimal transport, with a dustbin for what tells nothing about the place.

Source: Izquierdo and Civera, "Optimal Transport Aggregation for Visual Place Recognition" (CVPR 2024), section 3, and
Cuturi, "Sinkhorn Distances" (2013). Written from the paper. Letters: B images, n patches, m clusters, l width of a
cluster, C width of a token. The paper's t, s, z, f, g are our tokens, scores, dustbin, features, scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.fitting import dinov2_of, of_their_size, renamed, shape_of
from cricavpr.models.vit import BACKBONES, Tokens, VisionTransformer, ViTConfig


@dataclass(frozen=True)
class SaladConfig:
    """Sizes of the network; as published, 64 x 128 + 256 = 8448 values describe an image."""

    backbone: ViTConfig = field(default_factory=lambda: BACKBONES["vitb14"])
    clusters: int = 64
    cluster_width: int = 128
    scene_width: int = 256
    hidden: int = 512
    dropout: float = 0.3
    iterations: int = 3

    @property
    def dim(self) -> int:
        return self.clusters * self.cluster_width + self.scene_width


class SaladAggregator(nn.Module):
    """Tokens to one descriptor: the scene as the class token has it, then the clusters."""

    def __init__(self, config: SaladConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.backbone.width, config.hidden
        self.features = self._perceptron(config.cluster_width)
        self.scores = self._perceptron(config.clusters)
        self.dustbin = nn.Parameter(torch.tensor(1.0))
        self.scene = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, config.scene_width))

    def _perceptron(self, outputs: int) -> nn.Sequential:
        """Two layers, the same for every patch."""
        width, hidden = self.config.backbone.width, self.config.hidden
        return nn.Sequential(
            nn.Conv2d(width, hidden, 1), nn.Dropout(self.config.dropout), nn.ReLU(), nn.Conv2d(hidden, outputs, 1)
        )

    def forward(self, tokens: Tokens) -> Tensor:
        """(B, D) of unit length.

        Raises:
            InputError: fewer patches than clusters.
        """
        maps = tokens.patches.permute(0, 3, 1, 2)  # (B, C, h, w)
        features = self.features(maps).flatten(2)  # (B, l, n)
        assignment = self._assign(self.scores(maps).flatten(2))  # (B, m, n)
        clusters = F.normalize(features @ assignment.transpose(1, 2), dim=1)  # (B, l, m)
        scene = F.normalize(self.scene(tokens.class_token), dim=1)
        return F.normalize(torch.cat([scene, clusters.flatten(1)], dim=1), dim=1)

    def _assign(self, scores: Tensor) -> Tensor:  # (B, m, n)
        """How much of each patch goes to each cluster. Every patch brings a mass of 1, every cluster takes 1 of it,
        and the dustbin the n - m that are left."""
        batch, clusters, patches = scores.shape
        if patches <= clusters:
            raise InputError(f"{patches} patches are too few for {clusters} clusters. Use larger images.")
        dustbin = self.dustbin.expand(batch, 1, patches)
        scores = torch.cat([scores, dustbin], dim=1)  # (B, m + 1, n)
        taken = scores.new_zeros(clusters + 1)  # logarithms of the masses
        taken[-1] = log(patches - clusters)
        plan = log_sinkhorn(scores, taken, scores.new_zeros(patches), self.config.iterations)
        return plan[:, :-1].exp()


def log_sinkhorn(
    scores: Tensor,  # (B, r, c)
    rows: Tensor,  # (r,) logarithm of the mass of each row
    columns: Tensor,  # (c,) and of each column
    iterations: int,
) -> Tensor:  # (B, r, c)
    """Logarithm of the transport plan. After every iteration the columns are exact and the rows nearly so."""
    u = torch.zeros_like(scores[:, :, :1])  # (B, r, 1)
    v = torch.zeros_like(scores[:, :1, :])  # (B, 1, c)
    for _ in range(iterations):
        u = rows[:, None] - (scores + v).logsumexp(dim=2, keepdim=True)
        v = columns - (scores + u).logsumexp(dim=1, keepdim=True)
    return scores + u + v


class Salad(nn.Module):
    """Images to descriptors."""

    def __init__(self, config: SaladConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.backbone = VisionTransformer(config.backbone)
        self.aggregator = SaladAggregator(config)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, D)
        return self.aggregator(self.backbone(images))  # type: ignore[no-any-return]


# ---- the authors' checkpoint ------------------------------------------------------------------------------------


def aggregator_names(theirs: str, ours: str) -> dict[str, str]:
    """How the entries of an aggregator under the prefix `theirs` are called here, under `ours`."""
    names = {"token_features": "scene", "cluster_features": "features", "score": "scores"}
    dustbin = {rf"{theirs}dust_bin$": f"{ours}dustbin"}
    return dustbin | {rf"{theirs}{their}\.": f"{ours}{our}." for their, our in names.items()}


_AUTHORS_NAMES = {r"backbone\.model\.": "backbone."} | aggregator_names(r"aggregator\.", "aggregator.")


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the authors' state dict under our names."""
    return renamed(tensors, _AUTHORS_NAMES)


def network_of(tensors: Mapping[str, Tensor], source: str) -> Salad:
    """A network of the sizes that these tensors have, by our names.

    Raises:
        WeightsError: some entry does not fit.
    """
    return of_their_size(lambda: Salad(config_of(tensors)), tensors, source)


def config_of(tensors: Mapping[str, Tensor], published: SaladConfig | None = None) -> SaladConfig:
    """Read the sizes off the tensors, by our names. The number of iterations leaves no trace in them."""
    published = published or SaladConfig()
    hidden = published.hidden
    features = shape_of(tensors, "aggregator.features.3.weight", (published.cluster_width, hidden, 1, 1))
    scores = shape_of(tensors, "aggregator.scores.3.weight", (published.clusters, hidden, 1, 1))
    scene = shape_of(tensors, "aggregator.scene.2.weight", (published.scene_width, hidden))
    return SaladConfig(
        backbone=dinov2_of(tensors, "backbone."),
        clusters=scores[0],
        cluster_width=features[0],
        scene_width=scene[0],
        hidden=features[1],
    )
