"""rerank: look again at the first matches of a search, with the local features of a two-stage method."""

from cricavpr.reranking.flow import Reranked, rerank

__all__ = ["Reranked", "rerank"]
