"""SVOX: street view of Oxford as the database, and drives of RobotCar in five weathers as queries.

Source: Berton et al., "Adaptive-attentive geolocalization from few queries" (WACV 2021).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.area import Area
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.utm_trees import TREE, WITHIN_25_M, bases, side, tree
from cricavpr.datasets.utm_names import join_utm_sides
from cricavpr.geo import Positions

AREA = Area("Oxford", 51.75, -1.26)
GALLERY = "gallery"  # what the database's folder is called here
WEATHERS = {"night": 823, "overcast": 872, "rain": 937, "snow": 870, "sun": 854}
_BASES = (*bases("svox", "test"), ".")


def _folder(weather: str) -> str:
    return f"queries_{weather}"


def _in(weather: str) -> Layout:
    def finish(dataset: EvalDataset) -> EvalDataset:
        queries = dataset.queries
        return replace(dataset, queries=replace(queries, conditions=(weather,) * len(queries)))

    return tree(_BASES, _folder(weather), database=GALLERY, area=AREA, finish=finish)


def _pooled() -> Layout:
    folders = (GALLERY, *map(_folder, WEATHERS))

    def base(root: Path) -> Path | None:
        return next((root / b for b in _BASES if all((root / b / folder).is_dir() for folder in folders)), None)

    def read(root: Path) -> EvalDataset:
        found = base(root) or root / _BASES[0]
        return join_utm_sides("svox-all", side(found / GALLERY, AREA), _pool(found))

    return Layout(TREE, lambda root: base(root) is not None, tuple(f"{_BASES[0]}/{f}" for f in folders), read)


def _pool(base: Path) -> ImageSet:
    """The queries of all weathers, one weather after the other in the order of their names."""
    parts = {weather: side(base / _folder(weather), AREA) for weather in WEATHERS}
    positions = [part.positions for part in parts.values() if part.positions is not None]
    if len({part.zones is None for part in positions}) == 2:
        positions = [Positions(part.metres) for part in positions]
    return ImageSet(
        base,
        tuple(f"{_folder(weather)}/{name}" for weather, part in parts.items() for name in part.names),
        Positions.concatenate(positions),
        keys=tuple(key for part in parts.values() for key in part.keys or part.names),
        conditions=tuple(weather for weather, part in parts.items() for _ in part.names),
    )


def _split(name: str, queries: int, layout: Layout, *notes: str) -> Split:
    return Split(
        name=f"svox-{name}",
        queries=queries,
        database=17_166,
        rule=WITHIN_25_M,
        layouts=(layout,),
        notes=(*notes, "the database's folder is called gallery", "counts as they stand in other projects' code"),
    )


BENCHMARK = Benchmark(
    key="svox",
    title="SVOX",
    source="Google Drive file 16iuk8voW65GaywNUQlWAbDt6HZzAJ_t9 (one zip)",
    registration="none is known to be needed",
    licence="not stated where we looked; the queries come from Oxford RobotCar, which has terms of its own",
    splits=(
        _split(
            "base",
            14_278,
            tree(_BASES, database=GALLERY, area=AREA),
            'the plain queries; "SVOX" in a table may mean these or the five weathers pooled (svox-all)',
        ),
        *(_split(weather, count, _in(weather)) for weather, count in WEATHERS.items()),
        _split(
            "all",
            sum(WEATHERS.values()),
            _pooled(),
            'the five weathers pooled, 4,356 queries: the "SVOX" row of CricaVPR\'s paper',
            "one weather after the other (night, overcast, rain, snow, sun); how the authors ordered them is not "
            "known, and groups in order depend on it",
        ),
    ),
)
