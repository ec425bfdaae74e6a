"""Matching of given photos with the photos of an index: by path, by bytes, or by the path inside a moved folder.

Photos match if their paths lead to the same file, also through symbolic links. If the file of an indexed photo no
longer exists and a given photo has the same bytes, the photo counts as moved. If the folder of the missing file no
longer exists either, all photos of that folder count as moved.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cricavpr.index.columns import Columns, Indices, Ragged


@dataclass(frozen=True, eq=False)
class Matches:
    """The photos of an index that match some given photos.

    Attributes:
        rows: for each given photo, the rows of the index that it replaces; a row with the same bytes comes first.
        paths: for each given photo, the row of the indexed photo from which it takes root and name; -1 if it keeps its
            own root and name.
        moved: the old and new path of each folder that has moved.
    """

    rows: tuple[tuple[int, ...], ...]
    paths: tuple[int, ...]
    moved: tuple[tuple[str, str], ...]

    def keep(self, old: Columns, new: Columns, *, tags: bool, positions: bool) -> Columns:
        """Return the given photos, completed with data of the indexed photos that they match.

        Missing times are always taken from the index. `paths` decides which photos take root and name from the index.

        Args:
            old: the photos of the index.
            new: the given photos.
            tags: whether to take the tags of matched photos from the index.
            positions: whether to take the positions of matched photos from the index.
        """
        first = np.array([rows[0] if rows else -1 for rows in self.rows], np.int64)
        there = np.flatnonzero(first >= 0)
        times = new.times.copy()
        untimed = there[np.isnat(times[there])]
        times[untimed] = old.times[first[untimed]]
        merged = replace(new, times=times)
        if tags:
            merged = replace(
                merged, raw_tags=Ragged.of([old.raw_tags[row] if row >= 0 else b"" for row in first.tolist()])
            )
        if positions:
            metres, zones = new.metres.copy(), new.zones.copy()
            metres[there], zones[there] = old.metres[first[there]], old.zones[first[there]]
            merged = replace(merged, metres=metres, zones=zones, frame=old.frame)
        own, known = _stored(new), _stored(old)
        return merged.with_paths([known[row] if row >= 0 else path for path, row in zip(own, self.paths, strict=True)])


def match(
    old: Columns,
    new: Columns,
    same: Indices,  # (N,) for each given photo, the row of the indexed photo with the same bytes, or -1
) -> Matches:
    """Match the given photos `new` with the photos `old` of an index."""
    here, there = _real_paths(old), _real_paths(new)
    at: dict[bytes, list[int]] = {}
    for row, path in enumerate(here):
        at.setdefault(path, []).append(row)
    rows, paths, folders = [], [], dict[bytes, bytes]()
    for path, twin in zip(there, same.tolist(), strict=True):
        found = at.get(path, [])
        copied = twin >= 0 and twin not in found
        gone = copied and not os.path.lexists(here[twin])
        if gone:
            folders.update(_moved_folder(here[twin], path))
        rows.append((twin, *(row for row in found if row != twin)) if twin >= 0 else tuple(found))
        # A photo whose own file still exists keeps its path, even if a copy of it was given.
        paths.append(twin if twin in found or (copied and not gone) else found[0] if found else -1)
    for number, path in enumerate(there):
        if not rows[number]:
            rows[number] = tuple(_in_moved_folder(path, folders, at))
    return Matches(tuple(rows), tuple(paths), tuple((os.fsdecode(a), os.fsdecode(b)) for a, b in folders.items()))


def _moved_folder(old: bytes, new: bytes) -> dict[bytes, bytes]:
    """Return {old path: new path} of the folder that was moved, given the old and new path of a file inside it.

    Returns {} if the old folder still exists, or if the file was renamed.
    """
    before, after = old.split(b"/"), new.split(b"/")
    ends = zip(reversed(before), reversed(after), strict=False)
    kept = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], ends)))
    folder = b"/".join(before[: len(before) - kept])
    if not kept or os.path.lexists(folder or b"/"):
        return {}
    return {folder: b"/".join(after[: len(after) - kept])}


def _in_moved_folder(path: bytes, folders: dict[bytes, bytes], at: dict[bytes, list[int]]) -> list[int]:
    """Return the rows of the indexed photos that are now at `path`, because their folder was moved.

    Args:
        path: the path of a given photo, after the move.
        folders: the old and new path of each moved folder.
        at: the rows of the index by path.
    """
    for old, new in folders.items():
        if path.startswith(new + b"/") and (found := at.get(old + path[len(new) :])):
            return found
    return []


def _real_paths(columns: Columns) -> list[bytes]:
    roots = [os.fsencode(os.path.realpath(root)).rstrip(b"/") for root in columns.roots]
    names = zip(columns.codes.tolist(), columns.raw_names.all(), strict=True)
    return [roots[code] + b"/" + name for code, name in names]


def _stored(columns: Columns) -> Sequence[tuple[str, bytes]]:
    names = zip(columns.codes.tolist(), columns.raw_names.all(), strict=True)
    return [(columns.roots[code], name) for code, name in names]
