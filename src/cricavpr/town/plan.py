"""Divide the blocks between streets into parcels, houses and walls.

Buildings consist of upright wall pieces with a flat, gabled, stepped or raised upper edge. A pitched roof is drawn as
an upright wall piece too: it stands in the middle of the house, as high as the ridge, in the colour of the tiles. Seen
from the street, it has the outline of a real roof.
"""

from dataclasses import dataclass

import numpy as np

from cricavpr.town.hashing import Array, between, hash_int, unit_float
from cricavpr.town.streets import StreetNet

ROW, SLAB, HALL, TOWER, GARDEN = range(5)  # kinds of house
FRONT, SIDE, BACK, ROOF, HEDGE = range(5)  # faces of a house
FLAT, GABLE, STEPPED, RAISED = range(4)  # upper edges of a wall

_DEPTH_M = 11.0
_KINDS = ((0.66, ROW), (0.77, SLAB), (0.85, HALL), (0.96, GARDEN), (1.0, TOWER))  # cumulative shares of houses
_WIDTHS_M = {ROW: (6.0, 14.5), SLAB: (16.0, 27.0), HALL: (13.0, 21.0), GARDEN: (4.5, 11.0), TOWER: (8.0, 10.0)}


@dataclass(frozen=True)
class Houses:
    """Properties of H houses."""

    key: Array  # (H,) uint32: random seed of the house
    kind: Array  # (H,) int32
    storeys: Array  # (H,) int32 number of storeys above the ground floor
    storey_m: Array  # (H,) float32
    ground_m: Array  # (H,) float32 height of the ground floor
    eaves_m: Array  # (H,) float32
    width_m: Array  # (H,) float32 width of the front


@dataclass(frozen=True)
class Walls:
    """Properties of W wall pieces. Seen from outside, `a_m` is the left end and `b_m` the right end."""

    a_m: Array  # (W, 2) float64
    b_m: Array  # (W, 2) float64
    eaves_m: Array  # (W,) float32
    rise_m: Array  # (W,) float32 height of the top of the profile above the eaves
    profile: Array  # (W,) int32
    face: Array  # (W,) int32
    house: Array  # (W,) int32
    two_sided: Array  # (W,) bool: ridges and hedges, which are seen from both sides


@dataclass(frozen=True)
class Plan:
    """The houses, walls and parks of a town."""

    houses: Houses
    walls: Walls
    near: "Buckets"
    parks_m: Array  # (P, 4, 2) corners of blocks without houses


