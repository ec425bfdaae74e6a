"""Draw the upright walls: find the wall that a pixel shows and the point on that wall, and paint the pixel.

The picture is divided into narrow columns. For each column, the walls in its direction are listed from near to far. A
wall that does not rise above all nearer walls is hidden and is left out. A pixel shows the first wall of the list that
reaches up to it. Its depth is computed from the plane of this wall, so the perspective is exact.
"""

import numpy as np

from cricavpr.town.camera import Camera, axes_of, to_camera_frame
from cricavpr.town.facades import WallPixels, paint_walls, wall_tops
from cricavpr.town.hashing import Array
from cricavpr.town.looks import Paints
from cricavpr.town.plan import Walls
from cricavpr.town.views import Buffer, Shot

_REACH_M = 150.0
_LAYERS = 7
_COLUMNS_PER_PIXEL = 2


class _Seen:
    """Wall pieces in front of the camera, in camera coordinates. All arrays are (S,) float32, except `index`."""

    def __init__(self, shot: Shot) -> None:
        """Select the walls that are near, face the camera and are in its field of view."""
        camera, plan = shot.camera, shot.town.plan
        walls = plan.walls
        index = np.sort(plan.near.within(camera.x_m, camera.y_m, _REACH_M))
        ends = np.concatenate([walls.a_m[index], walls.b_m[index]])
        right, forward = to_camera_frame(camera, ends[:, 0], ends[:, 1])
        n = len(index)
        ax, ay, bx, by = right[:n], forward[:n], right[n:], forward[n:]
        dx, dy = bx - ax, by - ay
        length = np.sqrt(dx * dx + dy * dy)
        ux, uy = dx / length, dy / length
        offset = ay * ux - ax * uy  # above 0 if the camera sees the wall from outside
        low, high = float(shot.tangent.min()) - 1e-3, float(shot.tangent.max()) + 1e-3
        keep = (offset > 0) | walls.two_sided[index]
        keep &= (ay > 0.2) | (by > 0.2)
        keep &= ~((ax > high * ay) & (bx > high * by)) & ~((ax < low * ay) & (bx < low * by))
        keep &= np.abs(offset) > 1e-3
        columns = [v[keep].astype(np.float32) for v in (ax, ay, ux, uy, offset, length)]
        self.tangent_low, self.tangent_high, self.index = low, high, index[keep]
        self.a_right, self.a_forward, self.along_right, self.along_forward = columns[:4]  # along: unit direction a to b
        self.offset, self.length = columns[4:]  # offset: signed distance of the lens from the wall


def draw_walls(buffer: Buffer, shot: Shot) -> None:
    """Paint every pixel whose ray hits a wall."""
    walls = shot.town.plan.walls
    seen = _Seen(shot)
    if not len(seen.index):
        return
    on, pixels, forward = _strike(shot, seen)
    paints = Paints(walls, shot.town.plan.houses, seen.index, shot.scene.year)
    albedo, light = paint_walls(paints, pixels, shot.weather.lit, shot.scene.view_seed)
    if shot.weather.snow > 0:
        _lay_snow(albedo, walls, seen, pixels, np.take(paints.roof_like, pixels.wall), shot.weather.snow)
    buffer.albedo[:, on], buffer.light[:, on] = albedo, light
    buffer.direct[on] = np.take(_sunlit(walls, seen.index, shot.scene.sun_azimuth_deg), pixels.wall)
    buffer.forward[on] = forward
    buffer.surface[on] = np.take(seen.index.astype(np.int32), pixels.wall)


def _meetings(walls: Walls, seen: _Seen, height_m: float, columns: int) -> tuple[Array, Array]:
    """Intersect C horizontal directions with S walls.

    Return two (C, S) arrays. The first holds distances in metres along Y, infinite where a direction misses a wall. The
    second holds the slopes (Z / Y) at which the upper edges of the walls are seen.
    """
    step = (seen.tangent_high - seen.tangent_low) / columns
    tangent = (seen.tangent_low + step * (np.arange(columns) + 0.5)).astype(np.float32)[:, None]  # (C, 1)
    closing = seen.along_right[None, :] - tangent * seen.along_forward[None, :]  # (C, S)
    closing = np.where(np.abs(closing) < 1e-6, np.float32(1e-6), closing)
    distance = seen.offset / closing
    right, ahead = tangent * distance - seen.a_right, distance - seen.a_forward
    s = right * seen.along_right + ahead * seen.along_forward
    hit = (distance > np.float32(0.25)) & (s >= 0) & (s <= seen.length)
    top = np.broadcast_to(walls.eaves_m[seen.index], s.shape)
    shaped = np.flatnonzero(walls.profile[seen.index])
    if len(shaped):
        top = top.copy()
        w = seen.index[shaped]
        top[:, shaped] = wall_tops(
            s[:, shaped], seen.length[shaped], walls.eaves_m[w], walls.rise_m[w], walls.profile[w]
        )
    rise = (top - np.float32(height_m)) / np.where(hit, distance, np.float32(1))
    return np.where(hit, distance, np.float32(np.inf)), rise


