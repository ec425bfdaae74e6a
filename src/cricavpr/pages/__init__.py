"""HTML pages and notebook fragments that need no network: frame, map, charts, tables, pictures."""

from cricavpr.pages.html import (
    base_style,
    content_hash,
    jpeg_address,
    notebook,
    picture,
    render,
    safe_json,
    table,
    text,
)
from cricavpr.pages.maps import Circle, Ground, Line, Marker, map_of

__all__ = [
    "Circle",
    "Ground",
    "Line",
    "Marker",
    "base_style",
    "content_hash",
    "jpeg_address",
    "map_of",
    "notebook",
    "picture",
    "render",
    "safe_json",
    "table",
    "text",
]
