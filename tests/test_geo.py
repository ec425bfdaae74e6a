"""Positions, zones and radii. The slow twin of `within_radius` is a double loop."""

import math

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.geo import (
    LatLon,
    Positions,
    distances_m,
    feature_collection,
    point_feature,
    within_radius,
)

LUND = (55.7047, 13.1910)
ZONE_BORDER = (48.0, 12.0)  # between 32 and 33


def plane(*rows, zone=None):
    return Positions(np.array(rows, float), None if zone is None else (zone,) * len(rows))


@pytest.mark.parametrize(
    "lat, lon", [(math.nan, 0), (0, math.nan), (math.inf, 0), (90.1, 0), (-91, 0), (0, 180.5), (0, -181)]
)
def test_a_place_that_is_not_on_earth_is_refused(lat, lon):
    with pytest.raises(InputError, match="not a place on earth"):
        LatLon(lat, lon)


@pytest.mark.parametrize("lat, lon", [(90, 180), (-90, -180), (0.0, 0.0), (-0.0, 13.2)])
def test_the_edges_of_the_map_are_places(lat, lon):
    assert LatLon(lat, lon) == LatLon(lat, lon)


def test_a_known_point_has_the_utm_coordinates_that_maps_give_it():
    # CN Tower, Toronto: 630084 m E, 4833438 m N, zone 17N in the textbooks.
    positions = Positions.from_latlon([(43.642567, -79.387139)])
    assert positions.zones == ("17N",)
    np.testing.assert_allclose(positions.metres, [(630084, 4833438)], atol=1)


@pytest.mark.parametrize("place", [LUND, (-33.86, 151.2), (0.0, 13.2), (-79.9, 10), (83.9, 40), (60.4, 5.3), (1, 180)])
def test_latitude_and_longitude_survive_the_way_to_metres_and_back(place):
    back = Positions.from_latlon([place, (np.nan, np.nan)]).latlon()
    turn = np.abs((back[0] - place + 180) % 360 - 180)
    assert turn.max() < 1e-7  # 1 cm
    assert np.isnan(back[1]).all()


def test_a_town_on_a_zone_border_lies_in_one_zone_and_is_not_torn_apart():
    positions = Positions.from_latlon([(48.0, 11.9999), (48.0, 12.0001)])
    assert len(set(positions.zones)) == 1
    assert distances_m(positions.take([0]), positions.take([1]))[0] == pytest.approx(14.92, abs=0.05)


def test_a_town_on_the_date_line_lies_in_one_zone():
    positions = Positions.from_latlon([(-17.0, 179.999), (-17.0, -179.999)])
    assert len(set(positions.zones)) == 1
    assert distances_m(positions.take([0]), positions.take([1]))[0] == pytest.approx(213, abs=1)


def test_a_town_on_the_equator_lies_in_one_zone():
    positions = Positions.from_latlon([(0.0001, 32.0), (-0.0001, 32.0)])
    assert len(set(positions.zones)) == 1
    assert distances_m(positions.take([0]), positions.take([1]))[0] == pytest.approx(22.1, abs=0.1)


def test_a_worldwide_set_gets_each_photo_its_own_zone_and_unknown_rows_none():
    positions = Positions.from_latlon([LUND, (np.nan, np.nan), (-33.86, 151.2), (37.77, -122.42)])
    assert positions.zones == ("33N", "", "56S", "10N")
    assert positions.known.tolist() == [True, False, True, True]


def test_photos_of_one_official_zone_stay_in_it_even_far_from_its_middle():
    assert Positions.from_latlon([(60.4, 3.1)]).zones == ("32N",)  # Norway's wide zone


@pytest.mark.parametrize("row", [(91, 0), (85, 0), (-81, 0), (0, 181), (np.nan, 3), (np.inf, 3)])
def test_rows_off_the_map_or_half_known_are_refused_by_number(row):
    with pytest.raises(InputError, match="row 1"):
        Positions.from_latlon([(0, 0), row])


