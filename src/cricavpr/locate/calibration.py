"""Calibration of an index: probabilities, thresholds and radii of its answers, in one small JSON file.

The file lies in the folder of the index and records which photos and which descriptors it was made for. Once these
have changed too much it is not used any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import write_text
from cricavpr.index.checksummed_json import seal, unseal
from cricavpr.index.manifest import CALIBRATION
from cricavpr.index.photo_index import PhotoIndex
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.sketch import MOST_BYTES, SKETCH, left_of, likeness, sketch_of
from cricavpr.index.storage import read_whole, writer_of
from cricavpr.locate.consensus import FEATURES, Consensus, Rule
from cricavpr.locate.estimate import Doubt
from cricavpr.locate.logistic import Logistic
from cricavpr.schema import build, to_plain

LEAVE_PLACE_OUT, LABELLED = "leave-place-out", "labelled queries"
OWN = (
    "radius and confidence were learnt from the photos of the index itself: they hold for photos that are taken like "
    "those."
)
COVERAGE = 0.9  # of the radius
CERTAINTY = 0.9  # of a promised precision
FIRST_SHARE = 0.1  # share of the cases above the first threshold that is tested
SAME_ENOUGH = 0.8  # share of the photos that must be those that were calibrated
WAIT_S = 60.0  # for another writer: calibrating took longer


@dataclass(frozen=True)
class Level:
    """One threshold, and what it gives when every answer must be at least as sure.

    Attributes:
        confidence: the threshold.
        cases: how many cases are above it; fewer where they do not weigh equally.
        precision: share of right answers, measured on cases that the probabilities were not fitted on.
        at_least: lower bound of that share, with 90 % certainty for this threshold alone.
        answered: share of the answerable cases that get an answer.
        refused: share of the cases without their place in the map that get none.
    """

    confidence: float
    cases: float
    precision: float
    at_least: float
    answered: float
    refused: float


@dataclass(frozen=True)
class Ring:
    """Radius that holds 90 % of the answers with a confidence of at least `confidence`, up to the next ring."""

    confidence: float
    radius_m: float


@dataclass(frozen=True)
class Bin:
    """Reliability of `count` cases with a mean confidence of `said`: the share that was `right`."""

    said: float
    right: float
    count: int


@dataclass(frozen=True)
class Source:
    """The cases of a calibration.

    Attributes:
        cases: LEAVE_PLACE_OUT or LABELLED.
        answerable, absent: how many cases had their place in the map, and how many had not.
        share_in_map: expected share of answerable photos.
        right_m: an answer this near is right.
    """

    cases: str
    answerable: int
    absent: int
    share_in_map: float
    right_m: float


@dataclass(frozen=True, repr=False)
class Calibration:
    """Everything that turns matches into probabilities and a radius; see `cricavpr.locate.fitting.fit`.

    Attributes:
        made_by: provenance of the descriptors of the index.
        version, photos: of the index when it was calibrated.
        sketch: stands for the photos of the index; see `sketch_of`.
        rule: how matches become a position.
        source: the cases.
        right, in_map: probability that the position is right, and that the place is in the map at all.
        levels: thresholds, confidence rising.
        rings: radii, confidence rising.
        reliability: how often cases were right that were not fitted on, confidence rising.
        wiped: how many numbers the sketch has lost with photos that were removed.
    """

    made_by: MadeBy
    version: int
    photos: int
    sketch: tuple[int, ...]
    rule: Rule
    source: Source
    right: Logistic
    in_map: Logistic
    levels: tuple[Level, ...]
    rings: tuple[Ring, ...]
    reliability: tuple[Bin, ...]
    wiped: int = 0
    features: tuple[str, ...] = FEATURES
    format: Literal["cricavpr.calibration.4"] = "cricavpr.calibration.4"

    def __post_init__(self) -> None:
        if self.features != FEATURES:
            raise ValueError(f"features must be {', '.join(FEATURES)}")
        if not 0 <= self.wiped <= SKETCH - len(self.sketch):
            raise ValueError(f"a sketch of {len(self.sketch)} numbers cannot have lost {self.wiped}")
        if not self.rings:
            raise ValueError("it has no rings")

    def __repr__(self) -> str:
        cases = f"{self.source.answerable} answerable and {self.source.absent} absent cases"
        return f"<Calibration of {self.photos:,} photos by {self.source.cases}, {cases}>"

    def level(self, precision: float) -> Level | None:
        """Return the lowest threshold that holds a precision with 90 % certainty; None if none does.

        Thresholds are tested in a fixed order, from high confidence downward, each by the bound of Clopper and Pearson
        (1934), until the first one fails: fixed-sequence testing, as in Angelopoulos et al., "Learn then test" (2021).
        The lowest threshold whose own bound holds would be wrong far more often, because one of many bounds is lucky.
        The first test is above as many cases as it takes to pass at all, and at least a tenth of all.

        Raises:
            InputError: `precision` is not between 0 and 1.
        """
        check_precision(precision)
        first = max(math.log(1 - CERTAINTY) / math.log(precision), FIRST_SHARE * self.levels[0].cases)
        passed = None
        for level in reversed(self.levels):
            if level.cases >= first:
                if level.at_least < precision:
                    break
                passed = level
        return passed

    def shortfall(self, precision: float) -> str | None:
        """Return one line if no threshold holds a precision."""
        if self.level(precision) is not None:
            return None
        bounds = sorted({level.at_least for level in self.levels if 0 < level.at_least < 1}, reverse=True)
        most = next((bound for bound in bounds if self.level(bound) is not None), 0.0)
        return (
            f"this calibration supports a precision of at most {math.floor(1000 * most) / 1000:g}, got {precision:g}: "
            "every answer is unknown. Ask for less, or calibrate on more queries."
        )

    def caveat(self, precision: float) -> str | None:
        """Return one line about what the answers do not promise, or None."""
        own = OWN if self.source.cases == LEAVE_PLACE_OUT else None
        return " ".join(filter(None, (self.shortfall(precision), own))) or None

    def doubt(self, found: Consensus, precision: float) -> Doubt:
        """Return the doubt of one answer."""
        confidence = float(self.right(found.features[None])[0])
        in_map = max(confidence, float(self.in_map(found.features[None])[0]))  # what is right is in the map
        level = self.level(precision)
        answered = level is not None and confidence >= level.confidence
        return Doubt(self.radius_m(confidence), confidence, in_map, precision, answered)

    def radius_m(self, confidence: float) -> float:
        """Return the radius that holds the truth in 90 % of answers as sure as that."""
        return next((ring for ring in reversed(self.rings) if confidence >= ring.confidence), self.rings[0]).radius_m

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, without its checksum."""
        values: dict[str, Any] = to_plain(self)
        return values

    def save(self, index: PlaceIndex) -> Path:
        """Write it into the folder of the index, durably, and without a trace of photos that have been removed since.

        Raises:
            InputError: another writer holds the index for too long, or the file cannot be written.
        """
        path = index.path / CALIBRATION
        with writer_of(index.path, WAIT_S):
            left = left_of(self.sketch, index.newest().snapshot.ids_and_metres())
            kept = replace(self, sketch=left, wiped=self.wiped + len(self.sketch) - len(left))
            write_text(path, seal(kept.to_dict()) + "\n")
        return path


