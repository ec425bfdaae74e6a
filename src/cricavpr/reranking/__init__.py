"""Re-ranking of the first matches of a search by the local features of a two-stage method."""

from cricavpr.reranking.flow import Reranked, rerank

__all__ = ["Reranked", "rerank"]
