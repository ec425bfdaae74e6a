"""What could be better about an index: holes, thin places, copies, places that look alike, bad photos."""

from cricavpr.health.findings import Health, examine

__all__ = ["Health", "examine"]
