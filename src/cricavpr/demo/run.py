"""Demo from end to end: draws a town, indexes it, locates photos in it, evaluates methods, and writes the page.

It uses the same public functions as any user: `open_dataset`, `PlaceIndex`, `Locator` and `evaluate`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cricavpr.datasets import open_dataset
from cricavpr.datasets.base import EvalDataset
from cricavpr.demo.folder import refuse_foreign, workshop
from cricavpr.demo.page import Story, render_page
from cricavpr.describing import describe
from cricavpr.errors import InputError
from cricavpr.evaluation.answers import Answer, answers_of
from cricavpr.evaluation.evaluate import EvalResult, evaluate, format_table
from cricavpr.evaluation.report import find_evaluations
from cricavpr.files import write_text
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.search import Predictions
from cricavpr.locate import LocationEstimate, Locator
from cricavpr.methods import DEFAULT_METHOD, load_method
from cricavpr.methods.base import Method
from cricavpr.progress import Report
from cricavpr.town import Town, write_town

PAGE, PHOTOS, INDEX, EVALUATIONS = "index.html", "photos", "place-index", "evaluations"

RADIUS_M = 25.0
FIRST_SEED = 1000  # towns with lower seeds are used for training
FEWEST_PLACES, MOST_PLACES = 10, 5000
MOST_QUERIES = 200
TOP = 5
GROUPINGS = (ALONE, Grouping("in_order", 16), Grouping("shuffled", 16, 0))
UNTRAINED = "random:0"
USUAL_SIZE = (112, 112)

Tell = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True, repr=False)
class DemoResult:
    """Paths and numbers of a demo.

    Attributes:
        page: the HTML page.
        photos: the folder with the subfolders `database` and `queries`.
        index: the folder of the index of the database photos.
        evaluations: the folder with one subfolder for each result, which holds its card and answers.
        results: results of the evaluations. In the first evaluation, every photo is described alone.
        answers: one answer of the Locator for each query.
        timings: seconds that each stage took, by name of the stage.
    """

    page: Path
    photos: Path
    index: Path
    evaluations: Path
    results: tuple[EvalResult, ...]
    answers: tuple[Answer, ...]
    timings: Mapping[str, float]

    def __repr__(self) -> str:
        right = sum(answer.right for answer in self.answers)
        return f"DemoResult({self.page}: {right} of {len(self.answers)} photos located)"

    def table(self) -> str:
        """Return the results as a table, as `cricavpr evaluate` prints it."""
        return format_table(self.results).rstrip()


def run_demo(
    out: str | Path,
    *,
    seed: int = 7001,
    places: int = 400,
    method: str = DEFAULT_METHOD,
    weights: str | Path | None = None,
    workers: int | None = None,
    progress: Tell | None = None,
) -> DemoResult:
    """Draw a town, locate photos in it, and write one page with the results.

    Every place has one database photo. Half of the places, at most 200, also have a query; the other places make the
    search harder, because they can be mistaken for the correct ones.

    Args:
        out: a new or empty folder, or the folder of an earlier demo, which is replaced.
        seed: seed of the town, at least 1000; towns with lower seeds are used for training.
        places: number of places in the town, from 10 to 5000.
        method: name of the method.
        weights: weights for `method`; None loads its default weights.
        workers: number of processes that draw and read photos. None draws in this process. Other processes
            import the calling script again, so the script then needs `if __name__ == "__main__"`.
        progress: called with (stage, done, total).

    Raises:
        InputError: the folder has other files, or the seed or the number of places is out of range.
        WeightsError: the weights are missing or do not fit the method.

    Example:
        >>> import tempfile
        >>> demo = run_demo(Path(tempfile.mkdtemp()) / "demo", places=10, method="pixels")
        >>> len(demo.answers), demo.results[0].grouping
        (5, 'none (does not correlate)')
    """
    out = Path(out)
    if seed < FIRST_SEED:
        raise InputError(
            f"seed must be at least {FIRST_SEED}, because training uses the towns with lower seeds, got {seed}."
        )
    if not FEWEST_PLACES <= places <= MOST_PLACES:
        raise InputError(f"places must be from {FEWEST_PLACES} to {MOST_PLACES:,}, got {places:,}.")
    refuse_foreign(out)  # checked before the demo, which takes minutes
    used = load_method(method, weights)
    # The command on the page has no folders, because the page may be shared.
    shown_weights = "" if weights is None else f" --weights {Path(weights).name}"
    command = f"cricavpr demo --seed {seed} --places {places}{shown_weights}"
    stages = _Stages(progress or (lambda stage, done, total: None))
    with workshop(out) as stage:
        with stages("draw", "drawing the town") as report:
            town, split = _draw(Town(seed, places), stage / PHOTOS, used, workers or 1, report)
        with stages("index", "indexing the database") as report:
            described = describe(used, split.database, ALONE, workers=workers, progress=report)
            assert split.database.positions is not None
            positions = split.database.positions.take(described.kept)
            root = out / PHOTOS / "database"  # where the photos will be after the demo has moved them
            index = PlaceIndex.build(Photos(described.descriptors, root, positions), stage / INDEX)
        with stages("locate", "locating the queries") as report:
            estimates = _locate(Locator(index, used), split, workers, report)
        with stages("evaluate", ""):
            contenders, results = _contenders(used), []
            for number, (one, grouping) in enumerate(contenders, 1):
                report = partial(stages.tell, f"measuring {number} of {len(contenders)}")
                results.append(evaluate(one, split, grouping, workers=workers, progress=report, command=command))
        folders = [result.save(stage / EVALUATIONS) for result in results]
        answers = _answers(estimates, split, results[0])
        facts = {**_facts(used, town, split, stages.timings), "again with": command}
        story = Story(town, split, answers, find_evaluations(folders), facts)
        write_text(stage / PAGE, render_page(story))
    paths = out / PAGE, out / PHOTOS, out / INDEX, out / EVALUATIONS
    return DemoResult(*paths, tuple(results), answers, stages.timings)


class _Stages:
    """Reporter of progress by stage; it also records how long each stage takes."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.timings: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, words: str) -> Iterator[Report]:
        started = time.perf_counter()
        yield partial(self.tell, words)
        self.timings[name] = time.perf_counter() - started


