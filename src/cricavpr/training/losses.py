"""Losses over a batch of descriptors and the places they show."""

from __future__ import annotations

from torch import Tensor, nn

from cricavpr.errors import MissingExtraError


class MultiSimilarity(nn.Module):
    """Multi-similarity loss with its miner, at the paper's settings (alpha 1, beta 50, base 0, epsilon 0.1).

    Source: Wang et al., "Multi-Similarity Loss with General Pair Weighting" (CVPR 2019), through
    pytorch-metric-learning. A side of an anchor without mined pairs adds nothing; the mean is over all anchors.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 50.0, base: float = 0.0, epsilon: float = 0.1) -> None:
        super().__init__()
        try:
            from pytorch_metric_learning import distances, losses, miners
        except ImportError:
            raise MissingExtraError(
                "training needs pytorch-metric-learning. Run: pip install 'cricavpr[train]'"
            ) from None
        cosine = distances.DotProductSimilarity()
        self.loss = losses.MultiSimilarityLoss(alpha, beta, base, distance=cosine)
        self.miner = miners.MultiSimilarityMiner(epsilon, distance=distances.CosineSimilarity())

    def forward(self, descriptors: Tensor, places: Tensor) -> tuple[Tensor, float]:  # (B, D), (B,)
        """The loss, and the share of images that take part in a mined pair."""
        pairs = self.miner(descriptors, places)
        mined = len(set(pairs[0].tolist()) | set(pairs[2].tolist())) / len(places)
        return self.loss(descriptors, places, pairs), mined
