"""Trees, lamps, parked cars and passers-by, made of upright boxes and ellipsoids."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from cricavpr.town.camera import Camera, axes_of, to_camera_frame
from cricavpr.town.hashing import Array, hash_array, hash_int, unit, unit_float
from cricavpr.town.plan import Buckets, Plan
from cricavpr.town.streets import Edges
from cricavpr.town.weather import Scene

BOX, ELLIPSOID = 0, 1


@dataclass(frozen=True)
class Bodies:
    """B upright boxes and ellipsoids, in the coordinates of the town."""

    shape: Array  # (B,) BOX or ELLIPSOID
    centre_m: Array  # (B, 3)
    half_m: Array  # (B, 3) half sizes along, across, up
    along: Array  # (B, 2) unit direction of the first axis
    colour: Array  # (B, 3)
    side_colour: Array  # (B, 3) colour of the upright faces of a box
    passing: Array  # (B,) bool: True for cars and passers-by, False for trees and lamps
    glows: Array  # (B,) bool: True for the head of a lamp

    def __len__(self) -> int:
        return len(self.shape)


def alike(
    shape: int,
    centre_m: Array,  # (B, 3)
    half_m: Array,  # (B, 3) or (3,)
    colour: Array,  # (B, 3) or (3,)
    side_colour: Array,  # (B, 3) or (3,)
    glows: bool = False,
) -> Bodies:
    """Return solids of one shape, such as tree trunks. Their sides are parallel to the axes of the town."""
    n = len(centre_m)
    return Bodies(
        shape=np.full(n, shape),
        centre_m=centre_m,
        half_m=np.broadcast_to(half_m, (n, 3)),
        along=np.broadcast_to(np.array((0.0, 1.0)), (n, 2)),
        colour=np.broadcast_to(colour, (n, 3)),
        side_colour=np.broadcast_to(side_colour, (n, 3)),
        passing=np.zeros(n, bool),
        glows=np.full(n, glows),
    )


def joined(parts: Sequence[Bodies]) -> Bodies:
    """Join several sets of bodies into one, in the given order."""
    return Bodies(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Bodies)))


# --- trees and lamps

_TREE_REACH_M, _LAMP_REACH_M = 80.0, 50.0
_BARK, _IRON = np.array((0.27, 0.21, 0.16)), np.array((0.22, 0.23, 0.24))
_FROST = np.array((0.85, 0.87, 0.92))


@dataclass(frozen=True)
class Furniture:
    """Trees and lamps, which never move."""

    trees_m: Array  # (T, 2)
    tree_key: Array  # (T,) uint32
    tree_near: Buckets
    lamps_m: Array  # (L, 2)
    lamp_near: Buckets


def make_furniture(seed: int, edges: Edges, plan: Plan) -> Furniture:
    """Place trees along some streets and in parks, and lamps along all streets."""
    trees: list[Array] = []
    lamps: list[Array] = []
    for e in range(len(edges.width_m)):
        _line_street(seed, edges, e, trees, lamps)
    for p, corners in enumerate(plan.parks_m):
        for k in range(22):
            u, v = (0.06 + 0.88 * unit_float(seed, 53, p, k, axis) for axis in (0, 1))
            low = corners[0] + (corners[1] - corners[0]) * u
            high = corners[3] + (corners[2] - corners[3]) * u
            if (u - 0.5) * (u - 0.5) + (v - 0.5) * (v - 0.5) > 0.08:  # keeps the middle of the park free for a church
                trees.append(low + (high - low) * v)
    trees_m, lamps_m = np.array(trees).reshape(-1, 2), np.array(lamps).reshape(-1, 2)
    key = hash_array(seed, 54, np.arange(len(trees_m)))
    return Furniture(trees_m, key, Buckets(trees_m), lamps_m, Buckets(lamps_m))


def _piece(edges: Edges, e: int, clear_m: float) -> tuple[Array, Array, Array, float, float]:
    """Return the geometry of a street piece: its start, the direction along it, and the direction to its right.

    The last two values are distances from the start, in metres. Between them, points are at least `clear_m` from the
    crossings at both ends.
    """
    start, delta = edges.start_m[e], edges.end_m[e] - edges.start_m[e]
    length = float(np.sqrt(delta[0] * delta[0] + delta[1] * delta[1]))
    along = delta / length
    first, last = edges.cross_m[e, 0] / 2 + clear_m, length - edges.cross_m[e, 1] / 2 - clear_m
    return start, along, np.array([along[1], -along[0]]), first, last


def _line_street(seed: int, edges: Edges, e: int, trees: list[Array], lamps: list[Array]) -> None:
    """Place trees and lamps along the kerbs of one street piece."""
    start, along, across, first, last = _piece(edges, e, 3.0)
    kerb = edges.width_m[e] / 2 - edges.walk_m[e] + 0.5
    street = int(edges.street[e])
    kind = hash_int(seed, 50, street, e) % 8
    planted = edges.width_m[e] > 13.5 and kind < 5
    step = (9.0, 12.0, 16.0)[hash_int(seed, 51, street) % 3]
    for side in (-1, 1):
        if planted and (kind < 3 or side == (-1, 1)[kind % 2]):
            for k in range(int((last - first) / step)):
                if hash_int(seed, 52, e, side, k) % 10 < 7:
                    trees.append(start + along * (first + step * (k + 0.5)) + across * (side * kerb))
        for k in range(int((last - first) / 24.0) + 1):
            if (k + (side > 0)) % 2 == 0:
                lamps.append(start + along * (first + 24.0 * k) + across * (side * kerb))


def standing_bodies(furniture: Furniture, camera: Camera, snow: float) -> Bodies:
    """Return the trees and street lamps in front of the camera. `snow` is the amount of snow on the trees, 0 to 1."""
    index = np.sort(_in_front(camera, furniture.trees_m, furniture.tree_near, _TREE_REACH_M))
    trees = _trees(furniture.trees_m[index], furniture.tree_key[index], snow)
    index = np.sort(_in_front(camera, furniture.lamps_m, furniture.lamp_near, _LAMP_REACH_M))
    return joined([*trees, *_lamps(furniture.lamps_m[index])])


def _trees(
    at: Array,  # (T, 2)
    key: Array,  # (T,) uint32
    snow: float,
) -> list[Bodies]:
    """Return the crowns and the trunks of trees."""
    radius, tall, stem, red, green = (unit(hash_array(key, k)).astype(np.float64) for k in range(1, 6))
    radius, tall, stem = 1.5 + 1.1 * radius, 1.3 + 1.5 * tall, 2.6 + 0.8 * stem
    leaves = np.stack([0.16 + 0.16 * red, 0.30 + 0.16 * green, np.full(len(at), 0.13)], axis=1)
    leaves = leaves * (1 - 0.55 * snow) + _FROST * (0.55 * snow)
    crown_at = np.concatenate([at, (stem + tall * 0.9)[:, None]], axis=1)
    trunk_at = np.concatenate([at, (stem / 2)[:, None]], axis=1)
    thick = np.full(len(at), 0.16)
    return [
        alike(ELLIPSOID, crown_at, np.stack([radius, radius, tall], axis=1), leaves, leaves),
        alike(BOX, trunk_at, np.stack([thick, thick, stem / 2], axis=1), _BARK, _BARK),
    ]


def _lamps(at: Array) -> list[Bodies]:  # (L, 2)
    """Return the posts and the heads of street lamps."""
    post_at = np.concatenate([at, np.full((len(at), 1), 2.4)], axis=1)
    head_at = np.concatenate([at, np.full((len(at), 1), 4.95)], axis=1)
    return [
        alike(BOX, post_at, np.array((0.07, 0.07, 2.4)), _IRON, _IRON),
        alike(BOX, head_at, np.array((0.22, 0.22, 0.18)), _IRON, _IRON * 3.2, glows=True),
    ]


def _in_front(camera: Camera, points_m: Array, near: Buckets, reach_m: float) -> Array:
    index = near.within(camera.x_m, camera.y_m, reach_m)
    right, forward = to_camera_frame(camera, points_m[index, 0], points_m[index, 1])
    wide = axes_of(camera).half_tan * 1.1
    seen = (forward > 0.8) & (forward < reach_m) & (np.abs(right) < forward * wide + 3.5)
    return np.asarray(index[seen])


# --- cars and passers-by

_CAR_REACH_M, _PERSON_REACH_M = 50.0, 35.0
_Row = tuple[object, ...]  # the first six fields of Bodies for one body

_CARS = np.array(
    [
        (0.75, 0.76, 0.78), (0.16, 0.17, 0.19), (0.60, 0.10, 0.10),
        (0.14, 0.24, 0.50), (0.90, 0.90, 0.90), (0.40, 0.42, 0.44),
    ],
    np.float32,
)  # fmt: skip
_CLOTHES = np.array(
    [(0.15, 0.15, 0.18), (0.50, 0.14, 0.14), (0.20, 0.26, 0.44), (0.66, 0.62, 0.54), (0.24, 0.36, 0.24)], np.float32
)
_SKINS = np.array([(0.85, 0.66, 0.54), (0.55, 0.38, 0.28), (0.36, 0.24, 0.18)], np.float32)


def passing_bodies(
    edges: Edges,
    near: Array,  # (n,) indices of the street pieces around the camera
    camera: Camera,
    scene: Scene,
) -> Bodies:
    """Return the parked cars and passers-by of a scene. None of them is very near to the lens."""
    rows: list[_Row] = []
    for e in near.tolist():
        start, along, across, first, last = _piece(edges, e, 4.0)
        half = edges.width_m[e] / 2
        for side in (-1, 1):
            lane = across * (side * (half - edges.walk_m[e] - 1.05))
            path = across * (side * (half - edges.walk_m[e] * 0.5))
            slots = np.arange(max(0, int((last - first) / 6.2)))
            bits = hash_array(scene.occluder_seed, 60, e, side, slots)
            for k in np.flatnonzero((bits & np.uint32(1023)) < scene.occluders * 1024).tolist():
                at = start + along * (first + 6.2 * k + 3.0) + lane
                _park_car(rows, camera, at, along, int(bits[k]) >> 10)
            slots = np.arange(max(0, int((last - first) / 5.0)))
            bits = hash_array(scene.occluder_seed, 61, e, side, slots)
            for k in np.flatnonzero((bits & np.uint32(1023)) < scene.occluders * 500).tolist():
                shift = (int(bits[k]) >> 10 & 255) / 256 * 4.0
                at = start + along * (first + 5.0 * k + shift) + path
                _place_person(rows, camera, at, along, int(bits[k]) >> 12)
    if not rows:
        return alike(BOX, np.zeros((0, 3)), np.zeros(3), np.zeros(3), np.zeros(3))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    columns += [np.ones(len(rows), bool), np.zeros(len(rows), bool)]  # passing, glows
    return Bodies(*columns)


def _visible(camera: Camera, at: Array, reach_m: float, nearest_m: float) -> bool:
    axes = axes_of(camera)
    east, north = float(at[0]) - camera.x_m, float(at[1]) - camera.y_m
    forward = east * axes.forward[0] + north * axes.forward[1]
    if not 0.5 < forward < reach_m:
        return False
    right = east * axes.right[0] + north * axes.right[1]
    near = right * right + forward * forward < nearest_m * nearest_m
    return not near and abs(right) < forward * axes.half_tan * 1.1 + 3.0


def _park_car(rows: list[_Row], camera: Camera, at: Array, along: Array, bits: int) -> None:
    if not _visible(camera, at, _CAR_REACH_M, 4.5):
        return
    colour = _CARS[bits % len(_CARS)]
    van = (bits >> 4) % 9 == 0
    half, tall = (2.5, 1.1) if van else (2.05 + (bits >> 8 & 7) * 0.04, 0.46)
    body, cabin = (*at, 0.25 + tall), (*(at - along * 0.15), 0.25 + 2 * tall + 0.26)
    dark = np.array([0.06, 0.06, 0.07], np.float32)
    rows.append((BOX, (*at, 0.16), (half * 0.82, 0.80, 0.16), along, dark, dark))  # one box for wheels and shadow
    rows.append((BOX, body, (half, 0.86, tall), along, colour, colour * np.float32(0.85)))
    if not van:
        glass = np.array([0.14, 0.16, 0.19], np.float32)
        rows.append((BOX, cabin, (half * 0.56, 0.74, 0.27), along, colour, glass))


def _place_person(rows: list[_Row], camera: Camera, at: Array, along: Array, bits: int) -> None:
    if not _visible(camera, at, _PERSON_REACH_M, 4.0):
        return
    tall = 0.92 + (bits & 15) * 0.008
    coat, legs = (_CLOTHES[(bits >> 4) % len(_CLOTHES)], _CLOTHES[(bits >> 8) % len(_CLOTHES)] * np.float32(0.7))
    skin = _SKINS[(bits >> 12) % len(_SKINS)]
    rows.append((BOX, (*at, 0.42 * tall), (0.13, 0.17, 0.42 * tall), along, legs, legs))
    rows.append((ELLIPSOID, (*at, 1.18 * tall), (0.20, 0.27, 0.42 * tall), along, coat, coat))
    rows.append((ELLIPSOID, (*at, 1.70 * tall), (0.11, 0.11, 0.14), along, skin, skin))
