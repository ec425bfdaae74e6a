"""The look of houses. A few styles recur, and each house combines them in its own way.

Each decision is a random number from the seed of the house, its `key`. Only signs, shutters, doors, advertisements and
occasional new paint also depend on the year, so a place stays recognisable.
"""

import numpy as np

from cricavpr.town.hashing import Array, hash_array, unit
from cricavpr.town.plan import BACK, FRONT, GARDEN, HALL, HEDGE, ROOF, ROW, SIDE, SLAB, TOWER, Houses, Walls

_DRAWS = 60  # number of random numbers per wall piece, one for each decision
FIRST_YEAR = 2012  # year of the database pictures

# The colours are few, so that they recur. They differ in lightness, which is still visible at night and in fog.
_WALLS = np.array(
    [
        (0.93, 0.91, 0.86), (0.88, 0.80, 0.62), (0.79, 0.60, 0.34), (0.66, 0.31, 0.22), (0.42, 0.22, 0.18),
        (0.83, 0.60, 0.54), (0.58, 0.66, 0.74), (0.62, 0.62, 0.60), (0.34, 0.35, 0.38), (0.55, 0.60, 0.46),
        (0.90, 0.78, 0.36), (0.46, 0.36, 0.28), (0.75, 0.42, 0.24), (0.28, 0.34, 0.44),
    ],
    np.float32,
)  # fmt: skip
_TRIMS = np.array([(0.96, 0.95, 0.92), (0.80, 0.76, 0.66), (0.30, 0.26, 0.24), (0.55, 0.52, 0.50)], np.float32)
_ROOFS = np.array([(0.60, 0.28, 0.18), (0.36, 0.20, 0.16), (0.30, 0.32, 0.36), (0.42, 0.42, 0.40)], np.float32)
_VIVID = np.array(
    [
        (0.80, 0.12, 0.12), (0.10, 0.32, 0.66), (0.06, 0.46, 0.26), (0.95, 0.80, 0.14), (0.92, 0.92, 0.92),
        (0.10, 0.10, 0.12), (0.86, 0.44, 0.10), (0.40, 0.16, 0.44), (0.14, 0.56, 0.60), (0.34, 0.22, 0.14),
    ],
    np.float32,
)  # fmt: skip
_STONE = np.array([(0.24, 0.38, 0.18), (0.52, 0.50, 0.46), (0.30, 0.44, 0.20), (0.60, 0.40, 0.32)], np.float32)

# A style: window pitch (m), window width and height, sill height (all as fractions of a cell), frame width (m).
_STYLES = np.array(
    [
        (2.2, 0.48, 0.58, 0.20, 0.12), (3.0, 0.40, 0.60, 0.18, 0.16), (1.8, 0.55, 0.66, 0.16, 0.08),
        (3.8, 0.66, 0.50, 0.26, 0.10), (2.6, 0.36, 0.46, 0.28, 0.20), (3.3, 0.72, 0.62, 0.18, 0.06),
    ],
    np.float32,
)  # fmt: skip
_RIBBON = np.array(
    [(4.0, 0.97, 0.44, 0.30, 0.05), (2.4, 0.80, 0.70, 0.12, 0.06), (3.4, 0.90, 0.52, 0.24, 0.05)], np.float32
)
_BELFRY = (5.0, 0.22, 0.5, 0.25, 0.2)
_SANDSTONE = (0.62, 0.55, 0.46)


def _pick(table: Array, bits: Array) -> Array:  # (S, 3)
    return np.asarray(table[bits % np.uint32(len(table))])