class Buckets:
    """Points sorted into the cells of a grid. A search for near points takes the same time in a town of any size."""

    def __init__(self, points_m: Array, cell_m: float = 40.0) -> None:  # (N, 2)
        self._cell_m = cell_m
        self._low = points_m.min(axis=0) if len(points_m) else np.zeros(2)
        cells = np.floor((points_m - self._low) / cell_m).astype(np.int64)
        self._shape = (cells.max(axis=0) + 1) if len(points_m) else np.ones(2, np.int64)
        flat = cells[:, 1] * self._shape[0] + cells[:, 0]
        self._order = np.argsort(flat, kind="stable")
        self._starts = np.searchsorted(flat[self._order], np.arange(self._shape[0] * self._shape[1] + 1))

    def within(self, x_m: float, y_m: float, reach_m: float) -> Array:  # (n,) int64, in the order of cells
        """Return the indices of all points within `reach_m` of (x_m, y_m), and of some points slightly further away."""
        columns, rows = int(self._shape[0]), int(self._shape[1])
        low = self._low.tolist()
        first = [int((v - reach_m - edge) // self._cell_m) for v, edge in zip((x_m, y_m), low, strict=True)]
        last = [int((v + reach_m - edge) // self._cell_m) for v, edge in zip((x_m, y_m), low, strict=True)]
        left, right = max(first[0], 0), min(last[0], columns - 1)
        if left > right:
            return np.zeros(0, np.int64)
        parts = [
            self._order[self._starts[row * columns + left] : self._starts[row * columns + right + 1]]
            for row in range(max(first[1], 0), min(last[1], rows - 1) + 1)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class _Builder:
    """Lists of houses and walls while the town is built. `arrays` converts them at the end."""

    def __init__(self) -> None:
        self.houses: list[tuple[int, int, int, float, float, float, float]] = []
        self.walls: list[tuple[float, ...]] = []

    def arrays(self) -> tuple[Houses, Walls]:
        kinds = (np.uint32, np.int32, np.int32, *[np.float32] * 4)
        houses = (np.array(column, kind) for column, kind in zip(zip(*self.houses, strict=True), kinds, strict=True))
        table = np.array(self.walls, np.float64)
        walls = (table[:, k].astype(kind) for k, kind in enumerate((*[np.float32] * 2, *[np.int32] * 3, bool), 4))
        return Houses(*houses), Walls(table[:, 0:2].copy(), table[:, 2:4].copy(), *walls)

    def wall(
        self,
        a: Array,
        b: Array,
        eaves_m: float,
        face: int,
        house: int,
        rise_m: float = 0.0,
        profile: int = FLAT,
        two_sided: bool = False,
    ) -> None:
        self.walls.append((a[0], a[1], b[0], b[1], eaves_m, rise_m, profile, face, house, two_sided))


def make_plan(seed: int, net: StreetNet) -> Plan:
    """Fill all blocks of a street net with houses and parks."""
    builder = _Builder()
    parks = []
    for i in range(net.lines - 1):
        for j in range(net.lines - 1):
            corners = _block_corners(net, i, j)
            if hash_int(seed, 30, i, j) % 13 == 0:
                parks.append(corners)
                _build_park(builder, seed, (i, j), corners)
            else:
                _build_block(builder, seed, (i, j), corners)
    houses, walls = builder.arrays()
    return Plan(houses, walls, Buckets((walls.a_m + walls.b_m) / 2), np.array(parks).reshape(-1, 4, 2))


def _block_corners(net: StreetNet, i: int, j: int) -> Array:  # (4, 2) corners of the building line, counter-clockwise
    """Return the corners of a block. They are its four crossings, moved inwards by half the width of the streets."""
    cross, (ns, ew) = net.crossings_m, net.widths_m
    ring = np.array([cross[i, j], cross[i + 1, j], cross[i + 1, j + 1], cross[i, j + 1]])
    inset = [ew[j] / 2, ns[i + 1] / 2, ew[j + 1] / 2, ns[i] / 2]
    lines = []
    for k in range(4):
        along = _unit(ring[(k + 1) % 4] - ring[k])
        inward = np.array([-along[1], along[0]])
        lines.append((ring[k] + inward * inset[k], along))
    return np.array([_meet(lines[k - 1], lines[k]) for k in range(4)])


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.sqrt(vector[0] * vector[0] + vector[1] * vector[1]))


def _meet(first: tuple[Array, Array], second: tuple[Array, Array]) -> Array:
    (p, d), (q, e) = first, second
    along = ((q[0] - p[0]) * e[1] - (q[1] - p[1]) * e[0]) / (d[0] * e[1] - d[1] * e[0])
    return np.asarray(p + d * along)


def _build_block(builder: _Builder, seed: int, block: tuple[int, int], corners: Array) -> None:
    """Build the houses on all sides of a block. Two opposite sides include the corners, the others do not."""
    district = 1 + int(3.2 * unit_float(seed, 31, block[0] // 2, block[1] // 2))
    for side in range(4):
        a, b = corners[side], corners[(side + 1) % 4]
        before, after = _unit(corners[side - 1] - a), _unit(corners[(side + 2) % 4] - b)
        along = _unit(b - a)
        owns_corners = side % 2 == 0
        keys = (seed, 32, block[0], block[1], side)
        if not owns_corners:
            a, b = a + along * _DEPTH_M, b - along * _DEPTH_M
        inward = np.array([-along[1], along[0]])
        ends = (before, after) if owns_corners else (inward, inward)
        _build_side(builder, keys, a, b, ends, owns_corners, district)


def _build_side(
    builder: _Builder,
    keys: tuple[int, ...],
    a: Array,  # (2,) left end of the building line
    b: Array,  # (2,) right end
    ends: tuple[Array, Array],  # directions of the first and last side walls, away from the street
    corners: bool,  # whether the first and last side walls face streets
    district: int,  # usual number of upper storeys
) -> None:
    along = _unit(b - a)
    inward = np.array([-along[1], along[0]])
    cuts = _parcels(keys, float(np.sqrt(np.sum((b - a) ** 2))), corners)
    for index, (start, stop, kind) in enumerate(cuts):
        first, last = index == 0, index == len(cuts) - 1
        setback = 0.0 if first or last else max(0.0, between(-1.2, 1.6, *keys, index, 1))
        depth = _DEPTH_M - (0.0 if first or last else between(0.0, 2.0, *keys, index, 2))
        left, right = (ends[0] if first else inward), (ends[1] if last else inward)
        front, back = (a + along * start, left), (a + along * stop, right)
        foot = np.array(
            [at + way * far for (at, way), far in ((front, setback), (back, setback), (back, depth), (front, depth))]
        )
        key = hash_int(*keys, index)
        if kind == GARDEN:
            _build_garden(builder, key, foot)
        else:
            _build_house(builder, key, kind, foot, district, (corners and first, corners and last))


def _parcels(keys: tuple[int, ...], length_m: float, corners: bool) -> list[tuple[float, float, int]]:
    """Divide one side of a block into parcels. Return (start, stop, kind of house) of each, in metres."""
    cuts: list[tuple[float, float, int]] = []
    position = 0.0
    while length_m - position > 0.5:
        number = len(cuts)
        draw = unit_float(*keys, number, 3)
        kind = next(kind for bound, kind in _KINDS if draw < bound)
        low, high = _WIDTHS_M[kind]
        width = between(low, high, *keys, number, 4)
        if length_m - position - width < 6.0:
            width = length_m - position
        ends_line = position == 0.0 or position + width >= length_m
        if kind == GARDEN and (ends_line and corners):
            kind = ROW
        if kind == TOWER and width > 14.0:
            kind = SLAB
        cuts.append((position, position + width, kind))
        position += width
    return cuts


def _build_garden(builder: _Builder, key: int, foot: Array) -> None:
    """Build a garden between houses. It has only a low wall or a hedge along the street."""
    height = (0.8, 1.3, 2.2, 1.6)[key % 4]
    house = len(builder.houses)
    builder.houses.append((key, GARDEN, 0, 3.0, height, height, 8.0))
    builder.wall(foot[0], foot[1], height, HEDGE, house, two_sided=True)


def _build_park(builder: _Builder, seed: int, block: tuple[int, int], corners: Array) -> None:
    """Build a park: a hedge around it and, in some parks, a church."""
    key = hash_int(seed, 33, *block)
    house = len(builder.houses)
    height = (0.7, 1.1)[key % 2]
    builder.houses.append((key, GARDEN, 0, 3.0, height, height, 8.0))
    for k in range(4):
        a, b = corners[k], corners[(k + 1) % 4]
        for part in range(4):  # in short pieces, so that a search by midpoints finds them; with openings between them
            piece = (b - a) / 4
            builder.wall(a + piece * (part + 0.06), a + piece * (part + 0.94), height, HEDGE, house, two_sided=True)
    if key >> 8 & 1:
        centre = corners.mean(axis=0)
        along = _unit(corners[1] - corners[0])
        inward = np.array([-along[1], along[0]])
        nave = [centre + along * u + inward * v for u, v in ((-7, -14), (7, -14), (7, 12), (-7, 12))]
        tower = [centre + along * u + inward * v for u, v in ((-4, -20), (4, -20), (4, -14), (-4, -14))]
        _build_house(builder, hash_int(key, 1), HALL, np.array(nave), 2, (True, True))
        _build_house(builder, hash_int(key, 2), TOWER, np.array(tower), 5, (True, True))


def _build_house(
    builder: _Builder,
    key: int,
    kind: int,
    foot: Array,  # (4, 2) front left, front right, back right, back left
    district: int,
    street_sides: tuple[bool, bool],  # whether the left and the right side wall face a street
) -> None:
    storeys, storey_m, ground_m = _storeys(key, kind, district)
    eaves = ground_m + storeys * storey_m + between(0.4, 1.1, key, 1)
    house = len(builder.houses)
    width = float(np.sqrt(np.sum((foot[1] - foot[0]) ** 2)))
    builder.houses.append((key, kind, storeys, storey_m, ground_m, eaves, width))
    roof = hash_int(key, 2) % 10
    rise = min(between(2.0, 5.0, key, 3), 0.7 * width)
    front, side, ridge_along, ridge_across = (FLAT, 0.0), (FLAT, 0.0), 0.0, 0.0
    if kind == TOWER:
        ridge_along = ridge_across = between(6.0, 14.0, key, 4)
    elif kind == SLAB:
        front = (RAISED, 2.6) if roof < 4 else (FLAT, 0.0)
    elif roof < 4:  # the ridge is parallel to the street
        side, ridge_along = (GABLE, rise), rise
    elif roof < 6:
        front, ridge_across = (GABLE, rise), rise
    elif roof < 7 and kind == ROW:
        front, ridge_across = (STEPPED, rise), 0.8 * rise
    elif roof < 8:
        front = (RAISED, 0.6 * rise)
    faces = (FRONT, FRONT if street_sides[1] else SIDE, BACK, FRONT if street_sides[0] else SIDE)
    for k, (profile, up) in enumerate((front, side, front, side)):
        builder.wall(foot[k], foot[(k + 1) % 4], eaves, faces[k], house, up, profile)
    middle = [(foot[k] + foot[(k + 1) % 4]) / 2 for k in range(4)]
    upper = GABLE if kind == TOWER else FLAT
    for ridge, a, b in ((ridge_along, middle[3], middle[1]), (ridge_across, middle[0], middle[2])):
        if ridge:
            foot_m, up = (eaves, ridge) if kind == TOWER else (eaves + ridge, 0.0)
            builder.wall(a, b, foot_m, ROOF, house, up, upper, two_sided=True)


def _storeys(key: int, kind: int, district: int) -> tuple[int, float, float]:
    """Return the number of upper storeys, and the heights of a storey and of the ground floor in metres."""
    draw = hash_int(key, 5)
    if kind == HALL:
        return draw % 2, between(3.0, 4.5, key, 6), between(4.0, 5.6, key, 7)
    if kind == TOWER:
        return 5 + draw % 3, between(3.4, 4.4, key, 6), between(4.0, 5.0, key, 7)
    extra = (-1, 0, 0, 1, 1, 2)[draw % 6] + (2 if kind == SLAB else 0)
    return max(1, min(8, district + extra)), between(2.7, 3.7, key, 6), between(3.1, 4.6, key, 7)
