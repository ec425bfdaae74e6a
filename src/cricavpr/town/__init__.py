"""A synthetic town, determined by one integer, with pictures of its places in any weather, time of day and year.

`Town(seed, places)` lays out streets, houses and places. `town.view(...)` returns a camera and a scene, and `render`
draws the picture in exact perspective. `make_town` writes datasets in layouts that this package reads.
"""

from cricavpr.town.camera import Camera, lift, project
from cricavpr.town.render import Rendering, render, render_arrays, render_with_depth
from cricavpr.town.views import Place, Town, View
from cricavpr.town.weather import CONDITIONS, Scene
from cricavpr.town.write import Written, make_town, write_town

__all__ = [
    "CONDITIONS",
    "Camera",
    "Place",
    "Rendering",
    "Scene",
    "Town",
    "View",
    "Written",
    "lift",
    "make_town",
    "project",
    "render",
    "render_arrays",
    "render_with_depth",
    "write_town",
]
