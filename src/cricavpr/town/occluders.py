"""What comes between the camera and the town for an hour: parked cars and passers-by."""

import numpy as np

from cricavpr.town.camera import Camera, axes_of
from cricavpr.town.hashing import Array, hash_array
from cricavpr.town.solids import BOX, ELLIPSOID, Bodies, alike
from cricavpr.town.streets import Edges
from cricavpr.town.weather import Scene

_CAR_REACH_M, _PERSON_REACH_M = 50.0, 35.0
_Row = tuple[object, ...]  # the first six fields of Bodies, for one body

_CARS = np.array(
    [
        (0.75, 0.76, 0.78),
        (0.16, 0.17, 0.19),
        (0.60, 0.10, 0.10),
        (0.14, 0.24, 0.50),
        (0.90, 0.90, 0.90),
        (0.40, 0.42, 0.44),
    ],
    np.float32,
)
_CLOTHES = np.array(
    [(0.15, 0.15, 0.18), (0.50, 0.14, 0.14), (0.20, 0.26, 0.44), (0.66, 0.62, 0.54), (0.24, 0.36, 0.24)],
    np.float32,
)
_SKINS = np.array([(0.85, 0.66, 0.54), (0.55, 0.38, 0.28), (0.36, 0.24, 0.18)], np.float32)


def passing_bodies(
    edges: Edges,
    near: Array,  # (n,) street pieces around the camera
    camera: Camera,
    scene: Scene,
) -> Bodies:
    """Parked cars and passers-by of the scene's hour. They never stand within arm's reach of the lens."""
    rows: list[_Row] = []
    for e in near.tolist():
        start, delta = edges.start_m[e], edges.end_m[e] - edges.start_m[e]
        length = float(np.sqrt(delta[0] * delta[0] + delta[1] * delta[1]))
        along = delta / length
        across = np.array([along[1], -along[0]])
        half = edges.width_m[e] / 2
        first, last = edges.cross_m[e, 0] / 2 + 4.0, length - edges.cross_m[e, 1] / 2 - 4.0
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
    return _as_bodies(rows)


def _as_bodies(rows: list[_Row]) -> Bodies:
    if not rows:
        return alike(BOX, np.zeros((0, 3)), np.zeros(3), np.zeros(3), np.zeros(3))
    shape, centre, half, along, colour, side = (np.array(column) for column in zip(*rows, strict=True))
    passing, glows = np.ones(len(rows), bool), np.zeros(len(rows), bool)
    return Bodies(shape, centre, half, along, colour, side, passing, glows)


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
    rows.append((BOX, (*at, 0.16), (half * 0.82, 0.80, 0.16), along, dark, dark))  # wheels and shadow in one
    rows.append((BOX, body, (half, 0.86, tall), along, colour, colour * np.float32(0.85)))
    if not van:
        glass = np.array([0.14, 0.16, 0.19], np.float32)
        rows.append((BOX, cabin, (half * 0.56, 0.74, 0.27), along, colour, glass))


def _place_person(rows: list[_Row], camera: Camera, at: Array, along: Array, bits: int) -> None:
    if not _visible(camera, at, _PERSON_REACH_M, 4.0):
        return
    tall = 0.92 + (bits & 15) * 0.008
    coat, legs = (
        _CLOTHES[(bits >> 4) % len(_CLOTHES)],
        _CLOTHES[(bits >> 8) % len(_CLOTHES)] * np.float32(0.7),
    )
    skin = _SKINS[(bits >> 12) % len(_SKINS)]
    rows.append((BOX, (*at, 0.42 * tall), (0.13, 0.17, 0.42 * tall), along, legs, legs))
    rows.append((ELLIPSOID, (*at, 1.18 * tall), (0.20, 0.27, 0.42 * tall), along, coat, coat))
    rows.append((ELLIPSOID, (*at, 1.70 * tall), (0.11, 0.11, 0.14), along, skin, skin))
