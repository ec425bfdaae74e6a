"""Health check of an index: holes in its coverage, thin places, near-duplicates, similar places, and bad photos."""

from cricavpr.health.findings import Health, examine

__all__ = ["Health", "examine"]
