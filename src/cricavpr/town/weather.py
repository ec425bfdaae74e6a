"""Weather and time of day: light, haze and sky of each condition, and the sensor noise of the camera."""

from dataclasses import dataclass

import numpy as np

from cricavpr.town.hashing import Array, hash_array, hash_cells, unit

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Everything that a picture depends on, except the town and the camera."""

    condition: str  # one of CONDITIONS
    year: int
    occluder_seed: int = 0  # seed of the cars and passers-by
    occluders: float = 0.0  # share of slots for cars and passers-by that are occupied
    view_seed: int = 0  # seed of the sky, lit windows, falling rain and snow, sensor noise
    exposure: float = 1.0  # gain
    cast: RGB = (1.0, 1.0, 1.0)  # white balance gains
    noise: float = 0.0  # standard deviation of the sensor noise, for grey levels 0 to 255
    sun_azimuth_deg: float = 160.0


@dataclass(frozen=True)
class Weather:
    """Light and haze of one condition. Colours are display values from 0 to 1."""

    ambient: RGB
    sun: RGB
    zenith: RGB
    horizon: RGB
    haze_m: float  # metres at which half of a colour is haze
    clouds: float  # 0..1
    lamps: float = 0.0  # strength of the street lamps, 0..1
    lit: float = 0.0  # share of windows that are lit
    wet: float = 0.0
    snow: float = 0.0
    grey: float = 0.0  # desaturation
    noise: float = 1.0  # factor of the sensor noise; 1 by day


CONDITIONS: dict[str, Weather] = {  # ambient, sun, zenith, horizon, haze_m, clouds
    "day": Weather((0.60, 0.63, 0.70), (0.52, 0.47, 0.38), (0.34, 0.54, 0.86), (0.76, 0.86, 0.95), 420, 0.5),
    "overcast": Weather(
        (0.82, 0.83, 0.86), (0.08, 0.08, 0.08), (0.70, 0.72, 0.76), (0.82, 0.83, 0.85), 300, 0.3, grey=0.1
    ),
    "dusk": Weather(
        (0.40, 0.37, 0.46), (0.46, 0.25, 0.08), (0.24, 0.26, 0.46), (0.96, 0.62, 0.38), 240, 0.4, lamps=0.35, lit=0.25
    ),
    "night": Weather(
        (0.24, 0.25, 0.34), (0, 0, 0), (0.04, 0.05, 0.10), (0.15, 0.13, 0.15), 260, 0.2, lamps=1.0, lit=0.26, noise=1.3
    ),
    "rain": Weather(
        (0.60, 0.62, 0.66), (0, 0, 0), (0.50, 0.52, 0.56), (0.66, 0.68, 0.70), 110, 0.3, wet=1.0, grey=0.35
    ),
    "fog": Weather((0.78, 0.79, 0.80), (0, 0, 0), (0.80, 0.81, 0.82), (0.80, 0.81, 0.82), 46, 0.0, grey=0.2),
    "snow": Weather(
        (0.84, 0.87, 0.94), (0, 0, 0), (0.80, 0.82, 0.86), (0.84, 0.86, 0.89), 130, 0.1, snow=1.0, grey=0.15
    ),
}


def paint_sky(
    weather: Weather,
    east: Array,  # (N,) metres to the east per metre forward along the ray
    north: Array,  # (N,)
    slope: Array,  # (N,) metres upwards per metre forward
    view_seed: int,
) -> Array:  # (3, N) float32
    """Return the colour of the sky: a vertical gradient, with clouds that are noise on a high plane."""
    level = np.sqrt(east * east + north * north + slope * slope)
    up = np.maximum(slope / level, 0)
    ramp = np.minimum(up * (2 - up) * np.float32(1.15), 1)
    sky = np.stack(
        [np.float32(h) + np.float32(z - h) * ramp for z, h in zip(weather.zenith, weather.horizon, strict=True)]
    )
    if weather.clouds > 0:
        reach = 1 / (slope + np.float32(0.18) * level)
        x, y = east * reach, north * reach
        cover = _smooth_noise(x * np.float32(1.3), y * np.float32(1.3), view_seed)
        cover = cover * np.float32(0.7) + np.float32(0.3) * _smooth_noise(
            x * np.float32(3.1), y * np.float32(3.1), view_seed + 1
        )
        cover = np.minimum(np.maximum((cover - np.float32(0.45)) * 4, 0), 1) * np.float32(weather.clouds)
        bright = [min(1.0, 0.35 * z + 0.75 * h) for z, h in zip(weather.zenith, weather.horizon, strict=True)]
        for c in range(3):
            sky[c] += (np.float32(bright[c]) - sky[c]) * cover
    return sky


def _smooth_noise(x: Array, y: Array, seed: int) -> Array:
    """Return smooth noise from 0 to 1: random numbers on a lattice, with cubic interpolation between them."""
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = x - x0, y - y0
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    i, j = x0.astype(np.int32), y0.astype(np.int32)
    corner = [[unit(hash_cells(i + di, j + dj, seed)) for di in (0, 1)] for dj in (0, 1)]
    low = corner[0][0] + (corner[0][1] - corner[0][0]) * fx
    high = corner[1][0] + (corner[1][1] - corner[1][0]) * fx
    return np.asarray(low + (high - low) * fy)


def add_haze(
    colour: Array,  # (3, N) in place
    distance_m: Array,  # (N,)
    weather: Weather,
) -> None:
    """Blend colours with the colour of the horizon. The share of the horizon grows with the distance."""
    square = distance_m * distance_m
    share = square / (square + np.float32(weather.haze_m**2))
    for c in range(3):
        colour[c] += (np.float32(weather.horizon[c]) - colour[c]) * share


def add_precipitation(picture: Array, weather: Weather, view_seed: int) -> None:  # (3, h, w) in place
    """Draw streaks of rain or flakes of snow. Their size is a fixed share of the picture's size."""
    if weather.wet <= 0 and weather.snow <= 0:
        return
    height, width = picture.shape[1:]
    rows = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    columns = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(width)
    y, x = np.broadcast_to(rows[:, None], (height, width)), np.broadcast_to(columns[None, :], (height, width))
    if weather.wet > 0:
        falling = _streaks(x, y, view_seed) * np.float32(0.16 * weather.wet)
    else:
        falling = _flakes(x, y, view_seed) * np.float32(0.8 * weather.snow)
    for c in range(3):
        picture[c] += (np.float32(0.92) - picture[c]) * falling


