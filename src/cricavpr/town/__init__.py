"""A drawn town: unlimited places with true perspective, weather, hours and years, from one integer.

`Town(seed, places)` lays out streets, houses and places; `town.view(...)` says how a visitor stands and what
the world is like; `render` draws it. `make_town` writes the layouts that the readers of this package know.
"""

from cricavpr.town.batch import contact_sheet, render_arrays
from cricavpr.town.camera import Camera, lift, project
from cricavpr.town.render import Rendering, render, render_with_depth
from cricavpr.town.views import Place, Town, View, get_town
from cricavpr.town.weather import CONDITIONS, Scene
from cricavpr.town.write import Written, make_town, write_gsv_cities, write_photos, write_utm_tree

__all__ = [
    "CONDITIONS",
    "Camera",
    "Place",
    "Rendering",
    "Scene",
    "Town",
    "View",
    "Written",
    "contact_sheet",
    "get_town",
    "lift",
    "make_town",
    "project",
    "render",
    "render_arrays",
    "render_with_depth",
    "write_gsv_cities",
    "write_photos",
    "write_utm_tree",
]
