"""Writing a town to disk, in the layouts that the readers of this package know.

Three layouts: `photos` (pictures with GPS in EXIF, as a phone takes them), `utm` (positions in file names, as
most benchmarks come) and `gsv` (GSV-Cities: training places with a table per city). Each file is written
beside its name and then moved there, so an interruption leaves no half picture, and a second run makes only
what is missing. The bytes do not depend on the number of workers.
"""

import csv
import difflib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from cricavpr.errors import InputError
from cricavpr.files import write_text
from cricavpr.geo import Positions
from cricavpr.town.batch import in_order
from cricavpr.town.hashing import hash_int
from cricavpr.town.render import render
from cricavpr.town.views import Split, Town, View, get_town, remember_town

Layout = Literal["photos", "utm", "gsv"]
Progress = Callable[[int, int], None]  # called with (pictures done, pictures in all)

_MARKER = "town.json"
_CHUNK = 16  # pictures handed to a process at a time
_EXIF, _GPS = 0x8769, 0x8825
_HOURS = {"day": 12, "overcast": 10, "dusk": 20, "night": 23, "rain": 15, "fog": 8, "snow": 13}
_WINTER = (1, 2, 12)


@dataclass(frozen=True)
class Written:
    """What a writer did."""

    folder: Path
    layout: str
    pictures: int  # in the folder now
    skipped: int  # of these were there before


@dataclass(frozen=True)
class _Photo:
    """One picture to be written: what to render and what to say about it."""

    path: str  # relative to the folder, with /
    view: View
    place: int
    visit: int
    lat_deg: float
    lon_deg: float
    east_m: float
    north_m: float
    taken: tuple[int, int, int, int, int, int]  # year, month, day, hour, minute, second


