"""Writing of a report: reads folders of evaluations, writes a folder with a page, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation.report import embedding_map, figures, regions, tables
from cricavpr.evaluation.report.embedding_map import Embedded
from cricavpr.evaluation.report.evaluations import Evaluation, failures, find_ablations, find_evaluations, splits
from cricavpr.evaluation.report.page import Drawing, report_page
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.files import write_text
from cricavpr.methods.base import Method
from cricavpr.plotting import Figure, save_figure

MOST_COMPARED = 6  # maximum number of evaluations side by side in a row of photos
MOST_ROWS = 200  # a figure with more rows is too high for a PNG


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report.

    Attributes:
        data: folder of the evaluated dataset; without it the report has no photos.
        rows: number of queries in each figure of photos, from 1 to 200.
        seed: random seed that chooses the queries in the figures of photos.
        look_by: a cricavpr method, for figures of how much each region of a photo contributes to a match's score.
        maps: panels for a figure with descriptors in two dimensions; `embedding_map.embed` makes them.
        networks: cricavpr methods for the table of parameter counts.
    """

    data: Path | None = None
    rows: int = 5
    seed: int = 0
    look_by: Method | None = None
    maps: tuple[Embedded, ...] = ()
    networks: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= MOST_ROWS:
            raise InputError(f"rows must be 1 to {MOST_ROWS}, got {self.rows}.")
        if self.seed < 0:
            raise InputError(f"seed must be at least 0, got {self.seed}.")


def write_report(
    paths: Sequence[Path], out: Path, options: ReportOptions | None = None, tell: Callable[[str], None] = lambda _: None
) -> Path:
    """Write report.html, tables/, figures/ and failures.json into `out`, and return the path of the page.

    Args:
        paths: folders that `cricavpr evaluate --out` or `cricavpr ablate` wrote.
        out: folder to write the report into.
        options: options of the report; None takes the defaults.
        tell: called with the title of each table and figure before it is written.

    Raises:
        InputError: a folder has nothing to report, a card or answers cannot be read, or `out` cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    options = options or ReportOptions()
    evaluations, ablations = find_evaluations(paths), find_ablations(paths)
    pictures = _pictures(evaluations, options.data) if options.data else None
    if options.look_by is not None and pictures is None:
        raise InputError("--regions needs the photos. Give the folder of the evaluated dataset with --data.")
    made = tables.tables(evaluations, ablations, [tables.counted(method) for method in options.networks])
    for table in made:
        tell(table.title)
        for kind, write in tables.WRITERS.items():
            write_text(out / "tables" / f"{table.key}.{kind}", write(table))
    drawn: list[tuple[Drawing, Sequence[Path]]] = []
    for drawing, figure in _drawings(evaluations, pictures, options):
        tell(drawing.title)
        drawn.append((drawing, save_figure(figure, out / "figures" / drawing.name)))
    write_text(out / "failures.json", _failures(evaluations))
    tell("the page")
    page = out / "report.html"
    write_text(page, report_page(evaluations, made, drawn, pictures))
    return page


def _pictures(evaluations: Sequence[Evaluation], data: Path) -> Pictures:
    """Return the photos of the evaluated dataset in the folder `data`.

    Raises:
        InputError: the folder does not exist, or does not hold the first query of any evaluation.
    """
    pictures = Pictures.below(data, evaluations[0].card.dataset if evaluations else "")
    answered = [each for each in evaluations if each.answers]
    if answered and not any(pictures.holds(each.answers[0].query) for each in answered):
        raise InputError(
            f"expected the photo {answered[0].answers[0].query} or the first query of another evaluation in {data}, "
            "found none. Give the folder of the evaluated dataset with --data."
        )
    return pictures


def _failures(evaluations: Sequence[Evaluation]) -> str:
    listed = [
        {"result": each.label, "dataset": each.card.dataset, "failures": [f.to_dict() for f in failures(each)]}
        for each in evaluations
        if each.answers
    ]
    return json.dumps({"schema": "cricavpr.failures.1", "results": listed}, indent=1, allow_nan=False) + "\n"


# --- figures

_Drawn = tuple[Drawing, Figure]


def _drawings(evaluations: Sequence[Evaluation], pictures: Pictures | None, options: ReportOptions) -> Iterator[_Drawn]:
    for number, split in enumerate(splits(evaluations)):
        name, end = split[0].card.dataset, f"_{number + 1}" if number else ""
        caption = "Share of queries with a correct photo among the first N matches."
        yield Drawing(f"recall_curves{end}", f"recall@N on {name}", caption), figures.recall_curves(split)
        answered = [each for each in split if each.answers]
        if figure := figures.by_distance(answered):
            caption = "R@1 for each radius within which a match counts as correct."
            yield Drawing(f"by_distance{end}", f"R@1 by distance on {name}", caption), figure
        for place, each in enumerate(answered, 1):
            if figure := figures.hits_and_misses(each):
                caption = "Positions of the correct queries (dots) and the wrong queries (crosses); north is up."
                yield Drawing(f"map{end}_{place}", f"Hits and misses of {each.label}", caption), figure
        if answered and pictures:
            yield from _of_pictures(answered, pictures, options, end)
    if options.maps:
        caption = "t-SNE of the descriptors: each combination of marker and colour is one place."
        figure = embedding_map.draw(options.maps)
        yield Drawing("embedding_map", "Descriptors in two dimensions", caption, broad=True), figure


def _of_pictures(
    evaluations: Sequence[Evaluation], pictures: Pictures, options: ReportOptions, end: str
) -> Iterator[_Drawn]:
    compared = evaluations[:MOST_COMPARED]
    for rule, words in figures.RULES.items():
        allowed = figures.candidates(compared, rule)
        queries = [allowed[place] for place in figures.draw(len(allowed), options.rows, options.seed)]
        if not queries:
            continue
        caption = (
            f"{len(queries)} of {len(allowed)} queries where {words}, chosen at random with the seed {options.seed}."
        )
        if len(evaluations) > MOST_COMPARED:
            caption += f" Only the first {MOST_COMPARED} of {len(evaluations)} evaluations are shown."
        figure = figures.rows(compared, queries, pictures)
        yield (
            Drawing(f"rows_{rule}{end}", f"Queries: {words}", f"{caption} Tick and green: correct.", broad=True),
            figure,
        )
    if options.look_by is not None and (pairs := _looked(evaluations[0], pictures, options.look_by, options)):
        caption = (
            "Contribution of each region to the cosine of query and match, in per cent. Method: "
            f"{options.look_by.name}, each photo described alone."
        )
        yield Drawing(f"regions{end}", "Contributions of the regions", caption, broad=True), regions.draw(pairs)


def _looked(evaluation: Evaluation, pictures: Pictures, method: Method, options: ReportOptions) -> list[regions.Pair]:
    """Draw some correct and as many wrong first matches, and compute how much each region adds to their cosine."""
    pairs = []
    for verdict in (True, False):
        allowed = [answer for answer in evaluation.answers if answer.matches and answer.right == verdict]
        for place in figures.draw(len(allowed), max(1, options.rows // 2), options.seed):
            query, match = pictures.query(allowed[place].query), pictures.match(allowed[place].matches[0].name)
            if query is not None and match is not None:
                pairs.append(regions.Pair(query, match, regions.look(method, query, match), verdict))
    return pairs
