"""Location estimates as text for other programs: JSON, GeoJSON, KML, and CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from cricavpr.files import safe_cell
from cricavpr.geo import EARTH_RADIUS_M, LatLon, feature_collection
from cricavpr.locate.estimate import LocationEstimate

CIRCLE_CORNERS = 48
COLUMNS = (
    *("photo", "status", "lat_deg", "lon_deg", "easting_m", "northing_m", "zone"),
    *("radius_m", "confidence", "probability_in_map", "best_match", "best_score"),
)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_json(estimates: Sequence[LocationEstimate]) -> str:
    """Return estimates as a JSON list with one object for each photo."""
    return json.dumps([estimate.to_dict() for estimate in estimates], indent=1, allow_nan=False)


def to_geojson(estimates: Sequence[LocationEstimate]) -> str:
    """Return estimates as a GeoJSON collection with one feature for each photo.

    The geometry is null if a position is not known in degrees.
    """
    features = [estimate.to_feature() for estimate in estimates]
    return json.dumps(feature_collection(features), indent=1, allow_nan=False)


def to_csv(estimates: Sequence[LocationEstimate]) -> str:
    """Return estimates as CSV with a row for each photo.

    Unknown values are empty. File names are changed where a spreadsheet would read them as formulas.
    """
    return "\n".join([csv_head(), *map(csv_row, estimates)])


def to_kml(estimates: Sequence[LocationEstimate]) -> str:
    """Return estimates as a KML document with a placemark for each photo, and a circle if its radius is known."""
    marks = "\n".join(map(_placemark, estimates))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
        '<Style id="radius"><LineStyle><color>ffa85a1f</color><width>2</width></LineStyle>'
        "<PolyStyle><color>33a85a1f</color></PolyStyle></Style>\n"
        f"{marks}\n</Document></kml>"
    )


FORMATS: Mapping[str, Callable[[Sequence[LocationEstimate]], str]] = {
    "json": to_json,
    "geojson": to_geojson,
    "kml": to_kml,
    "csv": to_csv,
}


def csv_head() -> str:
    """Return the header line of the CSV table, without a line break."""
    return _csv_line(COLUMNS)


def csv_row(estimate: LocationEstimate) -> str:
    """Return the line of an estimate in the CSV table, without a line break."""
    values = estimate.to_dict()
    best = values["matches"][0] if values["matches"] else {}
    flat = {
        **values,
        **(values["position"] or {}),
        **(values["metres"] or {}),
        "photo": safe_cell(estimate.photo),
        "best_match": safe_cell(best.get("name", "")),
        "best_score": best.get("score"),
    }
    return _csv_line([flat.get(column) for column in COLUMNS])


def _csv_line(values: Sequence[Any]) -> str:
    """Return values as one CSV line, without the line break at its end.

    csv.writer quotes a value with \\r or \\n only if its line terminator contains that character, so the
    line terminator here is "\\r\\n"; it is removed afterwards.
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n")


def _placemark(estimate: LocationEstimate) -> str:
    values = estimate.to_dict()
    data = "".join(
        f'<Data name="{key}"><value>{_xml(str(values[key]))}</value></Data>'
        for key in ("status", "radius_m", "confidence", "probability_in_map")
        if values[key] is not None
    )
    shape = "" if estimate.position is None else _shape(estimate.position, estimate.radius_m)
    return (
        f"<Placemark><name>{_xml(estimate.photo)}</name><styleUrl>#radius</styleUrl>"
        f"<ExtendedData>{data}</ExtendedData>{shape}</Placemark>"
    )


def _shape(at: LatLon, radius_m: float | None) -> str:
    point = f"<Point><coordinates>{_kml(at)}</coordinates></Point>"
    if radius_m is None:
        return point
    corners = [_away(at, radius_m, 360.0 * k / CIRCLE_CORNERS) for k in range(CIRCLE_CORNERS + 1)]
    ring = " ".join(map(_kml, corners))
    return (
        f"<MultiGeometry>{point}<Polygon><tessellate>1</tessellate><outerBoundaryIs><LinearRing><coordinates>{ring}"
        "</coordinates></LinearRing></outerBoundaryIs></Polygon></MultiGeometry>"
    )


def _away(start: LatLon, metres: float, bearing_deg: float) -> LatLon:
    """Return the point at a distance in metres and a compass bearing from `start`, on a spherical earth."""
    angle, bearing, lat = metres / EARTH_RADIUS_M, math.radians(bearing_deg), math.radians(start.lat_deg)
    sine = math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(bearing)
    there = math.asin(min(1.0, max(-1.0, sine)))  # rounding may exceed 1 at a pole
    east = math.sin(bearing) * math.sin(angle) * math.cos(lat)
    turn = math.degrees(math.atan2(east, math.cos(angle) - math.sin(lat) * math.sin(there)))
    return LatLon(math.degrees(there), (start.lon_deg + turn + 180.0) % 360.0 - 180.0)


def _kml(at: LatLon) -> str:
    return f"{at.lon_deg:.8f},{at.lat_deg:.8f}"  # KML puts longitude first, as GeoJSON does


def _xml(value: str) -> str:
    """Escape text for XML. Characters that XML does not allow become U+FFFD."""
    return escape(_NOT_XML.sub("\ufffd", value), {"\r": "&#13;"})  # an XML reader would turn a plain \r into \n