def _layers(
    distance: Array,  # (C, S)
    rise: Array,  # (C, S)
) -> tuple[Array, Array]:  # (K, C) int32 indices of walls; (K, C) float32 slopes of their upper edges
    """List up to K walls for each direction, from near to far. A listed wall rises above all nearer walls."""
    columns = len(distance)
    which = np.zeros((_LAYERS, columns), np.int32)
    edge = np.full((_LAYERS, columns), -np.inf, np.float32)
    rows = np.arange(columns)
    for k in range(_LAYERS):
        nearest = np.argmin(distance, axis=1)
        found = np.isfinite(distance[rows, nearest])
        before = edge[k - 1] if k else edge[0]
        which[k] = nearest
        edge[k] = np.where(found, np.maximum(rise[rows, nearest], before), before)
        if not found.any():
            edge[k:] = edge[k]
            break
        distance = np.where(rise <= edge[k][:, None], np.float32(np.inf), distance)
    return which, edge


def _strike(shot: Shot, seen: _Seen) -> tuple[Array, WallPixels, Array]:
    """Find the pixels that show a wall. Return their indices, their points on walls, and their distances along Y."""
    columns = _COLUMNS_PER_PIXEL * shot.image_size[1]
    height_m = np.float32(shot.camera.height_m)
    which, edge = _layers(*_meetings(shot.town.plan.walls, seen, shot.camera.height_m, columns))
    scale = np.float32(columns / (seen.tangent_high - seen.tangent_low))
    column = ((shot.tangent - np.float32(seen.tangent_low)) * scale).astype(np.int32)
    column = np.minimum(column, columns - 1)
    layer = np.zeros(len(column), np.int32)
    for k in range(_LAYERS):
        layer += shot.slope > np.take(edge[k], column)
    on = np.flatnonzero(layer < _LAYERS)
    tangent, wall = shot.tangent[on], np.take(which.reshape(-1), layer[on] * columns + column[on])
    closing = np.take(seen.along_right, wall) - tangent * np.take(seen.along_forward, wall)
    closing = np.where(np.abs(closing) < 1e-5, np.float32(1e-5), closing)
    forward = np.take(seen.offset, wall) / closing
    z = height_m + shot.slope[on] * forward
    # Below the foot of its wall a pixel shows the ground instead, for example behind a low wall.
    solid = np.flatnonzero((z >= 0) & (forward > 0))
    on, wall = on[solid], wall[solid]
    tangent, closing, forward, z = (v[solid] for v in (tangent, closing, forward, z))
    right, ahead = tangent * forward - np.take(seen.a_right, wall), forward - np.take(seen.a_forward, wall)
    s = right * np.take(seen.along_right, wall) + ahead * np.take(seen.along_forward, wall)
    foot_z = np.maximum(forward / np.float32(shot.focal), np.float32(0.01))
    facing = np.maximum(np.abs(closing) / np.sqrt(1 + tangent * tangent), np.float32(0.08))
    s = np.minimum(np.maximum(s, 0), np.take(seen.length, wall))
    return on, WallPixels(wall, s, z, foot_z / facing, foot_z), forward


def _lay_snow(
    albedo: Array,  # (3, N) in place
    walls: Walls,
    seen: _Seen,
    pixels: WallPixels,
    roof: Array,  # (N,) bool
    snow: float,
) -> None:
    """Blend snow into `albedo`: a rim along the upper edge of each wall, and over most of the roofs."""
    columns = (walls.eaves_m[seen.index], walls.rise_m[seen.index], walls.profile[seen.index])
    eaves, rise, profile = (np.take(column, pixels.wall) for column in columns)
    above = pixels.z - wall_tops(pixels.s, np.take(seen.length, pixels.wall), eaves, rise, profile)
    rim = np.minimum(np.maximum(above * np.float32(2.5) + np.float32(1.3), 0), 1)
    cover = np.maximum(rim, roof * np.float32(0.8)) * np.float32(snow)
    for c, white in enumerate((0.93, 0.95, 0.98)):
        albedo[c] += (np.float32(white) - albedo[c]) * cover


def _sunlit(walls: Walls, index: Array, sun_azimuth_deg: float) -> Array:  # (S,) float32
    """Return the cosine of the angle between the sun and the outward normal of each wall; 0 if the wall faces away.

    Ridges and hedges, which are seen from both sides, have the fixed value 0.55.
    """
    sun = axes_of(Camera(0, 0, 0, sun_azimuth_deg, 0, 60)).forward
    edge = walls.b_m[index] - walls.a_m[index]
    length = np.sqrt(edge[:, 0] * edge[:, 0] + edge[:, 1] * edge[:, 1])
    cosine = (edge[:, 1] * sun[0] - edge[:, 0] * sun[1]) / length
    return np.asarray(np.where(walls.two_sided[index], 0.55, np.maximum(cosine, 0.0)).astype(np.float32))
