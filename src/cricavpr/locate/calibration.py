"""Calibration of an index. It turns matches into a confidence and a radius, and is stored in one small JSON file.

The file is in the folder of the index. It records for which photos and descriptors it was made. It is no longer used
if too many photos of the index have changed.
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
    "the calibration was made from the photos of the index itself, so radius and confidence are right only for photos "
    "taken in the same way as those of the index."
)
COVERAGE = 0.9  # fraction of answers whose true position lies within their radius
CERTAINTY = 0.9  # probability that an index keeps the precision that `Calibration.level` promises
FIRST_SHARE = 0.1  # the first threshold that is tested has at least this fraction of the cases above it
SAME_ENOUGH = 0.8  # a calibration is used if at least this fraction of the photos is unchanged
RIDGE = 1.0  # strength of the L2 penalty, which keeps weights finite if the cases can be separated perfectly
STEPS = 500  # maximum number of iterations of the fit
PRECISIONS = (0.8, 0.9, 0.95, 0.98, 0.99)
WAIT_S = 60.0  # maximum time to wait for another process that writes the index


@dataclass(frozen=True)
class Logistic:
    """Logistic regression p = 1 / (1 + exp(-(bias + weights . (x - mean) / scale))) with weights of at least 0.

    Weights are not negative, because a higher value of any feature is evidence that the answer is correct, and must
    never lower the probability.

    Attributes:
        mean, scale: mean and standard deviation of each feature among the cases of the fit.
        weights: one weight for each standardised feature.
        bias: constant term.
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
        """Return the logistic regression that maximises the likelihood of the cases minus an L2 penalty.

        Args:
            features: one row of features per case.
            happened: whether the event happened in each case; the model predicts its probability.
            case_weights: weight of each case in the likelihood.
        """
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
    """A threshold of the confidence, and the results if only cases with at least this confidence get an answer.

    Attributes:
        confidence: the threshold.
        cases: effective number of cases with at least this confidence.
        precision: fraction of correct answers, measured on cases that the model was not fitted on.
        at_least: lower bound of `precision`; it holds with a probability of 90 % if only this threshold is tested.
        answered: of the cases whose place is in the index, the fraction that get an answer.
        refused: of the cases whose place is not in the index, the fraction that get no answer.
    """

    confidence: float
    cases: float
    precision: float
    at_least: float
    answered: float
    refused: float


@dataclass(frozen=True)
class Ring:
    """Radius of answers in one range of confidence. The range ends where the next ring begins.

    Attributes:
        confidence: lower end of the range.
        radius_m: radius in metres that contains the true position of 90 % of these answers.
    """

    confidence: float
    radius_m: float


@dataclass(frozen=True)
class Bin:
    """Group of cases with similar confidence, and how often they are correct.

    Attributes:
        said: mean confidence of the cases.
        right: fraction of the cases that are correct; equals `said` in an ideal calibration.
        count: number of cases.
    """

    said: float
    right: float
    count: int


@dataclass(frozen=True)
class Source:
    """Summary of the cases that a calibration was fitted on. A case is a query with a known position, and its result.

    Attributes:
        cases: LEAVE_PLACE_OUT (photos of the index as queries) or LABELLED (other photos with known positions).
        answerable, absent: number of cases whose place is in the index, and whose place is not.
        share_in_map: expected fraction of future photos whose place is in the index.
        right_m: distance in metres within which an answer is correct.
    """

    cases: str
    answerable: int
    absent: int
    share_in_map: float
    right_m: float


