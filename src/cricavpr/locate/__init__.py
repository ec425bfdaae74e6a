"""Photos in, places out: `Locator` gives a `LocationEstimate`, and says how far to trust it."""

from cricavpr.locate.estimate import UNCALIBRATED, Doubt, LocationEstimate, Match, Where
from cricavpr.locate.locator import Located, Locator

__all__ = ["UNCALIBRATED", "Doubt", "Located", "LocationEstimate", "Locator", "Match", "Where"]
