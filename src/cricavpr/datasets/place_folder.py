"""Places out of any folder of photos: grouped by where they were taken and which way they look.

The rule is greedy and has no chance in it. The photo with the most photos near it that look its way becomes the
middle of a place; photos too near to a place to be of another one are left out; and so on until no photo has enough
company. So two images of different places are never near each other while looking the same way.
"""

from __future__ import annotations

import heapq
import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.datasets.gsv_cities import read_gsv_cities
from cricavpr.datasets.places import PhotoPlaces, Place
from cricavpr.errors import ImageError, InputError
from cricavpr.files import write_text
from cricavpr.geo import Indices, within_radius
from cricavpr.images import read_header

FORMAT = "cricavpr places 1"

_THREADS = 8  # as for other headers: they hide a slow disk

Headings = NDArray[np.float64]  # (N,) degrees clockwise from north, NaN unknown


@dataclass(frozen=True)
class PlaceRule:
    """What makes photos a place, and places two.

    Attributes:
        apart_m: images of different places are further apart than this, unless they look away from each other.
        radius_m: how far a photo of a place may be from its middle.
        heading_deg: how far its heading may be from that of the middle; two images look away from each other
            where their headings differ by more than twice this. A photo without a heading agrees with every
            other, and looks away from none.
        min_images: with fewer photos it is no place.

    Raises:
        InputError: lengths, angles or counts that mean nothing.
    """

    apart_m: float = 25.0
    radius_m: float = 10.0
    heading_deg: float = 45.0
    min_images: int = 4

    def __post_init__(self) -> None:
        lengths = 0 <= self.apart_m < math.inf and 0 <= self.radius_m < math.inf
        if not (lengths and 0 <= self.heading_deg <= 180 and self.min_images >= 1):
            raise InputError(
                f"places {self.apart_m:g} m apart, of radius {self.radius_m:g} m, {self.heading_deg:g} degrees and "
                f"{self.min_images} images are impossible. Give lengths of 0 or more, degrees of 0 to 180, and 1 "
                "or more images."
            )


@dataclass(frozen=True, eq=False)
class FoundPlaces:
    """Which photos of an ImageSet form places.

    Attributes:
        images: the photos.
        headings_deg: (N,) of the photos, NaN unknown.
        rule: what the places were found by.
        middles: (P,) the photo that each place was found around.
        members: one sorted array of photos per place; places in the order of their first photo.
        reasons: one per photo: why it is in no place, "" where it is in one.
    """

    images: ImageSet
    headings_deg: Headings
    rule: PlaceRule
    middles: Indices
    members: tuple[Indices, ...]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.members)

    @property
    def used(self) -> int:
        return sum(map(len, self.members))

    def left_out(self) -> list[tuple[str, int]]:
        """Why photos were left out, and how many, the most frequent reason first."""
        return Counter(reason for reason in self.reasons if reason).most_common()

    def dataset(self, name: str) -> PhotoPlaces:
        """To learn from; one city of this name.

        Raises:
            InputError: no place was found.
        """
        if not self.members:
            why = "; ".join(f"{count:,} {reason}" for reason, count in self.left_out())
            raise InputError(f"no place among {len(self.images):,} photos of {name}: {why}. Allow a larger radius.")
        places = (
            Place(number, name, tuple(self.images.names[row] for row in rows.tolist()))
            for number, rows in enumerate(self.members)
        )
        return PhotoPlaces(name, tuple(places), self.images.root)


def places_from_positions(
    images: ImageSet, rule: PlaceRule | None = None, headings_deg: Headings | None = None
) -> FoundPlaces:
    """Group located images into places.

    Args:
        images: with positions; those without one are left out.
        rule: see `PlaceRule`.
        headings_deg: (N,) or None where nothing is known; then position alone decides. Crops of one panorama look
            all ways from one spot, so for them position alone makes places that show no one thing.

    Raises:
        InputError: no positions, or headings that do not fit the images.
    """
    rule = rule or PlaceRule()
    count = len(images)
    headings = np.full(count, np.nan) if headings_deg is None else np.asarray(headings_deg, np.float64)
    if images.positions is None:
        raise InputError(f"the photos in {images.root} have no positions, so nothing is near. Give positions.")
    if headings.shape != (count,):
        raise InputError(f"{len(headings)} headings do not fit {count} images in {images.root}.")
    near = within_radius(images.positions, images.positions, rule.radius_m)
    around = within_radius(images.positions, images.positions, rule.apart_m)
    free = images.positions.known.copy()
    reasons = np.full(count, _too_few(rule), object)
    reasons[~free] = "have no position"

    def company(middle: int) -> Indices:
        rows = near[middle][free[near[middle]]]
        return rows[_turns(headings[rows], headings[middle]) <= rule.heading_deg]

    found: list[tuple[int, Indices]] = []
    # Company only shrinks, so a count that is still the greatest after counting again is the greatest of all.
    queue = [(-len(company(row)), row) for row in np.flatnonzero(free).tolist()]
    heapq.heapify(queue)
    while queue:
        _, middle = heapq.heappop(queue)
        members = company(middle) if free[middle] else np.empty(0, np.int64)
        if len(members) < rule.min_images:
            continue
        if queue and (-len(members), middle) > queue[0]:
            heapq.heappush(queue, (-len(members), middle))
            continue
        found.append((middle, members))
        free[members] = False
        reasons[members] = ""
        for member in members.tolist():
            rows = around[member][free[around[member]]]
            rows = rows[_turns(headings[rows], headings[member]) <= 2 * rule.heading_deg]
            free[rows] = False
            reasons[rows] = _too_near(rule)
    found.sort(key=lambda place: int(place[1][0]))
    middles = np.array([middle for middle, _ in found], np.int64)
    return FoundPlaces(images, headings, rule, middles, tuple(rows for _, rows in found), tuple(reasons.tolist()))


