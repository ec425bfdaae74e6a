"""Write the pictures of a town to disk, in one of three layouts that this package can read.

The layout `photos` has positions in EXIF, like photos of a phone. The layout `utm` has them in file names, like most
benchmarks. `gsv` is the layout of GSV-Cities: training places with a table for each city. A second run writes only
missing pictures. The bytes of the files do not depend on the number of workers.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from cricavpr.errors import InputError
from cricavpr.files import growing, write_text
from cricavpr.geo import Positions
from cricavpr.progress import Progress, Report
from cricavpr.schema import nearest
from cricavpr.town.hashing import hash_int
from cricavpr.town.render import in_order, render
from cricavpr.town.views import Split, Town, View

_MARKER = "town.json"
_CHUNK = 16  # pictures that a process writes as one job
_EXIF, _GPS = 0x8769, 0x8825
_HOURS = {"day": 12, "overcast": 10, "dusk": 20, "night": 23, "rain": 15, "fog": 8, "snow": 13}
_WINTER = (1, 2, 12)


@dataclass(frozen=True)
class Written:
    """Result of writing a town.

    Attributes:
        pictures: number of pictures of the town that are in the folder now.
        skipped: number of those pictures that existed before this call and were not written again.
    """

    folder: Path
    layout: str
    pictures: int
    skipped: int


@dataclass(frozen=True)
class _Photo:
    """One picture to write: the view to render, and the metadata to record with the picture."""

    view: View
    side: str  # database or queries
    place: int
    visit: int
    lat_deg: float
    lon_deg: float
    east_m: float
    north_m: float
    taken: tuple[int, int, int, int, int, int]  # year, month, day, hour, minute, second

    @property
    def northdeg(self) -> int:
        return round(self.view.camera.yaw_deg) % 360

    @property
    def panoid(self) -> str:
        return f"p{self.place:06d}v{self.visit:02d}"


_Job = tuple[Path, _Photo]


def make_town(folder: str | Path, seed: int, places: int, layout: str = "photos", **options: object) -> Written:
    """Lay out a town and write its pictures. To continue an interrupted run, make the same call again.

    Args:
        options: keyword arguments of `write_town`.

    Raises:
        InputError: as for `Town` and `write_town`.

    Example:
        >>> import tempfile
        >>> make_town(tempfile.mkdtemp(), seed=7, places=3, image_size=(32, 32)).pictures
        6
    """
    _refuse_foreign(Path(folder))  # checked before laying out the town, which takes time
    return write_town(Town(seed, places), folder, layout, **options)  # type: ignore[arg-type]  # checked there


def write_town(
    town: Town,
    folder: str | Path,
    layout: str = "photos",
    *,
    image_size: tuple[int, int] = (224, 224),  # (h, w) pixels
    jpeg_quality: int = 90,
    queries_per_place: int = 1,
    queried: Sequence[int] | None = None,
    views_per_place: int = 4,
    city: str | None = None,
    workers: int = 1,
    progress: bool | Report = False,
) -> Written:
    """Write the pictures of a town.

    Args:
        layout: "photos" for `database/` and `queries/` with position, direction and time in EXIF, not in file names.
            "utm" for `images/test/{database,queries}/@easting@northing@...@.jpg`, as in most benchmarks. Published
            readers split the whole path at @, so the path of `folder` must not contain @.
            "gsv" for `Images/CITY/` and `Dataframes/CITY.csv`, as in GSV-Cities. Several towns may share the folder.
        jpeg_quality: quality of the JPEG files, 1 to 100.
        queries_per_place: number of query pictures of each place, in the layouts "photos" and "utm".
        queried: indices of the places that have queries, in the layouts "photos" and "utm"; None for all places.
        views_per_place: number of pictures of each place in the layout "gsv", at least 4.
        city: name of the city in the layout "gsv", of letters and digits; None for "Town" and the seed, such as Town7.
        workers: number of processes that render.

    Raises:
        InputError: the layout is unknown, an option is out of range, or the folder holds other files or another town.
    """
    if layout not in _LAYOUTS:
        raise InputError(f"unknown layout {layout!r}. {nearest(layout, _LAYOUTS)}")
    if min(image_size) < 16 or max(image_size) > 4096:
        raise InputError(f"image_size must be (height, width) of 16 to 4096 pixels, got {image_size}.")
    city = city or f"Town{town.seed}"
    if not city.isalnum():
        raise InputError(f"city must consist of letters and digits, because file names contain it; got {city!r}.")
    if wrong := [place for place in queried or () if not 0 <= place < len(town.places)]:
        raise InputError(
            f"queried must hold place numbers, 0 or more and below {len(town.places):,}, got {wrong[0]:,}."
        )
    per_place, least = (views_per_place, 4) if layout == "gsv" else (queries_per_place, 1)
    name = "views_per_place" if layout == "gsv" else "queries_per_place"
    _check_range(jpeg_quality=(jpeg_quality, 1, 100), workers=(workers, 1, None), **{name: (per_place, least, None)})
    wish = {
        "seed": town.seed,
        "places": len(town.places),
        "image_size": list(image_size),
        "jpeg_quality": jpeg_quality,
        name: per_place,
        **({} if queried is None else {"queried": sorted(queried)}),
    }
    _claim(Path(folder), f"gsv-{city}" if layout == "gsv" else layout, wish)
    asked = range(len(town.places)) if queried is None else queried
    if layout == "gsv":
        photos = list(_photos(town, "train", city, range(len(town.places)), views_per_place))
    else:
        photos = [
            *_photos(town, "database", "database", range(len(town.places)), 1),
            *_photos(town, "query", "queries", asked, queries_per_place),
        ]
    paths = {Path(folder) / _LAYOUTS[layout](town, photo): photo for photo in photos}
    write = partial(_write_chunk, image_size=image_size, jpeg_quality=jpeg_quality)
    with growing(Path(folder)), Progress(progress, len(paths), "pictures") as counting:
        for parent in sorted({path.parent for path in paths}):
            parent.mkdir(parents=True, exist_ok=True)
        todo = [(path, photo) for path, photo in paths.items() if not (path.exists() and path.stat().st_size)]
        done = skipped = len(paths) - len(todo)
        for count in in_order(write, town, [todo[k : k + _CHUNK] for k in range(0, len(todo), _CHUNK)], workers):
            done += count
            counting.reach(done, len(paths))
    if layout == "gsv":  # the table is written last, when all pictures in it exist
        write_text(Path(folder) / "Dataframes" / f"{city}.csv", _gsv_table(city, photos))
    return Written(Path(folder), layout, len(photos), skipped)


def _check_range(**values: tuple[int, int, int | None]) -> None:
    for name, (value, least, most) in values.items():
        if value < least or (most is not None and value > most):
            allowed = f"at least {least}" if most is None else f"{least} to {most}"
            raise InputError(f"{name} must be {allowed}, got {value}.")


# --- the three layouts: the path of a picture below the folder


def _utm_path(town: Town, photo: _Photo) -> str:
    """Return a path whose file name has the fields of VPR-datasets-downloader; roll and height are empty."""
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
        f"{photo.northdeg:03d}",
        f"{round(camera.pitch_deg):03d}",
        "",
        "",
        f"{year:04d}{month:02d}{day:02d}_{hour:02d}{minute:02d}{second:02d}",
        photo.view.scene.condition,
    )
    return f"images/test/{photo.side}/@{'@'.join(fields)}@.jpg"


def _gsv_path(town: Town, photo: _Photo) -> str:
    city, (year, month, *_) = photo.side, photo.taken
    where = f"{photo.lat_deg!r}_{photo.lon_deg!r}"
    place = f"{photo.place % 100_000:07d}"
    return f"Images/{city}/{city}_{place}_{year:04d}_{month:02d}_{photo.northdeg:03d}_{where}_{photo.panoid}.jpg"


_LAYOUTS: dict[str, Callable[[Town, _Photo], str]] = {
    "photos": lambda town, photo: f"{photo.side}/{photo.place:06d}_{photo.visit:02d}.jpg",
    "utm": _utm_path,
    "gsv": _gsv_path,
}
LAYOUTS = tuple(_LAYOUTS)


def _gsv_table(city: str, photos: Sequence[_Photo]) -> str:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid"])
    for p in photos:
        rows.writerow([p.place, *p.taken[:2], p.northdeg, city, p.lat_deg, p.lon_deg, p.panoid])
    return table.getvalue()


# --- which pictures


def _photos(town: Town, split: Split, side: str, places: Sequence[int], visits: int) -> Iterator[_Photo]:
    """Yield the pictures to write, with their positions on the earth. Degrees are rounded to about a centimetre."""
    keys = [(place, visit) for place in places for visit in range(visits)]
    views = [town.view(place, visit, split) for place, visit in keys]
    origin = town.origin
    metres = np.array([(view.camera.x_m, view.camera.y_m) for view in views])
    metres += np.array((origin.easting_m, origin.northing_m))
    degrees = Positions(metres, (f"{origin.zone}N",) * len(views)).latlon()
    for (place, visit), view, (east, north), (lat, lon) in zip(
        keys, views, metres.tolist(), degrees.tolist(), strict=True
    ):
        taken = _when(view, town.seed, place, visit)
        yield _Photo(view, side, place, visit, round(lat, 7), round(lon, 7), east, north, taken)


def _when(view: View, *keys: int) -> tuple[int, int, int, int, int, int]:
    """Return a date and a time of day that fit the condition, such as a winter month for snow."""
    draws = [hash_int(view.scene.view_seed, 95, k, *keys) for k in range(4)]
    month = _WINTER[draws[0] % 3] if view.scene.condition == "snow" else 1 + draws[0] % 12
    hour = _HOURS[view.scene.condition]
    return view.scene.year, month, 1 + draws[1] % 28, hour, draws[2] % 60, draws[3] % 60


# --- to disk


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder. Choose another name.")
    if folder.is_dir() and not (folder / _MARKER).exists() and any(folder.iterdir()):
        raise InputError(
            f"{folder} is not empty and was not created by `cricavpr town make`. Choose an empty or new folder."
        )


def _claim(folder: Path, key: str, wish: dict[str, object]) -> None:
    """Record in the folder which town it holds. Raise if it already holds another town or files of other programs."""
    _refuse_foreign(folder)
    marker = folder / _MARKER
    try:
        held = json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {marker}: {error}. Choose another folder.") from error
    if not isinstance(held, dict):
        raise InputError(f"{marker} was not created by `cricavpr town make`. Choose another folder.")
    # In the layout gsv a folder may hold several towns, one per city; in other layouts it holds one town.
    cities = key.startswith("gsv-") and all(name.startswith("gsv-") for name in held)
    if held.get(key, wish) != wish or not (cities or set(held) <= {key}):
        raise InputError(
            f"{folder} holds another town: {json.dumps(held)} instead of {json.dumps({key: wish})}. Choose another "
            "folder, or make the same town with the same options."
        )
    if key not in held:
        write_text(marker, json.dumps({**held, key: wish}, indent=1) + "\n")


def _write_chunk(town: Town, chunk: list[_Job], image_size: tuple[int, int], jpeg_quality: int) -> int:
    """Render pictures and write them as JPEG files. Return their number. This runs in worker processes.

    A file is renamed to .jpg only when it is complete. Files are not synced to disk, because that takes longer than
    rendering. So a power cut may leave empty files; the next run writes these again.
    """
    for path, photo in chunk:
        image = Image.fromarray(render(town, photo.view.camera, photo.view.scene, image_size))
        beside = path.with_name(path.name + ".part")
        image.save(beside, "JPEG", quality=jpeg_quality, exif=_exif(photo))
        beside.replace(path)
    return len(chunk)


def _exif(photo: _Photo) -> bytes:
    """Return EXIF with the position to a centimetre, the direction of the lens, and the time."""
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
    """Return degrees, minutes and seconds for EXIF. Seconds are rounded to 0.00001, a third of a millimetre."""
    units = round(abs(value) * 3600 * 100_000)
    minutes, seconds = divmod(units, 60 * 100_000)
    return IFDRational(minutes // 60, 1), IFDRational(minutes % 60, 1), IFDRational(seconds, 100_000)
