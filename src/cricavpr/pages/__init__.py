"""HTML pages and notebook fragments that work without a network: page frame, map, charts, tables, pictures."""

from cricavpr.pages.html import content_hash, distance, facts, notebook, picture, render, safe_json, table, text
from cricavpr.pages.maps import Circle, Ground, Line, Marker, map_of

__all__ = ["Circle", "Ground", "Line", "Marker", "content_hash", "distance", "facts", "map_of", "notebook", "picture"]
__all__ += ["render", "safe_json", "table", "text"]
