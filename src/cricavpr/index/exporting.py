"""An index as a table for other programs: CSV, GeoJSON, or Parquet with the descriptors."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cricavpr.config import nearest
from cricavpr.errors import InputError, MissingExtraError
from cricavpr.files import written_beside
from cricavpr.geo import LatLon, point_feature

if TYPE_CHECKING:
    from cricavpr.index.place_index import PlaceIndex

ROWS_AT_ONCE = 4096


def export(index: PlaceIndex, path: Path) -> None:
    """Write a table of all photos; the end of the file's name says which kind.

    Raises:
        InputError: another kind, or a place that cannot be written.
        MissingExtraError: Parquet, without the extra that brings it.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in EXPORTS:
        raise InputError(f"{path} is to be of the kind {kind!r}, which is not known. {nearest(kind, EXPORTS)}")
    EXPORTS[kind](index, path)


def _rows(index: PlaceIndex) -> Iterator[dict[str, Any]]:
    """One dictionary for each photo; what is unknown is None."""
    rows, positions = index.rows, index.positions
    degrees = np.full((len(index), 2), np.nan) if positions.zones is None else positions.latlon()
    zones = positions.zones or ("",) * len(index)
    for row, name in enumerate(index.names):
        lat_deg, lon_deg = (None if np.isnan(value) else float(value) for value in degrees[row])
        easting_m, northing_m = (None if np.isnan(value) else float(value) for value in positions.metres[row])
        yield {
            "name": name,
            "id": rows.ids[row].tobytes().hex(),
            "lat": lat_deg,
            "lon": lon_deg,
            "easting": easting_m,
            "northing": northing_m,
            "zone": zones[row] or None,
            "time": None if np.isnat(rows.times[row]) else f"{rows.times[row]}Z",
            "tags": list(rows.tags[row]),
        }


def _csv(index: PlaceIndex, path: Path) -> None:
    """The first line names the columns; names that are not UTF-8 keep their bytes."""
    with (
        written_beside(path) as beside,
        beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table, quoted = csv.writer(file), csv.writer(file, quoting=csv.QUOTE_ALL)
        table.writerow(["name", "id", "lat", "lon", "easting", "northing", "zone", "time", "tags"])
        for row in _rows(index):
            blank = row["name"].startswith(" ")  # which readers that skip blanks after commas keep in quotes only
            (quoted if blank else table).writerow([*list(row.values())[:-1], " ".join(row["tags"])])


def _geojson(index: PlaceIndex, path: Path) -> None:
    """A feature for each photo, one to a line; its geometry is null where there is no latitude."""
    with written_beside(path) as beside, beside.open("w", encoding="ascii") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, row in enumerate(_rows(index)):
            file.write(("," if number else "") + "\n" + json.dumps(_feature(row)))
        file.write("\n]}\n")


def _feature(row: dict[str, Any]) -> dict[str, Any]:
    properties = {key: value for key, value in row.items() if key not in ("lat", "lon")}
    if row["lat"] is None:
        return {"type": "Feature", "geometry": None, "properties": properties}
    return point_feature(LatLon(row["lat"], row["lon"]), properties)


def _parquet(index: PlaceIndex, path: Path) -> None:
    """The same columns and the descriptors. What is not UTF-8 is escaped, and `name_bytes` has the bytes of a name."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow. Run: pip install 'cricavpr[parquet]'") from error
    schema = _schema(arrow, index.made_by.dim)
    described = json.dumps(index.made_by.to_dict())
    rows = _rows(index)
    with (
        written_beside(path) as beside,
        parquet.ParquetWriter(beside, schema.with_metadata({"cricavpr.made_by": described})) as writer,
    ):
        for start in range(0, len(index), ROWS_AT_ONCE):
            vectors = index.vectors[start : start + ROWS_AT_ONCE]
            some = [_arrow_row(row) for _, row in zip(vectors, rows, strict=False)]
            columns = [arrow.array([row[name] for row in some], schema.field(name).type) for name in schema.names[:-1]]
            flat = arrow.array(vectors.reshape(-1))
            columns.append(arrow.FixedSizeListArray.from_arrays(flat, index.made_by.dim))
            writer.write_batch(arrow.record_batch(columns, schema=schema))


def _arrow_row(row: dict[str, Any]) -> dict[str, Any]:
    name = os.fsencode(row["name"])
    return {**row, "name": _escaped(row["name"]), "name_bytes": name, "tags": [_escaped(tag) for tag in row["tags"]]}


def _escaped(text: str) -> str:
    """Names and tags may be any bytes, and Parquet takes texts that are UTF-8 only."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _schema(arrow: Any, dim: int) -> Any:
    text, number = arrow.string(), arrow.float64()
    kinds = {"name": text, "name_bytes": arrow.binary(), "id": text, "lat": number, "lon": number, "easting": number}
    kinds |= {"northing": number, "zone": text, "time": text, "tags": arrow.list_(text)}
    return arrow.schema([*kinds.items(), ("descriptor", arrow.list_(arrow.float32(), dim))])


EXPORTS: dict[str, Callable[[PlaceIndex, Path], None]] = {"csv": _csv, "geojson": _geojson, "parquet": _parquet}
