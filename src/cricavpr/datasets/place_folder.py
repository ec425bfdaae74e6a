"""Group any folder of photos into places, by position and heading.

The rule is greedy and deterministic. Two photos are neighbours if they are near one another and look the same way. The
photo with the most neighbours becomes the middle of a place; the photo and its neighbours form the place. Other photos
near this place are left out, because different places must be far apart. This is repeated while a photo has enough
neighbours.
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
from cricavpr.pages import Circle, Marker, map_of, render, text
from cricavpr.pages.maps import GROUPS

FORMAT = "cricavpr places 1"

_THREADS = 8  # threads are for slow disks

Headings = NDArray[np.float64]  # (N,) degrees clockwise from north, NaN where unknown


@dataclass(frozen=True)
class PlaceRule:
    """Distances, angles and the number of photos that define a place.

    Attributes:
        apart_m: smallest distance in metres between photos of different places. It does not apply to photos whose
            headings differ by more than twice `heading_deg`.
        radius_m: largest distance in metres between a photo and the middle photo of its place.
        heading_deg: largest angle in degrees between the headings of a photo and of the middle photo of its place. A
            photo without a heading agrees with every heading.
        min_images: smallest number of photos in a place.

    Raises:
        InputError: a distance, an angle or a count is out of range.
    """

    apart_m: float = 25.0
    radius_m: float = 10.0
    heading_deg: float = 45.0
    min_images: int = 4

    def __post_init__(self) -> None:
        lengths = 0 <= self.apart_m < math.inf and 0 <= self.radius_m < math.inf
        if not (lengths and 0 <= self.heading_deg <= 180 and self.min_images >= 1):
            raise InputError(
                "apart_m and radius_m must be at least 0, heading_deg 0 to 180 and min_images at least 1, got "
                f"{self.apart_m:g}, {self.radius_m:g}, {self.heading_deg:g} and {self.min_images}."
            )


@dataclass(frozen=True, eq=False)
class FoundPlaces:
    """Places found among the photos of an ImageSet.

    Attributes:
        images: the photos.
        headings_deg: (N,) headings of the photos, NaN where unknown.
        rule: the rule by which the photos were grouped.
        middles: (P,) index of the middle photo of each place, the photo around which the place was formed.
        members: for each place, the sorted indices of its photos. Places are in the order of their first photos.
        reasons: for each photo, why it is in no place; "" if it is in a place.
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
        """Return each reason why photos are in no place, with the number of these photos. The commonest comes first."""
        return Counter(reason for reason in self.reasons if reason).most_common()

    def dataset(self, name: str) -> PhotoPlaces:
        """Return the places as training data. `name` is the name of the dataset, and also of its only city.

        Raises:
            InputError: no place was found.
        """
        if not self.members:
            why = "; ".join(f"{count:,} {reason}" for reason, count in self.left_out())
            raise InputError(f"no place among {len(self.images):,} photos of {name}: {why}. Use a larger radius.")
        places = (
            Place(number, name, tuple(self.images.names[row] for row in rows.tolist()))
            for number, rows in enumerate(self.members)
        )
        return PhotoPlaces(name, tuple(places), self.images.root)


def places_from_positions(
    images: ImageSet, rule: PlaceRule | None = None, headings_deg: Headings | None = None
) -> FoundPlaces:
    """Group images with positions into places.

    Args:
        images: the images; an image without a position is in no place.
        rule: the rule that decides which images form a place, or None for the default `PlaceRule`.
        headings_deg: (N,) headings of the images, or None to group by position alone. Crops of a panorama look in
            different directions, so without headings the photos of a place may show nothing in common.

    Raises:
        InputError: no image has a position, or `headings_deg` does not have one heading per image.

    Example:
        >>> from cricavpr.geo import Positions
        >>> spots = Positions([(0, 0), (3, 0), (0, 4), (90, 0)])
        >>> photos = ImageSet(Path("photos"), ("a.jpg", "b.jpg", "c.jpg", "d.jpg"), spots)
        >>> found = places_from_positions(photos, PlaceRule(min_images=3))
        >>> [rows.tolist() for rows in found.members]
        [[0, 1, 2]]
    """
    rule = rule or PlaceRule()
    count = len(images)
    headings = np.full(count, np.nan) if headings_deg is None else np.asarray(headings_deg, np.float64)
    if images.positions is None:
        raise InputError(f"cannot group the photos in {images.root}: they have no positions. Give positions.")
    if headings.shape != (count,):
        raise InputError(f"headings_deg must have one heading per image ({count}), got {len(headings)}.")
    near = within_radius(images.positions, images.positions, rule.radius_m)
    around = within_radius(images.positions, images.positions, rule.apart_m)
    free = images.positions.known.copy()
    too_few = f"have fewer than {rule.min_images} photos within {rule.radius_m:g} m that look the same way"
    too_near = f"are within {rule.apart_m:g} m of a place without belonging to it"
    reasons = np.full(count, too_few, object)
    reasons[~free] = "have no position"

    def neighbours(middle: int) -> Indices:
        rows = near[middle][free[near[middle]]]
        return rows[_turns(headings[rows], headings[middle]) <= rule.heading_deg]

    found: list[tuple[int, Indices]] = []
    # The number of free neighbours of a photo only shrinks, so a number in the queue is never too low. The first
    # photo's neighbours are counted again. If their number is still the highest in the queue, the photo forms a place.
    queue = [(-len(neighbours(row)), row) for row in np.flatnonzero(free).tolist()]
    heapq.heapify(queue)
    while queue:
        _, middle = heapq.heappop(queue)
        members = neighbours(middle) if free[middle] else np.empty(0, np.int64)
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
            reasons[rows] = too_near
    found.sort(key=lambda place: int(place[1][0]))
    middles = np.array([middle for middle, _ in found], np.int64)
    return FoundPlaces(images, headings, rule, middles, tuple(rows for _, rows in found), tuple(reasons.tolist()))


