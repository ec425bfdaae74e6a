"""Decide which positions of a table or of file names are possible. They may be in degrees, UTM metres, or both.

A wrong position is worse than none. So a row with an impossible position is refused, and the reason is recorded, such
as swapped columns, degrees in columns for metres, a zone letter that contradicts the northing, or degrees and metres
that belong to different places.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.coordinates import BANDS, NORTH, SOUTH
from cricavpr.geo import UTM_LATITUDES_DEG, Degrees, Metres, Positions, ground_distances_m, off_the_map, zones_of

Mask = NDArray[np.bool_]  # (N,)
Zone = tuple[int, str]  # zone number, and a letter: latitude band, N, S, NORTH or SOUTH

EASTINGS_M, NORTHINGS_M = (100_000, 900_000), (0, 10_000_000)  # limits of coordinates in a UTM zone
SAME_M = 1.0  # metres and unrounded degrees of a position differ by at most this
COARSEST_M = 1_113.0  # rounding of degrees with two decimals; coarser degrees are too inexact to check metres
MARGIN_DEG = 0.5  # a town may extend beyond the latitude band of its zone letter by this much
# Zones with land at 50 to 58 degrees south. If such a zone has the letter S (south), the same northing is also possible
# in latitude band S, 32 to 40 degrees north. The land is Patagonia and the Falklands, South Georgia, the South Sandwich
# Islands, Bouvet, Heard, Macquarie, Auckland and Campbell.
_LAND_IN_THE_FIFTIES = {18, 19, 20, 21, 24, 25, 26, 31, 43, 57, 58, 59}
_SWAPPED = "seem swapped"
_RENAME = "call the columns lat and lon"


@dataclass(eq=False)
class Written:
    """Positions of N rows, as given in a table or in file names. `resolve` checks and changes them in place.

    Attributes:
        degrees: (N, 2) latitude and longitude of each row, NaN where not given.
        metres: (N, 2) easting and northing of each row, NaN where not given.
        zones: UTM zone of each row's metres, None where not given.
        rounding_m: (N,) precision of each row's degrees: the metres of one unit in their last digit.
        reasons: for each row, why it cannot be used, such as "has no latitude"; "" if it can be used.
        notes: messages about how the whole table was understood, which a user should check.
    """

    degrees: Degrees
    metres: Metres
    zones: list[Zone | None]
    rounding_m: NDArray[np.float64]
    reasons: list[str]
    notes: list[str] = field(default_factory=list)

    def resolve(self, tolerance_m: float = SAME_M) -> list[str]:
        """Refuse rows with an impossible position. If the degrees and the metres of a row agree, keep only the metres.

        Afterwards each row that was not refused has degrees, metres or no position, never both. Either all positions
        are on the earth, or all are metres in one local frame.

        Args:
            tolerance_m: allowed distance between the degrees and the metres of a row, added to the rounding error.

        Returns:
            The UTM zone of each row, such as "33N"; "" for a row without metres or with metres in a local frame.
        """
        self._check_halves()
        self._check_degrees()
        zones = self._hemispheres()
        self._check_metres(zones)
        self._compare(zones, tolerance_m)
        self._check_frame(zones)
        self._refuse_a_swapped_table()
        kept = self._has_metres()
        return [zone if keep else "" for zone, keep in zip(zones, kept.tolist(), strict=True)]

    def _refuse(self, row: int, reason: str) -> None:
        self.reasons[row] = self.reasons[row] or reason

    def _refuse_metres(self, rows: Mask) -> None:
        for row in np.flatnonzero(rows).tolist():
            self._refuse(row, _why_outside(*self.metres[row].tolist()))

    def _has_degrees(self) -> Mask:
        return np.asarray(~np.isnan(self.degrees[:, 0])) & self._sound()

    def _has_metres(self) -> Mask:
        return np.asarray(~np.isnan(self.metres[:, 0])) & self._sound()

    def _sound(self) -> Mask:
        return np.fromiter((not reason for reason in self.reasons), bool, len(self.reasons))

    def _latlon(self, rows: NDArray[np.int64], zones: list[str]) -> Degrees:
        with np.errstate(all="ignore"):  # some metres may be no valid UTM position
            return Positions(self.metres[rows], tuple(zones)).latlon()

    # --- single rows

    def _check_halves(self) -> None:
        for values, names in ((self.degrees, ("latitude", "longitude")), (self.metres, ("easting", "northing"))):
            unknown = np.isnan(values)
            for row in np.flatnonzero(unknown[:, 0] != unknown[:, 1]).tolist():
                self._refuse(row, f"has no {names[int(unknown[row, 1])]}")

    def _check_degrees(self) -> None:
        low, high = UTM_LATITUDES_DEG
        lat, lon = self.degrees.T
        good = (low <= lat) & (lat <= high) & (np.abs(lon) <= 180) & ~((lat == 0) & (lon == 0))
        for row in np.flatnonzero(self._has_degrees() & ~good).tolist():
            reason = off_the_map(*self.degrees[row].tolist())
            self._refuse(row, f"is wrong: {reason}" if reason else "has 0, 0, which stands for an unknown position")

    def _hemispheres(self) -> list[str]:
        """Return the zones with their hemisphere, such as "33N"; "" for rows without a zone."""
        zones = ["" if zone is None else f"{zone[0]}{_hemisphere(zone[1])}" for zone in self.zones]
        doubtful = np.array([zone is not None and zone[1] == "S" for zone in self.zones], bool)
        if (rows := np.flatnonzero(doubtful & self._has_metres())).size:
            self._decide_s(zones, rows)
        return zones

    def _decide_s(self, zones: list[str], rows: NDArray[np.int64]) -> None:
        """Decide whether letter S means latitude band S (32 to 40 degrees north) or the southern hemisphere."""
        numbers = [zones[row][:-1] for row in rows.tolist()]
        north, south = (self._latlon(rows, [number + side for number in numbers]) for side in "NS")
        in_band = np.abs(north[:, 0] - 36) <= 4 + MARGIN_DEG
        by_degrees = ~np.isnan(self.degrees[rows, 0])
        apart_m = [ground_distances_m(side, self.degrees[rows]) for side in (north, south)]
        is_north = np.where(by_degrees, apart_m[0] < apart_m[1], in_band)
        convention = self._convention()
        for at, row in enumerate(rows.tolist()):
            if in_band[at] and not by_degrees[at] and int(numbers[at]) in _LAND_IN_THE_FIFTIES:
                is_north[at] = convention == "bands"
                if convention == "":
                    where = f"{north[at, 0]:.1f} degrees north or {-south[at, 0]:.1f} degrees south"
                    how = f"write {numbers[at]}N for the north or {numbers[at]}F for the south"
                    self._refuse(row, f"has the zone {numbers[at]}S, which may mean {where}; {how}")
            zones[row] = numbers[at] + ("N" if is_north[at] else "S")
        read = is_north & ~by_degrees
        if read.any():
            first = int(np.argmax(read))
            self.notes.append(
                f"zone {numbers[first]}S is read as latitude band S, north of the equator, at latitude "
                f"{north[first, 0]:.1f}"
            )

    def _convention(self) -> str:
        """Return what zone letters mean in this table, "bands" or "hemispheres"; "" if the rows do not show which."""
        letters = {zone[1] for zone in self.zones if zone is not None}
        of_n = np.array([zone is not None and zone[1] == "N" for zone in self.zones], bool)
        # Band N ends at 8 degrees north.
        beyond_band_n = bool((self.metres[of_n & self._has_metres(), 1] > 950_000).any())
        bands = bool(letters - {"N", "S", NORTH, SOUTH})
        return "" if bands == beyond_band_n else "bands" if bands else "hemispheres"

    def _check_metres(self, zones: list[str]) -> None:
        """Refuse metres outside their UTM zone. Rows that also have degrees are left to `_compare`."""
        zoned = np.fromiter(map(bool, zones), bool, len(zones)) & self._has_metres() & ~self._has_degrees()
        east, north = self.metres.T
        outside = zoned & ~(_inside(east, EASTINGS_M) & _inside(north, NORTHINGS_M))
        self._refuse_metres(outside)
        rows = np.flatnonzero(zoned & ~outside)
        lat = self._latlon(rows, [zones[row] for row in rows.tolist()])[:, 0]
        bands = np.array([_band(zone[1]) for row in rows.tolist() if (zone := self.zones[row])]).reshape(-1, 2)
        off = (lat < bands[:, 0] - MARGIN_DEG) | (lat > bands[:, 1] + MARGIN_DEG)
        for at in np.flatnonzero(off).tolist():
            zone, row = self.zones[rows[at]], int(rows[at])
            assert zone is not None
            says = f"zone {zone[0]}{zone[1]} covers latitude {bands[at, 0]:.0f} to {bands[at, 1]:.0f}"
            self._refuse(row, f"is wrong: {says}, but northing {north[row]:.0f} is at latitude {lat[at]:.1f}")

    def _compare(self, zones: list[str], tolerance_m: float) -> None:
        both = self._has_metres() & self._has_degrees()
        # All degrees are taken to be as precise as those with the most digits, because many programs drop zeros at the
        # end: in a table with 48.20824, the value 48.2 means 48.20000.
        rounding_m = min(float(self.rounding_m[both].min(initial=COARSEST_M)), COARSEST_M)
        inside = _inside(self.metres[:, 0], EASTINGS_M) & _inside(self.metres[:, 1], NORTHINGS_M)
        allowed_m = tolerance_m + np.where(inside, 1.5 * rounding_m, 0.0)  # rounded or truncated, in both axes
        free = np.array([row for row in np.flatnonzero(both).tolist() if not zones[row]], np.int64)
        if free.size:  # UTM if the degrees agree in some zone, otherwise another grid
            found, apart_m = zones_of(self.metres[free], self.degrees[free])
            for row, zone, agree in zip(free.tolist(), found, (apart_m <= allowed_m[free]).tolist(), strict=True):
                zones[row] = zone if agree else ""
        rows = np.array([row for row in np.flatnonzero(both).tolist() if zones[row]], np.int64)
        apart_m = ground_distances_m(self._latlon(rows, [zones[row] for row in rows.tolist()]), self.degrees[rows])
        for at in np.flatnonzero(~(apart_m <= allowed_m[rows])).tolist():  # NaN is refused too
            (lat, lon), (east, north) = self.degrees[rows[at]].tolist(), self.metres[rows[at]].tolist()
            hint = "" if _inside(east, EASTINGS_M) else f"; it {_why_outside(east, north)}"
            apart = f"{apart_m[at] / 1000:,.0f} km" if apart_m[at] > 10_000 else f"{apart_m[at]:,.0f} m"
            self._refuse(
                int(rows[at]),
                f"has two different positions, {apart} apart: latitude {lat:g}, longitude {lon:g}, and easting "
                f"{east:.0f}, northing {north:.0f} in zone {zones[rows[at]]}{hint}",
            )
        self.degrees[rows] = np.nan
        self.metres[both & np.fromiter((not zone for zone in zones), bool, len(zones))] = np.nan

    # --- all rows together

    def _check_frame(self, zones: list[str]) -> None:
        metres = self._has_metres()
        local = metres & np.fromiter((not zone for zone in zones), bool, len(zones))
        if not local.any():
            return
        if ((metres & ~local) | self._has_degrees()).any():
            for row in np.flatnonzero(local).tolist():
                self._refuse(row, "has metres without a UTM zone, but other rows have a zone or degrees")
        elif look_like_degrees(self.metres[local]):
            self._refuse_metres(local)

    def _refuse_a_swapped_table(self) -> None:
        """Refuse all rows if the coordinates of most rows are swapped.

        The other rows are probably swapped too, and look possible only by chance.
        """
        swapped = sum(_SWAPPED in reason for reason in self.reasons)
        known = ~np.isnan(self.degrees[:, 0]) | ~np.isnan(self.metres[:, 0])
        if swapped > known.sum() / 2:
            for row in np.flatnonzero(known).tolist():
                self._refuse(row, f"is in a table where most coordinates {_SWAPPED}")


def look_like_degrees(rows: Metres) -> bool:
    """Return whether numbers are probably degrees, not metres: in range, with many decimals, and far from 0."""
    in_range = bool((np.abs(rows) <= (180, 90)).all())
    fine = np.abs(rows * 1000 - np.rint(rows * 1000)) > 1e-6  # more than three decimals
    spread, middle = np.ptp(rows, axis=0), np.abs(np.median(rows, axis=0))
    return in_range and bool(fine.mean() >= 0.9) and bool(((middle > 2 * spread) & (middle >= 1)).any())


def _hemisphere(letter: str) -> str:
    if letter in ("N", "S"):
        return letter
    return "N" if letter == NORTH or (letter > "N" and letter != SOUTH) else "S"


def _band(letter: str) -> tuple[float, float]:
    """Return the lowest and highest latitude of a band. For a letter of a hemisphere, return the limits of UTM."""
    if letter in ("N", "S", NORTH, SOUTH):
        return UTM_LATITUDES_DEG
    low = -80 + 8 * BANDS.index(letter)
    return low, 84 if letter == "X" else low + 8


def _inside(value: NDArray[np.float64] | float, limits: tuple[int, int]) -> Mask:
    return np.asarray((limits[0] <= value) & (value <= limits[1]))


def _why_outside(east: float, north: float) -> str:
    has = f"has easting {east:.10g} and northing {north:.10g}"
    if east == 0 and north == 0:
        return f"{has}, which stands for an unknown position"
    if abs(east) <= 180 and abs(north) <= 180:
        return f"{has}, which look like degrees; {_RENAME}"
    if _inside(north, EASTINGS_M) and _inside(east, NORTHINGS_M):
        return f"{has}, which {_SWAPPED}"
    return f"{has}; expected an easting from 100,000 to 900,000 and a northing from 0 to 10,000,000"
