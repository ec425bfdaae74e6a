"""Photo in, place out: `Locator` answers with a `LocationEstimate`, and says how far to trust it."""

from cricavpr.locate.locator import Located, Locator
from cricavpr.locate.values import UNCALIBRATED, Doubt, LocationEstimate, Match, Where

__all__ = ["UNCALIBRATED", "Doubt", "Located", "LocationEstimate", "Locator", "Match", "Where"]
