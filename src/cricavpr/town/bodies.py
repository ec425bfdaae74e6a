"""Draw trees, lamps, cars and passers-by. They are boxes and ellipsoids, intersected with the rays of pixels."""

import numpy as np

from cricavpr.town.camera import Axes, project_local, to_camera_frame
from cricavpr.town.hashing import Array, hash_array, unit
from cricavpr.town.objects import BOX, Bodies, joined, passing_bodies, standing_bodies
from cricavpr.town.views import PASSING, STANDING, Buffer, Shot

_PASSING_REACH_M = 60.0
_BOX_TONES = np.array((0.86, 0.72, 1.0), np.float32)  # brightness of a box's faces: ends, sides, top
_LAMP = (1.0, 0.85, 0.55)
_NEAREST = np.float32(0.3)  # metres; nothing nearer to the lens is drawn


def draw_bodies(buffer: Buffer, shot: Shot) -> None:
    """Draw trees, lamps, cars and passers-by in front of everything farther away."""
    bodies = standing_bodies(shot.town.furniture, shot.camera, shot.weather.snow)
    if shot.scene.occluders > 0:
        near = shot.town.near_edges(shot.camera, _PASSING_REACH_M)
        bodies = joined([bodies, passing_bodies(shot.town.net.edges, near, shot.camera, shot.scene)])
    if not len(bodies):
        return
    axes = shot.axes
    x, y = to_camera_frame(shot.camera, bodies.centre_m[:, 0], bodies.centre_m[:, 1])
    z = bodies.centre_m[:, 2] - shot.camera.height_m
    along_x = bodies.along[:, 0] * axes.right[0] + bodies.along[:, 1] * axes.right[1]
    along_y = bodies.along[:, 0] * axes.forward[0] + bodies.along[:, 1] * axes.forward[1]
    along = np.stack([along_x, along_y], axis=1)
    boxes = _pixel_boxes(x, y, z, along, bodies.half_m, axes, shot.image_size)
    for k in range(len(bodies)):
        top, bottom, left, right = boxes[k].tolist()
        if top < bottom and left < right:
            centre = (float(x[k]), float(y[k]), float(z[k]))
            _draw_body(buffer, shot, bodies, k, centre, along[k], (slice(top, bottom), slice(left, right)))


def _pixel_boxes(
    x: Array, y: Array, z: Array, along: Array, half_m: Array, axes: Axes, image_size: tuple[int, int]
) -> Array:  # (B, 4) int64: top, bottom, left, right
    """Return the rectangle of pixels that each body may cover. It is empty for a body behind the camera."""
    height, width = image_size
    signs = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], np.float64)  # (8, 3)
    reach = half_m[:, None, :] * signs  # (B, 8, 3)
    px = x[:, None] + reach[:, :, 0] * along[:, 0, None] + reach[:, :, 1] * along[:, 1, None]
    py = y[:, None] + reach[:, :, 0] * along[:, 1, None] - reach[:, :, 1] * along[:, 0, None]
    pz = z[:, None] + reach[:, :, 2]
    uv, depth = project_local(px, py, pz, axes, height, width)
    limit = max(height, width) + 1  # before the conversion to integers
    in_front = depth.min(axis=1) > 0.3
    low = np.floor(np.clip(uv.min(axis=1), -1, limit)).astype(np.int64)
    high = np.ceil(np.clip(uv.max(axis=1), -1, limit)).astype(np.int64)
    out: Array = np.stack([low[:, 1], high[:, 1] + 1, low[:, 0], high[:, 0] + 1], axis=1)
    out = np.clip(out, 0, np.array([height, height, width, width]))
    out[~in_front] = 0
    return out


