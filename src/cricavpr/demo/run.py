"""The demo from end to end: draw a town, index it, locate photos in it, measure, and write the page.

Everything is done through the same doors that a user has: photos with GPS in a folder, `open_dataset`,
`PlaceIndex`, `Locator`, `evaluate`.
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cricavpr.datasets import open_dataset
from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.demo.answers import Answer, Photo, Row, answers_of, by_condition, median_off_m, photos_of, share_right
from cricavpr.demo.folder import refuse_foreign, workshop
from cricavpr.demo.map_svg import TownMap
from cricavpr.demo.page import Story, grouping_name, render_page
from cricavpr.describing import describe
from cricavpr.errors import InputError
from cricavpr.evaluation.evaluate import evaluate
from cricavpr.evaluation.recall import first_hit_ranks
from cricavpr.files import write_text
from cricavpr.grouping import ALONE, Grouping
from cricavpr.images import decode
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex
from cricavpr.locate import Locator
from cricavpr.methods import DEFAULT_METHOD, load_method
from cricavpr.methods.base import Method
from cricavpr.town import CONDITIONS, Town
from cricavpr.town.write import write_photos

Progress = Callable[[str, int, int], None]  # stage, done, of

FORMAT = "cricavpr.demo.results.1"
PAGE, RESULTS, PHOTOS, INDEX = "index.html", "results.json", "photos", "place-index"

RADIUS_M = 25.0
FIRST_SEED = 1000  # towns below are for training
FEWEST_PLACES, MOST_PLACES = 10, 5000
MOST_QUERIES = 200
TOP = 5
GROUPINGS = (ALONE, Grouping("in_order", 16), Grouping("shuffled", 16, 0))
UNTRAINED = "random:0"
USUAL_SIZE = (112, 112)
PICTURE_BYTES = 4_000_000  # of JPEG in the page; a third more as base64
# (longest side, JPEG quality), the finest that fits is taken
_FINENESS = ((128, 78), (112, 72), (112, 55), (96, 45), (80, 40), (64, 35))


@dataclass(frozen=True)
class DemoResult:
    """What the demo wrote, and its numbers.

    Attributes:
        page: the HTML page.
        photos: the folder with `database` and `queries`.
        index: the place index of the database.
        rows: the table of results, the method alone first.
        answers: one for each query, as the Locator gave them.
        timings: seconds by stage.
    """

    page: Path
    photos: Path
    index: Path
    rows: tuple[Row, ...]
    answers: tuple[Answer, ...]
    timings: Mapping[str, float]

    def table(self) -> str:
        """The recall table as text; the grouping always has its column."""
        head = ("method", "weights", "grouping", "R@1", "R@5", "R@10")
        cells = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        lines = (
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        )
        return "\n".join(line.rstrip() for line in lines)


def run_demo(
    out: Path,
    *,
    seed: int = 7001,
    places: int = 400,
    method: str = DEFAULT_METHOD,
    weights: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Draw a town, locate photos in it, and write one page that shows what came of it.

    Half of the places, at most 200, are asked for. The other database pictures are there to be mistaken for
    them, as in life. They also make `shuffled` an honest control: with as many queries as database pictures
    the same seed would shuffle both alike, and the places of a query's group would meet again in one group.

    Args:
        out: a new folder, an empty one, or that of an earlier demo, which is replaced.
        seed: which town; training uses those below 1000.
        weights: for `method`; left out, its own.
        workers: processes that draw and read pictures. Left out, this one draws: processes that draw start
            afresh, which a script without `if __name__ == "__main__"` does not survive.
        progress: told (stage, done, of).

    Raises:
        InputError: a folder with other things in it, or a seed or number of places that does not go.
        WeightsError: the weights are missing or do not fit.
    """
    out = Path(out)
    _check(seed, places)
    refuse_foreign(out)  # before minutes are spent
    used = load_method(method, weights)
    work = _Work(used, _option(weights), seed, places, workers, progress or _silent)
    with workshop(out) as stage:
        town, split = work.draw(stage / PHOTOS)
        index = work.build_index(split.database, out / PHOTOS / "database", stage / INDEX)
        answers = work.locate(index, town, split)
        rows = work.measure(split, _contenders(used, weights))
        story = work.tell(town, split, answers, rows)
        write_text(stage / PAGE, render_page(story))
        write_text(stage / RESULTS, json.dumps(_results(story, split, work), indent=1) + "\n")
    return DemoResult(out / PAGE, out / PHOTOS, out / INDEX, story.rows, story.answers, dict(work.timings))


def _check(seed: int, places: int) -> None:
    if seed < FIRST_SEED:
        raise InputError(
            f"town {seed} may have been trained on, so a demo of it would flatter. Give a seed of {FIRST_SEED} or more."
        )
    if not FEWEST_PLACES <= places <= MOST_PLACES:
        raise InputError(
            f"a demo of {places:,} places is not possible. Give {FEWEST_PLACES} to {MOST_PLACES:,} places."
        )


