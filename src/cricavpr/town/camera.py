"""Pinhole camera: its pose, the rays of its pixels, and projection to pixels and back.

World coordinates are in metres: x east, y north, z up. Camera coordinates are X to the right and Y forward, both
horizontal even if the camera is pitched, and Z up from the lens. The camera has no roll. A ray is described by two
numbers, its tangent X / Y and its slope Z / Y, which include the pitch.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cricavpr.town.hashing import Array

DIGITS = 9  # digits to which sines and cosines are rounded, so that math libraries cannot change a pixel


@dataclass(frozen=True)
class Camera:
    """Position, direction and field of view of a camera.

    Yaw 0 looks north, and yaw grows clockwise. A positive pitch looks up. `fov_deg` is the horizontal field of view.
    """

    x_m: float
    y_m: float
    height_m: float
    yaw_deg: float
    pitch_deg: float
    fov_deg: float


@dataclass(frozen=True)
class Axes:
    """Directions of a camera in the world, and the sine, cosine and tangent of its angles."""

    right: tuple[float, float]  # world direction (x, y) to the right of the camera
    forward: tuple[float, float]  # horizontal world direction (x, y) in which it looks
    pitch_cos: float
    pitch_sin: float
    half_tan: float  # tangent of half the horizontal field of view


@lru_cache(maxsize=256)
def axes_of(camera: Camera) -> Axes:
    """Return the directions and trigonometric values of a camera, rounded to nine decimals."""
    yaw, pitch = math.radians(camera.yaw_deg), math.radians(camera.pitch_deg)
    sine, cosine = round(math.sin(yaw), DIGITS), round(math.cos(yaw), DIGITS)
    return Axes(
        right=(cosine, -sine),
        forward=(sine, cosine),
        pitch_cos=round(math.cos(pitch), DIGITS),
        pitch_sin=round(math.sin(pitch), DIGITS),
        half_tan=round(math.tan(math.radians(camera.fov_deg) / 2), DIGITS),
    )


@dataclass(frozen=True)
class Rays:
    """Rays through the pixels in the camera frame, row by row from the top left."""

    tangent: Array  # (h, w) float32: X / Y
    slope: Array  # (h, w) float32: Z / Y
    advance: Array  # (h, 1) float32: metres along Y per metre along the optical axis


def rays_of(camera: Camera, image_size: tuple[int, int]) -> Rays:
    """Return the rays through all pixel centres of an (h, w) picture."""
    height, width = image_size
    axes = axes_of(camera)
    focal = width / 2 / axes.half_tan
    across = ((np.arange(width) + 0.5 - width / 2) / focal)[None, :]  # (1, w)
    upwards = ((height / 2 - 0.5 - np.arange(height)) / focal)[:, None]  # (h, 1)
    advance = axes.pitch_cos - upwards * axes.pitch_sin
    slope = (axes.pitch_sin + upwards * axes.pitch_cos) / advance
    return Rays(
        tangent=(across / advance).astype(np.float32),
        slope=np.broadcast_to(slope, (height, width)).astype(np.float32),
        advance=advance.astype(np.float32),
    )


def to_camera_frame(
    camera: Camera,
    x_m: Array,  # (...,) world
    y_m: Array,  # (...,) world
) -> tuple[Array, Array]:  # X right, Y forward, float64
    """Convert horizontal world coordinates (x, y) to camera coordinates (X, Y)."""
    axes = axes_of(camera)
    east, north = x_m - camera.x_m, y_m - camera.y_m
    return (east * axes.right[0] + north * axes.right[1], east * axes.forward[0] + north * axes.forward[1])


def project(
    camera: Camera,
    points_m: Array,  # (N, 3) x, y, z in the town's frame
    image_size: tuple[int, int],
) -> tuple[Array, Array]:  # (N, 2) u, v in pixels; (N,) depth in metres along the optical axis
    """Project points to pixel coordinates (u, v). Pixel (row i, column j) covers u in [j, j + 1) and v in [i, i + 1).

    A point with depth <= 0 is behind the lens, and its u and v are undefined.

    Example:
        >>> camera = Camera(x_m=0, y_m=0, height_m=2, yaw_deg=0, pitch_deg=0, fov_deg=90)
        >>> project(camera, np.array([[0.0, 10.0, 2.0]]), (100, 200))
        (array([[100.,  50.]]), array([10.]))
    """
    height, width = image_size
    axes = axes_of(camera)
    right, forward = to_camera_frame(camera, points_m[:, 0], points_m[:, 1])
    uv, depth = project_local(right, forward, points_m[:, 2] - camera.height_m, axes, height, width)
    return uv, depth


def project_local(
    right: Array,  # (...,) X
    forward: Array,  # (...,) Y
    up: Array,  # (...,) Z
    axes: Axes,
    height: int,
    width: int,
) -> tuple[Array, Array]:  # (..., 2) pixels; (...,) depth in metres
    """Project points in camera coordinates to pixel coordinates."""
    focal = width / 2 / axes.half_tan
    depth = forward * axes.pitch_cos + up * axes.pitch_sin
    safe = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
    u = width / 2 + focal * right / safe
    v = height / 2 - focal * (up * axes.pitch_cos - forward * axes.pitch_sin) / safe
    return np.stack([u, v], axis=-1), depth


def lift(
    camera: Camera,
    uv: Array,  # (N, 2) pixels
    depth_m: Array,  # (N,) along the optical axis
    image_size: tuple[int, int],
) -> Array:  # (N, 3) x, y, z in the town's frame
    """Return the world points that are shown by pixels with known depth. This is the inverse of `project`.

    Example:
        >>> camera = Camera(x_m=0, y_m=0, height_m=2, yaw_deg=0, pitch_deg=0, fov_deg=90)
        >>> lift(camera, np.array([[100.0, 50.0]]), np.array([10.0]), (100, 200))
        array([[ 0., 10.,  2.]])
    """
    height, width = image_size
    axes = axes_of(camera)
    focal = width / 2 / axes.half_tan
    across = (uv[:, 0] - width / 2) / focal * depth_m
    upwards = (height / 2 - uv[:, 1]) / focal * depth_m
    forward = depth_m * axes.pitch_cos - upwards * axes.pitch_sin
    up = depth_m * axes.pitch_sin + upwards * axes.pitch_cos
    x = camera.x_m + across * axes.right[0] + forward * axes.forward[0]
    y = camera.y_m + across * axes.right[1] + forward * axes.forward[1]
    return np.stack([x, y, up + camera.height_m], axis=-1)