@pytest.mark.parametrize("shape", [(2, 3), (4, 1), (3, 4), (2,), (1, 2, 2)])
def test_rows_that_are_not_a_latitude_and_a_longitude_are_refused_and_never_cut_anew(shape):
    with pytest.raises(InputError, match=r"have shape \(.*\(N, 2\) degrees: latitude, longitude"):
        Positions.from_latlon(np.zeros(shape))


def test_no_positions_at_all_are_fine():
    nobody = Positions.from_latlon(np.empty((0, 2)))
    assert len(nobody) == 0 and len(nobody.latlon()) == 0 and within_radius(nobody, nobody, 25) == []
    assert len(Positions.concatenate([])) == 0 and len(Positions.from_latlon([])) == 0
    assert [len(found) for found in within_radius(nobody, Positions.from_latlon([LUND]), 25)] == [0]


@pytest.mark.parametrize("zones", [("33",), ("33T",), ("0N",), ("61N",), ("03N",), ("",), ("33N", "33N"), ()])
def test_something_that_is_not_a_zone_is_refused(zones):
    with pytest.raises(InputError, match="zone"):
        Positions(np.zeros((1, 2)), zones)


@pytest.mark.parametrize("metres", [np.zeros(4), np.zeros((2, 3)), [[1, np.nan]], [[np.inf, 0]]])
def test_shapes_and_half_known_metres_are_refused(metres):
    with pytest.raises(InputError):
        Positions(np.asarray(metres))


