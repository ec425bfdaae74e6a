"""Health check of an index: coverage holes, places with one photo, near-duplicates, similar places, bad photos."""

from cricavpr.health.findings import Health, examine

__all__ = ["Health", "examine"]