class _Draws:
    """Random bits for S wall pieces. Each decision about their look has a number, which selects its bits."""

    def __init__(self, key: Array) -> None:  # (S,) uint32: the seed of the house of each wall piece
        self.key = key
        numbers = np.arange(100, 100 + _DRAWS)
        self._bits = hash_array(key[None, :], numbers[:, None])  # (_DRAWS, S) in one call

    def bits(self, number: int) -> Array:  # (S,) uint32
        return np.asarray(self._bits[number])

    def share(self, number: int) -> Array:  # (S,) float32 in [0, 1)
        return unit(self.bits(number))

    def era(self, number: int, shortest: int, longest: int, year: int) -> Array:  # (S,) uint32
        """Return the number of the tenant, owner or coat of paint that a house has in `year`.

        It grows by one after a fixed number of years, which is drawn for each house from `shortest` to `longest`.
        """
        period = shortest + self.bits(number) % np.uint32(longest - shortest)
        phase = self.bits(number + 1) % period
        return np.asarray(((np.uint32(year - FIRST_YEAR + 1000) + phase) // period).astype(np.uint32))


class Paints:
    """Colours and dimensions of S visible wall pieces; arrays are (S,) or (S, 3) float32 unless stated otherwise."""

    def __init__(
        self,
        walls: Walls,
        houses: Houses,
        index: Array,  # (S,) wall numbers
        year: int,
    ) -> None:
        house, edge = walls.house[index], walls.b_m[index] - walls.a_m[index]
        self.kind, self.face = houses.kind[house], walls.face[index]
        self.front = self.face == FRONT
        self.length = np.sqrt(edge[:, 0] * edge[:, 0] + edge[:, 1] * edge[:, 1]).astype(np.float32)
        self.house_ground = houses.ground_m[house]
        self.storey, self.storeys = houses.storey_m[house], houses.storeys[house].astype(np.float32)
        self.eaves = walls.eaves_m[index]
        draws = _Draws(houses.key[house])
        tenant, owner = draws.era(1, 6, 14, year), draws.era(3, 12, 30, year)
        plain = (self.face == ROOF) | (self.face == HEDGE) | (self.kind == GARDEN)
        self.ground = np.where(plain, 0.0, self.house_ground).astype(np.float32)  # height of the ground floor
        wall = self._wall_colour(draws, draws.era(5, 90, 180, year))
        panel_bits = hash_array(draws.key, tenant, 40)
        accent_box, accent = self._accents(draws, wall)
        self._set_windows(draws, plain)
        self.key = hash_array(draws.key, self.face)  # (S,) uint32
        balconies = self.front & (draws.share(25) < 0.3) & (self.kind != TOWER)
        self.balcony = np.where(balconies, draws.bits(26) & np.uint32(0xFF), 0).astype(np.int32)  # bit of each storey
        course = np.where(draws.share(28) < 0.35, 0.08 + 0.22 * draws.share(29), 0.0)
        self.course = course.astype(np.float32)  # half-height of a string course between storeys, 0 for none
        timbered = (draws.share(30) < 0.14) & (self.kind == ROW)
        self.timber = np.where(timbered, 0.14, 0.0).astype(np.float32)  # width of upright stripes, 0 for none
        self.accent_box = accent_box.astype(np.float32)  # (S, 4)
        self.panel_box = self._panels(draws)  # (S, 4)
        likely = np.where(self.kind == SLAB, 0.7, np.where(self.kind == ROW, 0.42, 0.12))
        self.shop = (self.front & (draws.share(17) < likely)).astype(np.float32)  # 0 or 1
        door = np.where(self.front & (self.kind != TOWER), self.length * (0.15 + 0.7 * draws.share(31)), -50.0)
        self.door_s = door.astype(np.float32)  # centre of the door; -50, outside the wall, for no door
        self.wall, self.accent = wall.astype(np.float32), accent.astype(np.float32)  # from here on: colours
        self.lower = self._lower_colour(draws, wall).astype(np.float32)
        self.trim = _pick(_TRIMS, draws.bits(32))
        self.panel, self.panel_mark = _pick(_VIVID, panel_bits), _pick(_VIVID, panel_bits >> np.uint32(8))
        self.shutter = _pick(_VIVID, hash_array(draws.key, owner, 41)) * np.float32(0.75)
        self.sign = _pick(_VIVID, hash_array(draws.key, tenant, 42))
        self.letters = _pick(_VIVID, hash_array(draws.key, tenant, 43))
        self.door = _pick(_VIVID, hash_array(draws.key, owner, 44)) * np.float32(0.7)
        self.plain = plain | (self.kind == HALL) & (self.face == SIDE)  # (S,) bool: without windows
        self.roof_like = self.face == ROOF

    def _set_windows(self, draws: _Draws, plain: Array) -> None:
        """Choose the grid of windows. It is one of the styles, stretched to fit the wall."""
        slab, tower = (self.kind == SLAB)[:, None], (self.kind == TOWER)[:, None]
        style = np.where(slab, _pick(_RIBBON, draws.bits(7)), _pick(_STYLES, draws.bits(8)))
        style = np.where(tower, np.array(_BELFRY, np.float32), style)
        pitch_wish, wide, tall, sill, frame = (style[:, k] for k in range(5))
        wide = np.minimum(wide * (0.88 + 0.24 * draws.share(9)), np.float32(0.97))
        margin = np.minimum(0.3 + 0.9 * draws.share(10), 0.12 * self.length)
        room = self.length - 2 * margin
        columns = np.maximum(1.0, np.floor(room / (pitch_wish * (0.85 + 0.3 * draws.share(11))) + 0.5))
        head = np.minimum(sill + tall, np.float32(0.94))
        blind = np.where(draws.share(12) < 0.45, draws.bits(13) & draws.bits(14) & np.uint32(0xFF), 0)
        blind = np.where(self.face == SIDE, (draws.bits(15) | draws.bits(16)) & np.uint32(0xFF), blind)
        shutters = (draws.share(27) < 0.34) & (self.kind == ROW) & ~plain
        self.columns, self.margin = columns.astype(np.float32), margin.astype(np.float32)
        self.pitch, self.frame = (room / columns).astype(np.float32), frame
        sides = 0.5 - wide / 2, 0.5 + wide / 2
        self.window = np.stack([*sides, sill, head], axis=1).astype(np.float32)  # (S, 4) fractions of a cell
        self.blind = blind.astype(np.int32)  # bit i % 8 is set where column i has no windows
        self.shutters = np.where(shutters, 0.5 * wide, 0.0).astype(np.float32)  # width as a fraction of a cell, or 0

    def _wall_colour(self, draws: _Draws, coat: Array) -> Array:  # (S, 3)
        key = draws.key
        jitter = 0.92 + 0.16 * np.stack([unit(hash_array(key, coat, 20 + c)) for c in range(3)], axis=1)
        chosen = np.where(draws.share(18) < 0.5, hash_array(key, coat, 30), hash_array(key, coat, 31))
        wall = np.minimum(_pick(_WALLS, chosen) * jitter, np.float32(1.0))
        wall = np.where((self.kind == TOWER)[:, None], np.array(_SANDSTONE, np.float32) * jitter, wall)
        party = 0.5 * wall + 0.5 * _pick(_WALLS, draws.bits(19)) * np.float32(0.8)
        wall = np.where((self.face == SIDE)[:, None], party, wall)
        wall = np.where((self.face == BACK)[:, None], 0.6 * wall + np.float32(0.2), wall)
        wall = np.where((self.face == ROOF)[:, None], _pick(_ROOFS, draws.bits(20)) * jitter, wall)
        return np.where((self.face == HEDGE)[:, None], _pick(_STONE, draws.bits(21)), wall)

    def _lower_colour(self, draws: _Draws, wall: Array) -> Array:  # (S, 3)
        """Return the colour of the ground floor: another colour, or the colour of the wall, but darker."""
        other = np.where((draws.share(22) < 0.5)[:, None], _pick(_WALLS, draws.bits(23)), wall * np.float32(0.72))
        return np.where((self.front & (draws.share(24) < 0.6))[:, None], other, wall)

    def _accents(
        self,
        draws: _Draws,
        wall: Array,  # (S, 3)
    ) -> tuple[Array, Array]:  # (S, 4) boxes, (S, 3) colours
        """Return the area and the colour of an accent: a strip, the top storey or half the front in another colour.

        Almost every second front has an accent; the area is empty for the others.
        """
        choice, place = draws.share(50), draws.share(51)
        length, top = self.length, self.eaves + 9  # higher than any gable
        zero, none = np.zeros_like(length), np.full_like(length, -50.0)
        strip = np.stack([length * (0.1 + 0.5 * place), length * (0.3 + 0.5 * place), self.house_ground, top], axis=1)
        attic = np.stack([zero, length, self.house_ground + (self.storeys - 1) * self.storey, top], axis=1)
        start, stop = np.where(place < 0.5, 0, 0.55), np.where(place < 0.5, 0.45, 1)
        half = np.stack([length * start, length * stop, zero, top], axis=1)
        box = np.stack([none, none, none, none], axis=1)
        for bound, option in ((0.44, half), (0.32, attic), (0.16, strip)):
            box = np.where(((choice < bound) & self.front)[:, None], option, box)
        other = np.where((draws.share(52) < 0.5)[:, None], _pick(_WALLS, draws.bits(53)), wall * np.float32(0.62))
        return box, other

    def _panels(self, draws: _Draws) -> Array:  # (S, 4)
        """Return the rectangles of advertisements. Their position depends only on the house, not on the year."""
        place, size = draws.share(54), draws.share(55)
        wide = self.length * (0.35 + 0.35 * size)
        start = (self.length - wide) * place
        low = self.house_ground + 0.4 + 0.2 * (self.eaves - self.house_ground) * draws.share(56)
        tall = (self.eaves - low) * (0.5 + 0.4 * draws.share(57))
        box = np.stack([start, start + wide, low, low + tall], axis=1).astype(np.float32)
        rare = self.front & (draws.share(33) < 0.13) & (self.kind != TOWER)
        hung = ((self.face == SIDE) & (draws.share(33) < 0.5)) | rare
        return np.where(hung[:, None], box, np.float32(-50.0))
