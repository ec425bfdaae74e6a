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
    ground_distances_m,
    point_feature,
    within_radius,
    zones_of,
)

LUND = (55.7047, 13.1910)
ZONE_BORDER = (48.0, 12.0)  # between 32 and 33


def plane(*rows, zone=None):
    return Positions(np.array(rows, float), None if zone is None else (zone,) * len(rows))


@pytest.mark.parametrize(
    "lat, lon", [(math.nan, 0), (0, math.nan), (math.inf, 0), (90.1, 0), (-91, 0), (0, 180.5), (0, -181)]
)
def test_a_place_that_is_not_on_earth_is_refused(lat, lon):
    with pytest.raises(InputError, match="latitude must be in"):
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
    with pytest.raises(InputError, match=r"\(N, 2\) degrees \(latitude, longitude\), got shape \("):
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
    with pytest.raises(InputError, match="positions without zones"):
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
    with pytest.raises(InputError, match="zones for both sets of positions, or for neither"):
        within_radius(plane((0, 0)), plane((0, 0), zone="33N"), 25)
    with pytest.raises(InputError, match="zones for both sets of positions, or for neither"):
        distances_m(plane((0, 0)), plane((0, 0), zone="33N"))


@pytest.mark.parametrize("radius_m", [-1, math.nan, math.inf])
def test_a_radius_that_is_no_length_is_refused(radius_m):
    with pytest.raises(InputError, match="radius"):
        within_radius(plane((0, 0)), plane((0, 0)), radius_m)


def test_distances_are_row_by_row_and_unknown_is_nan():
    a, b = plane((0, 0), (3, 4), (np.nan, np.nan)), plane((0, 25), (0, 0), (1, 1))
    np.testing.assert_array_equal(distances_m(a, b), [25, 5, np.nan])
    with pytest.raises(InputError, match="got 3 and 1"):
        distances_m(a, plane((0, 0)))


FAR_APART = np.array(
    [  # latitude, longitude twice, and metres between them by GeographicLib (Karney 2013)
        (35.4158, 110.8587, 35.4153, 110.8595, 91.415),
        (-57.9442, -41.9872, -57.9453, -41.9888, 154.883),
        (-59.0215, 179.7034, -59.0209, 179.7009, 158.392),
        (-7.0999, 170.707, -7.0995, 170.7036, 378.199),
        (-11.7962, -2.5117, -11.7975, -2.5127, 180.438),
        (6.0636, -82.2774, 6.0635, -82.2786, 133.301),
        (19.904, 133.2319, 19.4111, 133.1548, 55159.88),
        (45.0052, -173.3338, 44.6184, -173.3276, 42987.147),
        (0.3662, -22.7999, 0.0518, -22.9187, 37194.971),
        (35.5779, -66.0772, 35.6453, -66.4101, 31075.178),
        (-5.6106, 107.6182, -6.2099, 107.6999, 66888.836),
        (34.7343, 2.5445, 34.7474, 1.948, 54643.763),
        (-67.2767, 155.9606, -62.4667, 150.0534, 604365.938),
        (-14.5383, 162.3683, -16.1947, 158.1659, 486973.257),
        (6.1253, -93.5513, 18.284, -90.3417, 1389507.63),
        (20.4867, -13.0232, 17.4536, -13.3734, 337758.512),
        (-48.2907, 69.2, -47.3467, 69.0939, 105260.605),
        (34.5548, -110.1508, 33.793, -108.9389, 140086.849),
        (-13.1262, 76.7728, 40.6208, -1.136, 9956657.162),
        (69.097, 80.5235, 83.0, 58.8869, 1631511.377),
        (23.8593, 125.1448, 49.1271, 61.8543, 6114185.655),
        (-2.2336, 165.0683, -74.036, 145.722, 8076749.028),
        (-71.4871, -28.7336, -74.7328, 51.5928, 2428157.84),
        (53.6089, -62.1541, -56.5959, -74.44, 12268501.97),
        (37.8923, -123.3866, -41.6062, 52.7843, 19484401.019),
        (42.8651, 118.3673, -41.5832, -64.6755, 19728703.49),
        (-27.3569, -2.9607, 31.1898, 164.4305, 18730668.094),
        (43.8135, -79.6693, -51.3448, 107.5871, 19009865.342),
        (-70.8712, -109.7426, 65.8031, 62.31, 19352904.852),
        (47.7726, -7.0196, -50.3731, 176.347, 19630141.819),
        (42.9715, -58.5729, -42.8942, 121.3352, 19994715.209),
        (10.2942, 85.4881, -10.2988, -94.3817, 20001870.23),
        (22.0179, -177.9434, -21.8012, 2.1455, 19979421.365),
        (-32.9627, -106.8427, 33.1091, 73.7052, 19968066.24),
        (11.0578, 138.9871, -10.8449, -41.2887, 19975275.002),
        (-9.1019, 64.923, 9.2911, -114.6124, 19968260.757),
    ]
)


