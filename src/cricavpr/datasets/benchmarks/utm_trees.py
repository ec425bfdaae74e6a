"""@UTM@ trees (folders of photos whose file names hold positions), and the benchmarks that have no other layout.

Source: the layout that VPR-datasets-downloader writes, `<name>/images/<split>/{database,queries}/@...@.jpg`. Most
benchmarks are shared in this layout.

San Francisco XL: Berton et al., "Rethinking visual geo-localization for large-scale applications" (CVPR 2022).
SVOX: Berton et al., "Adaptive-attentive geolocalization from few queries" (WACV 2021): street view of Oxford as the
database, and drives of Oxford RobotCar in five weather conditions as queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.base import Area, Benchmark, Layout, Split
from cricavpr.datasets.utm_names import join_utm_sides, read_utm_folder
from cricavpr.geo import Positions

TREE = "@UTM@ tree"
WITHIN_25_M = "within 25 m"
RECOMPRESSED = "photos in the @UTM@ tree were saved again as JPEG, so recall may differ from that of the original files"
UNSTATED = "no statement was found"
FREE = "none known"


def bases(key: str, split: str) -> tuple[str, ...]:
    """Return the paths, relative to the user's folder, that may hold the database and query folders of a split."""
    return f"images/{split}", split, f"{key}/images/{split}", f"{key}/{split}"


def tree(
    below: Sequence[str],
    queries: str = "queries",
    *,
    database: str = "database",
    area: Area | None = None,
    finish: Callable[[EvalDataset], EvalDataset] = lambda dataset: dataset,
) -> Layout:
    """Return the layout of a database folder and a query folder in the same folder, with positives within 25 m.

    Args:
        below: paths relative to the root that may hold the two folders. The first path that holds both is read. If
            none holds both, messages name the first path.
        queries: name of the query folder.
        database: name of the database folder.
        area: the area in which all photos must lie, or None for no check.
        finish: function that is applied to the dataset after reading, for example to add conditions.
    """

    def read(root: Path) -> EvalDataset:
        base = _base(root, below, (database, queries)) or root / below[0]
        return finish(join_utm_sides(TREE, _side(base / database, area), _side(base / queries, area)))

    return _layout(below, (database, queries), read)


def _layout(below: Sequence[str], folders: tuple[str, ...], read: Callable[[Path], EvalDataset]) -> Layout:
    needs = tuple(f"{below[0]}/{folder}" for folder in folders)
    return Layout(TREE, lambda root: _base(root, below, folders) is not None, needs, read)


def _base(root: Path, below: Sequence[str], folders: tuple[str, ...]) -> Path | None:
    return next((root / base for base in below if all((root / base / one).is_dir() for one in folders)), None)


def _side(folder: Path, area: Area | None) -> ImageSet:
    images = read_utm_folder(folder)
    return images if area is None else area.check(images)


# --- Eynsham and St Lucia

_RSYNC = "rsync://vandaldata.polito.it/sf_xl/VPR-datasets-downloader"
_WITHDRAWN = "VPR-datasets-downloader withdrew its script in March 2026; copy the @UTM@ tree with rsync"


def _whole(key: str, queries: int, database: int, *notes: str) -> tuple[Split]:
    layouts = (tree((*bases(key, "test"), ".")),)
    return (Split(key, queries, database, WITHIN_25_M, layouts, notes=(*notes, _WITHDRAWN)),)


EYNSHAM = Benchmark(
    key="eynsham",
    title="Eynsham",
    source=f"{_RSYNC}/eynsham (ready-made tree); the original recordings: zenodo.org/records/1243106",
    registration=FREE,
    licence=UNSTATED,
    splits=_whole(
        "eynsham",
        23_935,
        23_935,
        "only the @UTM@ tree is read, not the original recording",
        "the database has 4,787 panoramas of 5 cameras each; the count of queries is not confirmed",
        "greyscale pictures, 512 x 384 pixels; " + RECOMPRESSED,
    ),
)
ST_LUCIA = Benchmark(
    key="st_lucia",
    title="St Lucia",
    source=f"{_RSYNC}/st_lucia (ready-made tree)",
    registration=FREE,
    licence=UNSTATED,
    splits=_whole(
        "st_lucia",
        1_464,
        1_549,
        "only the @UTM@ tree is read, not the ten recordings",
        "database: the first of ten drives; queries: the last drive; one frame per 5 m; neither count is confirmed",
        "all good methods have a recall of 99 to 100 here, so it no longer tells them apart",
    ),
)

# --- San Francisco XL

SAN_FRANCISCO = Area("San Francisco", 37.77, -122.42)
_SF_NOTES = (
    "put the supplied database_images_paths.txt beside the folder database: without it all its folders are searched",
    "headings in file names grow counter-clockwise (90 = west); the heading of a crop is that of its leftmost column",
    "queries differ in size: set one image size for all, or describe them one by one",
)
_SF_DATABASE = 2_805_840
_SF_UNSURE = "the exact count of the database is not confirmed; the authors write 2.8 million"
_SF_SMALL = "the small version for first trials: its recall cannot be compared with that of SF-XL"


