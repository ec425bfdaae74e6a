"""Read columns of the csv files that data sets are published with."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cricavpr.errors import InputError


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the cells of each column, found by name; blank lines are left out.

    Args:
        columns: names of columns that must be there.
        optional: names of columns that may be there.

    Raises:
        InputError: no such file, a missing column, or a row that is too short.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            wanted = [*columns, *(column for column in optional if column in header)]
            if missing := [column for column in wanted if column not in header]:
                shown = ", ".join(filter(None, header))[:100] or "nothing"
                raise InputError(f"{path} has no column {missing[0]!r} but {shown}. Restore it from the data set.")
            places = [header.index(column) for column in wanted]
            rows = [[line[place] for place in places] for line in lines if line]
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Restore it from the data set.") from None
    except IndexError:
        raise InputError(f"line {lines.line_num} of {path} is too short. Restore it from the data set.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}. Restore it from the data set.") from None
    return {column: [row[at] for row in rows] for at, column in enumerate(wanted)}
