"""What an index knows of each photo besides its descriptor, and how a filter asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.geo import Positions
from cricavpr.index.columns import Bytes, Columns, unpack_tags
from cricavpr.index.engines import Facts
from cricavpr.times import Times


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of each photo, as arrays that a filter can ask; row i is row i of every search.

    Attributes:
        ids: (N, 32) SHA-256 of each photo's bytes.
        positions: rows of NaN are unknown.
        times: (N,) when each was taken, UTC in milliseconds; NaT where unknown.
    """

    ids: Bytes
    positions: Positions
    times: Times
    _columns: Columns

    @classmethod
    def of(cls, columns: Columns) -> Self:
        return cls(columns.ids, columns.positions(), columns.times, columns)

    def facts(self) -> Facts:
        """The same as filters ask for it."""
        return Facts(len(self.ids), self.positions, self.times, _TagsOf(self))

    @cached_property
    def tags(self) -> tuple[tuple[str, ...], ...]:
        """Each photo's tags, sorted."""
        return tuple(map(unpack_tags, self._columns.tags.all()))

    @property
    def timed(self) -> int:
        """How many photos have a known time."""
        return int((~np.isnat(self.times)).sum())

    def tagged(self, tag: str) -> NDArray[np.bool_]:
        """(N,) which photos have a tag."""
        return np.fromiter((tag in tags for tags in self.tags), np.bool_, len(self.ids))


@dataclass(frozen=True, eq=False)
class _TagsOf:
    """The tags of rows as filters ask for them; nothing is unpacked before one does."""

    rows: Rows

    def having(self, tag: str) -> NDArray[np.bool_]:
        return self.rows.tagged(tag)

    def known(self) -> set[str]:
        return {tag for tags in self.rows.tags for tag in tags}
