"""Camera, scene and buffer of one picture, which the modules that draw it share."""

import numpy as np

from cricavpr.town.camera import Camera, axes_of, rays_of
from cricavpr.town.views import Town
from cricavpr.town.weather import CONDITIONS, Scene

SKY, GROUND = -2, -1  # surface numbers below 0; walls have their row in the plan
STANDING, PASSING = 1 << 28, 1 << 29  # surface numbers of trees and lamps, of cars and passers-by


class Shot:
    """Everything that is computed once for a picture. P = h * w pixels, row by row."""

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
    """The picture while it is drawn; at first nothing but sky."""

    def __init__(self, pixels: int) -> None:
        self.albedo = np.zeros((3, pixels), np.float32)  # colour in white light
        self.light = np.zeros((3, pixels), np.float32)  # light of its own
        self.direct = np.zeros(pixels, np.float32)  # share of the sun
        self.forward = np.full(pixels, np.inf, np.float32)  # metres along Y; infinite in the sky
        self.surface = np.full(pixels, SKY, np.int32)