@dataclass(frozen=True, repr=False)
class Calibration:
    """Models that turn the matches of a photo into probabilities and a radius; made by `cricavpr.locate.fitting.fit`.

    Attributes:
        made_by: method, weights and settings that computed the descriptors of the index.
        version, photos: version and number of photos of the index when it was calibrated.
        sketch: hashes of a sample of the photos of the index, to find out whether photos changed; see `sketch_of`.
        rule: parameters by which matches become a position.
        source: the cases that the calibration was fitted on.
        right, in_map: models of the probability that the position is correct, and that the place is in the index.
        levels: thresholds of the confidence, in ascending order.
        rings: radii, in ascending order of the confidence.
        reliability: how often cases that the models were not fitted on are correct, in ascending order of confidence.
        wiped: number of hashes that were deleted from the sketch because their photos were removed from the index.
        features: names of the inputs of the models `right` and `in_map`.
        format: version of the file format.
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
            raise ValueError(f"features must be {', '.join(FEATURES)}, got {', '.join(self.features)}")
        if not 0 <= self.wiped <= SKETCH - len(self.sketch):
            raise ValueError(
                f"wiped must be 0 to {SKETCH - len(self.sketch)} for a sketch of {len(self.sketch)} numbers, got "
                f"{self.wiped}"
            )
        if not self.rings:
            raise ValueError("rings must have at least one entry, got none")

    def __repr__(self) -> str:
        cases = f"{self.source.answerable} cases with their place in the index and {self.source.absent} without"
        return f"<Calibration of {self.photos:,} photos by {self.source.cases}, {cases}>"

    def level(self, precision: float) -> Level | None:
        """Return the lowest threshold that reaches a precision with a probability of 90 %; None if no threshold does.

        Thresholds are tested from high to low confidence, each by the bound of Clopper and Pearson (1934), until one
        fails. This is fixed-sequence testing, as in Angelopoulos et al., "Learn then test" (2021). Testing all
        thresholds and taking the lowest that passes would be wrong far more often, because one of many may pass by
        luck. The first threshold to be tested has at least a tenth of all cases above it, and enough cases that the
        test can pass.

        Args:
            precision: wanted fraction of correct answers.

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
        """Return a line that explains that no threshold reaches this precision, or None if a threshold does."""
        if self.level(precision) is not None:
            return None
        bounds = sorted({level.at_least for level in self.levels if 0 < level.at_least < 1}, reverse=True)
        most = next((bound for bound in bounds if self.level(bound) is not None), 0.0)
        return (
            f"this calibration supports a precision of at most {math.floor(1000 * most) / 1000:g}, got {precision:g}, "
            "so every answer is unknown. Ask for a lower precision, or calibrate with more queries."
        )

    def caveat(self, precision: float) -> str | None:
        """Return a line that warns about the limits of the answers, or None if there is nothing to warn about."""
        own = OWN if self.source.cases == LEAVE_PLACE_OUT else None
        return " ".join(filter(None, (self.shortfall(precision), own))) or None

    def doubt(self, found: Consensus, precision: float) -> Doubt:
        """Return the confidence and the radius of one answer.

        Args:
            found: the place that the matches of the photo support.
            precision: wanted fraction of correct answers, which decides whether the photo gets an answer.
        """
        confidence = float(self.right(found.features[None])[0])
        in_map = max(
            confidence, float(self.in_map(found.features[None])[0])
        )  # if the position is correct, the place is in the index
        level = self.level(precision)
        answered = level is not None and confidence >= level.confidence
        return Doubt(self.radius_m(confidence), confidence, in_map, precision, answered)

    def radius_m(self, confidence: float) -> float:
        """Return the radius that contains the true position for 90 % of the answers with this confidence."""
        return next((ring for ring in reversed(self.rings) if confidence >= ring.confidence), self.rings[0]).radius_m

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the calibration file as a dictionary, without its checksum."""
        values: dict[str, Any] = to_plain(self)
        return values

    def save(self, index: PlaceIndex) -> Path:
        """Write the calibration into the folder of the index, and return the path of the file.

        Photos that were removed from the index after the calibration was made are left out of the sketch.

        Raises:
            InputError: another process keeps the index locked for more than a minute, or the file cannot be written.
        """
        path = index.path / CALIBRATION
        with writer_of(index.path, WAIT_S):
            left = left_of(self.sketch, index.newest().snapshot.ids_and_metres())
            kept = replace(self, sketch=left, wiped=self.wiped + len(self.sketch) - len(left))
            write_text(path, seal(kept.to_dict()) + "\n")
        return path


@dataclass(frozen=True)
class Found:
    """The calibration of an index, or the reason why there is none.

    Attributes:
        calibration: the calibration, or None.
        why_not: one line that says why the index has no calibration or why it cannot be used; None if it is used.
    """

    calibration: Calibration | None
    why_not: str | None = None


def read_calibration(index: PhotoIndex) -> Found:
    """Read the calibration of an index, if it has one that fits its descriptors and its current photos."""
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
        return Found(
            None, f"cannot read {path}: {error.strerror or error}, so answers have no confidence and no radius."
        )
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return Found(None, f"{path} is damaged or has another format version, so it is not used. {again}")
    if calibration.made_by != index.made_by:
        return Found(
            None, f"{path} was made for descriptors of another method, weights or settings, so it is not used. {again}"
        )
    same = likeness(calibration.sketch, sketch_of(index.snapshot.ids_and_metres()), calibration.wiped)
    if same < SAME_ENOUGH:
        return Found(
            None,
            f"{path} was made for version {calibration.version} of the index, but only {100 * same:.0f} % of the "
            f"photos and positions are the same in version {index.version}, so it is not used. {again}",
        )
    return Found(calibration)


def check_precision(precision: float) -> None:
    """Raise InputError if a precision is not between 0 and 1."""
    if not 0.0 < precision < 1.0:
        raise InputError(f"precision must be more than 0 and less than 1, such as 0.95, got {precision:g}.")


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    p: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(x, -40, 40)))
    return p


# --- table and plot


def precision_table(calibration: Calibration) -> str:
    """Return a text table with a row for each wanted precision.

    The columns are the threshold for this precision, and the measured precision and the answered and refused fractions
    at this threshold; see `Level`.
    """
    lines = ["precision  threshold  measured  answered  refused"]
    for precision in PRECISIONS:
        level = calibration.level(precision)
        if level is None:
            lines.append(f"{precision:9.2f}  not supported by these cases, so every answer would be unknown")
            continue
        shares = (level.precision, level.answered, level.refused)
        lines.append(
            f"{precision:9.2f}  {level.confidence:9.3f}  " + "  ".join(f"{100 * share:6.1f} %" for share in shares)
        )
    return "\n".join(lines)


def draw(calibration: Calibration) -> Figure:
    """Draw two plots: how often answers of each confidence are correct, and the results of each threshold.

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
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.08), xlabel="confidence", ylabel="share of correct answers")
    axes.set_title("Reliability (labels: number of cases)")
    axes.legend(loc="upper left")


def _draw_levels(axes: Axes, calibration: Calibration) -> None:
    thresholds = [level.confidence for level in calibration.levels]
    columns = {
        "correct, of all answered": [level.precision for level in calibration.levels],
        "answered, of those in the map": [level.answered for level in calibration.levels],
        "refused, of those not in the map": [level.refused for level in calibration.levels],
    }
    for number, (label, values) in enumerate(columns.items()):
        look = style(number)
        axes.plot(thresholds, values, color=look.color, linestyle=look.linestyle, label=label)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.08), xlabel="threshold of the confidence", ylabel="share")
    axes.set_title("By threshold")
    axes.legend(loc="lower center")
