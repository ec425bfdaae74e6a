"""Paint facades: compute the colour of a wall at the coordinates s (along the wall) and z (up), in metres.

Window grids and stripes are averaged over the piece of wall that a pixel covers. So a distant facade has its mean
colour and no aliasing.
"""

from dataclasses import dataclass

import numpy as np

from cricavpr.town.hashing import Array, hash_cells, unit
from cricavpr.town.looks import Paints
from cricavpr.town.plan import FLAT, GABLE, STEPPED


@dataclass(frozen=True)
class WallPixels:
    """N pixels that show walls. The footprint of a pixel is the piece of wall that it covers."""

    wall: Array  # (N,) index of the wall in Paints
    s: Array  # (N,) metres along the wall
    z: Array  # (N,) metres above the street
    foot_s: Array  # (N,) width of the footprint along the wall, in metres
    foot_z: Array  # (N,) height of the footprint, in metres

    def at(self, on: Array) -> "WallPixels":  # (n,) indices of pixels
        """Return the pixels with the indices `on`."""
        return WallPixels(self.wall[on], self.s[on], self.z[on], self.foot_s[on], self.foot_z[on])

    def get(self, column: Array) -> Array:  # (S,) one value per wall -> (N,)
        """Return, for each pixel, the value of the wall that it shows."""
        return np.take(column, self.wall)

    def colour(self, columns: Array) -> Array:  # (S, 3) one colour per wall -> (3, N)
        """Return, for each pixel, the colour of the wall that it shows."""
        return np.stack([np.take(columns[:, c], self.wall) for c in range(3)])

    def box(self, corners: Array) -> Array:  # (S, 4): s from, s to, z from, z to -> (N,)
        """For each pixel, return the share of its area on the wall that lies inside a rectangle."""
        s0, s1, z0, z1 = (np.take(corners[:, k], self.wall) for k in range(4))
        return np.asarray(_band(self.s, s0, s1, self.foot_s) * _band(self.z, z0, z1, self.foot_z))


def wall_tops(
    s: Array,  # metres along the wall
    length: Array,
    eaves: Array,
    rise: Array,
    profile: Array,  # int: FLAT, GABLE, STEPPED or RAISED
) -> Array:  # metres, in the broadcast shape
    """Return the height of the upper edge of a wall at `s` metres along the wall."""
    inner = 1 - np.abs(2 * s / length - 1)  # 0 at the ends, 1 in the middle
    steps = np.floor(inner * 4.999) * np.float32(0.25)
    shape = np.where(profile == GABLE, inner, np.where(profile == STEPPED, steps, inner > np.float32(0.45)))
    return np.asarray(eaves + rise * np.where(profile == FLAT, np.float32(0), shape))


def _pulses(x: Array, low: Array, high: Array, footprint: Array) -> Array:
    """Return the share of the footprint around x that is in [low, high], an interval that repeats with period 1."""
    half, width = footprint * np.float32(0.5), high - low

    def integral(at: Array) -> Array:
        whole = np.floor(at)
        return np.asarray(whole * width + np.minimum(np.maximum(at - whole - low, 0), width))

    return np.asarray((integral(x + half) - integral(x - half)) / footprint)


def _band(x: Array, low: "Array | float", high: "Array | float", footprint: Array) -> Array:
    """Return the share of the footprint around x that is in [low, high]."""
    half = footprint * np.float32(0.5)
    return np.asarray(np.maximum(np.minimum(x + half, high) - np.maximum(x - half, low), 0) / footprint)


def _mix(colour: Array, layer: Array, cover: Array) -> None:
    """Blend `layer` into `colour` in place; both are (3, N). `cover` is the opacity of the layer, 0 to 1."""
    for c in range(3):
        colour[c] += (layer[c] - colour[c]) * cover


