"""Export of an index for other programs, as CSV, GeoJSON, or Parquet. Only Parquet includes the descriptors."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.extras import extra
from cricavpr.files import safe_cell, written_beside
from cricavpr.geo import LatLon, point_feature
from cricavpr.index.columns import Columns
from cricavpr.index.snapshot import Snapshot
from cricavpr.schema import nearest

ROWS_AT_ONCE = 4096


def export(snapshot: Snapshot, path: Path) -> None:
    """Write a file with one row for each photo, in the format given by its suffix: .csv, .geojson or .parquet.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
        MissingExtraError: the suffix is .parquet and pyarrow is not installed.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in EXPORTS:
        raise InputError(f"cannot export to {path}: unknown suffix {kind!r}. {nearest(kind, EXPORTS)}")
    EXPORTS[kind](snapshot, path)


def _rows(columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield a dictionary for each photo; unknown values are None."""
    positions, times = columns.positions, columns.times
    degrees = np.full((len(columns), 2), np.nan) if positions.zones is None else positions.latlon()
    zones = positions.zones or ("",) * len(columns)
    for row, name in enumerate(columns.raw_names.all()):
        lat_deg, lon_deg = (None if np.isnan(value) else float(value) for value in degrees[row])
        easting_m, northing_m = (None if np.isnan(value) else float(value) for value in positions.metres[row])
        yield {
            "name": os.fsdecode(name),
            "id": columns.ids[row].tobytes().hex(),
            "lat": lat_deg,
            "lon": lon_deg,
            "easting": easting_m,
            "northing": northing_m,
            "zone": zones[row] or None,
            "time": None if np.isnat(times[row]) else f"{times[row]}Z",
            "tags": list(columns.tags[row]),
        }


def _csv(snapshot: Snapshot, path: Path) -> None:
    """Write a CSV table with a header.

    Names that are not valid UTF-8 are written with their original bytes. Names and tags are escaped, so that no
    spreadsheet program runs them as formulas.
    """
    with (
        written_beside(path) as beside,
        beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table, quoted = csv.writer(file), csv.writer(file, quoting=csv.QUOTE_ALL)
        table.writerow(["name", "id", "lat", "lon", "easting", "northing", "zone", "time", "tags"])
        for row in _rows(snapshot.columns):
            texts = {"name": safe_cell(row["name"]), "tags": safe_cell(" ".join(row["tags"]))}
            blank = row["name"].startswith(" ")  # some CSV readers drop a leading blank unless the cell is quoted
            (quoted if blank else table).writerow({**row, **texts}.values())


def _geojson(snapshot: Snapshot, path: Path) -> None:
    """Write GeoJSON with one feature for each photo, each on its own line of text.

    The geometry is null if the latitude is not known.
    """
    with written_beside(path) as beside, beside.open("w", encoding="ascii") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, row in enumerate(_rows(snapshot.columns)):
            lat_deg, lon_deg = row.pop("lat"), row.pop("lon")
            feature = {"type": "Feature", "geometry": None, "properties": row}
            if lat_deg is not None:
                feature = point_feature(LatLon(lat_deg, lon_deg), row)
            file.write(("," if number else "") + "\n" + json.dumps(feature))
        file.write("\n]}\n")


def _parquet(snapshot: Snapshot, path: Path) -> None:
    """Write a Parquet file with the columns and the descriptors.

    In the column `name`, bytes that are not valid UTF-8 are escaped; the column `name_bytes` holds the original bytes.
    """
    with extra("parquet", "a Parquet file"):
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    made_by = snapshot.manifest.made_by
    schema = _schema(arrow, made_by)
    rows = _rows(snapshot.columns)
    with written_beside(path) as beside, parquet.ParquetWriter(beside, schema) as writer:
        for start in range(0, len(snapshot), ROWS_AT_ONCE):
            vectors = snapshot.vectors[start : start + ROWS_AT_ONCE]
            some = [_arrow_row(row) for _, row in zip(vectors, rows, strict=False)]
            columns = [arrow.array([row[name] for row in some], schema.field(name).type) for name in schema.names[:-1]]
            flat = arrow.array(vectors.reshape(-1))
            columns.append(arrow.FixedSizeListArray.from_arrays(flat, made_by.dim))
            writer.write_batch(arrow.record_batch(columns, schema=schema))


def _arrow_row(row: dict[str, Any]) -> dict[str, Any]:
    name = os.fsencode(row["name"])
    return {**row, "name": _escaped(row["name"]), "name_bytes": name, "tags": [_escaped(tag) for tag in row["tags"]]}


def _escaped(text: str) -> str:
    """Return text that is valid UTF-8, as Parquet requires; other bytes are escaped, such as `\\xff`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _schema(arrow: Any, made_by: MadeBy) -> Any:
    text, number = arrow.string(), arrow.float64()
    kinds = {"name": text, "name_bytes": arrow.binary(), "id": text, "lat": number, "lon": number, "easting": number}
    kinds |= {"northing": number, "zone": text, "time": text, "tags": arrow.list_(text)}
    descriptor = ("descriptor", arrow.list_(arrow.float32(), made_by.dim))
    return arrow.schema([*kinds.items(), descriptor], metadata={"cricavpr.made_by": json.dumps(made_by.to_dict())})


EXPORTS: dict[str, Callable[[Snapshot, Path], None]] = {"csv": _csv, "geojson": _geojson, "parquet": _parquet}