def _silent(stage: str, done: int, of: int) -> None:
    pass


@dataclass(frozen=True)
class _Contender:
    """One row of the table before it is measured."""

    label: str  # of its weights
    method: Method
    grouping: Grouping


def _contenders(method: Method, weights: str | Path | None) -> list[_Contender]:
    """The method under each grouping, the same network before training, and pixels."""
    label = _weights_label(method, weights)
    groupings = GROUPINGS if method.correlates else GROUPINGS[:1]
    found = [_Contender(label, method, grouping) for grouping in groupings]
    if method.weights != "none" and label != "untrained":
        found.append(_Contender("untrained", load_method(method.name, UNTRAINED), ALONE))
    if method.name != "pixels":
        found.append(_Contender("none", load_method("pixels"), ALONE))
    return found


def _option(weights: str | Path | None) -> str:
    """Without the folder of the weights: a page is shown to others."""
    return "" if weights is None else f" --weights {Path(weights).name}"


def _weights_label(method: Method, weights: str | Path | None) -> str:
    if method.weights == "none":
        return "none"
    if str(weights).startswith("random:"):
        return "untrained"
    return "trained" if weights is None else f"weights {method.weights[:8]}"


@dataclass
class _Work:
    """The stages, and how long each took."""

    method: Method
    weights_option: str  # what to add to the command to get the same method
    seed: int
    places: int
    workers: int | None
    progress: Progress
    timings: dict[str, float] = field(default_factory=dict)

    def draw(self, folder: Path) -> tuple[Town, EvalDataset]:
        """Write the photos and read them back as anybody's."""
        with self._timed("draw"):
            town = Town(self.seed, self.places)
            write_photos(
                town,
                folder,
                image_size=self.method.image_size or USUAL_SIZE,
                workers=self.workers or 1,
                progress=self._report("drawing the town"),
            )
            _keep_some(folder / "queries", min(MOST_QUERIES, self.places // 2))
            split, problems = open_dataset(folder, RADIUS_M)
        if problems:
            raise InputError(f"{problems[0].name} was written and cannot be read: {problems[0].reason}")
        return town, replace(split, name=f"town {self.seed}")

    def build_index(self, database: ImageSet, root: Path, to: Path) -> PlaceIndex:
        """Index the database, each photo alone. `root` is where the photos will lie in the end."""
        with self._timed("index"):
            report = self._report("indexing the database")
            described = describe(self.method, database, ALONE, workers=self.workers, progress=report)
            assert database.positions is not None
            return PlaceIndex.build(Photos(described.descriptors, root, database.positions.take(described.kept)), to)

    def locate(self, index: PlaceIndex, town: Town, split: EvalDataset) -> tuple[Answer, ...]:
        """Locate every query by its picture alone, and compare with where it was taken."""
        queries = split.queries
        self.progress("locating the queries", 0, len(queries))
        with self._timed("locate"):
            paths = [queries.path(number) for number in range(len(queries))]
            located = Locator(index, self.method).locate_many(paths, TOP, workers=self.workers)
        self.progress("locating the queries", len(queries), len(queries))
        if located.problems:
            raise InputError(f"{located.problems[0].name} cannot be located: {located.problems[0].reason}")
        conditions = [_condition(town, name) for name in queries.names]
        return answers_of(located.estimates, split, _photos(queries, "queries", town), conditions)

    def measure(self, split: EvalDataset, contenders: Sequence[_Contender]) -> tuple[Row, ...]:
        """Evaluate every contender on the same split."""
        ns = tuple(range(1, 21))
        rows = []
        with self._timed("evaluate"):
            for number, one in enumerate(contenders, 1):
                report = self._report(f"measuring {number} of {len(contenders)}")
                result = evaluate(one.method, split, one.grouping, recall_ns=ns, workers=self.workers, progress=report)
                first = first_hit_ranks(result.predictions.indices, split.positives) == 1
                rows.append(Row(one.label, result, tuple(first.tolist())))
        return tuple(rows)

    def tell(self, town: Town, split: EvalDataset, answers: tuple[Answer, ...], rows: tuple[Row, ...]) -> Story:
        """Gather what the page needs."""
        database = _photos(split.database, "database", town)
        with self._timed("pictures"):
            pictures = _pictures(split, database, answers)
        return Story(
            seed=self.seed,
            radius_m=RADIUS_M,
            town=TownMap.of(town),
            database=database,
            answers=answers,
            conditions=tuple(CONDITIONS),
            rows=rows,
            pictures=pictures,
            facts=self._facts(split),
        )

    def _facts(self, split: EvalDataset) -> tuple[tuple[str, str], ...]:
        method, seconds = self.method, self.timings
        size = "native" if method.image_size is None else "{} x {} px (height x width)".format(*method.image_size)
        per_query_ms = 1000 * seconds["locate"] / len(split.queries)
        return (
            ("method", f"{method.name}, descriptors of {method.dim:,} values"),
            ("weights", "none" if method.weights == "none" else f"SHA-256 {method.weights}"),
            ("image size", size),
            ("preprocessing", method.preprocessing),
            ("grouping", "alone on the map, in the list and in the panel; in the table as its column says"),
            ("town", f"seed {self.seed:,}; {self.places:,} places, drawn, in open sea in the Gulf of Guinea"),
            ("database", f"{len(split.database):,} pictures, one of each place, by day or under clouds"),
            ("queries", f"{len(split.queries):,} pictures of {len(split.queries):,} of the places"),
            ("right is", f"a database picture {split.rule} of the query"),
            ("split", f"SHA-256 {split.split_hash()}"),
            (
                "time",
                f"{seconds['draw']:.1f} s drawing, {seconds['index']:.1f} s indexing, {seconds['locate']:.1f} s "
                f"locating ({per_query_ms:.0f} ms a photo), {seconds['evaluate']:.1f} s measuring, on a CPU",
            ),
            (
                "software",
                f"cricavpr {version('cricavpr')}, Python {platform.python_version()}, torch {_torch_version()}",
            ),
            ("again with", f"cricavpr demo --seed {self.seed} --places {self.places}{self.weights_option}"),
        )

    def _report(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, of: self.progress(stage, done, of)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings[stage] = time.perf_counter() - started


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def _keep_some(folder: Path, count: int) -> None:
    """Leave `count` photos, evenly spread over the streets, and remove the rest."""
    names = sorted(folder.iterdir())
    kept = set(np.linspace(0, len(names) - 1, count).round().astype(int).tolist())
    for row, path in enumerate(names):
        if row not in kept:
            path.unlink()


def _condition(town: Town, name: str) -> str:
    """The hour or weather of a query, whose name is its place and visit."""
    place, visit = map(int, Path(name).stem.split("_"))
    return town.view(place, visit, "query").scene.condition


def _photos(images: ImageSet, side: str, town: Town) -> tuple[Photo, ...]:
    assert images.positions is not None
    corner = (town.origin.easting_m, town.origin.northing_m)
    keys = [f"{side}/{name}" for name in images.names]
    return photos_of(keys, images.positions.latlon(), images.positions.metres - corner)


# --- pictures for the page


def _pictures(split: EvalDataset, database: Sequence[Photo], answers: Sequence[Answer]) -> dict[str, bytes]:
    """JPEG of every picture that the page can show, once each, as fine as the page may be large."""
    rows = {match.row for answer in answers for match in answer.matches} | {answer.nearest for answer in answers}
    paths = {answer.photo.key: split.queries.path(number) for number, answer in enumerate(answers)}
    paths |= {database[row].key: split.database.path(row) for row in sorted(rows)}
    images = {key: Image.fromarray(decode(path)) for key, path in paths.items()}
    made: dict[str, bytes] = {}
    for side, quality in _FINENESS:
        made = {key: _jpeg(image, side, quality) for key, image in images.items()}
        if sum(map(len, made.values())) <= PICTURE_BYTES:
            break
    return made


def _jpeg(image: Image.Image, side: int, quality: int) -> bytes:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)  # never enlarges
    data = io.BytesIO()
    small.save(data, "JPEG", quality=quality, optimize=True)
    return data.getvalue()


# --- numbers beside the page


def _cells(row: Row) -> tuple[str, ...]:
    recalls = (f"{100 * row.recall(n):.1f}" for n in (1, 5, 10))
    return row.result.method, row.weights, grouping_name(row), *recalls


def _results(story: Story, split: EvalDataset, work: _Work) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": version("cricavpr"),
        "seed": story.seed,
        "places": work.places,
        "radius_m": story.radius_m,
        "split_hash": split.split_hash(),
        "recall_at_1_alone": share_right(story.answers),
        "median_error_m": median_off_m(story.answers),
        "by_condition": {
            name: {"right": right, "queries": count}
            for name, (right, count) in by_condition(story.answers, story.conditions).items()
        },
        "rows": [{"weights_label": row.weights, **_without_times(row.result.to_dict())} for row in story.rows],
        "queries": [_answer_dict(answer, story.database) for answer in story.answers],
        "timings_s": {stage: round(seconds, 3) for stage, seconds in work.timings.items()},
    }


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("describe_s", "search_s")}


def _answer_dict(answer: Answer, database: Sequence[Photo]) -> dict[str, Any]:
    return {
        "photo": answer.photo.key,
        "condition": answer.condition,
        "lat_deg": answer.photo.spot.lat_deg,
        "lon_deg": answer.photo.spot.lon_deg,
        "right": answer.right,
        "error_m": answer.off_m,
        "nearest": database[answer.nearest].key,
        "matches": [
            {"photo": database[match.row].key, "score": match.score, "error_m": match.off_m, "right": match.right}
            for match in answer.matches
        ],
    }
