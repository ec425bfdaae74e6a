"""Location of photos: `Locator` returns a `LocationEstimate`, with a confidence if the index is calibrated."""

from cricavpr.locate.estimate import UNCALIBRATED, Doubt, LocationEstimate, Match, Where
from cricavpr.locate.locator import Located, Locator

__all__ = ["UNCALIBRATED", "Doubt", "Located", "LocationEstimate", "Locator", "Match", "Where"]
