"""Calibration of an index: probabilities, thresholds and radii for its answers, in one small JSON file.

The file lies in the folder of the index and records the photos and descriptors that it was made for. If these have
changed too much, it is not used any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

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
from cricavpr.plotting import Axes, Figure, looks, new_figure, style
from cricavpr.schema import build, to_plain

LEAVE_PLACE_OUT, LABELLED = "leave-place-out", "labelled queries"
OWN = (
    "radius and confidence were learnt from the photos of the index itself: they hold for photos that are taken like "
    "those."
)
COVERAGE = 0.9  # share of the answers whose truth lies within their radius
CERTAINTY = 0.9  # probability that a promised precision holds
FIRST_SHARE = 0.1  # share of the cases above the first threshold that is tested
SAME_ENOUGH = 0.8  # share of the photos that must be the same as when the index was calibrated
RIDGE = 1.0  # a weight of one standard deviation costs as much as half a case: keeps separable data finite
STEPS = 500
PRECISIONS = (0.8, 0.9, 0.95, 0.98, 0.99)
WAIT_S = 60.0  # time to wait for another writer; calibrating takes longer


@dataclass(frozen=True)
class Logistic:
    """Logistic regression p = 1 / (1 + exp(-(bias + weights . (x - mean) / scale))) with weights of at least 0.

    A higher value of any feature speaks for the answer, so it must never lower the probability. This matters because
    new cases differ a little from the fitted ones: a photo of the index finds one photo fewer of its place than a new
    photo does.

    Attributes:
        mean, scale: mean and standard deviation of each feature among the fitted cases.
        weights: one weight for each feature, in units of its scale.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:  # (M, F) -> (M,)
        scaled = (features - np.array(self.mean)) / np.array(self.scale)
        return _sigmoid(scaled @ np.array(self.weights) + self.bias)

    @classmethod
    def fit(
        cls,
        features: NDArray[np.float64],  # (M, F)
        happened: NDArray[np.bool_],  # (M,)
        case_weights: NDArray[np.float64],  # (M,)
    ) -> Self:
        """Maximise the likelihood with a ridge penalty. If all cases agree, probabilities are near 0 or 1."""
        from scipy.optimize import minimize

        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-9] = 1.0
        x = np.column_stack([(features - mean) / scale, np.ones(len(features))])  # (M, F + 1)
        ridge = np.array([RIDGE] * features.shape[1] + [1e-3])
        sign = np.where(happened, 1.0, -1.0)

        def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            z = x @ w
            value = (case_weights * np.logaddexp(0, -sign * z)).sum() + 0.5 * (ridge * w**2).sum()
            return float(value), x.T @ (case_weights * (_sigmoid(z) - happened)) + ridge * w

        bounds = [(0, None)] * features.shape[1] + [(None, None)]
        how = {"maxiter": STEPS, "ftol": 1e-14, "gtol": 1e-8}
        w = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options=how).x
        return cls(tuple(mean.tolist()), tuple(scale.tolist()), tuple(w[:-1].tolist()), float(w[-1]))


@dataclass(frozen=True)
class Level:
    """A threshold of the confidence, and the result of answering only cases at or above it.

    Attributes:
        confidence: the threshold.
        cases: effective number of cases at or above it.
        precision: share of right answers, measured on cases that the probabilities were not fitted on.
        at_least: lower bound of `precision`, with 90 % certainty for this threshold alone.
        answered: share of the answerable cases that get an answer.
        refused: share of the cases without their place in the map that get no answer.
    """

    confidence: float
    cases: float
    precision: float
    at_least: float
    answered: float
    refused: float


@dataclass(frozen=True)
class Ring:
    """Radius for answers with a confidence of at least `confidence`; the next ring has a higher confidence."""

    confidence: float
    radius_m: float


@dataclass(frozen=True)
class Bin:
    """Reliability of `count` cases of similar confidence: their mean confidence `said`, and the share `right`."""

    said: float
    right: float
    count: int


