"""A location estimate in a notebook: a map and the matches, with their photos if the files exist."""

from __future__ import annotations

from pathlib import Path

from cricavpr.errors import ImageError
from cricavpr.images import decode
from cricavpr.locate.estimate import LocationEstimate, Where
from cricavpr.pages import Circle, Marker, map_of, notebook, picture, text

THUMBNAIL_BYTES = 20_000  # limit of a data: URI
SIDES_PX = (150, 96, 48)  # the first that stays below the limit is used


def estimate_html(estimate: LocationEstimate) -> str:
    """Return an HTML fragment for `_repr_html_`."""
    photos = [_thumbnail(match.path) for match in estimate.matches]
    rows = "".join(
        f"<tr><td>{match.score:.3f}</td><td>{text(match.name)}</td><td>{text(str(match.where))}</td>"
        f"<td>{f'<img src={chr(34)}{photo}{chr(34)} alt={chr(34)}{chr(34)}>' if photo else ''}</td></tr>"
        for match, photo in zip(estimate.matches, photos, strict=True)
    )
    table = f"<table><thead><tr><th>score</th><th>match</th><th>position</th><th></th></tr></thead>{rows}</table>"
    head = f"<p><b>{text(estimate.photo)}</b>: {text(str(estimate))}</p>"
    return notebook(head + _map(estimate, photos) + (table if rows else ""))


def _map(estimate: LocationEstimate, photos: list[str]) -> str:
    """Return the map of the answer, its radius and its matches; "" if no position is known."""
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
    """Return a small picture as a data: URI, or "" if the photo no longer exists."""
    try:
        image = decode(path)
    except ImageError:
        return ""
    return next((small for side in SIDES_PX if len(small := picture(image, side)) <= THUMBNAIL_BYTES), "")
