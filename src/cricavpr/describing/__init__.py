"""Describe photos on disk: in worker processes, resumable, with a list of those that failed."""

from cricavpr.describing.flow import Described, NothingDescribed, cache_key, describe, describe_one
from cricavpr.progress import Report

__all__ = ["Described", "NothingDescribed", "Report", "cache_key", "describe", "describe_one"]
