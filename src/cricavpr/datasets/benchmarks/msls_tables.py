"""Read the tables of Mapillary Street-Level Sequences (MSLS).

The queries and the database of a city have four csv files each. The four files list the same images in the same order.
Columns are looked up by name. The column of the sequence in `seq_info.csv` may be called `sequence_key` or, as in the
data set's description, `sequence_id`. Source: Warburg et al., "Mapillary Street-Level Sequences" (CVPR 2020).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.errors import InputError
from cricavpr.files import read_columns
from cricavpr.geo import Degrees, Metres, Positions, off_the_map, zones_of

Side = Literal["query", "database"]

APART_M = 1_000.0  # positions in raw.csv and postprocessed.csv agree to centimetres; if further apart, one is wrong
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

RAW, POSED, SEQUENCES, SUBTASKS = "raw.csv", "postprocessed.csv", "seq_info.csv", "subtask_index.csv"


def read_side(
    root: Path, city: str, side: Side, *, posed: bool, subtask: bool, with_panoramas: bool = False
) -> ImageSet:
    """Read the tables of the queries or of the database of a city.

    Images are in the order of the tables. The key of an image is its sequence; its frame is its number in the sequence.

    Args:
        city: path of the city's folder below `root`, such as "train_val/cph".
        posed: True to read positions from postprocessed.csv. If raw.csv exists, it tells UTM zones and which images are
            panoramas. It must exist in train_val.
        subtask: True to keep only the images of the subtask `all`, which are marked in subtask_index.csv.
        with_panoramas: True to keep panoramas.
    """
    folder = root / city / side
    table = read_columns(folder / SEQUENCES, ("key", "frame_number"), ("sequence_key", "sequence_id"))
    keys, sequences = table["key"], table.get("sequence_key") or table.get("sequence_id")
    if twice := [key for key, times in Counter(keys).items() if times > 1]:
        raise InputError(
            f"{folder / SEQUENCES} must list each key once, got {len(twice):,} keys twice (first: {twice[0]!r}). "
            "Restore the table."
        )
    poses: _Poses = _poses(folder, keys, required=city.startswith("train_val")) if posed else (None, None, None)
    positions, conditions, panoramas = poses
    images = ImageSet(
        root,
        tuple(f"{city}/{side}/images/{key}.jpg" for key in keys),
        positions,
        None if sequences is None else tuple(sequences),
        _frames(folder / SEQUENCES, table["frame_number"]),
        conditions,
    )
    keep = np.ones(len(keys), bool)
    if subtask:
        chosen = read_columns(folder / SUBTASKS, ("key", "all"))
        _must_correspond(folder / SUBTASKS, chosen["key"], folder / SEQUENCES, keys)
        keep &= _booleans(folder / SUBTASKS, "all", chosen["all"])
    if panoramas is not None and not with_panoramas:
        keep &= ~panoramas
    return images.take(keep)


_Poses = tuple[Positions | None, tuple[str, ...] | None, NDArray[np.bool_] | None]


def _poses(folder: Path, keys: Sequence[str], *, required: bool) -> _Poses:
    """Return positions, conditions and a mask of panoramas.

    The mask comes from raw.csv, and is None if this file does not exist. If `required`, raise if it does not exist.
    """
    posed, raw = folder / POSED, folder / RAW
    table = read_columns(posed, ("key", "easting", "northing"), ("night",))
    _must_correspond(posed, table["key"], folder / SEQUENCES, keys)
    metres = _numbers(posed, table, ("easting", "northing"))
    night = _booleans(posed, "night", table["night"]) if "night" in table else None
    conditions = None if night is None else tuple("night" if dark else "day" for dark in night)
    if not (required or raw.exists()):
        return Positions(metres), conditions, None
    table = read_columns(raw, ("key", "lon", "lat", "pano"))
    _must_correspond(raw, table["key"], posed, keys)
    positions = _in_zones(metres, _numbers(raw, table, ("lat", "lon")), raw, posed)
    return positions, conditions, _booleans(raw, "pano", table["pano"])


def _must_correspond(path: Path, keys: Sequence[str], other: Path, expected: Sequence[str]) -> None:
    restore = "All tables of a city must have the same rows; restore all of them from one download."
    if len(keys) != len(expected):
        raise InputError(f"{path} has {len(keys):,} rows, but {other} has {len(expected):,}. {restore}")
    for row, (key, wanted) in enumerate(zip(keys, expected, strict=True)):
        if key != wanted:
            raise InputError(f"row {row} has key {key!r} in {path}, but {wanted!r} in {other}. {restore}")


def _numbers(path: Path, table: dict[str, list[str]], columns: tuple[str, str]) -> NDArray[np.float64]:  # (N, 2)
    values = np.empty((len(table["key"]), 2))
    for place, column in enumerate(columns):
        for row, text in enumerate(table[column]):
            try:
                values[row, place] = float(text)
            except ValueError:
                values[row, place] = math.nan
            if not math.isfinite(values[row, place]):
                raise InputError(f"row {row} of {path} has {column} {text!r}, not a number. Restore the table.")
    return values


def _booleans(path: Path, column: str, texts: Sequence[str]) -> NDArray[np.bool_]:
    values = [_BOOLEANS.get(text.strip().lower()) for text in texts]
    if None in values:
        row = values.index(None)
        raise InputError(f"row {row} of {path} has {column} {texts[row]!r}, not True or False. Restore the table.")
    return np.array(values, bool)


def _frames(path: Path, texts: Sequence[str]) -> NDArray[np.int64]:
    try:
        return np.array([int(text) for text in texts], np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} has a frame_number that is not a whole number ({error}). Restore the table."
        ) from None


def _in_zones(metres: Metres, degrees: Degrees, raw: Path, posed: Path) -> Positions:
    """Return the metres of one table, with the UTM zone in which they agree with the degrees of the other table.

    Near the border of two zones this may be the zone next to the one that contains the degrees.
    """
    for row, (lat, lon) in enumerate(degrees.tolist()):
        if reason := off_the_map(lat, lon):
            raise InputError(f"row {row} of {raw}: {reason}. The columns lat and lon may be swapped.")
    zones, apart_m = zones_of(metres, degrees)
    if (apart_m <= APART_M).all():
        return Positions(metres, zones)
    row = int(np.argmax(~(apart_m <= APART_M)))
    (lat, lon), (east, north) = degrees[row].tolist(), metres[row].tolist()
    raise InputError(
        f"row {row} is at latitude {lat:g}, longitude {lon:g} in {raw}, but at another place in {posed}: easting "
        f"{east:.0f}, northing {north:.0f}. Two columns may be swapped; restore both tables from one download."
    )
