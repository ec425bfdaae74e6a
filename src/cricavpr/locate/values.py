"""What an answer is made of: positions, matches, and the estimate with its doubt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cricavpr.geo import LatLon, point_feature

UNCALIBRATED = "uncalibrated"  # nothing is known yet about how often such a score is right
Status = Literal["located", "unknown", "uncalibrated"]


@dataclass(frozen=True)
class Where:
    """One position in both its forms.

    Attributes:
        position: degrees; None where unknown, or where the index is in a local frame.
        easting_m, northing_m: metres in UTM `zone`, or in the local frame where that is None; None where
        unknown.
    """

    position: LatLon | None = None
    easting_m: float | None = None
    northing_m: float | None = None
    zone: str | None = None

    def to_dict(self) -> dict[str, Any]:
        position = self.position
        degrees = metres = None
        if position is not None:  # 8 decimals are a millimetre
            degrees = {"lat_deg": round(position.lat_deg, 8), "lon_deg": round(position.lon_deg, 8)}
        if self.easting_m is not None and self.northing_m is not None:
            easting_m, northing_m = round(self.easting_m, 3), round(self.northing_m, 3)
            metres = {"easting_m": easting_m, "northing_m": northing_m, "zone": self.zone}
        return {"position": degrees, "metres": metres}


@dataclass(frozen=True)
class Match:
    """A database photo that looks like the same place.

    Attributes:
        name: its name in the index.
        score: cosine of the two descriptors, higher is better.
        where: its position.
        path: where the photo lay when the index was built.
    """

    name: str
    score: float
    where: Where
    path: Path

    @property
    def position(self) -> LatLon | None:
        return self.where.position

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "score": self.score, **self.where.to_dict(), "path": str(self.path)}


@dataclass(frozen=True)
class Doubt:
    """What a calibrated index says of one answer.

    Attributes:
        radius_m: holds the truth in 90 % of answers as sure as this one.
        confidence: how probable it is that the position is right.
        probability_in_map: how probable it is that the index has a photo of the place at all.
        precision: the share of right answers that was asked for.
        answered: whether the answer is sure enough for that precision.
    """

    radius_m: float
    confidence: float
    probability_in_map: float
    precision: float
    answered: bool


@dataclass(frozen=True)
class LocationEstimate:
    """Where a photo was probably taken: what its best matches say together.

    Attributes:
        photo: what the photo is called.
        guess: the position that its matches speak for, also where that is not sure enough to be an answer.
        matches: best first.
        doubt: None until the index is calibrated. A score alone does not say how often it is right.
    """

    photo: str
    guess: Where
    matches: tuple[Match, ...]
    doubt: Doubt | None = None

    @property
    def status(self) -> Status:
        """located; unknown, where the answer would not be sure enough; or uncalibrated, where nobody knows."""
        if self.doubt is None:
            return "uncalibrated"
        return "located" if self.doubt.answered else "unknown"

    @property
    def where(self) -> Where:
        """The estimated position: none where the answer is "unknown", so that nobody uses it by mistake."""
        return Where() if self.status == "unknown" else self.guess

    @property
    def position(self) -> LatLon | None:
        return self.where.position

    @property
    def radius_m(self) -> float | None:
        """Holds the truth in 90 % of answers as sure as this one; None until calibrated, and where unknown."""
        return None if self.doubt is None or not self.doubt.answered else self.doubt.radius_m

    @property
    def confidence(self) -> float | str:
        """How probable it is that the position is right, or "uncalibrated"."""
        return UNCALIBRATED if self.doubt is None else self.doubt.confidence

    @property
    def probability_in_map(self) -> float | str:
        """How probable it is that the index has a photo of the place at all, or "uncalibrated"."""
        return UNCALIBRATED if self.doubt is None else self.doubt.probability_in_map

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command line and of HTTP alike."""
        return {
            "photo": self.photo,
            "status": self.status,
            **self.where.to_dict(),
            "radius_m": _rounded(self.radius_m, 1),
            "confidence": _rounded(self.confidence, 4),
            "probability_in_map": _rounded(self.probability_in_map, 4),
            "precision": None if self.doubt is None else self.doubt.precision,
            "matches": [match.to_dict() for match in self.matches],
        }

    def to_feature(self) -> dict[str, Any]:
        """A GeoJSON feature; its geometry is null where there is no latitude."""
        properties = {key: value for key, value in self.to_dict().items() if key != "position"}
        if self.position is None:
            return {"type": "Feature", "geometry": None, "properties": properties}
        return point_feature(self.position, properties)


def _rounded(value: float | str | None, digits: int) -> float | str | None:
    return round(value, digits) if isinstance(value, float) else value
