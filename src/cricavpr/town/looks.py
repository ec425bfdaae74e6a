"""The look of houses: a few recurring styles, which each house combines in its own way.

Every decision is drawn from the key of the house. Only signs, shutters, panels and a rare coat of paint depend on the
year, so a place stays recognisable.
"""

from dataclasses import dataclass

import numpy as np

from cricavpr.town.hashing import Array, hash_array, unit
from cricavpr.town.plan import (
    BACK,
    FRONT,
    GARDEN,
    HALL,
    HEDGE,
    ROOF,
    ROW,
    SIDE,
    SLAB,
    TOWER,
    Houses,
    Walls,
)

_DRAWS = 60  # decisions per wall piece
FIRST_YEAR = 2012  # year of the database pictures

# Few colours, so that they recur; far apart in lightness, because lightness survives night and fog.
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

# Style: window pitch (m), window width and height (fractions of a cell), sill (fraction), frame (m).
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


@dataclass(frozen=True)
class Paints:
    """Decisions for each visible wall piece; (S,) or (S, 3) float32 unless stated otherwise."""

    key: Array  # (S,) uint32
    length: Array
    ground: Array  # height of the ground floor
    storey: Array
    storeys: Array
    eaves: Array
    columns: Array
    margin: Array
    pitch: Array
    window: Array  # (S, 4): left, right, sill, head as fractions of a cell
    frame: Array
    blind: Array  # (S,) int32: bit i % 8 set where column i has no windows
    balcony: Array  # (S,) int32: bit j set where storey j has a balcony
    shutters: Array  # 0 or the shutters' width as a fraction of a cell
    course: Array  # half-height of a string course between storeys, 0 for none
    timber: Array  # width of upright stripes between columns as a fraction, 0 for none
    accent_box: Array  # (S, 4): s from, s to, z from, z to
    panel_box: Array  # (S, 4)
    shop: Array  # 0 or 1
    door_s: Array  # centre of the door, or far off the wall
    wall: Array  # (S, 3) and so on: colours
    lower: Array
    trim: Array
    accent: Array
    panel: Array
    panel_mark: Array
    shutter: Array
    sign: Array
    letters: Array
    door: Array
    plain: Array  # (S,) bool: no windows at all: ridges, hedges
    roof_like: Array  # (S,) bool


def _pick(table: Array, bits: Array) -> Array:  # (S, 3)
    return np.asarray(table[bits % np.uint32(len(table))])


