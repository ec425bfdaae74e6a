"""describe: a method, images and a grouping in; descriptors out, and a list of the photos that gave none."""

from cricavpr.describing.flow import Described, NothingDescribed, cache_key, describe, describe_one
from cricavpr.progress import Report

__all__ = ["Described", "NothingDescribed", "Report", "cache_key", "describe", "describe_one"]