def _turns(headings: Headings, other_deg: float) -> Headings:
    """Return the angle between each heading and `other_deg`, 0 to 180 degrees; 0 where either heading is unknown."""
    return np.nan_to_num(np.abs((headings - other_deg + 180.0) % 360.0 - 180.0), nan=0.0)


# --- headings


def read_headings(images: ImageSet) -> Headings:
    """Read each image's heading from its file name (@easting@northing@...), or else from EXIF; NaN where unknown."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return np.fromiter(pool.map(_heading, map(images.path, range(len(images)))), np.float64, len(images))


def _heading(path: Path) -> float:
    parts = path.name.split("@")
    try:
        if len(parts) > 10 and not parts[0]:
            heading = float(parts[9])
            return heading % 360.0 if 0.0 <= heading <= 360.0 else math.nan
        found = read_header(path, min_side=1).heading_deg
        return math.nan if found is None else found
    except (ValueError, ImageError):  # a photo that cannot be opened is reported by another function
        return math.nan


# --- the file


def write_places(found: FoundPlaces, file: Path, name: str) -> None:
    """Write places to a JSON file for `read_places`, one place per line.

    Raises:
        InputError: no place was found, or the file cannot be written.
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
    """Read a JSON file of training places.

    Args:
        file: path of a file from `write_places`.
        folder: the folder of the photos, or None for the folder that is named in the file.

    Raises:
        InputError: the file is invalid, or holds a path that leaves the folder of the photos.
    """
    file = Path(file)
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise ValueError(f"its format is {held['format']!r}, expected {FORMAT!r}")
        name, below = _text(held["name"]), _text(held["folder"])
        places = tuple(_place(entry, name) for entry in held["places"])
    except OSError as error:
        raise InputError(
            f"cannot read the file of places {file}: {error.strerror}. Give a file from `cricavpr places build`."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{file} is not a file of places ({why}). Make one with `cricavpr places build`.") from None
    dataset = PhotoPlaces(name, places, Path(folder) if folder else file.parent / below)
    dataset.image_set()  # raises if a name leaves the folder
    return dataset


def _place(entry: dict[str, Any], city: str) -> Place:
    if type(entry["id"]) is not int or not isinstance(entry["images"], list):
        raise ValueError(f"expected a place with an integer id and a list of images, got {str(entry)[:80]}")
    return Place(entry["id"], city, tuple(map(_text, entry["images"])))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {str(value)[:80]}")
    return value


def open_places(path: Path, cities: Iterable[str] | None = None, min_images: int = 4) -> PhotoPlaces:
    """Open training data: a GSV-Cities folder, or a file from `cricavpr places build`.

    Args:
        path: the folder or the file.
        cities: cities of GSV-Cities to read; by default all.
        min_images: leave out places with fewer images.

    Raises:
        InputError: `path` is neither a GSV-Cities folder nor a file of places, or no place has `min_images` images.
    """
    path = Path(path)
    if path.is_dir():
        return read_gsv_cities(path, None if cities is None else tuple(cities), min_images)
    return read_places(path).with_at_least(min_images)


# --- the map


def places_page(found: FoundPlaces, name: str) -> str:
    """Return an HTML page with a map. Each place is a circle, with its photos as dots of the same colour; photos in no
    place are grey dots.

    Args:
        name: name of the data set, for the title.
    """
    positions = found.images.positions
    assert positions is not None
    degrees = positions.zones is not None
    at = (positions.latlon() if degrees else positions.metres).tolist()
    place_of = {row: place for place, rows in enumerate(found.members) for row in rows.tolist()}
    headings = found.headings_deg.tolist()
    markers = [
        Marker(at[row], f"{photo}: {reason}" if reason else photo, _look(place_of.get(row)), heading_deg=headings[row])
        for row, (photo, reason) in enumerate(zip(found.images.names, found.reasons, strict=True))
    ]
    circles = [
        Circle(at[middle], found.rule.radius_m, f"place {place}: {len(found.members[place]):,} photos", _look(place))
        for place, middle in enumerate(found.middles.tolist())
    ]
    looking = "" if np.isnan(found.headings_deg).all() else "; a stroke shows the heading of a photo"
    headline = f"{name}: {len(found):,} places from {found.used:,} of {len(found.images):,} photos"
    key = {"group-0": f"photos of a place, each place in one of {GROUPS} colours{looking}", "photo": "in no place"}
    drawn = map_of(markers, circles, degrees=degrees, key=key, label=f"Map of {len(found):,} places")
    return render(
        title=headline,
        kicker="cricavpr places build",
        headline=headline,
        lede=text(f"Photos of a place are at most {found.rule.radius_m:g} m from its middle photo."),
        body=f'<div class="card">{drawn}</div>',
        scripts=("map.js",),
    )


def _look(place: int | None) -> str:
    return "photo" if place is None else f"group-{place % GROUPS}"
