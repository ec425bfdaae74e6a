"""The MATLAB structure dbStruct, written as the published specifications hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.geo import Metres

RADIUS_M, TRIVIAL_M = 25.0, 10.0


def write_db_struct(
    path: Path,
    database: Sequence[str],
    database_m: Metres,  # (N, 2)
    queries: Sequence[str],
    queries_m: Metres,  # (Q, 2)
    which: str = "test",
    *,
    compressed: bool = True,
    **changes: Any,
) -> None:
    """Fields in the published order; `changes` replace some of them, or leave them out where None."""
    from scipy.io import savemat

    fields: dict[str, Any] = {
        "whichSet": which,
        "dbImageFns": cells(database),
        "utmDb": database_m.T,
        "qImageFns": cells(queries),
        "utmQ": queries_m.T,
        "numImages": float(len(database)),
        "numQueries": float(len(queries)),
        "posDistThr": RADIUS_M,
        "posDistSqThr": RADIUS_M**2,
        "nonTrivPosDistSqThr": TRIVIAL_M**2,
    }
    kept = {name: value for name, value in (fields | changes).items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"dbStruct": kept}, do_compression=compressed)


def cells(names: Sequence[Any]) -> np.ndarray[Any, Any]:  # (N, 1) of objects
    """A column of cells."""
    column = np.empty((len(names), 1), object)
    column[:, 0] = names
    return column
