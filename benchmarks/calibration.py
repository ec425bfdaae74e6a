"""How honest the doubt of an index is, on towns that training never saw.

Of each town a fifth of the places is not in the map. Visitors' pictures of two fifths calibrate (two each), those of
the rest and of the places that are not in the map test (three each). Besides, the index calibrates on itself; once
as it is, taken by a mapping car on two clear days, and once made of pictures that visitors took.

Run: python benchmarks/calibration.py [--places 500] [--seeds 9101 9102] [--plot FILE.png], or with --promises for the
share of made-up calibrations that keep the precision they promise. Prints Markdown; the dated log is in docs/results/.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import isotonic_regression

from cricavpr import describe, load_method
from cricavpr.datasets.base import ImageSet
from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.geo import Positions, distances_m, within_radius
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex
from cricavpr.locate.calibration import Calibration, Level, Logistic, Ring, Source, draw
from cricavpr.locate.cases import Cases, cases_of_index, cases_of_queries
from cricavpr.locate.consensus import Rule, consensus
from cricavpr.locate.fitting import FOLDS, Judged, case_weights, fit, levels, out_of_fold
from cricavpr.plotting import save_figure
from cricavpr.town import Town, render_arrays

RIGHT_M, PRECISION, RULE = 25.0, 0.95, Rule()
VIEWS = {"database": 2, "query": 3, "train": 3}  # visits to each place; "train" are visitors' pictures


@dataclass(frozen=True, eq=False)
class Seen:
    """Pictures of one split, described, with where each was taken and of which place it is."""

    descriptors: DescriptorSet
    positions: Positions
    place: NDArray[np.int64]  # (N,)

    def of(self, places: NDArray[np.int64], most: int = 99) -> Seen:
        visit = np.array([int(name.split("_")[1][:2]) for name in self.descriptors.names])
        rows = np.flatnonzero(np.isin(self.place, places) & (visit < most))
        names = tuple(self.descriptors.names[row] for row in rows.tolist())
        described = DescriptorSet(names, self.descriptors.vectors[rows], self.descriptors.made_by)
        return Seen(described, self.positions.take(rows), self.place[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[9101, 9102])
    parser.add_argument("--plot", type=Path, help="draw the reliability plot of the first town there")
    parser.add_argument("--promises", action="store_true", help="measure only how often a promised precision holds")
    arguments = parser.parse_args()
    if arguments.promises:
        _print_promises()
        return
    rows, notes = [], []
    for number, seed in enumerate(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            town = Town(seed, arguments.places)
            seen = {split: _see(town, split, visits, Path(folder)) for split, visits in VIEWS.items()}
            absent, learnt, asked = _parts(arguments.places)
            test = seen["query"].of(np.concatenate([asked, absent]))
            car = _index(seen["database"].of(np.concatenate([learnt, asked])), Path(folder) / "car")
            crowd = _index(seen["train"].of(np.concatenate([learnt, asked])), Path(folder) / "crowd")
            queries = seen["query"].of(learnt, most=2)
            labelled = cases_of_queries(car, queries.descriptors, queries.positions, RIGHT_M, RULE)
            for label, index, cases in (
                ("mapping car, labelled queries", car, labelled),
                ("visitors' pictures, itself", crowd, cases_of_index(crowd, RIGHT_M, RULE)),
                ("mapping car, itself", car, cases_of_index(car, RIGHT_M, RULE)),
            ):
                calibration = fit(index, cases, RULE)
                rows.append(f"| {seed} | {label} | " + " | ".join(_figures(index, calibration, test)) + " |")
                notes.append(f"| {seed} | {label} | " + " | ".join(_brier(cases)) + " |")
                if arguments.plot and label.endswith("queries") and number == 0:
                    save_figure(draw(calibration), arguments.plot, (arguments.plot.suffix[1:],))
    print(
        "| town | index, calibrated on | cases | top 1 right | estimate right | answered | precision | refused "
        "| radius holds | median radius |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(rows))
    print("\n| town | index, calibrated on | Brier, logistic | Brier, logistic and isotonic |\n|---|---|---|---|")
    print("\n".join(notes))


def _see(town: Town, split: str, visits: int, folder: Path) -> Seen:
    """Draw and describe; files, because that is what users have."""
    keys = [(place, visit) for place in range(len(town.places)) for visit in range(visits)]
    views = [town.view(place, visit, split) for place, visit in keys]
    root = folder / split
    root.mkdir()
    names = tuple(f"{place:05d}_{visit:02d}.jpg" for place, visit in keys)
    for name, picture in zip(names, render_arrays(town, views), strict=True):
        Image.fromarray(picture).save(root / name, quality=90)
    metres = np.array([(view.camera.x_m, view.camera.y_m) for view in views])
    metres += (town.origin.easting_m, town.origin.northing_m)
    positions = Positions(metres, (f"{town.origin.zone}N",) * len(views))
    described = describe(load_method("cricavpr-tiny"), ImageSet(root, names, positions), workers=0).descriptors
    return Seen(described, positions, np.array([place for place, _ in keys]))


def _parts(places: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Places that are not in the map, places that calibrate, places that test."""
    drawn = np.random.default_rng(0).permutation(places)
    return drawn[: places // 5], drawn[places // 5 : places * 3 // 5], drawn[places * 3 // 5 :]


def _index(seen: Seen, to: Path) -> PlaceIndex:
    return PlaceIndex.build(Photos(seen.descriptors, to.parent, seen.positions), to)


def _figures(index: PlaceIndex, calibration: Calibration, test: Seen) -> Sequence[str]:
    found = index.search(test.descriptors, RULE.depth)
    in_map = np.array([len(near) > 0 for near in within_radius(index.positions, test.positions, RIGHT_M)])
    places = [
        consensus(index.positions.take(rows), scores, RULE)
        for rows, scores in zip(found.indices, found.scores, strict=True)
    ]
    guesses = [place for place in places if place is not None]
    assert len(guesses) == len(places)
    metres = Positions(np.array([guess.metres for guess in guesses]), tuple(guess.zone or "" for guess in guesses))
    error_m = distances_m(metres, test.positions)
    first_m = distances_m(index.positions.take(found.indices[:, 0]), test.positions)
    doubts = [calibration.doubt(guess, PRECISION) for guess in guesses]
    answered = np.array([doubt.answered for doubt in doubts])
    radius_m = np.array([doubt.radius_m for doubt in doubts])
    return (
        f"{calibration.source.answerable} + {calibration.source.absent}",
        f"{100 * (first_m <= RIGHT_M)[in_map].mean():.1f}",
        f"{100 * (error_m <= RIGHT_M)[in_map].mean():.1f}",
        f"{100 * answered[in_map].mean():.1f} of {in_map.sum()}",
        f"{100 * (error_m <= RIGHT_M)[answered].mean():.1f}",
        f"{100 * (~answered)[~in_map].mean():.1f} of {(~in_map).sum()}",
        f"{100 * (error_m <= radius_m)[answered].mean():.1f}",
        f"{np.median(radius_m[answered]):.1f} m",
    )


def _print_promises(runs: int = 2000) -> None:
    """Worst case: every threshold has a precision just below the requested one, so any answer breaks the promise.

    Beside it cases whose confidence is true, half of them answerable, and the share of right answers that are given.
    """
    rng = np.random.default_rng(0)
    head = "worst case, lowest bound | worst case | true confidence | answered, lowest bound | answered"
    print(f"| cases | precision | {head} |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    many = _confidences(rng, 1_000_000)
    true = np.sort(many)[::-1]
    precision_of = np.cumsum(true) / np.arange(1, len(true) + 1)
    for count in (50, 100, 300, 1000):
        for precision in (0.8, 0.9, 0.95):
            kept = np.zeros(5)
            for _ in range(runs):
                flat = _made_up(rng.random(count), rng.random(count) < precision - 0.002)
                confidence = _confidences(rng, count)
                telling = _made_up(confidence, rng.random(count) < confidence)
                kept[:2] += [_lowest(flat, precision) is None, flat.level(precision) is None]
                for place, level in ((3, _lowest(telling, precision)), (4, telling.level(precision))):
                    above = 0 if level is None else int(np.searchsorted(-true, -level.confidence, side="right"))
                    kept[place] += true[:above].sum() / true.sum()
                    if place == 4:
                        kept[2] += not above or precision_of[above - 1] >= precision
            print(f"| {count:,} | {precision} | " + " | ".join(f"{100 * share:.1f}" for share in kept / runs) + " |")


def _confidences(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.where(rng.random(count) < 0.5, rng.beta(12, 0.5, count), rng.beta(0.4, 4, count))


def _made_up(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    count = len(right)
    error_m = np.where(right, 1.0, 99.0)
    cases = Cases(np.zeros((count, 1)), error_m, np.ones(count, bool), np.arange(count), False, RIGHT_M)
    found = levels(Judged(cases, confidence, np.ones(count)))
    model = Logistic((0.0,), (1.0,), (1.0,), 0.0)
    made = MadeBy("made_up", "none", None, "none", "none", None, 1)
    source = Source("labelled queries", count, 0, 0.5, RIGHT_M)
    return Calibration(made, 1, 1, (), RULE, source, model, model, found, (Ring(0.0, 1.0),), ())


def _lowest(calibration: Calibration, precision: float) -> Level | None:
    """What was taken until November 2026: the lowest threshold whose own bound holds."""
    return next((level for level in calibration.levels if level.at_least >= precision), None)


def _brier(cases: Cases) -> Sequence[str]:
    """The mean squared error of out-of-fold confidences, and what isotonic regression on top would give."""
    weight = case_weights(cases.in_map, 0.5)
    confidence, right = out_of_fold(cases, weight), cases.right.astype(float)
    fold = np.random.default_rng(1).permutation(int(cases.cell.max()) + 1)[cases.cell] % FOLDS
    stepped = np.empty(len(cases))
    for part in range(FOLDS):
        held, order = fold == part, np.argsort(confidence[fold != part])
        known = confidence[fold != part][order]
        levels = isotonic_regression(right[fold != part][order], weights=weight[fold != part][order]).x
        stepped[held] = np.interp(confidence[held], known, levels)
    return [f"{np.average((one - right) ** 2, weights=weight):.4f}" for one in (confidence, stepped)]


if __name__ == "__main__":
    main()