class _Grid:
    """For each of N pixels, its position in the grid of windows of its wall. All arrays are (N,)."""

    def __init__(self, paints: Paints, pixels: WallPixels, ground: Array) -> None:
        z, storey, pitch, plain = pixels.z, *map(pixels.get, (paints.storey, paints.pitch, paints.plain))
        self.below = z < ground  # on the ground floor
        self.cell_m = np.where(self.below, ground + np.float32(0.01), storey)  # height of the storey
        # u counts columns from the left, v storeys from the ground; the fraction is the position within the cell.
        self.u = (pixels.s - pixels.get(paints.margin)) / pitch
        self.v = np.where(self.below, z, z - ground) / self.cell_m
        self.foot_u, self.foot_v = pixels.foot_s / pitch, pixels.foot_z / self.cell_m
        column, row, storeys = np.floor(self.u), np.floor(self.v), pixels.get(paints.storeys)
        self.column = column.astype(np.int32)
        self.row = np.where(self.below, -1, row).astype(np.int32)  # -1 on the ground floor
        self.storey_m = self.v * storey  # metres above the floor of the storey; on the ground floor scaled to `storey`
        self.inhabited = (~plain).astype(np.float32)  # 0 for ridges and hedges
        windows = (column >= 0) & (column < pixels.get(paints.columns)) & (row < storeys) & (z > 0) & ~plain
        windows &= (pixels.get(paints.blind) >> (self.column & 7)) & 1 == 0
        windows &= ~(self.below & (pixels.get(paints.shop) > 0))
        self.windows = windows.astype(np.float32)  # 1 where the cell has a window
        # Below the upper end of the top storey; below the upper end of the line above it.
        self.in_storeys, self.up_to_eaves = row < storeys, row <= storeys
        # 1 where single windows can be seen, fading to 0 with the distance.
        self.near = np.minimum(np.maximum(1.6 - 1.6 * np.maximum(self.foot_u, self.foot_v), 0), 1)


def paint_walls(
    paints: Paints,
    pixels: WallPixels,
    lit_share: float,  # share of the windows that are lit, 0..1
    evening: int,  # seed that decides which windows are lit
) -> tuple[Array, Array]:  # both (3, N) float32
    """Return the colour of every pixel, and the light that lit windows add to it at night."""
    colour = pixels.colour(paints.wall)
    ground = pixels.get(paints.ground)
    _mix(colour, pixels.colour(paints.lower), _band(pixels.z, 0.0, ground, pixels.foot_z))
    _roughen(colour, pixels, pixels.get(paints.key))
    _mix(colour, pixels.colour(paints.accent), pixels.box(paints.accent_box))
    grid = _Grid(paints, pixels, ground)
    trim = pixels.colour(paints.trim)
    _paint_lines(colour, paints, pixels, grid, trim)
    light = np.zeros_like(colour)
    _paint_windows(colour, light, paints, pixels, grid, trim, lit_share, evening)
    _paint_balconies(colour, paints, pixels, grid, trim)
    _paint_panels(colour, paints, pixels)
    _paint_ground_floor(colour, light, paints, pixels, lit_share)
    eaves = pixels.get(paints.eaves)
    _mix(colour, trim, _band(pixels.z, eaves - np.float32(0.35), eaves, pixels.foot_z) * grid.inhabited)
    return colour, light


def _roughen(
    colour: Array,  # (3, N) in place
    pixels: WallPixels,
    key: Array,  # (N,) uint32
) -> None:
    """Add rows of stones and broad stains to `colour`. They fade out where they are smaller than a pixel."""
    s, z = pixels.s, pixels.z
    fine = hash_cells(np.floor(s * 1.6).astype(np.int32), np.floor(z * 3.3).astype(np.int32), key)
    broad_cell = np.floor(s * 0.35).astype(np.int32), np.floor(z * 0.4).astype(np.int32)
    broad = hash_cells(*broad_cell, key ^ np.uint32(7))
    sharp = np.minimum(np.maximum(1.5 - np.maximum(pixels.foot_s * 1.6, pixels.foot_z * 3.3), 0), 1)
    courses = (unit(fine) - np.float32(0.5)) * np.float32(0.08) * sharp
    colour *= 1 + courses + (unit(broad) - np.float32(0.5)) * np.float32(0.04)