def _draw(town: Town, folder: Path, method: Method, workers: int, report: Report) -> tuple[Town, EvalDataset]:
    """Write the photos of the town, and read them as a dataset with the condition of each query."""
    places = len(town.places)
    queried = np.linspace(0, places - 1, min(MOST_QUERIES, places // 2)).round().astype(int)  # spaced evenly
    size = method.image_size or USUAL_SIZE
    write_town(town, folder, image_size=size, queried=queried.tolist(), workers=workers, progress=report)
    split, problems = open_dataset(folder, RADIUS_M)
    if problems:
        raise InputError(f"cannot read {problems[0].name}, which the demo has just written: {problems[0].reason}")
    visits = [map(int, Path(name).stem.split("_")) for name in split.queries.names]
    conditions = tuple(town.view(place, visit, "query").scene.condition for place, visit in visits)
    return town, replace(split, name=f"town {town.seed}", queries=replace(split.queries, conditions=conditions))


def _locate(locator: Locator, split: EvalDataset, workers: int | None, report: Report) -> tuple[LocationEstimate, ...]:
    """Locate every query by its pixels, without its GPS position."""
    paths = [split.queries.path(number) for number in range(len(split.queries))]
    report(0, len(paths))
    located = locator.locate_many(paths, TOP, workers=workers)
    report(len(paths), len(paths))
    if located.problems:
        raise InputError(f"{located.problems[0].name} cannot be located: {located.problems[0].reason}")
    return located.estimates


def _contenders(method: Method) -> list[tuple[Method, Grouping]]:
    """Return pairs to evaluate: the method with each grouping, the untrained network, and the method `pixels`."""
    found = [(method, grouping) for grouping in (GROUPINGS if method.correlates else GROUPINGS[:1])]
    if method.weights != "none" and not method.weights.startswith("random:"):
        found.append((load_method(method.name, UNTRAINED), ALONE))
    if method.name != "pixels":
        found.append((load_method("pixels"), ALONE))
    return found


def _answers(estimates: Sequence[LocationEstimate], split: EvalDataset, alone: EvalResult) -> tuple[Answer, ...]:
    """Return an `Answer` for each estimate of the Locator, which says whether the estimate is correct."""
    row_of = {name: row for row, name in enumerate(split.database.names)}
    indices = np.array([[row_of[match.name] for match in estimate.matches] for estimate in estimates])
    scores = np.array([[match.score for match in estimate.matches] for estimate in estimates], np.float32)
    return tuple(answers_of(split, Predictions(indices, scores), alone.ranks, TOP))


def _facts(method: Method, town: Town, split: EvalDataset, seconds: Mapping[str, float]) -> dict[str, str]:
    """Return facts about how the page was made, as texts by term, such as "method"."""
    import torch

    count = len(split.queries)
    size = "native" if method.image_size is None else "{} x {} px (height x width)".format(*method.image_size)
    return {
        "method": f"{method.name}, descriptors of {method.dim:,} dimensions",
        "weights": "none" if method.weights == "none" else f"SHA-256 {method.weights}",
        "image size": size,
        "preprocessing": method.preprocessing,
        "grouping": "alone in the explorer; in the table, see its column Grouping",
        "town": f"seed {town.seed:,}; {len(town.places):,} places; drawn by a program, with positions in the open sea "
        "in the Gulf of Guinea",
        "database": f"{len(split.database):,} pictures, one of each place, in daylight or under clouds",
        "queries": f"{count:,} pictures, one of each of {count:,} places",
        "correct match": f"a database picture {split.rule} of the query",
        "split": f"SHA-256 {split.split_hash()}",
        "time": f"{seconds['draw']:.1f} s drawing, {seconds['index']:.1f} s indexing, {seconds['locate']:.1f} s "
        f"locating ({1000 * seconds['locate'] / count:.0f} ms per photo), {seconds['evaluate']:.1f} s evaluating, "
        "on a CPU",
        "software": f"cricavpr {version('cricavpr')}, Python {platform.python_version()}, torch {torch.__version__}",
    }
