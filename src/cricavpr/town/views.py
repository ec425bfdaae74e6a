"""Classes for a town, for its places and the views of them, and for a picture while it is being drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cricavpr.errors import InputError
from cricavpr.schema import nearest
from cricavpr.town.camera import DIGITS, Camera, axes_of, rays_of
from cricavpr.town.hashing import Array, between, hash_int, unit_float
from cricavpr.town.looks import FIRST_YEAR
from cricavpr.town.objects import make_furniture
from cricavpr.town.plan import Buckets, make_plan
from cricavpr.town.streets import StreetNet, make_streets, polylines
from cricavpr.town.weather import CONDITIONS, Scene

Split = Literal["database", "query", "train"]
_Spot = tuple[float, float, float, float]  # x_m, y_m, heading_deg, street_deg

PLACE_SPACING_M = 30.0  # more than 25 m, the radius of the evaluation, so that positives are pictures of the same place
_PATCH_M, _PATCHES = 12_000, 1_500  # side and number of squares of open sea; the seed decides in which the town lies
_MAX_PLACES = 30_000


@dataclass(frozen=True)
class Place:
    """A position on a street, and the nominal viewing direction of the pictures that are taken there."""

    id: int
    x_m: float
    y_m: float
    heading_deg: float  # of the pictures
    street_deg: float  # of the street, along which cameras are displaced


@dataclass(frozen=True)
class Origin:
    """UTM position of the point (0, 0) of a town."""

    zone: int
    letter: str
    easting_m: float
    northing_m: float


@dataclass(frozen=True)
class View:
    """The camera and the scene of one visit to a place."""

    camera: Camera
    scene: Scene


class Town:
    """A synthetic town. The same seed gives the same town on every machine.

    Laying out a thousand places takes about a second. Pictures are rendered later, one by one.

    Args:
        seed: number that determines the whole town, 0 or more.
        places: number of places, 1 to 30,000.

    Raises:
        InputError: the seed or the number of places is out of range.

    Example:
        >>> town = Town(seed=7, places=20)
        >>> town
        Town(seed=7, places=20)
        >>> town.view(3, visit=0, split="database").scene.condition
        'day'
    """

    def __init__(self, seed: int, places: int) -> None:
        if seed < 0 or not 1 <= places <= _MAX_PLACES:
            raise InputError(
                f"a town needs a seed of 0 or more and 1 to {_MAX_PLACES:,} places, got seed {seed} and {places:,} "
                "places. For more places use several towns with different seeds."
            )
        self.seed = seed
        blocks = 2
        while 4 * blocks * (blocks + 1) < places * 2.2:  # about two places on each side of a block
            blocks += 1
        while len(found := _find_places(seed, net := make_streets(seed, blocks))) < places:
            blocks += 1
        self.net: StreetNet = net
        self.plan = make_plan(seed, net)
        self.furniture = make_furniture(seed, net.edges, self.plan)
        self.places: Sequence[Place] = tuple(_thin(seed, found, places))
        self.streets: list[Array] = polylines(net)  # each (n, 2) metres
        middles = (net.edges.start_m + net.edges.end_m) / 2
        self._edge_near = Buckets(middles, 60.0)
        streets = int(net.edges.street.max()) + 1
        self.paving = [(0.0, 0.06, 0.14, 0.0, 0.22)[hash_int(seed, 80, k) % 5] for k in range(streets)]
        self.zebra = [hash_int(seed, 81, e) % 3 == 0 for e in range(len(middles))]

    def __repr__(self) -> str:
        return f"Town(seed={self.seed}, places={len(self.places)})"

    @property
    def origin(self) -> Origin:
        """Return the UTM position of the point (0, 0) of the town.

        It is in zone 31N, in the Gulf of Guinea between 0.2 and 3.5 degrees north, where nobody lives.
        """
        patch = self.seed % _PATCHES
        return Origin(31, "N", 190_000.0 + _PATCH_M * (patch % 50), 25_000.0 + _PATCH_M * (patch // 50))

    def near_edges(self, camera: Camera, reach_m: float) -> Array:  # (n,) ascending
        """Return the indices of street pieces whose middle is within `reach_m`, and of some slightly further away."""
        return np.sort(self._edge_near.within(camera.x_m, camera.y_m, reach_m))

    def view(self, place_index: int, visit: int, split: Split, condition: str | None = None) -> View:
        """Return the view of one visit to a place. The same arguments always give the same view.

        Args:
            place_index: index of the place.
            visit: number of the visit, 0 or more.
            split: "database" for a view from a mapping car by day. "query" for a view of a pedestrian, years later in
                any condition. "train" for a view of either kind.
            condition: a key of `CONDITIONS`, or None for the condition that was drawn for this visit.

        Raises:
            InputError: the split or the condition is unknown.
        """
        if split not in _VIEWS:
            raise InputError(f"unknown split {split!r}. {nearest(split, _VIEWS)}")
        if condition is not None and condition not in CONDITIONS:
            raise InputError(f"unknown condition {condition!r}. {nearest(condition, CONDITIONS)}")
        place = self.places[place_index]
        keys = (self.seed, 90, place.id, visit, list(_VIEWS).index(split))
        habits = _VIEWS[split]
        if split == "train" and unit_float(*keys, 0) < _MAPPED_SHARE:
            habits = _MAPPING_CAR
        return View(_camera(place, habits, keys), _scene(habits, keys, condition))


@dataclass(frozen=True)
class _Habits:
    """How the views of a split vary: largest deviations from the pose of the place, and ranges of other values."""

    along_m: float
    across_m: float
    yaw_deg: float
    pitch_deg: float
    fov_deg: tuple[float, float]
    height_m: tuple[float, float]
    years: tuple[int, int]
    conditions: tuple[str, ...]
    occluders: float
    exposure: float
    cast: float
    noise: float


_MAPPING_CAR = _Habits(
    along_m=0.5,
    across_m=0.4,
    yaw_deg=3.0,
    pitch_deg=1.0,
    fov_deg=(78, 82),
    height_m=(2.2, 2.5),
    years=(FIRST_YEAR, FIRST_YEAR + 1),
    conditions=("day", "overcast"),
    occluders=0.3,
    exposure=0.06,
    cast=0.02,
    noise=2.0,
)
_VISITOR = _Habits(
    along_m=4.0,
    across_m=1.5,
    yaw_deg=16.0,
    pitch_deg=4.0,
    fov_deg=(72, 90),
    height_m=(1.5, 2.1),
    years=(FIRST_YEAR + 2, FIRST_YEAR + 10),
    conditions=tuple(CONDITIONS),
    occluders=0.35,
    exposure=0.16,
    cast=0.05,
    noise=4.0,
)
_VIEWS: dict[Split, _Habits] = {
    "database": _MAPPING_CAR,
    "query": _VISITOR,
    "train": replace(_VISITOR, height_m=(1.5, 2.4), years=(FIRST_YEAR, FIRST_YEAR + 10)),
}
_MAPPED_SHARE = 0.35  # share of training views that are taken like database views


def _camera(place: Place, habits: _Habits, keys: tuple[int, ...]) -> Camera:
    street = axes_of(Camera(0, 0, 0, place.street_deg, 0, 60))
    along = _bell(habits.along_m, *keys, 1)
    across = _bell(habits.across_m, *keys, 2)
    return Camera(
        x_m=round(place.x_m + along * street.forward[0] + across * street.right[0], 3),
        y_m=round(place.y_m + along * street.forward[1] + across * street.right[1], 3),
        height_m=round(between(*habits.height_m, *keys, 3), 3),
        yaw_deg=round((place.heading_deg + _bell(habits.yaw_deg, *keys, 4)) % 360, 3),
        pitch_deg=round(6.0 + _bell(habits.pitch_deg, *keys, 5), 3),
        fov_deg=round(between(*habits.fov_deg, *keys, 6), 3),
    )


def _scene(habits: _Habits, keys: tuple[int, ...], condition: str | None) -> Scene:
    drawn = habits.conditions[hash_int(*keys, 7) % len(habits.conditions)]
    cast = [round(1 + _bell(habits.cast, *keys, 8, c), 4) for c in range(3)]
    return Scene(
        condition=condition or drawn,
        year=habits.years[0] + hash_int(*keys, 9) % (habits.years[1] - habits.years[0] + 1),
        occluder_seed=hash_int(*keys, 10),
        occluders=round(habits.occluders * unit_float(*keys, 11), 4),
        view_seed=hash_int(*keys, 12),
        exposure=round(1 + _bell(habits.exposure, *keys, 13), 4),
        cast=(cast[0], cast[1], cast[2]),
        noise=round(habits.noise * unit_float(*keys, 14), 3),
        sun_azimuth_deg=round(between(90.0, 270.0, *keys, 15), 2),
    )


def _bell(reach: float, *keys: int) -> float:
    """Return a random number from -reach to reach, more often near 0: the mean of four uniform random numbers."""
    return reach * (sum(unit_float(*keys, 101 + k) for k in range(4)) / 2.0 - 1.0)


def _find_places(seed: int, net: StreetNet) -> list[_Spot]:
    """Find positions along the inner streets, at least PLACE_SPACING_M apart."""
    edges, cell = net.edges, PLACE_SPACING_M
    taken: dict[tuple[int, int], list[tuple[float, float]]] = {}
    found: list[_Spot] = []
    for e in np.flatnonzero(edges.inner).tolist():
        (ax, ay), (bx, by) = edges.start_m[e].tolist(), edges.end_m[e].tolist()
        length = math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
        ux, uy = (bx - ax) / length, (by - ay) / length
        street_deg = round(math.degrees(math.atan2(ux, uy)) % 360, DIGITS - 3)
        first, last = 0.5 * edges.cross_m[e, 0] + 4.0, length - 0.5 * edges.cross_m[e, 1] - 4.0
        position = first + between(0.0, 8.0, seed, 70, e)
        while position < last:
            x, y = round(ax + ux * position, 3), round(ay + uy * position, 3)
            near = [
                spot
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                for spot in taken.get((int(x // cell) + i, int(y // cell) + j), ())
            ]
            if all((x - px) * (x - px) + (y - py) * (y - py) >= cell * cell for px, py in near):
                taken.setdefault((int(x // cell), int(y // cell)), []).append((x, y))
                found.append((x, y, _heading(seed, e, len(found), street_deg), street_deg))
                position += cell
            position += 1.5
    return found


def _heading(seed: int, edge: int, number: int, street_deg: float) -> float:
    """Return the heading of a place: one direction of the street, turned by 10 to 60 degrees to one side."""
    way = 180.0 * (hash_int(seed, 71, edge, number) & 1)
    side = 1.0 if hash_int(seed, 72, edge, number) & 1 else -1.0
    return round((street_deg + way + side * between(10.0, 60.0, seed, 73, edge, number)) % 360, 2)


def _thin(seed: int, found: list[_Spot], places: int) -> list[Place]:
    """Choose `places` of the found positions at random. They are numbered in the order of the streets."""
    order = sorted(range(len(found)), key=lambda k: hash_int(seed, 74, k))[:places]
    return [Place(number, *found[k]) for number, k in enumerate(sorted(order))]


# --- one picture while it is drawn

SKY, GROUND = -2, -1  # surface numbers of pixels; the number of a wall is its row in the plan
STANDING, PASSING = 1 << 28, 1 << 29  # first surface numbers: of trees and lamps, and of cars and passers-by


class Shot:
    """Values that are computed once for a picture. It has P = h * w pixels, in the order of its rows."""

    def __init__(
        self,
        town: Town,
        camera: Camera,
        scene: Scene,
        image_size: tuple[int, int],  # (h, w)
    ) -> None:
        self.town, self.camera, self.scene, self.image_size = town, camera, scene, image_size
        self.weather = CONDITIONS[scene.condition]
        self.axes, self.rays = axes_of(camera), rays_of(camera, image_size)
        self.tangent, self.slope = self.rays.tangent.reshape(-1), self.rays.slope.reshape(-1)  # (P,) float32, see Rays
        self.focal = image_size[1] / 2 / self.axes.half_tan  # pixels


class Buffer:
    """Arrays of a picture that is being drawn. At first all pixels are sky."""

    def __init__(self, pixels: int) -> None:
        self.albedo = np.zeros((3, pixels), np.float32)  # colour in white light
        self.light = np.zeros((3, pixels), np.float32)  # light that the surface emits
        self.direct = np.zeros(pixels, np.float32)  # share of the sunlight that reaches the surface
        self.forward = np.full(pixels, np.inf, np.float32)  # metres along Y of the camera; infinite in the sky
        self.surface = np.full(pixels, SKY, np.int32)