def _paint_lines(colour: Array, paints: Paints, pixels: WallPixels, grid: _Grid, trim: Array) -> None:
    """Paint horizontal bands between storeys, and upright timbers between columns of windows."""
    course, timber = pixels.get(paints.course), pixels.get(paints.timber)
    height = np.where(grid.below, pixels.z - pixels.get(paints.ground), grid.storey_m)
    lines = np.minimum(_band(height, -course, course, pixels.foot_z) * (course > 0), 1)
    _mix(colour, trim, lines * grid.up_to_eaves * grid.inhabited)
    posts = _pulses(grid.u + timber / 2, np.zeros_like(grid.u), timber, grid.foot_u)
    _mix(colour, trim * np.float32(0.35), posts * ~grid.below * grid.inhabited * (timber > 0))


def _paint_windows(
    colour: Array,
    light: Array,
    paints: Paints,
    pixels: WallPixels,
    grid: _Grid,
    trim: Array,
    lit_share: float,
    evening: int,
) -> None:
    """Paint the shutters, frames and panes of windows. At night some panes are lit."""
    u, v, fu, fv = grid.u, grid.v, grid.foot_u, grid.foot_v
    left, right, sill, head = (np.take(paints.window[:, k], pixels.wall) for k in range(4))
    frame = pixels.get(paints.frame)
    frame_u, frame_v = frame / pixels.get(paints.pitch), frame / grid.cell_m
    pane_z = _pulses(v, sill, head, fv)
    shutters = pixels.get(paints.shutters)
    if shutters.any():
        wing = np.minimum(shutters, left * np.float32(0.9))
        cover = _pulses(u, left - wing, right + wing, fu) * pane_z * grid.windows
        _mix(colour, pixels.colour(paints.shutter), cover * (shutters > 0))
    around = _pulses(u, left - frame_u, right + frame_u, fu) * _pulses(v, sill - frame_v, head + frame_v, fv)
    _mix(colour, trim, around * grid.windows)
    pane = _pulses(u, left, right, fu) * pane_z * grid.windows
    key = pixels.get(paints.key)
    room = unit(hash_cells(grid.column, grid.row, key))
    tone = np.float32(0.16) + np.float32(0.2) * grid.near * (room - np.float32(0.5)) + 0.06
    _mix(colour, np.stack([tone * np.float32(c) for c in (0.80, 0.95, 1.15)]), pane)
    if lit_share > 0:
        tonight = unit(hash_cells(grid.column, grid.row, key ^ np.uint32(evening)))
        lit = grid.near * (tonight < lit_share) + (1 - grid.near) * np.float32(lit_share)
        for c, share in enumerate((1.0, 0.78, 0.42)):
            light[c] = pane * lit * (0.75 + 0.25 * room) * np.float32(share)


def _paint_balconies(colour: Array, paints: Paints, pixels: WallPixels, grid: _Grid, trim: Array) -> None:
    chosen = ((pixels.get(paints.balcony) >> (grid.row & 7)) & 1) * (grid.row >= 0)
    rail = _band(grid.storey_m, 0.0, 0.95, pixels.foot_z)
    rail = rail * (chosen.astype(np.float32) * grid.inhabited) * grid.in_storeys
    _mix(colour, trim * np.float32(0.45), rail * np.float32(0.75))


