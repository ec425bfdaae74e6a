"""Street furniture: the trees and lamps that stand for good."""

from dataclasses import dataclass

import numpy as np

from cricavpr.town.camera import Camera, axes_of, to_camera_frame
from cricavpr.town.hashing import Array, hash_array, hash_int, unit, unit_float
from cricavpr.town.plan import Buckets, Plan
from cricavpr.town.solids import BOX, ELLIPSOID, Bodies, alike, joined
from cricavpr.town.streets import Edges

_TREE_REACH_M, _LAMP_REACH_M = 80.0, 50.0
_BARK, _IRON = np.array((0.27, 0.21, 0.16)), np.array((0.22, 0.23, 0.24))
_FROST = np.array((0.85, 0.87, 0.92))


@dataclass(frozen=True)
class Furniture:
    """What stands for good: positions of trees and lamps."""

    trees_m: Array  # (T, 2)
    tree_key: Array  # (T,) uint32
    tree_near: Buckets
    lamps_m: Array  # (L, 2)
    lamp_near: Buckets


def make_furniture(seed: int, edges: Edges, plan: Plan) -> Furniture:
    """Trees along some streets and in parks, lamps along all."""
    trees: list[Array] = []
    lamps: list[Array] = []
    for e in range(len(edges.width_m)):
        _line_street(seed, edges, e, trees, lamps)
    for p, corners in enumerate(plan.parks_m):
        for k in range(22):
            u, v = (0.06 + 0.88 * unit_float(seed, 53, p, k, axis) for axis in (0, 1))
            low = corners[0] + (corners[1] - corners[0]) * u
            high = corners[3] + (corners[2] - corners[3]) * u
            if (u - 0.5) * (u - 0.5) + (v - 0.5) * (v - 0.5) > 0.08:  # the middle is kept free for a church
                trees.append(low + (high - low) * v)
    trees_m, lamps_m = np.array(trees).reshape(-1, 2), np.array(lamps).reshape(-1, 2)
    key = hash_array(seed, 54, np.arange(len(trees_m)))
    return Furniture(trees_m, key, Buckets(trees_m), lamps_m, Buckets(lamps_m))


def _line_street(seed: int, edges: Edges, e: int, trees: list[Array], lamps: list[Array]) -> None:
    """Set trees and lamps along the kerbs of one street piece."""
    start, delta = edges.start_m[e], edges.end_m[e] - edges.start_m[e]
    length = float(np.sqrt(delta[0] * delta[0] + delta[1] * delta[1]))
    along = delta / length
    across = np.array([along[1], -along[0]])
    first, last = edges.cross_m[e, 0] / 2 + 3.0, length - edges.cross_m[e, 1] / 2 - 3.0
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
    """Trees and lamp posts in front of the camera."""
    index = np.sort(_in_front(camera, furniture.trees_m, furniture.tree_near, _TREE_REACH_M))
    trees = _trees(furniture.trees_m[index], furniture.tree_key[index], snow)
    index = np.sort(_in_front(camera, furniture.lamps_m, furniture.lamp_near, _LAMP_REACH_M))
    return joined([*trees, *_lamps(furniture.lamps_m[index])])


def _trees(
    at: Array,  # (T, 2)
    key: Array,  # (T,) uint32
    snow: float,
) -> list[Bodies]:
    """Crowns and trunks."""
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


def _lamps(
    at: Array,  # (L, 2)
) -> list[Bodies]:
    """Posts and heads."""
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