@dataclass(frozen=True)
class Source:
    """The cases that a calibration was fitted on.

    Attributes:
        cases: LEAVE_PLACE_OUT or LABELLED.
        answerable, absent: number of cases with their place in the map, and without it.
        share_in_map: expected share of answerable photos.
        right_m: distance in metres within which an answer is right.
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
        version, photos: version and number of photos of the index when it was calibrated.
        sketch: a sample of the photos of the index; see `sketch_of`.
        rule: how matches become a position.
        source: the cases.
        right, in_map: models of the probability that the position is right, and that the place is in the map at all.
        levels: thresholds, by rising confidence.
        rings: radii, by rising confidence.
        reliability: how often cases outside the fit were right, by rising confidence.
        wiped: how many numbers the sketch has lost because their photos were removed.
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
            raise ValueError("rings must not be empty")

    def __repr__(self) -> str:
        cases = f"{self.source.answerable} answerable and {self.source.absent} absent cases"
        return f"<Calibration of {self.photos:,} photos by {self.source.cases}, {cases}>"

    def level(self, precision: float) -> Level | None:
        """Return the lowest threshold that keeps a precision with 90 % certainty; None if no threshold does.

        Thresholds are tested in a fixed order, from high confidence downward, each by the bound of Clopper and Pearson
        (1934), until the first one fails: fixed-sequence testing, as in Angelopoulos et al., "Learn then test" (2021).
        The lowest threshold whose own bound holds would be wrong far more often: one of many bounds holds by luck.
        The first threshold has at least a tenth of all cases above it, and as many as a test needs to pass at all.

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
        """Return one line if no threshold keeps a precision, else None."""
        if self.level(precision) is not None:
            return None
        bounds = sorted({level.at_least for level in self.levels if 0 < level.at_least < 1}, reverse=True)
        most = next((bound for bound in bounds if self.level(bound) is not None), 0.0)
        return (
            f"this calibration supports a precision of at most {math.floor(1000 * most) / 1000:g}, got {precision:g}: "
            "every answer is unknown. Ask for less, or calibrate on more queries."
        )

    def caveat(self, precision: float) -> str | None:
        """Return one line about the limits of the answers, or None."""
        own = OWN if self.source.cases == LEAVE_PLACE_OUT else None
        return " ".join(filter(None, (self.shortfall(precision), own))) or None

    def doubt(self, found: Consensus, precision: float) -> Doubt:
        """Return the confidence and the radius of one answer."""
        confidence = float(self.right(found.features[None])[0])
        in_map = max(confidence, float(self.in_map(found.features[None])[0]))  # a right position is in the map
        level = self.level(precision)
        answered = level is not None and confidence >= level.confidence
        return Doubt(self.radius_m(confidence), confidence, in_map, precision, answered)

    def radius_m(self, confidence: float) -> float:
        """Return the radius that holds the truth for 90 % of the answers with this confidence."""
        return next((ring for ring in reversed(self.rings) if confidence >= ring.confidence), self.rings[0]).radius_m

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, without its checksum."""
        values: dict[str, Any] = to_plain(self)
        return values

    def save(self, index: PlaceIndex) -> Path:
        """Write the file into the folder of the index, durably, without photos that have been removed since.

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
    """The calibration of an index, or one line that says why it cannot be used."""

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
    """Raise InputError if a precision is not between 0 and 1."""
    if not 0.0 < precision < 1.0:
        raise InputError(f"precision must be more than 0 and less than 1, such as 0.95, got {precision:g}.")


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    p: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(x, -40, 40)))
    return p


# --- for people


def precision_table(calibration: Calibration) -> str:
    """Return a table as text: for each precision its threshold, and the shares of right, answered and refused cases."""
    lines = ["precision  threshold  measured  answered  refused"]
    for precision in PRECISIONS:
        level = calibration.level(precision)
        if level is None:
            lines.append(f"{precision:9.2f}  not supported by these cases: every answer would be unknown")
            continue
        shares = (level.precision, level.answered, level.refused)
        lines.append(
            f"{precision:9.2f}  {level.confidence:9.3f}  " + "  ".join(f"{100 * share:6.1f} %" for share in shares)
        )
    return "\n".join(lines)


def draw(calibration: Calibration) -> Figure:
    """Draw how often answers of a confidence were right, and the shares that each threshold gives.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, (left, right) = new_figure(8.4, 3.6, columns=2)
    with looks():
        _draw_reliability(left, calibration)
        _draw_levels(right, calibration)
    return figure


def _draw_reliability(axes: Axes, calibration: Calibration) -> None:
    bins = calibration.reliability
    axes.plot([0, 1], [0, 1], color="#777777", linestyle=(0, (2, 4)), linewidth=1, label="ideal")
    axes.plot([one.said for one in bins], [one.right for one in bins], **style(0)._asdict(), label="this index")
    for one in bins:
        shift = (0, -12) if one.right > 0.9 else (0, 6)
        axes.annotate(
            f"{one.count:,}", (one.said, one.right), shift, textcoords="offset points", ha="center", fontsize=7
        )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.08), xlabel="confidence", ylabel="share that was right")
    axes.set_title("Reliability (numbers: cases)")
    axes.legend(loc="upper left")


def _draw_levels(axes: Axes, calibration: Calibration) -> None:
    thresholds = [level.confidence for level in calibration.levels]
    columns = {
        "right among the answered": [level.precision for level in calibration.levels],
        "answered, of those in the map": [level.answered for level in calibration.levels],
        "refused, of those not in the map": [level.refused for level in calibration.levels],
    }
    for number, (label, values) in enumerate(columns.items()):
        look = style(number)
        axes.plot(thresholds, values, color=look.color, linestyle=look.linestyle, label=label)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.08), xlabel="threshold of the confidence", ylabel="share")
    axes.set_title("By threshold")
    axes.legend(loc="lower center")