class _Draws:
    """Random bits for S wall pieces by the number of the decision. Numbers are never reused."""

    def __init__(
        self,
        key: Array,  # (S,) uint32 of the houses
    ) -> None:
        self.key = key
        numbers = np.arange(100, 100 + _DRAWS)
        self._bits = hash_array(key[None, :], numbers[:, None])  # (_DRAWS, S) in one call

    def bits(self, number: int) -> Array:  # (S,) uint32
        return np.asarray(self._bits[number])

    def share(self, number: int) -> Array:  # (S,) float32 in [0, 1)
        return unit(self.bits(number))

    def era(self, number: int, shortest: int, longest: int, year: int) -> Array:  # (S,) uint32
        """Return the number of the tenant, owner or coat of paint in a year; each house has its own period."""
        period = shortest + self.bits(number) % np.uint32(longest - shortest)
        phase = self.bits(number + 1) % period
        return np.asarray(((np.uint32(year - FIRST_YEAR + 1000) + phase) // period).astype(np.uint32))


@dataclass(frozen=True)
class _Body:
    """Shapes of the wall pieces and their houses. All (S,)."""

    kind: Array
    face: Array
    front: Array  # bool
    length: Array
    ground: Array
    storey: Array
    storeys: Array
    eaves: Array


def paints_of(
    walls: Walls,
    houses: Houses,
    index: Array,  # (S,) wall numbers
    year: int,
) -> Paints:
    """Draw every decision for some walls."""
    house, face = walls.house[index], walls.face[index]
    edge = walls.b_m[index] - walls.a_m[index]
    body = _Body(
        kind=houses.kind[house],
        face=face,
        front=face == FRONT,
        length=np.sqrt(edge[:, 0] * edge[:, 0] + edge[:, 1] * edge[:, 1]).astype(np.float32),
        ground=houses.ground_m[house],
        storey=houses.storey_m[house],
        storeys=houses.storeys[house].astype(np.float32),
        eaves=walls.eaves_m[index],
    )
    draws = _Draws(houses.key[house])
    tenant, owner = draws.era(1, 6, 14, year), draws.era(3, 12, 30, year)
    coat = draws.era(5, 90, 180, year)
    plain = (face == ROOF) | (face == HEDGE) | (body.kind == GARDEN)
    wall = _wall_colour(draws, body, coat)
    panel_bits = hash_array(draws.key, tenant, 40)
    accent_box, accent = _accents(draws, body, wall)
    return Paints(
        key=hash_array(draws.key, face),
        length=body.length,
        ground=np.where(plain, 0.0, body.ground).astype(np.float32),
        storey=body.storey,
        storeys=body.storeys,
        eaves=body.eaves,
        **_windows(draws, body, plain),
        **_ornaments(draws, body),
        accent_box=np.where(body.front[:, None], accent_box, np.float32(-50.0)).astype(np.float32),
        panel_box=_panels(draws, body),
        shop=_shops(draws, body),
        door_s=_doors(draws, body),
        wall=wall.astype(np.float32),
        lower=_lower_colour(draws, body, wall).astype(np.float32),
        trim=_pick(_TRIMS, draws.bits(32)),
        accent=accent.astype(np.float32),
        panel=_pick(_VIVID, panel_bits),
        panel_mark=_pick(_VIVID, panel_bits >> np.uint32(8)),
        shutter=_pick(_VIVID, hash_array(draws.key, owner, 41)) * np.float32(0.75),
        sign=_pick(_VIVID, hash_array(draws.key, tenant, 42)),
        letters=_pick(_VIVID, hash_array(draws.key, tenant, 43)),
        door=_pick(_VIVID, hash_array(draws.key, owner, 44)) * np.float32(0.7),
        plain=plain | (body.kind == HALL) & (face == SIDE),
        roof_like=face == ROOF,
    )


def _windows(draws: _Draws, body: _Body, plain: Array) -> dict[str, Array]:
    """Return the window grid: a style, stretched to fit the front."""
    slab, tower = (body.kind == SLAB)[:, None], (body.kind == TOWER)[:, None]
    style = np.where(slab, _pick(_RIBBON, draws.bits(7)), _pick(_STYLES, draws.bits(8)))
    style = np.where(tower, np.array(_BELFRY, np.float32), style)
    pitch_wish, wide, tall, sill, frame = (style[:, k] for k in range(5))
    wide = np.minimum(wide * (0.88 + 0.24 * draws.share(9)), np.float32(0.97))
    margin = np.minimum(0.3 + 0.9 * draws.share(10), 0.12 * body.length)
    room = body.length - 2 * margin
    columns = np.maximum(1.0, np.floor(room / (pitch_wish * (0.85 + 0.3 * draws.share(11))) + 0.5))
    head = np.minimum(sill + tall, np.float32(0.94))
    blind = np.where(draws.share(12) < 0.45, draws.bits(13) & draws.bits(14) & np.uint32(0xFF), 0)
    blind = np.where(body.face == SIDE, (draws.bits(15) | draws.bits(16)) & np.uint32(0xFF), blind)
    shutters = (draws.share(27) < 0.34) & (body.kind == ROW) & ~plain
    return {
        "columns": columns.astype(np.float32),
        "margin": margin.astype(np.float32),
        "pitch": (room / columns).astype(np.float32),
        "window": np.stack([0.5 - wide / 2, 0.5 + wide / 2, sill, head], axis=1).astype(np.float32),
        "frame": frame,
        "blind": blind.astype(np.int32),
        "shutters": np.where(shutters, 0.5 * wide, 0.0).astype(np.float32),
    }


def _ornaments(draws: _Draws, body: _Body) -> dict[str, Array]:
    balconies = body.front & (draws.share(25) < 0.3) & (body.kind != TOWER)
    timbered = (draws.share(30) < 0.14) & (body.kind == ROW)
    return {
        "balcony": np.where(balconies, draws.bits(26) & np.uint32(0xFF), 0).astype(np.int32),
        "course": np.where(draws.share(28) < 0.35, 0.08 + 0.22 * draws.share(29), 0.0).astype(np.float32),
        "timber": np.where(timbered, 0.14, 0.0).astype(np.float32),
    }


def _shops(draws: _Draws, body: _Body) -> Array:
    likely = np.where(body.kind == SLAB, 0.7, np.where(body.kind == ROW, 0.42, 0.12))
    return np.asarray((body.front & (draws.share(17) < likely)).astype(np.float32))


def _doors(draws: _Draws, body: _Body) -> Array:
    where = body.length * (0.15 + 0.7 * draws.share(31))
    return np.where(body.front & (body.kind != TOWER), where, -50.0).astype(np.float32)


def _wall_colour(draws: _Draws, body: _Body, coat: Array) -> Array:  # (S, 3)
    key = draws.key
    jitter = 0.92 + 0.16 * np.stack([unit(hash_array(key, coat, 20 + c)) for c in range(3)], axis=1)
    chosen = np.where(draws.share(18) < 0.5, hash_array(key, coat, 30), hash_array(key, coat, 31))
    wall = np.minimum(_pick(_WALLS, chosen) * jitter, np.float32(1.0))
    wall = np.where((body.kind == TOWER)[:, None], np.array(_SANDSTONE, np.float32) * jitter, wall)
    party = 0.5 * wall + 0.5 * _pick(_WALLS, draws.bits(19)) * np.float32(0.8)
    wall = np.where((body.face == SIDE)[:, None], party, wall)
    wall = np.where((body.face == BACK)[:, None], 0.6 * wall + np.float32(0.2), wall)
    wall = np.where((body.face == ROOF)[:, None], _pick(_ROOFS, draws.bits(20)) * jitter, wall)
    return np.where((body.face == HEDGE)[:, None], _pick(_STONE, draws.bits(21)), wall)


def _lower_colour(draws: _Draws, body: _Body, wall: Array) -> Array:  # (S, 3)
    """Return the colour of the ground floor: another colour, or the same one darker."""
    other = np.where((draws.share(22) < 0.5)[:, None], _pick(_WALLS, draws.bits(23)), wall * np.float32(0.72))
    return np.where((body.front & (draws.share(24) < 0.6))[:, None], other, wall)


def _accents(
    draws: _Draws,
    body: _Body,
    wall: Array,  # (S, 3)
) -> tuple[Array, Array]:  # (S, 4) boxes, (S, 3) colours
    """Return one broad area of another colour on every second front: a strip, the top storey or a half."""
    choice, place = draws.share(50), draws.share(51)
    length, top = body.length, body.eaves + 9  # past any gable
    zero, none = np.zeros_like(length), np.full_like(length, -50.0)
    strip = np.stack([length * (0.1 + 0.5 * place), length * (0.3 + 0.5 * place), body.ground, top], axis=1)
    attic = np.stack([zero, length, body.ground + (body.storeys - 1) * body.storey, top], axis=1)
    start, stop = np.where(place < 0.5, 0, 0.55), np.where(place < 0.5, 0.45, 1)
    half = np.stack([length * start, length * stop, zero, top], axis=1)
    box = np.stack([none, none, none, none], axis=1)
    for bound, option in ((0.44, half), (0.32, attic), (0.16, strip)):
        box = np.where((choice < bound)[:, None], option, box)
    other = np.where((draws.share(52) < 0.5)[:, None], _pick(_WALLS, draws.bits(53)), wall * np.float32(0.62))
    return box, other


def _panels(draws: _Draws, body: _Body) -> Array:  # (S, 4)
    """Return the boxes of painted advertisements, which belong to the house; their content belongs to the tenant."""
    place, size = draws.share(54), draws.share(55)
    wide = body.length * (0.35 + 0.35 * size)
    start = (body.length - wide) * place
    low = body.ground + 0.4 + 0.2 * (body.eaves - body.ground) * draws.share(56)
    tall = (body.eaves - low) * (0.5 + 0.4 * draws.share(57))
    box = np.stack([start, start + wide, low, low + tall], axis=1).astype(np.float32)
    rare = body.front & (draws.share(33) < 0.13) & (body.kind != TOWER)
    hung = ((body.face == SIDE) & (draws.share(33) < 0.5)) | rare
    return np.where(hung[:, None], box, np.float32(-50.0))