@pytest.mark.parametrize(
    "upto_m, error", [(1e5, lambda m: 0.01), (1.8e7, lambda m: 1e-5 * m), (2.1e7, lambda m: 2e-3 * m)]
)
def test_distances_between_zones_are_as_exact_as_is_said(upto_m, error):
    exact_m = FAR_APART[:, 4]
    found_m = ground_distances_m(FAR_APART[:, :2], FAR_APART[:, 2:4])
    assert (exact_m < upto_m).sum() >= 12
    assert (np.abs(found_m - exact_m) < error(exact_m) + 0.01)[exact_m < upto_m].all()
    one_by_one = [distances_m(*(Positions.from_latlon([p]) for p in (r[:2], r[2:4])))[0] for r in FAR_APART]
    across = [
        len({*Positions.from_latlon([r[:2]]).zones, *Positions.from_latlon([r[2:4]]).zones}) == 2 for r in FAR_APART
    ]
    np.testing.assert_allclose(np.array(one_by_one)[across], found_m[across], rtol=1e-9, atol=0.01)


def test_a_distance_between_opposite_points_is_half_way_around_the_earth():
    poles_and_equator = (
        np.array([(90.0, 0.0), (0.0, 0.0), (45.0, 10.0)]),
        np.array([(-90.0, 0.0), (0.0, 180.0), (-45.0, -170.0)]),
    )
    np.testing.assert_allclose(ground_distances_m(*poles_and_equator), 20_003_931, rtol=2e-3)
    assert ground_distances_m(*(poles_and_equator[0],) * 2).tolist() == [0, 0, 0]


def test_distances_in_the_plane_of_a_zone_are_right_to_two_thousandths():
    rng = np.random.default_rng(3)
    for _ in range(300):
        lat, lon, spread = rng.uniform(-79, 83), rng.uniform(-180, 180), 10 ** rng.uniform(-4, 0.5)
        pair = np.clip([(lat, lon), (lat + rng.normal(0, spread), lon + rng.normal(0, spread))], [-80, -180], [84, 180])
        there = Positions.from_latlon(pair)
        if len(set(there.zones)) == 1:
            plane_m = distances_m(there.take([0]), there.take([1]))
            np.testing.assert_allclose(plane_m, ground_distances_m(pair[:1], pair[1:]), rtol=2e-3, atol=1e-3)


def test_the_zone_of_metres_is_found_by_degrees_beside_them():
    metres = Positions.from_latlon([(48.0, 11.9), (-33.86, 151.2), (0.5, 12.1)])
    degrees = metres.latlon()
    zones, apart_m = zones_of(metres.metres, degrees)
    assert zones == metres.zones and (apart_m < 1e-3).all()
    shared = Positions.from_latlon([(48.0, 11.9), (48.0, 12.01)])  # both in zone 32
    assert zones_of(shared.metres, shared.latlon())[0] == ("32N", "32N")
    assert (zones_of(metres.metres + 500, degrees)[1] > 700).all()
    assert zones_of(np.full((1, 2), np.nan), degrees[:1])[1].tolist() == [np.inf]


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


@pytest.mark.parametrize(
    "positions, shown",
    [
        (plane((0, 0), (np.nan, np.nan)), "Positions(1 of 2 known, local frame)"),
        (plane((5e5, 6e6), zone="33N"), "Positions(1 of 1 known, UTM 33N)"),
        (Positions.from_latlon([(40, 6 * n - 177) for n in range(60)]), "Positions(60 of 60 known, UTM worldwide)"),
    ],
)
def test_positions_are_shown_in_one_line(positions, shown):
    assert repr(positions) == shown
