"""The answer to a photo: its position, its matches, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cricavpr.geo import LatLon, point_feature

UNCALIBRATED = "uncalibrated"  # the index has no calibration, so the confidence is unknown
Status = Literal["located", "unknown", "uncalibrated"]


@dataclass(frozen=True, repr=False)
class Where:
    """One position in degrees and in metres.

    Attributes:
        position: degrees; None if unknown or in a local frame.
        easting_m, northing_m: metres in the UTM `zone`, or in a local frame if `zone` is None; None if unknown.
    """

    position: LatLon | None = None
    easting_m: float | None = None
    northing_m: float | None = None
    zone: str | None = None

    def __str__(self) -> str:
        if self.position is not None:
            return f"{self.position.lat_deg:.6f}, {self.position.lon_deg:.6f}"
        if self.easting_m is not None:
            return f"{self.easting_m:.2f} m east, {self.northing_m:.2f} m north"
        return "position unknown"

    def __repr__(self) -> str:
        return f"<Where {self}>"

    def to_dict(self) -> dict[str, Any]:
        """Return degrees and metres for JSON."""
        position = self.position
        degrees = metres = None
        if position is not None:  # 8 decimals are a millimetre
            degrees = {"lat_deg": round(position.lat_deg, 8), "lon_deg": round(position.lon_deg, 8)}
        if self.easting_m is not None and self.northing_m is not None:
            easting_m, northing_m = round(self.easting_m, 3), round(self.northing_m, 3)
            metres = {"easting_m": easting_m, "northing_m": northing_m, "zone": self.zone}
        return {"position": degrees, "metres": metres}


@dataclass(frozen=True, repr=False)
class Match:
    """A photo of the index that looks like the same place.

    Attributes:
        name: its name in the index.
        score: cosine of the two descriptors, higher is better.
        where: its position.
        path: its file when it was added to the index.
    """

    name: str
    score: float
    where: Where
    path: Path

    def __repr__(self) -> str:
        return f"<Match {self.name}, score {self.score:.3f}, {self.where}>"

    @property
    def position(self) -> LatLon | None:
        """Degrees; None if unknown or in a local frame."""
        return self.where.position

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {"name": self.name, "score": self.score, **self.where.to_dict(), "path": str(self.path)}


@dataclass(frozen=True)
class Doubt:
    """Confidence of an answer, by the calibration of the index.

    Attributes:
        radius_m: holds the truth for 90 % of the answers with this confidence.
        confidence: probability that the position is right.
        probability_in_map: probability that the index has a photo of the place at all.
        precision: requested share of right answers.
        answered: whether the confidence is high enough for that precision.
    """

    radius_m: float
    confidence: float
    probability_in_map: float
    precision: float
    answered: bool


@dataclass(frozen=True, repr=False)
class LocationEstimate:
    """The place where a photo was probably taken.

    Attributes:
        photo: name of the photo.
        guess: the position that its matches support, even if the confidence is too low for an answer.
        matches: best first.
        doubt: confidence and radius; None until the index is calibrated, because a score alone does not give them.
    """

    photo: str
    guess: Where
    matches: tuple[Match, ...]
    doubt: Doubt | None = None

    def __str__(self) -> str:
        doubt = self.doubt
        if not self.matches:  # a server that is not exact may find none behind a narrow filter
            return "no photo was found"
        if doubt is None:
            return f"{self.where} (confidence: {self.confidence})"
        sure = f"confidence {doubt.confidence:.3f}, in the map with {doubt.probability_in_map:.3f}"
        if not doubt.answered:
            return f"unknown ({sure}: too low for a precision of {doubt.precision:g})"
        radius = f"{doubt.radius_m:.1f}" if doubt.radius_m < 100 else f"{doubt.radius_m:,.0f}"
        return f"{self.where} within {radius} m ({sure})"

    def __repr__(self) -> str:
        return f"<LocationEstimate {self.photo}: {self}; {len(self.matches)} matches>"

    def _repr_html_(self) -> str:
        """Show a map and the matches in a notebook."""
        from cricavpr.locate.notebook import estimate_html

        return estimate_html(self)

    @property
    def status(self) -> Status:
        """Status of the answer: located, unknown if the confidence is too low, or uncalibrated."""
        if self.doubt is None:
            return "uncalibrated"
        return "located" if self.doubt.answered else "unknown"

    @property
    def where(self) -> Where:
        """The estimated position; empty if the status is unknown, to prevent its use by mistake."""
        return Where() if self.status == "unknown" else self.guess

    @property
    def position(self) -> LatLon | None:
        """Degrees of `where`."""
        return self.where.position

    @property
    def radius_m(self) -> float | None:
        """Radius that holds the truth for 90 % of answers with this confidence; None if unknown or uncalibrated."""
        return None if self.doubt is None or not self.doubt.answered else self.doubt.radius_m

    @property
    def confidence(self) -> float | str:
        """Probability that the position is right, or "uncalibrated"."""
        return UNCALIBRATED if self.doubt is None else self.doubt.confidence

    @property
    def probability_in_map(self) -> float | str:
        """Probability that the index has a photo of the place at all, or "uncalibrated"."""
        return UNCALIBRATED if self.doubt is None else self.doubt.probability_in_map

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `cricavpr locate --json` prints."""
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
        """Return a GeoJSON feature; its geometry is null without a latitude."""
        properties = {key: value for key, value in self.to_dict().items() if key != "position"}
        if self.position is None:
            return {"type": "Feature", "geometry": None, "properties": properties}
        return point_feature(self.position, properties)


def _rounded(value: float | str | None, digits: int) -> float | str | None:
    return round(value, digits) if isinstance(value, float) else value
