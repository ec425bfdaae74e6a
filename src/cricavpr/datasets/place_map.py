"""A page with a map of the places that were found among photos."""

from __future__ import annotations

import numpy as np

from cricavpr.datasets.place_folder import FoundPlaces
from cricavpr.pages import Circle, Marker, map_of, render, text
from cricavpr.pages.maps import GROUPS


def places_page(found: FoundPlaces, name: str) -> str:
    """Return an HTML page: a circle and dots of one colour for each place, photos in no place grey.

    Args:
        name: name of the data set, for the title.
    """
    positions = found.images.positions
    assert positions is not None
    degrees = positions.zones is not None
    at = (positions.latlon() if degrees else positions.metres).tolist()
    place_of = {row: place for place, rows in enumerate(found.members) for row in rows.tolist()}
    headings = found.headings_deg.tolist()
    markers = [
        Marker(at[row], f"{photo}: {reason}" if reason else photo, _look(place_of.get(row)), heading_deg=headings[row])
        for row, (photo, reason) in enumerate(zip(found.images.names, found.reasons, strict=True))
    ]
    circles = [
        Circle(at[middle], found.rule.radius_m, f"place {place}: {len(found.members[place]):,} photos", _look(place))
        for place, middle in enumerate(found.middles.tolist())
    ]
    looking = "" if np.isnan(found.headings_deg).all() else "; strokes show where photos look"
    headline = f"{name}: {len(found):,} places from {found.used:,} of {len(found.images):,} photos"
    key = {"group-0": f"photos of a place, each place in one of {GROUPS} colours{looking}", "photo": "in no place"}
    drawn = map_of(markers, circles, degrees=degrees, key=key, label=f"Map of {len(found):,} places")
    return render(
        title=headline,
        kicker="cricavpr places build",
        headline=headline,
        lede=text(f"Photos of a place are within {found.rule.radius_m:g} m of its middle."),
        body=f'<div class="card">{drawn}</div>',
        scripts=("map.js",),
    )


def _look(place: int | None) -> str:
    return "photo" if place is None else f"group-{place % GROUPS}"