def _sf(name: str, part: str, folder: str, queries: int | None, database: int | None, *notes: str) -> Split:
    """Return a split of SF-XL. `part` is its subfolder: processed/val, processed/test, small/val or small/test."""
    below = (part, part.rpartition("/")[2], f"sf_xl/{part}", f"sf_xl/{part.rpartition('/')[2]}")
    layouts = (tree(below, folder, area=SAN_FRANCISCO),)
    return Split(name, queries, database, WITHIN_25_M, layouts, notes=notes + _SF_NOTES)


def _sf_test(name: str, folder: str, queries: int, what: str) -> Split:
    return _sf(f"sf_xl-{name}", "processed/test", folder, queries, _SF_DATABASE, f"queries {what}", _SF_UNSURE)


SF_XL = Benchmark(
    key="sf_xl",
    title="San Francisco eXtra Large",
    source="rsync://vandaldata.polito.it/sf_xl/ (processed: val 16,000 photos, test 122 GB; small)",
    registration="the form forms.gle/wpyDzhDyoWLQygAT9",
    licence="as agreed to in the form",
    splits=(
        _sf("sf_xl-val", "processed/val", "queries", 7_993, 8_015, "the exact counts (8k each) are not confirmed"),
        _sf_test("test_v1", "queries_v1", 1_000, "from Flickr, without headings"),
        _sf_test("test_v2", "queries_v2", 598, "of San Francisco Landmarks with refined poses"),
        _sf_test("night", "queries_night", 466, "taken at night"),
        _sf_test("occlusion", "queries_occlusion", 76, "with occlusions"),
        _sf("sf_xl_small-val", "small/val", "queries", None, None, _SF_SMALL, "8 thousand photos on each side"),
        _sf("sf_xl_small-test_v1", "small/test", "queries_v1", 1_000, None, _SF_SMALL, "27 thousand photos"),
    ),
)

# --- SVOX

OXFORD = Area("Oxford", 51.75, -1.26)
GALLERY = "gallery"  # name of the database folder in SVOX
WEATHERS = {"night": 823, "overcast": 872, "rain": 937, "snow": 870, "sun": 854}
_SVOX_BASES = (*bases("svox", "test"), ".")
_SVOX_FOLDERS = (GALLERY, *(f"queries_{weather}" for weather in WEATHERS))


def _svox_weather(weather: str) -> Layout:
    def finish(dataset: EvalDataset) -> EvalDataset:
        queries = dataset.queries
        return replace(dataset, queries=replace(queries, conditions=(weather,) * len(queries)))

    return tree(_SVOX_BASES, f"queries_{weather}", database=GALLERY, area=OXFORD, finish=finish)


def read_svox_all(root: Path) -> EvalDataset:
    """Read the queries of all weather conditions, one condition after the other, each in the order of file names."""
    base = _base(root, _SVOX_BASES, _SVOX_FOLDERS) or root / _SVOX_BASES[0]
    parts = {weather: _side(base / f"queries_{weather}", OXFORD) for weather in WEATHERS}
    positions = [part.positions for part in parts.values() if part.positions is not None]
    if len({part.zones is None for part in positions}) == 2:
        positions = [Positions(part.metres) for part in positions]
    queries = ImageSet(
        base,
        tuple(f"queries_{weather}/{name}" for weather, part in parts.items() for name in part.names),
        Positions.concatenate(positions),
        keys=tuple(key for part in parts.values() for key in part.keys or part.names),
        conditions=tuple(weather for weather, part in parts.items() for _ in part.names),
    )
    return join_utm_sides("svox-all", _side(base / GALLERY, OXFORD), queries)


def _svox(name: str, queries: int, layout: Layout, *notes: str) -> Split:
    common = ("the database's folder is called gallery", "counts taken from other projects' code")
    return Split(f"svox-{name}", queries, 17_166, WITHIN_25_M, (layout,), notes=notes + common)


SVOX = Benchmark(
    key="svox",
    title="SVOX",
    source="Google Drive file 16iuk8voW65GaywNUQlWAbDt6HZzAJ_t9 (one zip)",
    registration=FREE,
    licence="no statement was found; the queries come from Oxford RobotCar, which has terms of its own",
    splits=(
        _svox(
            "base",
            14_278,
            tree(_SVOX_BASES, database=GALLERY, area=OXFORD),
            'the base queries; "SVOX" in a table may mean these or all five weather conditions together (svox-all)',
        ),
        *(_svox(weather, count, _svox_weather(weather)) for weather, count in WEATHERS.items()),
        _svox(
            "all",
            sum(WEATHERS.values()),
            _layout(_SVOX_BASES, _SVOX_FOLDERS, read_svox_all),
            'all five weather conditions together, 4,356 queries: the "SVOX" row of CricaVPR\'s paper',
            "one condition after the other (night, overcast, rain, snow, sun); how the authors ordered them is not "
            "known, and in_order groups depend on it",
        ),
    ),
)
