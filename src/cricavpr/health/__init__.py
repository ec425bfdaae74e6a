"""Find weak points of an index: holes, thin places, near-duplicates, similar places, bad photos."""

from cricavpr.health.findings import Health, examine

__all__ = ["Health", "examine"]
