"""Draw the flat ground: carriageways, pavements, kerbs and road markings. The ground is dry, wet or under snow."""

import numpy as np

from cricavpr.town.camera import Camera, to_camera_frame
from cricavpr.town.hashing import Array, hash_cells, unit
from cricavpr.town.streets import Edges
from cricavpr.town.views import GROUND, SKY, Buffer, Shot

_REACH_M = 95.0
_EARTH, _WALK = (0.36, 0.37, 0.24), (0.60, 0.58, 0.55)
_ROAD, _ROAD_TINT = (0.30, 0.30, 0.31), (1.0, 0.8, 0.65)


def draw_ground(buffer: Buffer, shot: Shot) -> None:
    """Paint every pixel below the horizon that shows no wall."""
    on = np.flatnonzero((buffer.surface == SKY) & (shot.slope < -0.004))
    if not len(on):
        return
    weather = shot.weather
    forward = np.float32(-shot.camera.height_m) / shot.slope[on]
    right = shot.tangent[on] * forward
    # A pixel covers more ground along the view than across it. `foot`, a value in between, limits the detail.
    across = forward / np.float32(shot.focal)
    foot = across * (1 + forward / np.float32(2 * shot.camera.height_m))
    foot = np.maximum(np.minimum(foot, 12), np.float32(0.01))
    colour = _pave(shot, right, forward, foot)
    if weather.wet > 0:
        colour *= np.float32(1 - 0.35 * weather.wet)
        mirror = np.minimum(forward * np.float32(0.02), np.float32(0.35)) * np.float32(weather.wet)
        for c in range(3):
            colour[c] += (np.float32(weather.horizon[c]) - colour[c]) * mirror
    if weather.snow > 0:
        for c, white in enumerate((0.90, 0.92, 0.96)):
            colour[c] += (np.float32(white) - colour[c]) * np.float32(0.82 * weather.snow)
    buffer.albedo[:, on] = colour
    buffer.direct[on] = 0.6
    buffer.forward[on] = forward
    buffer.surface[on] = GROUND


def _pave(
    shot: Shot,
    right: Array,  # (N,) metres
    forward: Array,  # (N,) metres
    foot: Array,  # (N,) metres of ground that the pixel covers
) -> Array:  # (3, N)
    """Return the colour of ground pixels. Whether it is road, pavement or earth depends on the nearby street pieces."""
    town, edges = shot.town, shot.town.net.edges
    inside = np.full(len(right), -99.0, np.float32)  # metres inside the carriageway; negative outside
    walk = np.full(len(right), -99.0, np.float32)  # metres inside the street with its pavements
    mark = np.zeros(len(right), np.float32)
    tint = np.zeros(len(right), np.float32)
    for e in town.near_edges(shot.camera, _REACH_M).tolist():
        found = _along_edge(edges, e, shot.camera, right, forward)
        if found is None:
            continue
        t, d, length = found
        start, end = np.float32(edges.cross_m[e, 0] / 2), edges.cross_m[e, 1] / 2
        ends = np.minimum(t + start, np.float32(length + end) - t)
        depth = np.minimum(np.float32(float(edges.width_m[e] / 2 - edges.walk_m[e])) - d, ends)
        tint = np.where(depth > inside, np.float32(town.paving[int(edges.street[e])]), tint)
        inside = np.maximum(inside, depth)
        walk = np.maximum(walk, np.minimum(np.float32(edges.width_m[e] / 2) - d, ends))
        clear = np.minimum(t - start, np.float32(length - end) - t)  # metres from the crossings
        if edges.width_m[e] > 15.0:
            mark = np.maximum(mark, _centre_line(t, d, clear, foot))
        if town.zebra[e]:
            mark = np.maximum(mark, _zebra(d, depth, clear, foot))
    return _ground_colour(shot, right, forward, foot, inside, walk, mark, tint)


def _along_edge(
    edges: Edges, e: int, camera: Camera, right: Array, forward: Array
) -> tuple[Array, Array, float] | None:
    """Return each point's distance along a street piece, its distance from the axis, and the length of the piece.

    Return None if the street piece is behind the camera.
    """
    (ax, bx), (ay, by) = to_camera_frame(
        camera, np.array([edges.start_m[e, 0], edges.end_m[e, 0]]), np.array([edges.start_m[e, 1], edges.end_m[e, 1]])
    )
    if max(ay, by) < -25.0:  # the metres are more than the width of a street
        return None
    length = float(np.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay)))
    ux, uy = np.float32((bx - ax) / length), np.float32((by - ay) / length)
    dx, dy = right - np.float32(ax), forward - np.float32(ay)
    return dx * ux + dy * uy, np.abs(dx * uy - dy * ux), length


def _share(metres: Array, foot: Array) -> Array:
    """Return the share of each footprint beyond an edge. `metres` is its signed distance from the edge."""
    return np.asarray(np.minimum(np.maximum(metres / foot + np.float32(0.5), 0), 1))


def _centre_line(t: Array, d: Array, clear: Array, foot: Array) -> Array:
    dash = t * np.float32(1 / 6.0)
    drawn = dash - np.floor(dash) < np.float32(0.5)
    return np.asarray(_share(np.float32(0.1) - d, foot) * drawn * (clear > 5))


def _zebra(d: Array, depth: Array, clear: Array, foot: Array) -> Array:
    stripe = d - np.floor(d) < np.float32(0.5)
    sharp = np.minimum(np.maximum(1.6 - foot * np.float32(0.8), 0), 1)
    return np.asarray(stripe * (depth > 0) * (clear > 0.5) * (clear < 3.8) * sharp)


def _ground_colour(
    shot: Shot, right: Array, forward: Array, foot: Array, inside: Array, walk: Array, mark: Array, tint: Array
) -> Array:  # (3, N)
    axes = shot.axes
    east = right * np.float32(axes.right[0]) + forward * np.float32(axes.forward[0])
    north = right * np.float32(axes.right[1]) + forward * np.float32(axes.forward[1])
    grain = hash_cells(np.floor(east * 2).astype(np.int32), np.floor(north * 2).astype(np.int32), 5)
    sharp = np.minimum(np.maximum(1.5 - foot * 2, 0), 1)
    on_walk, on_road = _share(walk, foot), _share(inside, foot)
    kerb = _share(np.float32(0.2) - np.abs(inside), foot)
    colour = np.stack([np.full(len(right), v, np.float32) for v in _EARTH])
    for c in range(3):
        colour[c] += (np.float32(_WALK[c]) - colour[c]) * on_walk
        road = np.float32(_ROAD[c]) + tint * np.float32(_ROAD_TINT[c])
        colour[c] += (road - colour[c]) * on_road
        colour[c] += (np.float32(0.70) - colour[c]) * kerb * on_walk * np.float32(0.6)
        colour[c] += (np.float32(0.85) - colour[c]) * mark * on_road
    colour *= 1 + (unit(grain) - np.float32(0.5)) * np.float32(0.06) * sharp
    return colour