def _paint_panels(colour: Array, paints: Paints, pixels: WallPixels) -> None:
    """Paint advertisements: a rectangle with a smaller rectangle inside."""
    on = np.flatnonzero(pixels.get(paints.panel_box[:, 1] > -40))
    if not len(on):
        return
    pixels, part = pixels.at(on), colour[:, on]
    _mix(part, pixels.colour(paints.panel), pixels.box(paints.panel_box))
    s0, s1, z0, z1 = (np.take(paints.panel_box[:, k], pixels.wall) for k in range(4))
    margin_s, margin_z = (s1 - s0) * np.float32(0.25), (z1 - z0) * np.float32(0.28)
    mark = _band(pixels.s, s0 + margin_s, s1 - margin_s, pixels.foot_s)
    mark = mark * _band(pixels.z, z0 + margin_z, z1 - margin_z, pixels.foot_z)
    _mix(part, pixels.colour(paints.panel_mark), mark)
    colour[:, on] = part


def _paint_ground_floor(colour: Array, light: Array, paints: Paints, pixels: WallPixels, lit_share: float) -> None:
    """Paint shop windows, signs with lettering, and doors on pixels of the ground floor."""
    on = np.flatnonzero((pixels.z < pixels.get(paints.ground)) & ~pixels.get(paints.plain))
    if not len(on):
        return
    pixels, part = pixels.at(on), colour[:, on]
    s, z, foot_s, foot_z = pixels.s, pixels.z, pixels.foot_s, pixels.foot_z
    length, ground, shop = (pixels.get(a) for a in (paints.length, paints.ground, paints.shop))
    key = pixels.get(paints.key)

    def strip(low: float, high: float, below_ground_m: float, down_to: "float | Array") -> Array:
        across = _band(s, length * np.float32(low), length * np.float32(high), foot_s)
        return across * _band(z, down_to, ground - np.float32(below_ground_m), foot_z)

    mullion = _pulses(s / np.float32(2.1), 0 * s, np.float32(0.07) + 0 * s, foot_s / np.float32(2.1))
    glass = strip(0.06, 0.94, 1.1, 0.5) * shop * (1 - mullion)
    wares = hash_cells(np.floor(s * 0.9).astype(np.int32), np.floor(z * 1.1).astype(np.int32), key)
    tone = np.float32(0.14) + np.float32(0.22) * unit(wares)
    _mix(part, np.stack([tone, tone, tone * np.float32(1.1)]), glass)
    board = strip(0.03, 0.97, 0.08, ground - np.float32(1.0)) * shop
    _mix(part, pixels.colour(paints.sign), board)
    text = strip(0.2, 0.8, 0.3, ground - np.float32(0.78)) * shop * _lettering(s, foot_s, key)
    _mix(part, pixels.colour(paints.letters), text)
    door = pixels.get(paints.door_s)
    leaf = _band(s, door - np.float32(0.6), door + np.float32(0.6), foot_s) * _band(z, 0.0, 2.3, foot_z)
    _mix(part, pixels.colour(paints.door), leaf)
    colour[:, on] = part
    if lit_share > 0:
        open_late = (key % np.uint32(3) < 2).astype(np.float32)
        for c, share in enumerate((1.0, 0.86, 0.60)):
            shine = glass * (1 - leaf) * open_late * np.float32(0.8 * share) * (np.float32(0.5) + tone * 2)
            light[c, on] = light[c, on] * (1 - leaf) + shine + board * part[c] * np.float32(0.55)


def _lettering(s: Array, foot_s: Array, key: Array) -> Array:  # (N,) 0..1
    """Return the share of each pixel that the letters of a sign cover.

    Three of five blocks, each half a metre long, are letters. On a distant sign single blocks cannot be seen, and each
    pixel has the mean share.
    """
    block = hash_cells(np.floor(s * 2.0).astype(np.int32), np.zeros(len(s), np.int32), key)
    legible = np.minimum(np.maximum(1.5 - foot_s * 2, 0), 1)
    written = (block % np.uint32(5) < 3).astype(np.float32)
    return np.asarray(np.float32(0.6) + legible * (written - np.float32(0.6)))
