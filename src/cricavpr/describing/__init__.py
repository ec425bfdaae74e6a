"""Description of photos on disk: worker processes read them, interrupted work is resumed, failed photos are listed."""

from cricavpr.describing.flow import Described, NothingDescribed, cache_key, describe, describe_one
from cricavpr.progress import Report

__all__ = ["Described", "NothingDescribed", "Report", "cache_key", "describe", "describe_one"]