def _streaks(x: Array, y: Array, view_seed: int) -> Array:  # (h, w) float32, 0 or 1
    lean = x + y * np.float32(0.12)
    cell = hash_cells(np.floor(lean * 110).astype(np.int32), np.floor(y * 9).astype(np.int32), view_seed)
    return np.asarray((cell % np.uint32(14) == 0).astype(np.float32))


def _flakes(x: Array, y: Array, view_seed: int) -> Array:  # (h, w) float32 in 0..1
    """Return how much of each pixel is snow. Flakes are soft discs in two lattices, in one of four cells on average."""
    falling = np.zeros(x.shape, np.float32)
    for layer, (cells, size) in enumerate(((26, 0.30), (48, 0.26))):
        i, j = np.floor(x * cells), np.floor(y * cells)
        cell = hash_cells(i.astype(np.int32), j.astype(np.int32), view_seed + layer)
        dx = x * cells - i - (np.float32(0.3) + np.float32(0.4) * unit(cell))
        dy = y * cells - j - (np.float32(0.3) + np.float32(0.4) * unit(cell * np.uint32(9)))
        flake = np.minimum(np.maximum((size * size - dx * dx - dy * dy) * np.float32(14), 0), 1)
        falling = np.maximum(falling, flake * (cell % np.uint32(4) == 0))
    return falling


def develop(picture: Array, scene: Scene) -> Array:  # (3, h, w) float32 0..1, consumed -> (h, w, 3) uint8
    """Turn light into the pixels of a photo: apply desaturation, exposure, white balance, sensor noise and rounding."""
    weather = CONDITIONS[scene.condition]
    if weather.grey > 0:
        grey = picture[0] * np.float32(0.3) + picture[1] * np.float32(0.59) + picture[2] * np.float32(0.11)
        for c in range(3):
            picture[c] += (grey - picture[c]) * np.float32(weather.grey)
    _, height, width = picture.shape
    out = np.empty((height, width, 3), np.uint8)
    strength = scene.noise * weather.noise
    bits = hash_array(scene.view_seed, 77, np.arange(height * width, dtype=np.uint32)).reshape(height, width)
    for c in range(3):
        levels = picture[c] * np.float32(255 * scene.exposure * scene.cast[c])
        if strength > 0:
            # Half of the noise is the same in all channels. The sum of two random bytes is nearly normally distributed.
            own = (bits >> np.uint32(5 * c)).astype(np.int32)
            bell = ((own & 255) + ((own >> 8) & 255) - 255).astype(np.float32)
            levels += bell * np.float32(strength / 104.0)
        out[:, :, c] = np.minimum(np.maximum(levels + np.float32(0.5), 0), 255).astype(np.uint8)
    return out