def test_positions_cannot_change_after_they_were_made():
    mine = np.zeros((2, 2))
    positions = Positions(mine)
    mine[0] = 7
    assert positions.metres[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        positions.metres[0] = 7


def test_take_keeps_order_and_understands_masks_and_nothing():
    positions = Positions(np.arange(6.0).reshape(3, 2), ("1N", "2N", "3S"))
    assert positions.take([2, 0]).zones == ("3S", "1N")
    assert positions.take(np.array([False, True, False])).metres.tolist() == [[2, 3]]
    assert len(positions.take([])) == 0


def test_concatenate_joins_in_order_and_refuses_to_mix_frames():
    joined = Positions.concatenate([plane((1, 2), zone="33N"), plane((3, 4), zone="10S")])
    assert joined.metres.tolist() == [[1, 2], [3, 4]] and joined.zones == ("33N", "10S")
    with pytest.raises(InputError, match="local frame"):
        Positions.concatenate([plane((1, 2), zone="33N"), plane((3, 4))])


def test_exactly_25_m_counts_and_25_01_does_not():
    query = plane((544388.51, 4178501.37), zone="10N")
    east, north = query.metres[0]
    near = [(east + 25, north), (east, north - 25), (east + 15, north + 20), (east - 7, north + 24)]
    far = [(east + 25.01, north), (east, north - 25.01), (east + 15.01, north + 20)]
    found = within_radius(plane(*near, *far, zone="10N"), query, 25.0)
    assert found[0].tolist() == [0, 1, 2, 3]


def test_within_radius_equals_a_double_loop():
    rng = np.random.default_rng(0)
    base, asked = rng.uniform(0, 300, (400, 2)).round(), rng.uniform(0, 300, (60, 2)).round()
    base[::7] = np.nan
    asked[::9] = np.nan
    slow = [[d for d in range(400) if ((q - base[d]) ** 2).sum() <= 25.0**2] for q in asked]
    fast = within_radius(Positions(base), Positions(asked), 25.0)
    assert [found.tolist() for found in fast] == slow
    assert sum(map(len, slow)) > 300 and all(found.dtype == np.int64 for found in fast)


def test_unknown_positions_are_near_nothing_not_even_one_another():
    unknown = Positions.from_latlon([(np.nan, np.nan)])
    assert within_radius(unknown, unknown, 1e9)[0].size == 0


def test_neighbours_on_both_sides_of_a_zone_border_are_found():
    west = Positions(Positions.from_latlon([(48.0, 11.99995)]).metres, ("32N",))
    east = Positions.from_latlon([(48.0, 12.00005)])  # 7.5 m further, in zone 33
    assert east.zones == ("33N",)
    assert within_radius(west, east, 7.6)[0].tolist() == [0]
    assert within_radius(west, east, 7.3)[0].tolist() == []
    assert distances_m(west, east)[0] == pytest.approx(7.46, abs=0.02)


def test_two_places_with_equal_metres_in_different_zones_are_not_near():
    here, there = plane((500000, 6000000), zone="33N"), plane((500000, 6000000), zone="10N")
    assert within_radius(here, there, 25)[0].size == 0
    assert within_radius(here, plane((500000, 6000000), zone="33S"), 25)[0].size == 0


def test_in_a_worldwide_set_pairs_of_one_zone_are_decided_in_its_plane():
    base = Positions([(300000.0, 6e6), (300025.0, 6e6), (500000, 6e6)], ("33N", "33N", "10N"))
    assert within_radius(base, base, 25.0)[0].tolist() == [
        0,
        1,
    ]  # 25 m in the plane are 24.99 m or 25.01 m outside


def test_worldwide_neighbours_equal_a_double_loop_over_great_circles():
    rng = np.random.default_rng(1)
    degrees = np.stack([rng.uniform(47.9, 48.1, 300), rng.uniform(11.9, 12.1, 300)], axis=1)
    one_zone = Positions.from_latlon(degrees)
    torn = Positions.concatenate([Positions.from_latlon([row]) for row in degrees])
    assert set(one_zone.zones) == {"32N"} or set(one_zone.zones) == {"33N"}
    assert set(torn.zones) == {"32N", "33N"}
    lat, lon = np.deg2rad(degrees).T
    cosine = np.sin(lat)[:, None] * np.sin(lat) + np.cos(lat)[:, None] * np.cos(lat) * np.cos(lon[:, None] - lon)
    metres = 6371008.8 * np.arccos(np.clip(cosine, -1, 1))
    found = within_radius(torn, torn, 2000)
    for row, indices in enumerate(found):  # the sphere of the slow twin is right to 0.5 %
        assert (
            set(np.flatnonzero(metres[row] < 1990)) <= set(indices.tolist()) <= set(np.flatnonzero(metres[row] < 2010))
        )


def test_zones_on_one_side_only_are_an_error():
    with pytest.raises(InputError, match="zones for both or for neither"):
        within_radius(plane((0, 0)), plane((0, 0), zone="33N"), 25)
    with pytest.raises(InputError, match="zones for both or for neither"):
        distances_m(plane((0, 0)), plane((0, 0), zone="33N"))


@pytest.mark.parametrize("radius_m", [-1, math.nan, math.inf])
def test_a_radius_that_is_no_length_is_refused(radius_m):
    with pytest.raises(InputError, match="radius"):
        within_radius(plane((0, 0)), plane((0, 0)), radius_m)


def test_distances_are_row_by_row_and_unknown_is_nan():
    a, b = plane((0, 0), (3, 4), (np.nan, np.nan)), plane((0, 25), (0, 0), (1, 1))
    np.testing.assert_array_equal(distances_m(a, b), [25, 5, np.nan])
    with pytest.raises(InputError, match="row by row"):
        distances_m(a, plane((0, 0)))


def test_a_distance_around_the_world_goes_along_the_ground():
    lund, sydney = Positions.from_latlon([LUND]), Positions.from_latlon([(-33.8688, 151.2093)])
    assert distances_m(lund, sydney)[0] == pytest.approx(16_000_000, rel=0.02)


def test_a_local_frame_has_no_latitude():
    with pytest.raises(InputError, match="no latitude"):
        plane((0, 0)).latlon()


def test_geojson_puts_longitude_first():
    feature = point_feature(LatLon(55.7, 13.2), {"name": "a.jpg"})
    assert feature["geometry"] == {"type": "Point", "coordinates": [13.2, 55.7]}
    assert feature_collection([feature])["features"] == [feature]


def test_a_radius_beyond_the_earth_takes_in_everything() -> None:
    far = Positions(np.array([[0.0, 0.0], [1e6, 1e6]]))
    assert [found.tolist() for found in within_radius(far, far, 1e300)] == [[0, 1], [0, 1]]
