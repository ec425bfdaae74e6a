"""report: from folders with cards to a folder with a page, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cricavpr.errors import InputError
from cricavpr.evaluation.report import embedding_map, figures, qualitative, regions, tables
from cricavpr.evaluation.report.embedding_map import Embedded
from cricavpr.evaluation.report.failures import failures, right
from cricavpr.evaluation.report.page import Drawn, report_page
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.evaluation.report.runs import Run, Sources, find_sources, splits
from cricavpr.files import write_text
from cricavpr.methods.base import Method, network_of
from cricavpr.plotting import save_figure

if TYPE_CHECKING:
    from cricavpr.plotting import Figure

MOST_COMPARED = 6  # methods side by side in a row of pictures

Talk = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What a report draws beside what cards and answers alone allow.

    Attributes:
        data: the dataset's folder, for pictures; None for none.
        rows: queries in each figure of pictures.
        seed: of the draw of queries.
        look_by: a cricavpr method whose regions are drawn; None for none.
        maps: panels of descriptors in two dimensions, at most three.
        networks: methods whose parameters are counted.
    """

    data: Path | None = None
    rows: int = 5
    seed: int = 0
    look_by: Method | None = None
    maps: tuple[Embedded, ...] = ()
    networks: tuple[Method, ...] = ()


def write_report(paths: Sequence[Path], out: Path, wanted: Wanted | None = None, talk: Talk = lambda _: None) -> Path:
    """Write report.html, tables/, figures/ and failures.json into `out`; the path of the page.

    Raises:
        InputError: nothing to report, a card or answers that cannot be read, or a place that cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    wanted = wanted or Wanted()
    sources = find_sources(paths)
    pictures = _pictures(sources.runs, wanted.data) if wanted.data else None
    if wanted.look_by is not None and pictures is None:
        raise InputError("drawing where the regions looked needs the pictures. Give the dataset's folder with --data.")
    made = tables.tables(sources.runs, sources.ablations, [counted(method) for method in wanted.networks])
    for table in made:
        talk(table.title)
        writers = {"md": tables.as_markdown, "csv": tables.as_csv, "tex": tables.as_latex}
        for kind, write in writers.items():
            write_text(out / "tables" / f"{table.key}.{kind}", write(table))
    drawn = []
    for name, title, caption, figure, broad in _drawn(sources, pictures, wanted):
        talk(title)
        drawn.append(Drawn(title, caption, tuple(save_figure(figure, out / "figures" / name)), broad))
    write_text(out / "failures.json", _failures(sources.runs))
    talk("the page")
    page = out / "report.html"
    write_text(page, report_page(sources.runs, made, drawn, pictures))
    return page


def _pictures(runs: Sequence[Run], data: Path) -> Pictures:
    """Where the pictures of the first result lie; a folder of another dataset would make a page of empty frames."""
    pictures = Pictures.below(data, runs[0].card.dataset if runs else "")
    answered = [run for run in runs if run.answers]
    if answered and not any(pictures.holds(run.answers[0].query) for run in answered):
        raise InputError(
            f"{data} holds no photo {answered[0].answers[0].query}, nor the first query of any other result. Give the "
            "folder of the dataset that was evaluated with --data."
        )
    return pictures


def counted(method: Method) -> dict[str, str]:
    """One row of Supplementary Table 1, in millions.

    Raises:
        InputError: a method whose network is not of parts that are counted.
    """
    from cricavpr.models.cricavpr import CricaVPR, parameter_counts

    network = network_of(method)
    if not isinstance(network, CricaVPR):
        raise InputError(f"the parts of {method.name} are not told apart. Give a cricavpr method to --parameters.")
    counts = parameter_counts(network)
    return {"method": method.name, **{part: f"{count / 1e6:.1f}" for part, count in counts.items()}}


def _failures(runs: Sequence[Run]) -> str:
    listed = [
        {"result": run.label, "dataset": run.card.dataset, "failures": [f.to_dict() for f in failures(run)]}
        for run in runs
        if run.answers
    ]
    return json.dumps({"schema": "cricavpr.failures.1", "results": listed}, indent=1, allow_nan=False) + "\n"


# --- figures: name of the file, title, caption, figure, whether it is broad

_Figure = tuple[str, str, str, "Figure", bool]


def _drawn(sources: Sources, pictures: Pictures | None, wanted: Wanted) -> Iterator[_Figure]:
    for number, runs in enumerate(splits(sources.runs).values()):
        name, end = runs[0].card.dataset, f"_{number + 1}" if number else ""
        caption = "Share of queries with a right photo among the first N."
        yield f"recall_curves{end}", f"recall@N on {name}", caption, figures.recall_curves(runs), False
        if answered := [run for run in runs if run.answers]:
            yield from _of_answers(answered, name, end)
            if pictures:
                yield from _of_pictures(answered, pictures, wanted, end)
    if wanted.maps:
        caption = "t-SNE of the descriptors: every sign and colour is one place."
        yield "embedding_map", "Descriptors in two dimensions", caption, embedding_map.draw(wanted.maps), True


def _of_answers(runs: Sequence[Run], name: str, end: str) -> Iterator[_Figure]:
    if figure := figures.by_distance(runs):
        yield f"by_distance{end}", f"R@1 by distance on {name}", "R@1 if right meant so many metres.", figure, False
    for number, run in enumerate(runs):
        if figure := figures.hits_and_misses(run):
            caption = "Where queries were answered right (dots) and wrong (crosses); north is up."
            yield f"map{end}_{number + 1}", f"Hits and misses of {run.label}", caption, figure, False


def _of_pictures(runs: Sequence[Run], pictures: Pictures, wanted: Wanted, end: str) -> Iterator[_Figure]:
    compared = runs[:MOST_COMPARED]
    for rule, words in qualitative.RULES.items():
        queries = qualitative.chosen(compared, rule, wanted.rows, wanted.seed)
        if not queries:
            continue
        allowed = len(qualitative.candidates(compared, rule))
        caption = (
            f"{len(queries)} of {allowed} queries where {words}, drawn by seed {wanted.seed}. Tick and green: right."
        )
        yield f"rows_{rule}{end}", f"Queries: {words}", caption, qualitative.rows(compared, queries, pictures), True
    if wanted.look_by is not None and (pairs := _looked(runs[0], pictures, wanted)):
        caption = f"Share of the cosine that each region gives, in per cent; {wanted.look_by.name}, each photo alone."
        yield f"regions{end}", "Where the regions looked", caption, regions.draw(pairs), True


def _looked(run: Run, pictures: Pictures, wanted: Wanted) -> list[regions.Pair]:
    """Right and wrong first matches, drawn by the seed, half each."""
    assert wanted.look_by is not None
    pairs = []
    for verdict in (True, False):
        allowed = [answer for answer in run.answers if answer.matches and right(answer) == verdict]
        for place in qualitative.draw(len(allowed), max(1, wanted.rows // 2), wanted.seed):
            answer = allowed[place]
            query, match = pictures.query(answer.query), pictures.match(answer.matches[0].name)
            if query is not None and match is not None:
                pairs.append(regions.Pair(query, match, regions.look(wanted.look_by, query, match), verdict))
    return pairs
