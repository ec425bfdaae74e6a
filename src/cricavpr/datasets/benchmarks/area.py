"""Check that all photos of a benchmark lie in its town: swapped columns and wrong zones show at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cricavpr.datasets.base import ImageSet
from cricavpr.errors import InputError
from cricavpr.geo import Positions


@dataclass(frozen=True)
class Area:
    """A town and all that lies within `radius_m` of its centre, which is far more than its photos need."""

    town: str
    lat_deg: float
    lon_deg: float
    radius_m: float = 60_000.0

    @property
    def centre(self) -> Positions:
        """One position, in the zone that the benchmark uses."""
        return Positions.from_latlon([(self.lat_deg, self.lon_deg)])

    @property
    def zone(self) -> str:
        """The UTM zone, such as "17N"."""
        zones = self.centre.zones
        assert zones is not None
        return zones[0]

    def check(self, images: ImageSet) -> ImageSet:
        """Return the images if all of them lie here, or raise. Images without zones are taken to be in this zone."""
        if images.positions is None:
            return images
        zones = images.positions.zones
        if zones is not None and set(zones) != {self.zone}:
            at = next(row for row, zone in enumerate(zones) if zone != self.zone)
            raise InputError(
                f"{images.names[at]!r} in {images.root} is in UTM zone {zones[at] or 'unknown'}, but {self.town} is in "
                f"{self.zone}. Restore the file names or positions of the download."
            )
        away_m = np.linalg.norm(images.positions.metres - self.centre.metres, axis=1)
        if not (away_m <= self.radius_m).all():  # NaN is refused too
            raise InputError(self._elsewhere(images, int(np.argmax(~(away_m <= self.radius_m)))))
        return images

    def _elsewhere(self, images: ImageSet, at: int) -> str:
        assert images.positions is not None
        east, north = images.positions.metres[at].tolist()
        swapped = float(np.linalg.norm(np.array([north, east]) - self.centre.metres[0])) <= self.radius_m
        why = "Easting and northing seem swapped" if swapped else "Restore the positions of the download"
        return (
            f"{images.names[at]!r} in {images.root} lies at easting {east:.0f}, northing {north:.0f}, which is not "
            f"within {self.radius_m / 1000:.0f} km of {self.town}. {why}."
        )
