"""Read dbStruct, the MATLAB structure in which Pittsburgh and Tokyo 24/7 list images, positions and thresholds.

Source: the specifications published with Arandjelović et al., "NetVLAD" (CVPR 2016). Fields are looked up by name, so
the variant with additional time stamps (Tokyo Time Machine) can be read too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.errors import InputError
from cricavpr.geo import Metres
from cricavpr.matlab import Unreadable, read_variable


@dataclass(frozen=True, eq=False)
class DbStruct:
    """Contents of one published dbStruct file, which describes one split.

    Attributes:
        path: the .mat file.
        database, queries: image names, with the spelling and order of the file.
        database_m, queries_m: (N, 2) easting and northing of the images, in metres.
        radius_m: largest distance between a query and its positives.
    """

    path: Path
    database: tuple[str, ...]
    queries: tuple[str, ...]
    database_m: Metres
    queries_m: Metres
    radius_m: float


def read_db_struct(path: Path) -> DbStruct:
    """Read a published .mat file without running code in it."""
    try:
        fields = read_variable(path, "dbStruct")
        if not isinstance(fields, dict):
            raise Unreadable("its dbStruct is not a MATLAB structure")
        database = _names(fields, "dbImageFns", "dbImage")
        queries = _names(fields, "qImageFns", "qImage")
        _check_count(fields, len(database), "database images", "numImages", "numDb")
        _check_count(fields, len(queries), "queries", "numQueries", "numQ")
        radius_m = _number(_field(fields, "posDistThr"))
        if radius_m is None or not 0 < radius_m < 1e6:
            raise Unreadable("its posDistThr, the radius, is not a distance in metres")
        metres = _metres(fields, "utmDb", database), _metres(fields, "utmQ", queries)
        return DbStruct(path, database, queries, *metres, radius_m)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Fetch the .mat file again.") from None
    except Unreadable as error:
        raise InputError(f"cannot use {path}: {error}. Fetch the .mat file again.") from None


def _field(fields: dict[str, Any], *names: str) -> Any:
    for name in names:
        if name in fields:
            return fields[name]
    raise Unreadable(f"its dbStruct has no field {names[0]}, only {', '.join(fields) or 'nothing'}")


def _names(fields: dict[str, Any], *names: str) -> tuple[str, ...]:
    cells = _field(fields, *names)
    cells = [cells] if isinstance(cells, str) else cells
    if not isinstance(cells, list) or not cells:
        raise Unreadable(f"its field {names[0]} is not a list of names")
    for number, cell in enumerate(cells, start=1):
        if not isinstance(cell, str) or not cell or "\0" in cell:
            raise Unreadable(f"entry {number} of its field {names[0]} is not a name")
    return tuple(cells)


def _metres(fields: dict[str, Any], field: str, names: Sequence[str]) -> Metres:
    """Return the positions in a field as (N, 2) metres. The file has shape (2, N), or (2,) for a single image."""
    array = _field(fields, field)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise Unreadable(f"its field {field} is not an array of numbers")
    rows = array.astype(np.float64).reshape(2, 1) if array.shape == (2,) else array.astype(np.float64)
    if rows.shape != (2, len(names)):
        raise Unreadable(f"its field {field} has shape {array.shape}, but {len(names):,} images need (2, {len(names)})")
    bad = ~np.isfinite(rows).all(axis=0)
    if bad.any():
        at = int(np.argmax(bad))
        raise Unreadable(f"its field {field} has no position for image {at + 1}, {names[at]!r}")
    return rows.T


def _check_count(fields: dict[str, Any], count: int, what: str, *names: str) -> None:
    stated = next((_number(fields[name]) for name in names if name in fields), None)
    if stated is not None and stated != count:
        raise Unreadable(f"it lists {count:,} {what}, but its field {names[0]} says {stated:,.0f}")


def _number(value: Any) -> float | None:
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiu":
        return float(value.reshape(()))
    return None
