"""What a calibrated index knows of its own doubt: probabilities, thresholds and radii, in one small file of JSON.

The file lies in the folder of the index. It says for what photos and what descriptors it was made; where these have
changed it does not fit any more, and is not used.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import write_text
from cricavpr.index.checksummed_json import seal, unseal
from cricavpr.index.manifest import CALIBRATION
from cricavpr.index.photo_index import PhotoIndex
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.sketch import MOST_BYTES, SKETCH, left_of, likeness, sketch_of
from cricavpr.index.storage import read_whole, writer_of
from cricavpr.locate.logistic import Logistic
from cricavpr.locate.together import FEATURES, Consensus, Rule
from cricavpr.locate.values import Doubt

FORMAT = "cricavpr.calibration.3"
LEAVE_PLACE_OUT, LABELLED = "leave-place-out", "labelled queries"
OWN = (
    "radius and confidence were learnt from the photos of the index itself: they hold for photos that are taken as "
    "those were."
)
COVERAGE = 0.9  # of the radius
SAME_ENOUGH = 0.8  # of the photos must be those that were calibrated
WAIT_S = 60.0  # for another writer: what was learnt took longer


@dataclass(frozen=True)
class Level:
    """One threshold: what is answered when every answer must be as sure as that.

    Attributes:
        confidence: the threshold.
        precision: share of right answers, as measured on cases that the probabilities were not fitted on.
        at_least: what that share is at least, with 90 % certainty: a few lucky cases promise little.
        answered: share of the answerable cases that get an answer.
        refused: share of the cases without their place in the map that get none.
    """

    confidence: float
    precision: float
    at_least: float
    answered: float
    refused: float


@dataclass(frozen=True)
class Ring:
    """Answers of a confidence from `confidence` on lie within `radius_m` in 90 % of cases, up to the next ring."""

    confidence: float
    radius_m: float


@dataclass(frozen=True)
class Bin:
    """Of `count` cases with confidences of `said` on average, this share was right."""

    said: float
    right: float
    count: int


@dataclass(frozen=True)
class Source:
    """What was calibrated on.

    Attributes:
        cases: LEAVE_PLACE_OUT or LABELLED.
        answerable, absent: how many cases had their place in the map, and how many had not.
        share_in_map: which share of all questions is taken to be answerable.
        right_m: an answer this near is right.
    """

    cases: str
    answerable: int
    absent: int
    share_in_map: float
    right_m: float


@dataclass(frozen=True)
class Calibration:
    """Everything that turns matches into probabilities and a radius.

    Attributes:
        made_by: of the descriptors of the index.
        version, photos: of the index then.
        sketch: stands for the photos of the index; see `sketch_of`.
        rule: how matches become a position.
        source: what it was fitted on.
        right, in_map: the probability that the position is right, and that the place is in the map at all.
        levels: thresholds with what they give, confidence rising.
        rings: radii, confidence rising.
        reliability: how often cases were right that were not fitted on, confidence rising.
        wiped: numbers that the sketch has lost with photos that were removed.
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

    def level(self, precision: float) -> Level | None:
        """The lowest threshold that holds a precision with 90 % certainty; None where none does.

        Raises:
            InputError: a precision that is no share.
        """
        check_precision(precision)
        return next((level for level in self.levels if level.at_least >= precision), None)

    def shortfall(self, precision: float) -> str | None:
        """One line where no threshold holds a precision."""
        if self.level(precision) is not None:
            return None
        most = max((level.at_least for level in self.levels), default=0.0)
        return (
            f"the cases of this calibration promise a precision of {math.floor(1000 * most) / 1000:g} at most, not "
            f"{precision:g}: every answer is unknown. Ask for less, or calibrate on more queries."
        )

    def caveat(self, precision: float) -> str | None:
        """One line of what the answers do not promise; None where there is nothing to say."""
        own = OWN if self.source.cases == LEAVE_PLACE_OUT else None
        return " ".join(filter(None, (self.shortfall(precision), own))) or None

    def doubt(self, found: Consensus, precision: float) -> Doubt:
        """What to say of one answer."""
        confidence = float(self.right(found.features[None])[0])
        in_map = max(confidence, float(self.in_map(found.features[None])[0]))  # what is right is in the map
        level = self.level(precision)
        answered = level is not None and confidence >= level.confidence
        return Doubt(self.radius_m(confidence), confidence, in_map, precision, answered)

    def radius_m(self, confidence: float) -> float:
        """Holds the truth in 90 % of answers as sure as that."""
        return next((ring for ring in reversed(self.rings) if confidence >= ring.confidence), self.rings[0]).radius_m

    def to_dict(self) -> dict[str, Any]:
        logistics = {"right": self.right.to_dict(), "in_map": self.in_map.to_dict()}
        return {"format": FORMAT, "features": FEATURES, **asdict(self), "made_by": self.made_by.to_dict(), **logistics}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: it is not what `to_dict` gives.
        """
        if values["format"] != FORMAT or tuple(values["features"]) != FEATURES:
            raise ValueError(f"it is of another form than {FORMAT}")
        made = cls(
            made_by=MadeBy.from_dict(values["made_by"]),
            version=int(values["version"]),
            photos=int(values["photos"]),
            sketch=tuple(map(int, values["sketch"])),
            rule=Rule(**values["rule"]),
            source=Source(**values["source"]),
            right=Logistic.from_dict(values["right"]),
            in_map=Logistic.from_dict(values["in_map"]),
            levels=tuple(Level(**one) for one in values["levels"]),
            rings=tuple(Ring(**one) for one in values["rings"]),
            reliability=tuple(Bin(**one) for one in values["reliability"]),
            wiped=int(values["wiped"]),
        )
        if not 0 <= made.wiped <= SKETCH - len(made.sketch):
            raise ValueError(f"a sketch of {len(made.sketch)} numbers that has lost {made.wiped}")
        if not (made.rings and _finite(values)):
            raise ValueError("it has no radii, or a number that is none")
        return made

    def save(self, index: PlaceIndex) -> Path:
        """Write it into the folder of the index, durably, and without a trace of photos that have been removed since.

        Raises:
            InputError: another writer for long, or the place cannot be written.
        """
        path = index.path / CALIBRATION
        with writer_of(index.path, WAIT_S):
            left = left_of(self.sketch, index.newest().snapshot.ids_and_metres())
            kept = replace(self, sketch=left, wiped=self.wiped + len(self.sketch) - len(left))
            write_text(path, seal(kept.to_dict()) + "\n")
        return path


@dataclass(frozen=True)
class Found:
    """The calibration of an index, or in one line why there is none that can be used."""

    calibration: Calibration | None
    why_not: str | None = None


def read_calibration(index: PhotoIndex) -> Found:
    """The calibration that lies with an index, where it fits."""
    if not isinstance(index, PlaceIndex):
        why_not = "so nothing is known of how sure an answer is. Only an index in a folder can be calibrated."
        return Found(None, f"{index.path} is not calibrated, {why_not}")
    path = index.path / CALIBRATION
    again = f"Run: cricavpr index calibrate {index.path}"
    try:
        calibration = Calibration.from_dict(unseal(read_whole(path, MOST_BYTES)))
    except FileNotFoundError:
        return Found(None, f"{index.path} is not calibrated, so nothing is known of how sure an answer is. {again}")
    except OSError as error:
        return Found(None, f"cannot read {path}: {error.strerror or error}. Answers are uncalibrated.")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return Found(None, f"{path} is damaged or of another release and is not used. {again}")
    if calibration.made_by != index.made_by:
        return Found(None, f"{path} was made for descriptors of another kind and is not used. {again}")
    same = likeness(calibration.sketch, sketch_of(index.snapshot.ids_and_metres()), calibration.wiped)
    if same < SAME_ENOUGH:
        return Found(
            None,
            f"{path} was made for version {calibration.version}, with which version {index.version} shares "
            f"{100 * same:.0f} % of the photos and positions, and is not used. {again}",
        )
    return Found(calibration)


def check_precision(precision: float) -> None:
    if not 0.0 < precision < 1.0:
        raise InputError(f"a precision of {precision} is not a share. Give more than 0 and less than 1, such as 0.95.")


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