@dataclass(frozen=True)
class Found:
    """The calibration of an index, or one line that says why there is none to use."""

    calibration: Calibration | None
    why_not: str | None = None


def read_calibration(index: PhotoIndex) -> Found:
    """Read the calibration of an index, if it still fits."""
    if not isinstance(index, PlaceIndex):
        why_not = "so the confidence of an answer is unknown. Only an index in a folder can be calibrated."
        return Found(None, f"{index.path} is not calibrated, {why_not}")
    path = index.path / CALIBRATION
    again = f"Run: cricavpr index calibrate {index.path}"
    try:
        calibration = build(Calibration, unseal(read_whole(path, MOST_BYTES)), str(path))
    except FileNotFoundError:
        return Found(None, f"{index.path} is not calibrated, so the confidence of an answer is unknown. {again}")
    except OSError as error:
        return Found(None, f"cannot read {path}: {error.strerror or error}. Answers are uncalibrated.")
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return Found(None, f"{path} is damaged or of another version and is not used. {again}")
    if calibration.made_by != index.made_by:
        return Found(None, f"{path} was made for other descriptors and is not used. {again}")
    same = likeness(calibration.sketch, sketch_of(index.snapshot.ids_and_metres()), calibration.wiped)
    if same < SAME_ENOUGH:
        return Found(
            None,
            f"{path} was made for version {calibration.version}, which shares {100 * same:.0f} % of the photos and "
            f"positions with version {index.version}, and is not used. {again}",
        )
    return Found(calibration)


def check_precision(precision: float) -> None:
    """Raise if a precision is not between 0 and 1.

    Raises:
        InputError: it is not.
    """
    if not 0.0 < precision < 1.0:
        raise InputError(f"precision must be more than 0 and less than 1, such as 0.95, got {precision:g}.")
