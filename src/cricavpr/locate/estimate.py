"""The answer for a located photo: its estimated position, its matches, and its confidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cricavpr.errors import ImageError
from cricavpr.geo import LatLon, point_feature
from cricavpr.images import decode
from cricavpr.pages import Circle, Marker, map_of, notebook, picture, text

UNCALIBRATED = "uncalibrated"  # stands for the confidence if the index has no calibration
THUMBNAIL_BYTES = 20_000  # maximum length of a thumbnail as a data: URI
SIDES_PX = (150, 96, 48)  # sizes of a thumbnail; the first below THUMBNAIL_BYTES is used
Status = Literal["located", "unknown", "uncalibrated"]


@dataclass(frozen=True, repr=False)
class Where:
    """One position, in degrees and in metres.

    Attributes:
        position: latitude and longitude in degrees; None if unknown or in local coordinates.
        easting_m, northing_m: position in metres, in the UTM zone `zone` or in local coordinates; None if unknown.
        zone: UTM zone of `easting_m` and `northing_m`; None for local coordinates.
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
        """Return the position in degrees and in metres, ready for JSON."""
        position = self.position
        degrees = metres = None
        if position is not None:  # 8 decimals are about a millimetre
            degrees = {"lat_deg": round(position.lat_deg, 8), "lon_deg": round(position.lon_deg, 8)}
        if self.easting_m is not None and self.northing_m is not None:
            easting_m, northing_m = round(self.easting_m, 3), round(self.northing_m, 3)
            metres = {"easting_m": easting_m, "northing_m": northing_m, "zone": self.zone}
        return {"position": degrees, "metres": metres}


@dataclass(frozen=True, repr=False)
class Match:
    """A photo of the index that is similar to the located photo.

    Attributes:
        name: name of the photo in the index.
        score: cosine of the two descriptors; higher is better.
        where: position of the photo.
        path: path of the photo's file when it was added to the index.
    """

    name: str
    score: float
    where: Where
    path: Path

    def __repr__(self) -> str:
        return f"<Match {self.name}, score {self.score:.3f}, {self.where}>"

    @property
    def position(self) -> LatLon | None:
        """Latitude and longitude of the match in degrees; None if unknown or in local coordinates."""
        return self.where.position

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {"name": self.name, "score": self.score, **self.where.to_dict(), "path": str(self.path)}


@dataclass(frozen=True)
class Doubt:
    """Confidence and radius of an answer, from the calibration of the index.

    Attributes:
        radius_m: radius in metres that contains the true position for 90 % of the answers with this confidence.
        confidence: probability that the estimated position is correct.
        probability_in_map: probability that the index has a photo of the place at all.
        precision: requested fraction of correct answers.
        answered: whether the confidence is high enough for this precision.
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
        photo: name of the located photo.
        guess: the position that the matches support most, even if the confidence is too low for an answer.
        matches: the best matches in the index, best first.
        doubt: confidence and radius; None if the index is not calibrated.
    """

    photo: str
    guess: Where
    matches: tuple[Match, ...]
    doubt: Doubt | None = None

    def __str__(self) -> str:
        doubt = self.doubt
        if not self.matches:  # an approximate search with a narrow filter may find none
            return "no matching photo was found in the index"
        if doubt is None:
            return f"{self.where} (confidence: {self.confidence})"
        sure = f"confidence {doubt.confidence:.3f}, probability in map {doubt.probability_in_map:.3f}"
        if not doubt.answered:
            return f"unknown ({sure}: too low for a precision of {doubt.precision:g})"
        radius = f"{doubt.radius_m:.1f}" if doubt.radius_m < 100 else f"{doubt.radius_m:,.0f}"
        return f"{self.where} within {radius} m ({sure})"

    def __repr__(self) -> str:
        return f"<LocationEstimate {self.photo}: {self}; {len(self.matches)} matches>"

    def _repr_html_(self) -> str:
        """Return a map and the matches as HTML, which notebooks show."""
        photos = [_thumbnail(match.path) for match in self.matches]
        rows = "".join(
            f"<tr><td>{match.score:.3f}</td><td>{text(match.name)}</td><td>{text(str(match.where))}</td>"
            f"<td>{f'<img src={chr(34)}{photo}{chr(34)} alt={chr(34)}{chr(34)}>' if photo else ''}</td></tr>"
            for match, photo in zip(self.matches, photos, strict=True)
        )
        table = f"<table><thead><tr><th>score</th><th>match</th><th>position</th><th></th></tr></thead>{rows}</table>"
        head = f"<p><b>{text(self.photo)}</b>: {text(str(self))}</p>"
        return notebook(head + _map(self, photos) + (table if rows else ""))

    @property
    def status(self) -> Status:
        """Status of the answer.

        "located", "unknown" if the confidence is too low, or "uncalibrated" if the index has no calibration.
        """
        if self.doubt is None:
            return "uncalibrated"
        return "located" if self.doubt.answered else "unknown"

    @property
    def where(self) -> Where:
        """The estimated position. If the status is "unknown", all its fields are None; see `guess`."""
        return Where() if self.status == "unknown" else self.guess

    @property
    def position(self) -> LatLon | None:
        """Latitude and longitude of `where` in degrees; None if there are none."""
        return self.where.position

    @property
    def radius_m(self) -> float | None:
        """Radius in metres that contains the true position for 90 % of the answers with this confidence.

        None unless the status is "located".
        """
        return None if self.doubt is None or not self.doubt.answered else self.doubt.radius_m

    @property
    def confidence(self) -> float | str:
        """Probability that the estimated position is correct, or "uncalibrated"."""
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
        """Return a GeoJSON feature; its geometry is null if the position is not known in degrees."""
        properties = {key: value for key, value in self.to_dict().items() if key != "position"}
        if self.position is None:
            return {"type": "Feature", "geometry": None, "properties": properties}
        return point_feature(self.position, properties)


def _rounded(value: float | str | None, digits: int) -> float | str | None:
    return round(value, digits) if isinstance(value, float) else value


# --- in a notebook


def _map(estimate: LocationEstimate, photos: list[str]) -> str:
    """Return an HTML map of the estimated position, its radius and its matches; "" if no position is known."""
    degrees = any(place.position is not None for place in (estimate.where, *(m.where for m in estimate.matches)))
    matches = [
        Marker(at, f"{match.name}, score {match.score:.3f}", "match", photo)
        for match, photo in zip(estimate.matches, photos, strict=True)
        if (at := _at(match.where, degrees))
    ]
    answer = _at(estimate.where, degrees)
    if not matches and answer is None:
        return ""
    markers = [*matches, *([Marker(answer, estimate.photo, "answer")] if answer else [])]
    circles = [Circle(answer, estimate.radius_m)] if answer and estimate.radius_m is not None else []
    key = {"match": "matches", **({"answer": "estimated position"} if answer else {})}
    return map_of(markers, circles, degrees=degrees, key=key, label=f"Map of {estimate.photo}")


def _at(where: Where, degrees: bool) -> tuple[float, float] | None:
    if degrees:
        return None if where.position is None else (where.position.lat_deg, where.position.lon_deg)
    return None if where.easting_m is None or where.northing_m is None else (where.easting_m, where.northing_m)


def _thumbnail(path: Path) -> str:
    """Return a thumbnail of a photo as a data: URI, or "" if the photo cannot be read or the URI would be too long."""
    try:
        image = decode(path)
    except ImageError:
        return ""
    return next((small for side in SIDES_PX if len(small := picture(image, side)) <= THUMBNAIL_BYTES), "")
