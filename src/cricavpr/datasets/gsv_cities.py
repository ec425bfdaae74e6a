"""Read GSV-Cities: the tables `Dataframes/<City>.csv`, and the photos in `Images/<city_id>/`.

Source: Ali-bey et al., "GSV-Cities: Toward appropriate supervised visual place recognition" (Neurocomputing 2022).
The photo of a row is `{city_id}_{place_id, 7 digits}_{year}_{month}_{northdeg, 3 digits}_{lat}_{lon}_{panoid}.jpg`.
Opening reads only the tables (half a million rows). A missing photo is noticed only when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import Problem
from cricavpr.datasets.places import PhotoPlaces, Picture, Place, file_names
from cricavpr.errors import ImageError, InputError
from cricavpr.files import read_columns
from cricavpr.geo import off_the_map
from cricavpr.images import decode
from cricavpr.schema import nearest

CITIES = (  # in the order of the authors' loader; place ids depend on this order
    *("Bangkok", "BuenosAires", "LosAngeles", "MexicoCity", "OSL", "Rome", "Barcelona", "Chicago", "Madrid"),
    *("Miami", "Phoenix", "TRT", "Boston", "Lisbon", "Medellin", "Minneapolis", "PRG", "WashingtonDC", "Brussels"),
    *("London", "Melbourne", "Osaka", "PRS"),
)
PLACES_PER_CITY = 100_000  # the place ids of city number n begin at n * PLACES_PER_CITY
COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")


@dataclass(frozen=True, eq=False)
class GsvCities(PhotoPlaces):
    """Training places of one or several cities of GSV-Cities.

    The file name of a photo contains its coordinates, and their last digits may differ from those in the table. So if
    a file with the expected name does not exist, a file with the same panorama id and place id is read.
    """

    _shelves: dict[str, dict[tuple[int, str], list[str]]] = field(default_factory=dict, repr=False)

    def read(self, image: Picture) -> NDArray[np.uint8]:  # (H, W, 3)
        name = str(image)
        try:
            return decode(self.root / name)
        except ImageError as error:
            other = self._elsewhere(name) if error.stage == "find" else None
            if other is None:
                raise
            return decode(self.root / other)

    def missing(self) -> list[Problem]:
        """Return a problem for each photo of the tables that has no file with its name or its panorama and place id."""
        return [problem for problem in super().missing() if self._elsewhere(problem.name) is None]

    def _elsewhere(self, name: str) -> str | None:
        """Return another file with the same panorama and place id, or None. The same heading is preferred."""
        folder, _, file = name.rpartition("/")
        if folder not in self._shelves:
            shelf = self._shelves[folder] = {}
            for other in sorted(file_names(self.root / folder)):
                if parts := _parts(folder, other):
                    shelf.setdefault(parts[:2], []).append(other)
        wanted = _parts(folder, file)
        found = self._shelves[folder].get(wanted[:2]) if wanted else None
        if not wanted or not found:
            return None
        same = (other for other in found if (parts := _parts(folder, other)) and parts[2] == wanted[2])
        return f"{folder}/{next(same, found[0])}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shelves": {}}


def read_gsv_cities(root: Path, cities: Sequence[str] | None = None, min_images: int = 4) -> GsvCities:
    """Read the tables of a GSV-Cities folder.

    Args:
        root: the folder that holds `Dataframes` and `Images`.
        cities: names of the cities to read. Place ids depend on their order. By default all cities are read: first the
            published ones in the order of the authors' loader, then others sorted by name.
        min_images: leave out places with fewer photos.

    Raises:
        InputError: the folder or a city does not exist, a table cannot be read, or no place has enough photos.
    """
    root = Path(root)
    tables = {path.stem: path for path in sorted((root / "Dataframes").glob("*.csv"))}
    if not tables:
        raise InputError(f"{root} is not a GSV-Cities folder. Give the folder that holds Dataframes/*.csv and Images/.")
    if cities is None:
        cities = sorted(tables, key=lambda city: (CITIES.index(city) if city in CITIES else len(CITIES), city))
    places: list[Place] = []
    for number, city in enumerate(cities):
        if city not in tables:
            raise InputError(f"{root} has no city {city!r}. {nearest(city, tables)}")
        first_id = number * PLACES_PER_CITY
        for place_id, images in _read_table(tables[city]).items():
            if len(images) >= min_images:
                places.append(Place(first_id + place_id, city, tuple(images)))
    if not places:
        raise InputError(f"no place of {', '.join(cities)} in {root} has {min_images} photos. Lower the minimum.")
    return GsvCities("gsv_cities", tuple(places), root)


def _read_table(table: Path) -> dict[int, list[str]]:
    """Return the photos' names for each place id. The place ids are in the order in which they first occur."""
    places: dict[int, list[str]] = {}
    for row, cells in enumerate(zip(*read_columns(table, COLUMNS).values(), strict=True), start=1):
        try:
            place, name = _photo(*cells)
        except ValueError as error:
            raise InputError(f"row {row} of {table} is invalid: {error}. Restore it from the data set.") from None
        places.setdefault(place, []).append(name)
    return places


def _photo(
    place: str, year: str, month: str, north: str, city: str, lat: str, lon: str, panorama: str
) -> tuple[int, str]:
    """Return the place id of a row, and the path of its photo relative to the root."""
    if not city or "/" in city + panorama or "\0" in city + panorama or city in (".", ".."):
        raise ValueError(f"city_id {city!r} or panoid {panorama!r} is not allowed in a file name")
    place_id = int(place)
    if place_id < 0:
        raise ValueError(f"place id {place_id} is negative")
    if reason := off_the_map(float(lat), float(lon)):
        raise ValueError(reason)
    where = f"{float(lat)!r}_{float(lon)!r}"  # repr gives the shortest text that parses to the same number
    number, seen = f"{place_id % PLACES_PER_CITY:07d}", f"{int(year):04d}_{int(month):02d}_{int(north):03d}"
    return place_id, f"Images/{city}/{city}_{number}_{seen}_{where}_{panorama}.jpg"


def _parts(folder: str, file: str) -> tuple[int, str, str] | None:
    """Return place number, panorama id and heading from a file name, or None. A panorama id may contain _ and -."""
    stem, dot, suffix = file.rpartition(".")
    fields = stem.removeprefix(folder.rpartition("/")[2] + "_").split("_", 6)
    if not dot or suffix.lower() not in ("jpg", "jpeg") or len(fields) != 7 or not fields[0].isdecimal():
        return None
    return int(fields[0]), fields[6], fields[3]
