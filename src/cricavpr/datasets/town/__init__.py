"""A drawn town: unlimited places with true perspective, weather, hours and years, from one integer.

`Town(seed, places)` lays out streets, houses and places; `town.view(...)` says how a visitor stands and what the
world is like; `render` draws it. `make_town` writes the layouts that the readers of this package know.
"""

from cricavpr.datasets.town.batch import contact_sheet, render_arrays
from cricavpr.datasets.town.camera import Camera, lift, project
from cricavpr.datasets.town.render import Rendering, render, render_with_depth
from cricavpr.datasets.town.views import Place, Town, View, get_town
from cricavpr.datasets.town.weather import CONDITIONS, Scene

__all__ = [
    "CONDITIONS",
    "Camera",
    "Place",
    "Rendering",
    "Scene",
    "Town",
    "View",
    "contact_sheet",
    "get_town",
    "lift",
    "project",
    "render",
    "render_arrays",
    "render_with_depth",
]
