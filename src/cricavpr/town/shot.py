"""What the modules that draw one picture share: its camera and scene, and the buffer they draw into."""

from dataclasses import dataclass

import numpy as np

from cricavpr.town.camera import Axes, Camera, Rays, axes_of, rays_of
from cricavpr.town.hashing import Array
from cricavpr.town.views import Town
from cricavpr.town.weather import CONDITIONS, Scene, Weather

SKY, GROUND = -2, -1  # surface numbers below 0; walls have their row in the plan
STANDING, PASSING = 1 << 28, 1 << 29  # surface numbers of trees and lamps, of cars and passers-by


@dataclass(frozen=True)
class Shot:
    """Everything that is computed once for a picture. P = h * w pixels, row by row."""

    town: Town
    camera: Camera
    scene: Scene
    image_size: tuple[int, int]  # (h, w)
    weather: Weather
    axes: Axes
    rays: Rays
    tangent: Array  # (P,) float32, see Rays
    slope: Array  # (P,) float32
    focal: float  # pixels


def aim(town: Town, camera: Camera, scene: Scene, image_size: tuple[int, int]) -> Shot:
    """Prepare a picture of a town."""
    axes, rays = axes_of(camera), rays_of(camera, image_size)
    return Shot(
        town=town,
        camera=camera,
        scene=scene,
        image_size=image_size,
        weather=CONDITIONS[scene.condition],
        axes=axes,
        rays=rays,
        tangent=rays.tangent.reshape(-1),
        slope=rays.slope.reshape(-1),
        focal=image_size[1] / 2 / axes.half_tan,
    )


@dataclass(frozen=True)
class Buffer:
    """The picture while it is drawn."""

    albedo: Array  # (3, P) float32 colour in white light
    light: Array  # (3, P) float32 light of its own
    direct: Array  # (P,) float32 share of the sun
    forward: Array  # (P,) float32 metres along Y; infinite in the sky
    surface: Array  # (P,) int32


def empty_buffer(pixels: int) -> Buffer:
    """Return a buffer of nothing but sky."""
    return Buffer(
        albedo=np.zeros((3, pixels), np.float32),
        light=np.zeros((3, pixels), np.float32),
        direct=np.zeros(pixels, np.float32),
        forward=np.full(pixels, np.inf, np.float32),
        surface=np.full(pixels, SKY, np.int32),
    )
