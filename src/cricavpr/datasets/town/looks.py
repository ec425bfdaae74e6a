"""What a house looks like: a few recurring styles, its own combination of them, and the years.

Every decision is drawn from the house's key. Only signs, shutters, panels and a rare coat of paint depend on
the year, so a place stays itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cricavpr.datasets.town.hashing import Array, hash_array, unit
from cricavpr.datasets.town.plan import (
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
FIRST_YEAR = 2012  # the year in which the databases are photographed

# Few colours, so that they recur; far apart in lightness, because lightness survives night and fog.
_WALLS = np.array(
    [
        (0.93, 0.91, 0.86), (0.88, 0.80, 0.62), (0.79, 0.60, 0.34), (0.66, 0.31, 0.22), (0.42, 0.22, 0.18),
        (0.83, 0.60, 0.54), (0.58, 0.66, 0.74), (0.62, 0.62, 0.60), (0.34, 0.35, 0.38), (0.55, 0.60, 0.46),
        (0.90, 0.78, 0.36), (0.46, 0.36, 0.28), (0.75, 0.42, 0.24), (0.28, 0.34, 0.44),
    ],
    np.float32,
)  # fmt: skip
_TRIMS = np.array(
    [(0.96, 0.95, 0.92), (0.80, 0.76, 0.66), (0.30, 0.26, 0.24), (0.55, 0.52, 0.50)], np.float32
)
_ROOFS = np.array(
    [(0.60, 0.28, 0.18), (0.36, 0.20, 0.16), (0.30, 0.32, 0.36), (0.42, 0.42, 0.40)], np.float32
)
_VIVID = np.array(
    [
        (0.80, 0.12, 0.12), (0.10, 0.32, 0.66), (0.06, 0.46, 0.26), (0.95, 0.80, 0.14), (0.92, 0.92, 0.92),
        (0.10, 0.10, 0.12), (0.86, 0.44, 0.10), (0.40, 0.16, 0.44), (0.14, 0.56, 0.60), (0.34, 0.22, 0.14),
    ],
    np.float32,
)  # fmt: skip
_STONE = np.array(
    [(0.24, 0.38, 0.18), (0.52, 0.50, 0.46), (0.30, 0.44, 0.20), (0.60, 0.40, 0.32)], np.float32
)

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


@dataclass(frozen=True)
class Paints:
    """Decisions per visible wall piece, all (S,) or (S, 3) float32 unless said otherwise."""

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


def paints_of(
    walls: Walls,
    houses: Houses,
    index: Array,  # (S,) wall numbers
    year: int,
) -> Paints:
    """Draw every decision for these walls. Only signs, shutters, panels and a rare coat of paint depend on the year."""
    house = walls.house[index]
    key, kind, face = houses.key[house], houses.kind[house], walls.face[index]
    edge = walls.b_m[index] - walls.a_m[index]
    length = np.sqrt(edge[:, 0] * edge[:, 0] + edge[:, 1] * edge[:, 1]).astype(np.float32)

    drawn = hash_array(key[None, :], np.arange(100, 100 + _DRAWS)[:, None])  # (_DRAWS, S), one call for all

    def bits(number: int) -> Array:
        return np.asarray(drawn[number])

    def draw(number: int) -> Array:
        return unit(bits(number))

    def era(number: int, shortest: int, longest: int) -> Array:  # which tenant, coat or owner it is by now
        period = shortest + bits(number) % np.uint32(longest - shortest)
        phase = bits(number + 1) % period
        return ((np.uint32(year - FIRST_YEAR + 1000) + phase) // period).astype(np.uint32)

    tenant, owner, coat = era(1, 6, 14), era(3, 12, 30), era(5, 90, 180)
    style = np.where((kind == SLAB)[:, None], _pick(_RIBBON, bits(7)), _pick(_STYLES, bits(8)))
    style = np.where((kind == TOWER)[:, None], np.array((5.0, 0.22, 0.5, 0.25, 0.2), np.float32), style)
    pitch_wish, wide, tall, sill, frame = (style[:, k] for k in range(5))
    wide = np.minimum(wide * (0.88 + 0.24 * draw(9)), np.float32(0.97))
    margin = np.minimum(0.3 + 0.9 * draw(10), 0.12 * length)
    columns = np.maximum(1.0, np.floor((length - 2 * margin) / (pitch_wish * (0.85 + 0.3 * draw(11))) + 0.5))
    pitch = (length - 2 * margin) / columns
    window = np.stack(
        [0.5 - wide / 2, 0.5 + wide / 2, sill, np.minimum(sill + tall, np.float32(0.94))], axis=1
    )

    front, plain = face == FRONT, (face == ROOF) | (face == HEDGE) | (kind == GARDEN)
    storeys, ground, storey = (
        houses.storeys[house].astype(np.float32),
        houses.ground_m[house],
        houses.storey_m[house],
    )
    eaves = walls.eaves_m[index]
    blind = np.where(draw(12) < 0.45, bits(13) & bits(14) & np.uint32(0xFF), 0).astype(np.int32)
    blind = np.where(face == SIDE, (bits(15) | bits(16)) & np.uint32(0xFF), blind).astype(np.int32)
    shop = (front & (draw(17) < np.where(kind == SLAB, 0.7, np.where(kind == ROW, 0.42, 0.12)))).astype(
        np.float32
    )

    jitter = 0.92 + 0.16 * np.stack([unit(hash_array(key, coat, 20 + c)) for c in range(3)], axis=1)
    coat_bits = np.where(draw(18) < 0.5, hash_array(key, coat, 30), hash_array(key, coat, 31))
    wall = np.minimum(_pick(_WALLS, coat_bits) * jitter, np.float32(1.0))
    wall = np.where((kind == TOWER)[:, None], np.array((0.62, 0.55, 0.46), np.float32) * jitter, wall)
    wall = np.where(
        (face == SIDE)[:, None], 0.5 * wall + 0.5 * _pick(_WALLS, bits(19)) * np.float32(0.8), wall
    )
    wall = np.where((face == BACK)[:, None], 0.6 * wall + np.float32(0.2), wall)
    roof = _pick(_ROOFS, bits(20)) * jitter
    wall = np.where((face == ROOF)[:, None], roof, wall)
    wall = np.where((face == HEDGE)[:, None], _pick(_STONE, bits(21)), wall)
    lower_other = np.where((draw(22) < 0.5)[:, None], _pick(_WALLS, bits(23)), wall * np.float32(0.72))
    lower = np.where((front & (draw(24) < 0.6))[:, None], lower_other, wall)
    accent_box, accent = _accents(bits, draw, length, ground, storey, storeys, eaves, wall)
    panel_bits = hash_array(key, tenant, 40)
    paneled = ((face == SIDE) & (draw(33) < 0.5)) | (front & (draw(33) < 0.13) & (kind != TOWER))
    return Paints(
        key=hash_array(key, face),
        length=length,
        ground=np.where(plain, 0.0, ground).astype(np.float32),
        storey=storey,
        storeys=storeys,
        eaves=eaves,
        columns=columns.astype(np.float32),
        margin=margin.astype(np.float32),
        pitch=pitch.astype(np.float32),
        window=window.astype(np.float32),
        frame=frame,
        blind=blind,
        balcony=np.where(front & (draw(25) < 0.3) & (kind != TOWER), bits(26) & np.uint32(0xFF), 0).astype(
            np.int32
        ),
        shutters=np.where((draw(27) < 0.34) & (kind == ROW) & ~plain, 0.5 * wide, 0.0).astype(np.float32),
        course=np.where(draw(28) < 0.35, 0.08 + 0.22 * draw(29), 0.0).astype(np.float32),
        timber=np.where((draw(30) < 0.14) & (kind == ROW), 0.14, 0.0).astype(np.float32),
        accent_box=np.where(front[:, None], accent_box, np.float32(-50.0)).astype(np.float32),
        panel_box=np.where(
            paneled[:, None], _panel(panel_bits, bits, length, ground, eaves), np.float32(-50.0)
        ),
        shop=shop,
        door_s=np.where(front & (kind != TOWER), length * (0.15 + 0.7 * draw(31)), -50.0).astype(np.float32),
        wall=wall.astype(np.float32),
        lower=lower.astype(np.float32),
        trim=_pick(_TRIMS, bits(32)),
        accent=accent.astype(np.float32),
        panel=_pick(_VIVID, panel_bits),
        panel_mark=_pick(_VIVID, panel_bits >> np.uint32(8)),
        shutter=_pick(_VIVID, hash_array(key, owner, 41)) * np.float32(0.75),
        sign=_pick(_VIVID, hash_array(key, tenant, 42)),
        letters=_pick(_VIVID, hash_array(key, tenant, 43)),
        door=_pick(_VIVID, hash_array(key, owner, 44)) * np.float32(0.7),
        plain=plain | (kind == HALL) & (face == SIDE),
        roof_like=face == ROOF,
    )


def _accents(
    bits: Callable[[int], Array],
    draw: Callable[[int], Array],
    length: Array,
    ground: Array,
    storey: Array,
    storeys: Array,
    eaves: Array,
    wall: Array,
) -> tuple[Array, Array]:  # (S, 4) boxes, (S, 3) colours
    """One broad area of another colour on every second front: a stair strip, a top storey, a raised half."""
    choice, place = draw(50), draw(51)
    zero, none = np.zeros_like(length), np.full_like(length, -50.0)
    strip = np.stack([length * (0.1 + 0.5 * place), length * (0.3 + 0.5 * place), ground, eaves + 9], axis=1)
    top = np.stack([zero, length, ground + (storeys - 1) * storey, eaves + 9], axis=1)
    half = np.stack(
        [length * np.where(place < 0.5, 0, 0.55), length * np.where(place < 0.5, 0.45, 1), zero, eaves + 9], 1
    )
    off = np.stack([none, none, none, none], axis=1)
    box = np.where(
        (choice < 0.16)[:, None],
        strip,
        np.where((choice < 0.32)[:, None], top, np.where((choice < 0.44)[:, None], half, off)),
    )
    other = np.where((draw(52) < 0.5)[:, None], _pick(_WALLS, bits(53)), wall * np.float32(0.62))
    return box, other


def _panel(
    panel_bits: Array, bits: Callable[[int], Array], length: Array, ground: Array, eaves: Array
) -> Array:  # (S, 4)
    """A painted advertisement: where it hangs is the house's, what it shows the tenant's."""
    place, size = unit(bits(54)), unit(bits(55))
    wide = length * (0.35 + 0.35 * size)
    start = (length - wide) * place
    low = ground + 0.4 + 0.2 * (eaves - ground) * unit(bits(56))
    tall = (eaves - low) * (0.5 + 0.4 * unit(bits(57)))
    return np.asarray(np.stack([start, start + wide, low, low + tall], axis=1).astype(np.float32))
