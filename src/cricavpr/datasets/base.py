"""Classes for a set of images, for a dataset for evaluation, and for a problem with one photo."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cricavpr.errors import InputError
from cricavpr.geo import Positions, within_radius
from cricavpr.times import Times


@dataclass(frozen=True)
class Problem:
    """A photo that was left out, with the reason; or a note, which leaves no photo out.

    Attributes:
        name: path of the photo relative to the folder that was read. A note may have the name of a table instead, or
            "." for that folder.
        stage: for a photo, the step that failed: find, open, decode, size, position or describe; for a note, its kind:
            row (of a table), time or note.
        reason: what is wrong, as the end of a sentence that begins with the name, such as "is empty (0 bytes)".
    """

    name: str
    stage: str
    reason: str

    @property
    def is_note(self) -> bool:
        """Return whether this is only a note: no photo was left out."""
        return self.stage in ("row", "time", "note")


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images in a fixed order. Methods that describe images in groups form the groups in this order.

    Attributes:
        root: the folder of the images.
        names: unique paths relative to `root`, with "/". Bytes that are not UTF-8 are escaped as by `os.fsdecode`.
        positions: position of each image, NaN where unknown; None if all are unknown.
        keys: name of the panorama, sequence or folder of each image, or None.
        frames: (N,) number of each image in its video or journey, or None.
        conditions: the condition of each image, such as day, night or snow, or None.
        times: (N,) capture times in UTC, in milliseconds, NaT where unknown, or None.

    Raises:
        InputError: fields have different lengths, times are invalid, a name occurs twice, or a path leaves `root`.

    Example:
        >>> ImageSet(Path("photos"), ("a.jpg", "b.jpg"), keys=("walk", "walk"))
        ImageSet('photos': 2 images, with keys)
    """

    root: Path
    names: tuple[str, ...]
    positions: Positions | None = None
    keys: tuple[str, ...] | None = None
    frames: NDArray[np.int64] | None = None
    conditions: tuple[str, ...] | None = None
    times: Times | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        for field in ("positions", "keys", "frames", "conditions", "times"):
            values = getattr(self, field)
            if values is not None and len(values) != len(self.names):
                raise InputError(f"{field} must have one entry per image ({len(self.names)}), got {len(values)}.")
        if self.times is not None:
            if self.times.dtype.kind != "M" or self.times.ndim != 1:
                kind = f"{self.times.dtype} of shape {self.times.shape}"
                raise InputError(f"times must be a numpy array (N,) of datetime64 in UTC, got {kind}.")
            object.__setattr__(self, "times", self.times.astype("datetime64[ms]"))
        _check_names(self.root, self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        parts = [f"{len(self):,} images"]
        if self.positions is not None:
            parts.append(repr(self.positions).removeprefix("Positions(").removesuffix(")").replace("known", "located"))
        held = [word for word in ("keys", "frames", "conditions", "times") if getattr(self, word) is not None]
        parts += [f"with {' and '.join(held)}"] if held else []
        return f"ImageSet({str(self.root)!r}: {', '.join(parts)})"

    def path(self, index: int) -> Path:
        """Return the path of image `index`."""
        return self.root / self.names[index]

    def take(self, indices: ArrayLike) -> Self:
        """Return the images at `indices`, in that order, or the images where a boolean mask is True."""
        chosen = np.asarray(indices)
        rows = np.arange(len(self))[chosen if chosen.size else chosen.astype(np.int64)]
        fields: dict[str, Any] = {"positions": None if self.positions is None else self.positions.take(rows)}
        for field in ("names", "keys", "conditions"):
            texts = getattr(self, field)
            fields[field] = None if texts is None else tuple(texts[i] for i in rows.tolist())
        for field in ("frames", "times"):
            values = getattr(self, field)
            fields[field] = None if values is None else values[rows]
        return replace(self, **fields)


def _check_names(root: Path, names: tuple[str, ...]) -> None:
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"{twice!r} occurs twice among the images of {root}. Give each image once.")
    for name in names:
        if not name or name.startswith("/") or (".." in name and ".." in name.split("/")):
            raise InputError(f"{name!r} is not a path below {root}. Give relative paths without '..'.")


