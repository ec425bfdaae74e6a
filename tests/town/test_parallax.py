"""Two views of one place are two projections of one solid town."""

import numpy as np
import pytest

from cricavpr.town import Scene, lift, project, render_with_depth
from cricavpr.town.views import GROUND, SKY, STANDING

CLEAR = Scene("day", 2012)  # no noise, nobody about
SIZE = (168, 224)


def transfer(town, place):
    """Each solid pixel of the database view, looked up in the query view of the same place."""
    here, there = town.view(place, 0, "database").camera, town.view(place, 0, "query").camera
    a, b = (render_with_depth(town, camera, CLEAR, SIZE) for camera in (here, there))
    rows, columns = np.nonzero(np.isfinite(a.depth_m))
    centres = np.stack([columns + 0.5, rows + 0.5], axis=1)
    points = lift(here, centres, a.depth_m[rows, columns].astype(float), SIZE)
    uv, depth = project(there, points, SIZE)
    inside = (depth > 0.5) & (uv >= 0).all(axis=1) & (uv < np.array(SIZE[::-1])).all(axis=1)
    u, v = uv[inside].astype(int).T
    return {
        "points": points[inside],
        "surface_a": a.surface[rows, columns][inside],
        "surface_b": b.surface[v, u],
        "ratio": b.depth_m[v, u] / depth[inside],
        "colour": np.abs(a.image[rows, columns][inside].astype(int) - b.image[v, u]).max(axis=1),
    }


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_a_pixel_lifted_by_its_depth_lands_on_the_same_surface_at_the_same_depth(town, place):
    seen = transfer(town, place)
    same = seen["surface_a"] == seen["surface_b"]
    agrees = np.abs(seen["ratio"] - 1) < 0.06
    assert len(same) > 5000
    assert agrees[same].mean() > 0.98
    # Where it lands on something else, that is nearer: an occlusion. The rest are pixels on outlines.
    assert (agrees | (seen["ratio"] < 1)).mean() > 0.975
    assert same.mean() > 0.85


@pytest.mark.parametrize("place", range(0, 60, 14))
def test_its_colour_agrees_too(town, place):
    seen = transfer(town, place)
    still = (seen["surface_a"] == seen["surface_b"]) & (seen["surface_a"] < STANDING)
    still &= np.abs(seen["ratio"] - 1) < 0.06
    assert np.median(seen["colour"][still]) <= 3
    assert (seen["colour"][still] < 40).mean() > 0.95  # the rest are edges of windows, off by a pixel


def test_ground_lies_at_height_zero_and_walls_stand_on_it(town):
    for place in (3, 30):
        seen = transfer(town, place)
        ground = seen["surface_a"] == GROUND
        assert np.abs(seen["points"][ground, 2]).max() < 0.02
        assert seen["points"][:, 2].min() > -0.05


def test_wall_pixels_lie_in_the_plane_of_the_wall_they_name(town):
    camera = town.view(10, 0, "query").camera
    drawn = render_with_depth(town, camera, CLEAR, SIZE)
    rows, columns = np.nonzero((drawn.surface >= 0) & (drawn.surface < STANDING))
    depth = drawn.depth_m[rows, columns].astype(float)
    points = lift(camera, np.stack([columns + 0.5, rows + 0.5], axis=1), depth, SIZE)
    walls, index = town.plan.walls, drawn.surface[rows, columns]
    along = walls.b_m[index] - walls.a_m[index]
    length = np.linalg.norm(along, axis=1)
    away = points[:, :2] - walls.a_m[index]
    assert np.abs(away[:, 0] * along[:, 1] - away[:, 1] * along[:, 0]).max() / length.max() < 0.02
    # A column of directions is half a pixel wide, so a wall may begin half a pixel late.
    s = (away * along).sum(axis=1) / length
    assert np.quantile(np.maximum(-s, s - length), 0.99) < 0.3
    top = walls.eaves_m[index] + walls.rise_m[index]
    assert (points[:, 2] - top < 0.02 * depth + 0.05).all()


def test_sky_has_no_depth_and_all_else_has(town):
    for place in (0, 20, 40):
        drawn = render_with_depth(town, town.view(place, 0, "query").camera, CLEAR, SIZE)
        assert ((drawn.surface == SKY) == np.isinf(drawn.depth_m)).all()
        assert drawn.depth_m.min() > 0.3 and drawn.image.shape == (*SIZE, 3)
