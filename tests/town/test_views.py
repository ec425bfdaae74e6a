"""Towns, their places, and how visitors stand."""

from dataclasses import replace

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.town import CONDITIONS, Town
from cricavpr.town.camera import to_camera_frame
from cricavpr.town.looks import FIRST_YEAR
from cricavpr.town.plan import HEDGE, ROOF


def spots(town):
    return np.array([(place.x_m, place.y_m) for place in town.places])


@pytest.mark.parametrize("places", [1, 7, 60, 333])
def test_a_town_has_as_many_places_as_asked(places):
    town = Town(4, places)
    assert [place.id for place in town.places] == list(range(places))


def test_places_are_farther_apart_than_the_radius_of_the_evaluation():
    at = spots(Town(4, 333))
    apart = np.sqrt(((at[:, None] - at[None]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= 30.0 - 1e-9


def test_places_lie_on_the_streets_drawn_on_the_map(town):
    def off(point, line):
        a, b = line[:-1], line[1:]
        along = np.clip(((point - a) * (b - a)).sum(1) / ((b - a) ** 2).sum(1), 0, 1)[:, None]
        return np.sqrt(((a + (b - a) * along - point) ** 2).sum(1)).min()

    for place in town.places:
        assert min(off(np.array([place.x_m, place.y_m]), street) for street in town.streets) < 0.01


def test_no_house_stands_on_a_street(town):
    walls, edges = town.plan.walls, town.net.edges
    corners = walls.a_m[(walls.face != ROOF) & (walls.face != HEDGE)]
    for e in range(len(edges.width_m)):
        a, b = edges.start_m[e], edges.end_m[e]
        along = (b - a) / np.linalg.norm(b - a)
        t = (corners - a) @ along
        beside = np.abs((corners - a) @ np.array([along[1], -along[0]]))
        on_piece = (t > 0) & (t < np.linalg.norm(b - a))
        assert beside[on_piece].min() > edges.width_m[e] / 2 - 0.01


def test_streets_differ_in_width_and_bend(town):
    assert town.net.edges.width_m.max() / town.net.edges.width_m.min() > 1.3
    directions = [np.degrees(np.arctan2(*(street[1:] - street[:-1]).T)) for street in town.streets]
    assert max(np.ptp(d) for d in directions) > 5


def test_a_view_depends_on_its_arguments_alone(town):
    again = Town(1, 60)
    again.view(3, 2, "query")
    for split in ("database", "query", "train"):
        assert town.view(5, 1, split) == again.view(5, 1, split)
        assert town.view(5, 1, split) != town.view(5, 2, split)


def test_visitors_stray_by_metres_and_degrees_and_the_mapping_car_hardly(town):
    def strays(split):
        rows = []
        for place in town.places:
            for visit in range(4):
                camera = town.view(place.id, visit, split).camera
                moved = np.hypot(camera.x_m - place.x_m, camera.y_m - place.y_m)
                turned = (camera.yaw_deg - place.heading_deg + 180) % 360 - 180
                rows.append((moved, abs(turned), camera.fov_deg, camera.pitch_deg))
        return np.array(rows)

    query, database = strays("query"), strays("database")
    assert 2.0 < query[:, 0].max() < 4.3 and 8 < query[:, 1].max() <= 16
    assert query[:, 2].min() >= 72 and query[:, 2].max() <= 90 and np.ptp(query[:, 3]) > 4
    assert database[:, 0].max() < 0.7 and database[:, 1].max() <= 3


def test_databases_are_taken_first_in_good_weather_and_queries_later_in_any(town):
    database = [town.view(place.id, 0, "database").scene for place in town.places]
    queries = [town.view(place.id, visit, "query").scene for place in town.places for visit in range(3)]
    assert {scene.condition for scene in database} == {"day", "overcast"}
    assert {scene.condition for scene in queries} == set(CONDITIONS)
    assert max(s.year for s in database) < min(s.year for s in queries)
    assert min(s.year for s in database) == FIRST_YEAR


def test_training_views_mix_both(town):
    scenes = [town.view(place.id, visit, "train").scene for place in town.places for visit in range(4)]
    assert {scene.condition for scene in scenes} == set(CONDITIONS)
    good = np.mean([scene.condition in ("day", "overcast") for scene in scenes])
    assert 0.4 < good < 0.75


def test_a_condition_may_be_asked_for(town):
    free, foggy = town.view(2, 0, "query"), town.view(2, 0, "query", "fog")
    assert foggy.camera == free.camera and foggy.scene == replace(free.scene, condition="fog")


def test_cameras_look_into_the_open(town):
    """No wall within two metres straight ahead of any visitor."""
    walls = town.plan.walls
    for place in town.places:
        camera = town.view(place.id, 0, "query").camera
        (ax, ay), (bx, by) = (to_camera_frame(camera, end[:, 0], end[:, 1]) for end in (walls.a_m, walls.b_m))
        crossing = (ax > 0) != (bx > 0)
        ahead = (ay * bx - by * ax)[crossing] / (bx - ax)[crossing]
        assert ahead[ahead > 0].min() > 2.0


def test_towns_of_different_seeds_lie_apart_in_one_zone_of_open_sea():
    first, second = Town(0, 20).origin, Town(1, 20).origin
    assert (first.zone, first.letter) == (second.zone, second.letter) == (31, "N")
    origins = np.array([(o.easting_m, o.northing_m) for o in (Town(seed, 1).origin for seed in range(0, 1500, 37))])
    apart = np.abs(origins[:, None] - origins[None]).max(axis=2)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= 12_000
    assert origins[:, 0].min() > 166_000 and origins[:, 0].max() < 834_000 and origins[:, 1].max() < 400_000


def test_wrong_wishes_are_answered_in_one_line(town):
    with pytest.raises(InputError, match=r"1 to 30,000 places, got seed 1 and 0 places"):
        Town(1, 0)
    with pytest.raises(InputError, match="seed -1"):
        Town(-1, 5)
    with pytest.raises(InputError, match=r"unknown condition 'hail'\. Known: day, dusk"):
        town.view(0, 0, "query", "hail")
    with pytest.raises(InputError, match=r"unknown split 'test'.*Known: database, query, train"):
        town.view(0, 0, "test")