@dataclass(frozen=True, eq=False, repr=False)
class EvalDataset:
    """A database, queries, and the database images that show the same place as each query.

    Attributes:
        name: name of the dataset, printed in tables.
        positives: for each query, the sorted indices of the database images that show its place; an empty array if
            no database image does.
        rule: how the positives were decided, such as "within 25 m".
        per_panorama: number of database images that were cut out of each panorama. It is given for benchmarks whose
            scoring may count at most one hit per panorama, and is None for others. Images of one panorama have the
            same key.
        unanswered: what the published scoring does with a query without positives: "miss" counts it as a miss, "skip"
            leaves it out.
        paper_grouping: how the authors of CricaVPR grouped the images when they evaluated this dataset.

    Raises:
        InputError: `positives` is not one array per query, or an array is unsorted or has an index out of range.

    Example:
        >>> from cricavpr.geo import Positions
        >>> database = ImageSet(Path("db"), ("a.jpg", "b.jpg"), Positions([(0, 0), (90, 0)]))
        >>> queries = ImageSet(Path("q"), ("c.jpg",), Positions([(20, 0)]))
        >>> dataset = EvalDataset.within_radius("town", database, queries)
        >>> dataset
        EvalDataset('town': 1 queries, 2 database images, positives within 25 m)
        >>> dataset.positives[0].tolist()
        [0]
    """

    name: str
    database: ImageSet
    queries: ImageSet
    positives: tuple[NDArray[np.int64], ...]
    rule: str
    per_panorama: int | None = None
    unanswered: Literal["miss", "skip"] = "miss"
    paper_grouping: str = "in_order:16"

    def __post_init__(self) -> None:
        positives = tuple(np.asarray(indices, dtype=np.int64) for indices in self.positives)
        object.__setattr__(self, "positives", positives)
        if len(positives) != len(self.queries):
            raise InputError(
                f"{self.name} must have one list of positives for each of {len(self.queries)} queries, "
                f"got {len(positives)} lists."
            )
        for query, indices in enumerate(positives):
            rising = bool((np.diff(indices) > 0).all())
            if indices.size and not (rising and indices[0] >= 0 and indices[-1] < len(self.database)):
                raise InputError(
                    f"the positives of query {self.queries.names[query]!r} of {self.name} must be sorted indices "
                    f"below {len(self.database)}, the number of database images."
                )

    def __repr__(self) -> str:
        sizes = f"{len(self.queries):,} queries, {len(self.database):,} database images"
        return f"EvalDataset({self.name!r}: {sizes}, positives {self.rule})"

    @classmethod
    def within_radius(cls, name: str, database: ImageSet, queries: ImageSet, radius_m: float = 25.0) -> Self:
        """Make a dataset whose positives are the database images at most `radius_m` away from the query.

        Raises:
            InputError: the database or the queries have no positions.
        """
        for side, images in (("database", database), ("queries", queries)):
            if images.positions is None:
                raise InputError(
                    f"cannot find images within {radius_m:g} m: positions are missing for the {side} of {name} in "
                    f"{images.root}. Give positions, or lists of positives."
                )
        assert database.positions is not None and queries.positions is not None
        positives = tuple(within_radius(database.positions, queries.positions, radius_m))
        return cls(name, database, queries, positives, f"within {radius_m:g} m")

    def split_hash(self) -> str:
        """Return the SHA-256 of names, positions (to the millimetre) and positives. Equal splits have equal hashes."""
        return self._split_hash

    @cached_property
    def _split_hash(self) -> str:  # cached: takes seconds for millions of photos
        digest = hashlib.sha256(b"cricavpr split 1")
        for images in (self.database, self.queries):
            _feed(digest, map(os.fsencode, images.names))
            _feed(digest, _position_bytes(images.positions))
        _feed(digest, (indices.astype("<i8").tobytes() for indices in self.positives))
        return digest.hexdigest()


def _feed(digest: hashlib._Hash, parts: Iterable[bytes]) -> None:
    """Add byte strings to a hash, each after its length, so that (ab, c) and (a, bc) give different hashes."""
    count = 0
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
        count += 1
    digest.update(b"end" + count.to_bytes(8, "little"))


def _position_bytes(positions: Positions | None) -> tuple[bytes, ...]:
    if positions is None:
        return ()
    known = positions.known
    millimetres = np.zeros(positions.metres.shape, "<i8")
    millimetres[known] = np.rint(positions.metres[known] * 1000)
    return millimetres.tobytes(), known.tobytes(), "\0".join(positions.zones or ()).encode()
