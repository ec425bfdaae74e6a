"""Upright boxes and ellipsoids: all that stands in the town apart from its houses."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from cricavpr.town.hashing import Array

BOX, ELLIPSOID = 0, 1


@dataclass(frozen=True)
class Bodies:
    """B bodies in the town's frame."""

    shape: Array  # (B,) BOX or ELLIPSOID
    centre_m: Array  # (B, 3)
    half_m: Array  # (B, 3) half sizes along, across, up
    along: Array  # (B, 2) unit direction of the first axis
    colour: Array  # (B, 3)
    side_colour: Array  # (B, 3): of a box's upright faces
    passing: Array  # (B,) bool: an occluder rather than part of the town
    glows: Array  # (B,) bool: the head of a lamp

    def __len__(self) -> int:
        return len(self.shape)


def alike(
    shape: int,
    centre_m: Array,  # (B, 3)
    half_m: Array,  # (B, 3) or (3,)
    colour: Array,  # (B, 3) or (3,)
    side_colour: Array,  # (B, 3) or (3,)
    glows: bool = False,
) -> Bodies:
    """Standing bodies of one kind, aligned with the axes of the town."""
    n = len(centre_m)
    return Bodies(
        shape=np.full(n, shape),
        centre_m=centre_m,
        half_m=np.broadcast_to(half_m, (n, 3)),
        along=np.broadcast_to(np.array((0.0, 1.0)), (n, 2)),
        colour=np.broadcast_to(colour, (n, 3)),
        side_colour=np.broadcast_to(side_colour, (n, 3)),
        passing=np.zeros(n, bool),
        glows=np.full(n, glows),
    )


def joined(parts: Sequence[Bodies]) -> Bodies:
    """Several sets of bodies as one, in order."""
    return Bodies(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Bodies)))