def _turns(headings: Headings, other_deg: float) -> Headings:
    """(n,) degrees 0..180 between headings; 0 where one is unknown."""
    return np.nan_to_num(np.abs((headings - other_deg + 180.0) % 360.0 - 180.0), nan=0.0)


def _too_few(rule: PlaceRule) -> str:
    return f"have fewer than {rule.min_images} photos within {rule.radius_m:g} m that look the same way"


def _too_near(rule: PlaceRule) -> str:
    return f"are within {rule.apart_m:g} m of a place that they do not belong to"


# --- which way photos look


def read_headings(images: ImageSet) -> Headings:
    """From @ names that carry one, otherwise from EXIF; true and magnetic north are taken for the same."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return np.fromiter(pool.map(_heading, map(images.path, range(len(images)))), np.float64, len(images))


def _heading(path: Path) -> float:
    parts = path.name.split("@")
    if len(parts) > 10 and not parts[0]:
        return _degrees(parts[9])
    try:
        heading = read_header(path, min_side=1).heading_deg
    except ImageError:  # a photo that cannot be opened is named elsewhere
        return math.nan
    return math.nan if heading is None else heading


def _degrees(value: Any) -> float:
    """0..360, or NaN for anything else."""
    try:
        degrees = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan
    return degrees % 360.0 if 0.0 <= degrees <= 360.0 else math.nan


# --- the file


def write_places(found: FoundPlaces, file: Path, name: str) -> None:
    """A JSON file that `read_places` understands, one place per line; names are relative to the photos' folder.

    Raises:
        InputError: no place to write, or a file that cannot be written.
    """
    places = found.dataset(name).places
    lines = [json.dumps(_entry(found, number) | {"images": place.images}) for number, place in enumerate(places)]
    folder = Path(os.path.relpath(found.images.root.absolute(), file.absolute().parent)).as_posix()
    head = json.dumps({"format": FORMAT, "name": name, "folder": folder, "rule": asdict(found.rule)}, indent=1)
    write_text(file, f'{head[:-2]},\n "places": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")


def _entry(found: FoundPlaces, number: int) -> dict[str, Any]:
    middle = int(found.middles[number])
    positions = found.images.positions
    assert positions is not None
    entry: dict[str, Any] = {"id": number}
    if positions.zones is None:
        east, north = positions.metres[middle].tolist()
        entry |= {"easting": round(east, 2), "northing": round(north, 2)}
    else:
        lat, lon = positions.take([middle]).latlon()[0].tolist()
        entry |= {"lat": round(lat, 7), "lon": round(lon, 7)}
    heading = float(found.headings_deg[middle])
    return entry if math.isnan(heading) else entry | {"heading_deg": round(heading, 1)}


def read_places(file: Path, folder: Path | None = None) -> PhotoPlaces:
    """Read a file of places.

    Args:
        file: as `write_places` writes it.
        folder: where the photos lie now, if not where the file says.

    Raises:
        InputError: not such a file, or names that are not below the folder.
    """
    file = Path(file)
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise ValueError(f"its format is {held['format']!r}")
        name, below = _text(held["name"]), _text(held["folder"])
        places = tuple(_place(entry, name) for entry in held["places"])
    except OSError as error:
        raise InputError(f"cannot read the places {file}: {error.strerror}. Give a file of places.") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{file} is not a file of places ({why}). Make one with `cricavpr places build`.") from None
    dataset = PhotoPlaces(name, places, Path(folder) if folder else file.parent / below)
    dataset.image_set()  # refuses names that leave the folder
    return dataset


def _place(entry: dict[str, Any], city: str) -> Place:
    if type(entry["id"]) is not int or not isinstance(entry["images"], list):
        raise ValueError(f"a place is {str(entry)[:80]}")
    return Place(entry["id"], city, tuple(map(_text, entry["images"])))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:80]} should be text")
    return value


def open_places(path: Path, cities: Iterable[str] | None = None, min_images: int = 4) -> PhotoPlaces:
    """Training data after a look at what it is: a GSV-Cities folder, or a file of places.

    Raises:
        InputError: neither, or no place with so many images.
    """
    path = Path(path)
    if path.is_dir():
        return read_gsv_cities(path, None if cities is None else tuple(cities), min_images)
    return read_places(path).with_at_least(min_images)