def make_town(
    folder: str | Path,
    seed: int,
    places: int,
    layout: str = "photos",
    *,
    image_size: tuple[int, int] = (224, 224),  # (h, w) pixels
    jpeg_quality: int = 90,
    queries_per_place: int = 1,  # photos and utm
    views_per_place: int = 4,  # gsv
    workers: int = 1,
    progress: Progress | None = None,
) -> Written:
    """Lay out a town and write its pictures. The same call continues a run that was interrupted.

    Raises:
        InputError: an unknown layout, values that no town or picture can have, or a folder that holds
            something else.
    """
    if layout not in get_args(Layout):
        known = get_args(Layout)
        near = difflib.get_close_matches(str(layout), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{layout!r} is no layout of a town; known are {', '.join(known)}.{hint}")
    how = _How(image_size, jpeg_quality, workers, progress)
    _refuse_foreign(Path(folder))  # before a large town is laid out for nothing
    town = Town(seed, places)
    if layout == "photos":
        return _write_photos(town, Path(folder), how, queries_per_place)
    if layout == "utm":
        return _write_utm_tree(town, Path(folder), how, queries_per_place)
    return _write_gsv_cities(town, Path(folder), how, views_per_place, None)


def write_photos(
    town: Town,
    folder: str | Path,
    *,
    queries_per_place: int = 1,
    image_size: tuple[int, int] = (224, 224),  # (h, w) pixels
    jpeg_quality: int = 90,
    workers: int = 1,
    progress: Progress | None = None,
) -> Written:
    """`database/` and `queries/` with GPS position, direction and time in EXIF; names tell nothing."""
    how = _How(image_size, jpeg_quality, workers, progress)
    return _write_photos(town, Path(folder), how, queries_per_place)


def write_utm_tree(
    town: Town,
    folder: str | Path,
    *,
    queries_per_place: int = 1,
    image_size: tuple[int, int] = (224, 224),  # (h, w) pixels
    jpeg_quality: int = 90,
    workers: int = 1,
    progress: Progress | None = None,
) -> Written:
    """`images/test/{database,queries}/@easting@northing@...@.jpg`, the tree of most benchmarks.

    Published readers split the whole path at @; for them the folder's own path must have none.
    """
    how = _How(image_size, jpeg_quality, workers, progress)
    return _write_utm_tree(town, Path(folder), how, queries_per_place)


def write_gsv_cities(
    town: Town,
    folder: str | Path,
    *,
    views_per_place: int = 4,
    city: str | None = None,  # "Town" and the seed, unless named
    image_size: tuple[int, int] = (224, 224),  # (h, w) pixels
    jpeg_quality: int = 90,
    workers: int = 1,
    progress: Progress | None = None,
) -> Written:
    """`Images/<city>/` and `Dataframes/<City>.csv`, as GSV-Cities. Several towns may share the folder."""
    how = _How(image_size, jpeg_quality, workers, progress)
    return _write_gsv_cities(town, Path(folder), how, views_per_place, city)


# ---- the three layouts


@dataclass(frozen=True)
class _How:
    """How pictures are made, whatever their layout."""

    image_size: tuple[int, int]
    jpeg_quality: int
    workers: int
    progress: Progress | None

    def __post_init__(self) -> None:
        if min(self.image_size) < 16 or max(self.image_size) > 4096:
            raise InputError(f"image_size {self.image_size} is (height, width); each must be 16 to 4096 pixels.")
        if not 1 <= self.jpeg_quality <= 100:
            raise InputError(f"jpeg_quality {self.jpeg_quality} must be 1 to 100.")
        if self.workers < 1:
            raise InputError(f"workers {self.workers} must be 1 or more.")


def _write_photos(town: Town, folder: Path, how: _How, queries_per_place: int) -> Written:
    _claim(folder, town, "photos", how, queries_per_place=_at_least(queries_per_place, 1, "queries_per_place"))
    photos = _test_photos(town, queries_per_place, lambda shelf, p: f"{shelf}/{p.place:06d}_{p.visit:02d}.jpg")
    return _write_pictures(town, folder, "photos", how, photos)


def _write_utm_tree(town: Town, folder: Path, how: _How, queries_per_place: int) -> Written:
    _claim(folder, town, "utm", how, queries_per_place=_at_least(queries_per_place, 1, "queries_per_place"))
    photos = _test_photos(town, queries_per_place, lambda shelf, p: f"images/test/{shelf}/{_utm_name(town, p)}")
    return _write_pictures(town, folder, "utm", how, photos)


def _write_gsv_cities(town: Town, folder: Path, how: _How, views_per_place: int, city: str | None) -> Written:
    city = city or f"Town{town.seed}"
    if not city.isalnum():
        raise InputError(f"The city name {city!r} becomes part of file names; give letters and digits only.")
    _claim(folder, town, f"gsv-{city}", how, views_per_place=_at_least(views_per_place, 4, "views_per_place"))
    visits = [(place.id, visit) for place in town.places for visit in range(views_per_place)]
    photos = _photos(town, "train", visits, lambda p: f"Images/{city}/{_gsv_name(city, p)}")
    written = _write_pictures(town, folder, "gsv", how, photos)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid"])
    for p in photos:
        rows.writerow([p.place, *p.taken[:2], _northdeg(p), city, p.lat_deg, p.lon_deg, _panoid(p)])
    # The table comes last: a reader that finds it finds every picture it names.
    write_text(folder / "Dataframes" / f"{city}.csv", table.getvalue())
    return written


def _at_least(value: int, least: int, name: str) -> int:
    if value < least:
        raise InputError(f"{name} is {value}; this layout needs {least} or more.")
    return value


def _utm_name(town: Town, photo: _Photo) -> str:
    """The sixteen fields of the convention, from the easting on; roll and height stay empty."""
    camera, origin = photo.view.camera, town.origin
    year, month, day, hour, minute, second = photo.taken
    fields = (
        f"{photo.east_m:010.2f}",
        f"{photo.north_m:010.2f}",
        f"{origin.zone:02d}",
        origin.letter,
        f"{photo.lat_deg:09.5f}",
        f"{photo.lon_deg:010.5f}",
        f"town{town.seed}x{photo.place:06d}x{photo.visit:02d}",
        "00",
        f"{round(camera.yaw_deg) % 360:03d}",
        f"{round(camera.pitch_deg):03d}",
        "",
        "",
        f"{year:04d}{month:02d}{day:02d}_{hour:02d}{minute:02d}{second:02d}",
        photo.view.scene.condition,
    )
    return "@" + "@".join(fields) + "@.jpg"


def _gsv_name(city: str, photo: _Photo) -> str:
    year, month = photo.taken[:2]
    where = f"{photo.lat_deg!r}_{photo.lon_deg!r}"
    place = f"{photo.place % 100_000:07d}"
    return f"{city}_{place}_{year:04d}_{month:02d}_{_northdeg(photo):03d}_{where}_{_panoid(photo)}.jpg"


def _northdeg(photo: _Photo) -> int:
    return round(photo.view.camera.yaw_deg) % 360


def _panoid(photo: _Photo) -> str:
    return f"p{photo.place:06d}v{photo.visit:02d}"


# ---- which pictures


def _test_photos(town: Town, queries_per_place: int, name: Callable[[str, _Photo], str]) -> list[_Photo]:
    once = [(place.id, 0) for place in town.places]
    asked = [(place.id, visit) for place in town.places for visit in range(queries_per_place)]
    return [
        *_photos(town, "database", once, lambda photo: name("database", photo)),
        *_photos(town, "query", asked, lambda photo: name("queries", photo)),
    ]


def _photos(town: Town, split: Split, visits: Sequence[tuple[int, int]], name: Callable[[_Photo], str]) -> list[_Photo]:
    """Views with their positions on the earth; seven digits of a degree are one centimetre."""
    views = [town.view(place, visit, split) for place, visit in visits]
    origin = town.origin
    metres = np.array([(view.camera.x_m, view.camera.y_m) for view in views])
    metres += np.array((origin.easting_m, origin.northing_m))
    degrees = Positions(metres, (f"{origin.zone}N",) * len(views)).latlon()
    photos = []
    for (place, visit), view, (east, north), (lat, lon) in zip(
        visits, views, metres.tolist(), degrees.tolist(), strict=True
    ):
        taken = _when(view, town.seed, place, visit)
        photo = _Photo("", view, place, visit, round(lat, 7), round(lon, 7), east, north, taken)
        photos.append(replace(photo, path=name(photo)))
    return photos


def _when(view: View, *keys: int) -> tuple[int, int, int, int, int, int]:
    """A date and an hour that go with the condition."""
    draws = [hash_int(view.scene.view_seed, 95, k, *keys) for k in range(4)]
    month = _WINTER[draws[0] % 3] if view.scene.condition == "snow" else 1 + draws[0] % 12
    hour = _HOURS[view.scene.condition]
    return view.scene.year, month, 1 + draws[1] % 28, hour, draws[2] % 60, draws[3] % 60


# ---- to disk


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder. Choose another name.")
    if folder.is_dir() and not (folder / _MARKER).exists() and any(folder.iterdir()):
        raise InputError(f"The folder {folder} holds something else than a town. Choose an empty or new one.")


def _claim(folder: Path, town: Town, layout: str, how: _How, **counts: int) -> None:
    """Write down what this folder is to hold, or check that it agrees with what is there."""
    _refuse_foreign(folder)
    wish: dict[str, object] = {
        "seed": town.seed,
        "places": len(town.places),
        "image_size": list(how.image_size),
        "jpeg_quality": how.jpeg_quality,
        **counts,
    }
    marker = folder / _MARKER
    held: dict[str, object] = _read_marker(marker) if marker.exists() else {}
    # GSV-Cities folders grow city by city; of the other layouts a folder holds one.
    cities = layout.startswith("gsv-") and all(name.startswith("gsv-") for name in held)
    if held.get(layout, wish) != wish or not (cities or set(held) <= {layout}):
        raise InputError(
            f"The folder {folder} holds another town, {json.dumps(held)}, than the one asked for, "
            f"{json.dumps({layout: wish})}. Choose another folder, or ask for the same again."
        )
    if layout not in held:
        write_text(marker, json.dumps({**held, layout: wish}, indent=1) + "\n")


def _read_marker(marker: Path) -> dict[str, object]:
    try:
        held = json.loads(marker.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{marker} cannot be read: {error}. Choose another folder.") from error
    if not isinstance(held, dict):
        raise InputError(f"{marker} was not written by a town. Choose another folder.")
    return held


def _write_pictures(town: Town, folder: Path, layout: str, how: _How, photos: Sequence[_Photo]) -> Written:
    for parent in sorted({(folder / photo.path).parent for photo in photos}):
        parent.mkdir(parents=True, exist_ok=True)
    todo = [photo for photo in photos if not _is_there(folder / photo.path)]
    done = skipped = len(photos) - len(todo)
    remember_town(town)
    jobs = [
        _Job(town.seed, len(town.places), str(folder), how.image_size, how.jpeg_quality, todo[k : k + _CHUNK])
        for k in range(0, len(todo), _CHUNK)
    ]
    for count in in_order(_write_chunk, jobs, how.workers):
        done += count
        if how.progress is not None:
            how.progress(done, len(photos))
    return Written(folder, layout, len(photos), skipped)


def _is_there(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class _Job:
    seed: int
    places: int
    folder: str
    image_size: tuple[int, int]
    jpeg_quality: int
    photos: list[_Photo]


def _write_chunk(job: _Job) -> int:
    """Runs in a worker process: render, compress and put in place."""
    town = get_town(job.seed, job.places)
    for photo in job.photos:
        image = Image.fromarray(render(town, photo.view.camera, photo.view.scene, job.image_size))
        data = io.BytesIO()
        image.save(data, "JPEG", quality=job.jpeg_quality, exif=_exif(photo))
        _put(Path(job.folder) / photo.path, data.getvalue())
    return len(job.photos)


def _put(path: Path, data: bytes) -> None:
    """All of the file or nothing; what lies beside it until then does not end in .jpg.

    Not synced, which would take longer than drawing: an empty file after a power cut counts as missing.
    """
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(data)
    beside.replace(path)


def _exif(photo: _Photo) -> bytes:
    """GPS position to a centimetre, the direction of the lens, and the time."""
    exif = Image.Exif()
    year, month, day, hour, minute, second = photo.taken
    time = f"{year:04d}:{month:02d}:{day:02d} {hour:02d}:{minute:02d}:{second:02d}"
    exif[0x0110] = "cricavpr drawn town"  # Model
    exif.get_ifd(_EXIF)[0x9003] = time  # DateTimeOriginal
    exif.get_ifd(_GPS).update(
        {
            0: b"\x02\x03\x00\x00",  # GPSVersionID
            1: "N" if photo.lat_deg >= 0 else "S",
            2: _degrees(photo.lat_deg),
            3: "E" if photo.lon_deg >= 0 else "W",
            4: _degrees(photo.lon_deg),
            16: "T",  # GPSImgDirection from true north
            17: IFDRational(round(photo.view.camera.yaw_deg * 100), 100),
        }
    )
    return exif.tobytes()


def _degrees(value: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Degrees, minutes and seconds; seconds to a hundred-thousandth, a third of a millimetre."""
    units = round(abs(value) * 3600 * 100_000)
    minutes, seconds = divmod(units, 60 * 100_000)
    return IFDRational(minutes // 60, 1), IFDRational(minutes % 60, 1), IFDRational(seconds, 100_000)