def _draw_body(
    buffer: Buffer,
    shot: Shot,
    bodies: Bodies,
    k: int,
    centre: tuple[float, float, float],  # X, Y, Z in the camera frame
    along: Array,  # (2,) direction of the body's first axis in the camera frame
    window: tuple[slice, slice],
) -> None:
    """Draw body number `k` in a window of pixels. A pixel keeps what was drawn before if that is nearer."""
    f32 = np.float32
    tangent, slope = shot.rays.tangent[window], shot.rays.slope[window]
    ux, uy = f32(along[0]), f32(along[1])
    hx, hy, hz = (f32(v) for v in bodies.half_m[k])
    x, y, z = (f32(v) for v in centre)
    # The ray t * (tangent, 1, slope) and the centre, in the axes of the body, scaled so that its half sizes are 1.
    ray = ((tangent * ux + uy) / hx, (tangent * uy - ux) / hy, slope / hz)
    offset = ((x * ux + y * uy) / hx, (x * uy - y * ux) / hy, z / hz)
    box = bodies.shape[k] == BOX
    near, hit, face = _enter_box(ray, offset) if box else _enter_ellipsoid(ray, offset)
    width = shot.image_size[1]
    hit &= (near > _NEAREST) & (near < buffer.forward.reshape(shot.image_size)[window])
    rows, columns = np.nonzero(hit)
    if not len(rows):
        return
    at = (rows + window[0].start) * width + columns + window[1].start
    t = near[rows, columns]
    if box:
        side = face[rows, columns]
        colour = np.where((side == 2)[:, None], bodies.colour[k], bodies.side_colour[k]).astype(f32)
        colour = colour * _BOX_TONES[side][:, None]
    else:
        spot = [d[rows, columns] * t - o for d, o in zip(ray, offset, strict=True)]
        leaf = hash_array(
            *(np.floor((p + 4) * f32(3.5)).astype(np.int32) for p in spot), int(bodies.centre_m[k, 0] * 100)
        )
        rough = f32(0.3) * (unit(leaf) - f32(0.5)) * f32(hx > 0.5)  # only foliage; heads are smaller and stay smooth
        colour = bodies.colour[k].astype(f32) * (f32(0.78) + f32(0.25) * spot[2] + rough)[:, None]
    buffer.albedo[:, at] = colour.T
    glow = min(1.0, shot.weather.lamps) if bodies.glows[k] else 0.0
    for c, warm in enumerate(_LAMP):
        buffer.light[c, at] = f32(f32(glow) * warm)
    buffer.direct[at] = f32(0.5)
    buffer.forward[at] = t
    buffer.surface[at] = (PASSING if bodies.passing[k] else STANDING) + k


_Triple = tuple[Array, Array, Array]


def _enter_ellipsoid(ray: _Triple, offset: tuple[np.float32, np.float32, np.float32]) -> _Triple:
    """Intersect rays with the unit sphere around `offset`.

    Return the distance at which each ray enters it, whether it does, and zeros in the place of the face.
    """
    (du, dv, dw), (ou, ov, ow) = ray, offset
    a, b = du * du + dv * dv + dw * dw, du * ou + dv * ov + dw * ow
    inside = b * b - a * (ou * ou + ov * ov + ow * ow - 1)
    near = (b - np.sqrt(np.maximum(inside, 0))) / a
    return near, inside > 0, np.zeros(near.shape, np.int8)


def _enter_box(ray: _Triple, offset: tuple[np.float32, np.float32, np.float32]) -> _Triple:
    """Intersect rays with the cube of half size 1 around `offset`.

    Return the distance at which each ray enters it, whether it does, and the axis (0, 1 or 2) of that face.
    """
    tiny = np.float32(1e-6)
    shape = ray[0].shape
    near, far = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    face = np.zeros(shape, np.int8)
    for axis, (d, o) in enumerate(zip(ray, offset, strict=True)):
        d = np.where(np.abs(d) < tiny, tiny, d)
        first, second = (o - 1) / d, (o + 1) / d
        low, high = np.minimum(first, second), np.maximum(first, second)
        face = np.where(low > near, np.int8(axis), face)
        near, far = np.maximum(near, low), np.minimum(far, high)
    return near, near < far, face
