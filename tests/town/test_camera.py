"""The pinhole camera: what is to the right lands on the right."""

from dataclasses import replace

import numpy as np
import pytest

from cricavpr.town import Camera, lift, project
from cricavpr.town.camera import rays_of

NORTH = Camera(x_m=10.0, y_m=20.0, height_m=2.0, yaw_deg=0.0, pitch_deg=0.0, fov_deg=90.0)
SIZE = (100, 200)  # height, width


def see(camera, *point):
    uv, depth = project(camera, np.array([point], float), SIZE)
    return uv[0].tolist(), float(depth[0])


def test_yaw_zero_looks_north_and_grows_clockwise():
    assert see(NORTH, 10, 25, 2) == ([100, 50], 5)
    for yaw_deg, point in ((90, (15, 20, 2)), (180, (10, 15, 2)), (270, (5, 20, 2))):
        uv, depth = see(replace(NORTH, yaw_deg=yaw_deg), *point)
        assert uv == pytest.approx([100, 50], abs=1e-5) and depth == pytest.approx(5)


def test_the_horizontal_field_of_view_spans_the_width():
    assert see(NORTH, 15, 25, 2)[0] == pytest.approx([200, 50])  # 45 degrees to the right
    assert see(NORTH, 5, 25, 2)[0] == pytest.approx([0, 50])


def test_what_is_higher_lands_higher_and_looking_up_moves_it_down():
    assert see(NORTH, 10, 25, 3)[0][1] < 50
    assert see(replace(NORTH, pitch_deg=5), 10, 25, 2)[0][1] > 50
    assert see(NORTH, 10, 15, 2)[1] < 0  # behind


def test_lifting_undoes_projecting_for_any_pose():
    camera = Camera(3.0, -4.0, 1.7, 213.4, 11.0, 71.0)
    points = np.array([[-3.0, -9.0, 2.2], [1.0, -20.0, 9.0], [-15.0, -12.0, 0.0]])
    uv, depth = project(camera, points, SIZE)
    assert (depth > 0).all()
    assert lift(camera, uv, depth, SIZE) == pytest.approx(points, abs=1e-6)


def test_the_renderers_rays_go_through_pixel_centres():
    camera = Camera(0.0, 0.0, 1.5, 37.0, -6.0, 80.0)
    rays = rays_of(camera, SIZE)
    row, column = 17, 143
    point = lift(camera, np.array([[column + 0.5, row + 0.5]]), np.array([10.0]), SIZE)[0]
    forward = 10.0 * float(rays.advance[row, 0])
    assert point[2] - 1.5 == pytest.approx(forward * float(rays.slope[row, column]), abs=1e-5)
    sideways = forward * float(rays.tangent[row, column])
    assert np.hypot(point[0], point[1]) == pytest.approx(np.hypot(forward, sideways), abs=1e-5)
