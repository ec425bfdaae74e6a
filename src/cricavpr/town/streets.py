"""The street map: an irregular net of streets of different widths, which depends only on a seed.

The net is a grid with uneven spacing and displaced crossings. Around the part with places there is one more ring
of blocks, so that no picture shows the edge of the town.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from cricavpr.town.hashing import Array, between, hash_int, unit_float

_NARROW_M, _WIDE_M = 11.0, 23.0  # facade to facade


@dataclass(frozen=True)
class StreetNet:
    """Crossings and widths of the streets. North-south street i and east-west street j meet at crossing (i, j)."""

    crossings_m: Array  # (n, n, 2) float64 x, y
    widths_m: tuple[Array, Array]  # ((n,), (n,)) metres: widths of the north-south and of the east-west streets
    edges: "Edges"

    @property
    def lines(self) -> int:
        return int(self.crossings_m.shape[0])


@dataclass(frozen=True)
class Edges:
    """Street pieces, each between two neighbouring crossings."""

    start_m: Array  # (E, 2)
    end_m: Array  # (E, 2)
    width_m: Array  # (E,) from facade to facade
    walk_m: Array  # (E,) width of one pavement
    street: Array  # (E,) int64 number of the street; north-south streets come first
    cross_m: Array  # (E, 2) widths of the streets that cross it at its start and at its end
    inner: Array  # (E,) bool: inside the part where places lie


def make_streets(seed: int, blocks: int) -> StreetNet:
    """Return a net of `blocks` x `blocks` blocks, with one more ring of blocks around them."""
    lines = blocks + 3
    base = [_line_positions(seed, axis, lines) for axis in (0, 1)]
    crossings = np.zeros((lines, lines, 2))
    for i in range(lines):
        for j in range(lines):
            # Crossings of a street share half of their displacement, so that the street bends instead of zigzagging.
            bend_x = between(-9.0, 9.0, seed, 21, i, j // 3)
            bend_y = between(-9.0, 9.0, seed, 22, j, i // 3)
            crossings[i, j, 0] = base[0][i] + bend_x + between(-8.0, 8.0, seed, 23, i, j)
            crossings[i, j, 1] = base[1][j] + bend_y + between(-8.0, 8.0, seed, 24, i, j)
    north_south, east_west = (np.array([_width(seed, axis, k) for k in range(lines)]) for axis in (0, 1))
    widths = north_south, east_west
    return StreetNet(crossings, widths, _edges(crossings, widths))


def polylines(net: StreetNet) -> list[Array]:  # each (n, 2) metres
    """Return the streets in the part with places, each as the points of a line for a map."""
    inside = slice(1, net.lines - 1)
    west_east = [net.crossings_m[inside, j] for j in range(1, net.lines - 1)]
    south_north = [net.crossings_m[i, inside] for i in range(1, net.lines - 1)]
    return south_north + west_east


def _line_positions(seed: int, axis: int, lines: int) -> list[float]:
    return list(accumulate((between(82.0, 122.0, seed, 20, axis, k) for k in range(lines - 1)), initial=0.0))


def _width(seed: int, axis: int, line: int) -> float:
    draw = unit_float(seed, 25, axis, line)
    avenue = 2.0 if hash_int(seed, 26, axis, line) % 3 == 0 else 0.0
    return _NARROW_M + (_WIDE_M - _NARROW_M) * draw * draw + avenue


def _edges(crossings: Array, widths: tuple[Array, Array]) -> Edges:
    lines = crossings.shape[0]
    rows = []
    for axis in (0, 1):
        for line in range(lines):
            for k in range(lines - 1):
                a, b = ((line, k), (line, k + 1)) if axis == 0 else ((k, line), (k + 1, line))
                inner = 1 <= line <= lines - 2 and 1 <= k <= lines - 3
                across = widths[1 - axis][k], widths[1 - axis][k + 1]
                rows.append((crossings[a], crossings[b], widths[axis][line], axis * lines + line, across, inner))
    start, end, width, street, crossed, inner = (np.array(column) for column in zip(*rows, strict=True))
    return Edges(start, end, width, np.minimum(4.0, np.maximum(1.9, width * 0.19)), street, crossed, inner)
