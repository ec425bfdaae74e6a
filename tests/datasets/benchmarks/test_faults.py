"""Damaged downloads, each answered by one clear line; those of other benchmarks stand beside their readers."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.benchmarks.faults import Fault, cut, refused, rename_first
from tests.miniatures.db_struct import cells, write_db_struct

MAT = "datasets/pitts30k_test.mat"
TREE = "images/test/database"


def rewritten(path: str = MAT, **changes: Any) -> Callable[[Path], None]:
    """The same .mat with some fields changed; a function gets the sound value."""

    def damage(root: Path) -> None:
        from scipy.io import loadmat

        held = loadmat(root / path)["dbStruct"][0, 0]
        sound = {name: held[name] for name in held.dtype.names}
        names = {side: [cell.item() for cell in sound[side][:, 0]] for side in ("dbImageFns", "qImageFns")}
        made = {name: change(sound[name].copy()) if callable(change) else change for name, change in changes.items()}
        write_db_struct(root / path, names["dbImageFns"], sound["utmDb"].T, names["qImageFns"], sound["utmQ"].T, **made)

    return damage


def with_cell(number: int, value: Any) -> Callable[[Any], Any]:
    def change(column: Any) -> Any:
        column[number, 0] = value
        return column

    return change


def with_nan(metres: Any) -> Any:  # (2, N)
    metres[1, 2] = np.nan
    return metres


def saved(path: str, array: Any) -> Callable[[Path], None]:
    return lambda root: np.save(root / path, array, allow_pickle=True)


def written(path: str, text: str) -> Callable[[Path], int]:
    return lambda root: (root / path).write_text(text)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch evil",)


def evil_list(root: Path) -> None:
    path = root / "pitts30k_test_gt.npy"
    np.save(path, np.zeros(72, object), allow_pickle=True)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\n") + 1] + pickle.dumps(Evil()))


def lists_shortened(root: Path) -> None:
    path = root / "pitts30k_test_gt.npy"
    np.save(path, np.load(path, allow_pickle=True)[:-1], allow_pickle=True)


def listed(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "processed/test/database_images_paths.txt"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return damage


def swap(folder: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for path in list((root / folder).iterdir()):
            parts = path.name.split("@")
            path.rename(path.with_name("@".join(["", parts[2], parts[1], *parts[3:]])))

    return damage


CSV = "247query_subset_v2/00002.csv"
DATABASE_LIST = "processed/test/database_images_paths.txt"

FAULTS = [
    # the published list of Pittsburgh
    *(
        Fault(name, "pittsburgh-raw", "pitts30k-test", damage, says)
        for name, damage, says in (
            ("mat cut off", lambda root: cut(root / MAT), r"cannot use .*cut off.*Fetch"),
            ("mat empty", written(MAT, ""), "big-endian machine, or is cut off"),
            ("mat is a web page", written(MAT, "<html>404</html>" * 99), "cannot use .*big-endian|damaged"),
            ("mat of something else", lambda root: _other_mat(root, "weights"), "has no variable dbStruct"),
            ("dbStruct is numbers", lambda root: _other_mat(root, "dbStruct"), "is not a MATLAB structure"),
            ("photos not unpacked", lambda root: shutil.rmtree(root / "000"), r"lists '000/\S+', which is in none"),
            (
                "queries not unpacked",
                lambda root: shutil.rmtree(root / "queries_real"),
                "which is in none of .*queries",
            ),
            ("NaN position", rewritten(utmDb=with_nan), r"utmDb has no position for image 3, '000/000831_pitch1_yaw3"),
            ("columns swapped", rewritten(utmQ=lambda m: m[::-1]), "Easting and northing seem swapped"),
            ("positions of other length", rewritten(utmDb=lambda m: m[:, :-1]), r"shape \(2, 71\), but 72 images"),
            ("positions transposed", rewritten(utmQ=lambda m: m.T), r"shape \(72, 2\)"),
            ("positions are texts", rewritten(utmQ="near"), "utmQ is not an array of numbers"),
            ("positions of another town", rewritten(utmDb=lambda m: m - 400_000), "not within 60 km of Pittsburgh"),
            ("a name twice", rewritten(dbImageFns=with_cell(1, "000/000831_pitch1_yaw1.jpg")), "occurs twice"),
            (
                "a name that leaves the folder",
                rewritten(qImageFns=with_cell(1, "../../etc/passwd")),
                "not a path below",
            ),
            (
                "a name that is a number",
                rewritten(dbImageFns=with_cell(4, 3.0)),
                "entry 5 of its field dbImageFns is not a name",
            ),
            ("names left out", rewritten(qImageFns=None), "has no field qImageFns, only whichSet, dbImageFns"),
            (
                "count of another list",
                rewritten(numQueries=6816.0),
                "lists 72 queries, but its field numQueries says 6,816",
            ),
            ("fewer names than counted", rewritten(dbImageFns=cells(["000/000831_pitch1_yaw1.jpg"])), "says 72"),
            ("no threshold", rewritten(posDistThr=None), "no field posDistThr"),
            ("a threshold of nothing", rewritten(posDistThr=0.0), "not a distance in metres"),
        )
    ),
    # the tree of Pittsburgh
    *(
        Fault(name, "pittsburgh-tree", "pitts30k-test", damage, says)
        for name, damage, says in (
            (
                "tree without queries",
                lambda root: shutil.rmtree(root / "images/test/queries"),
                "does not hold pitts30k",
            ),
            ("tree with no photo", lambda root: _emptied(root / TREE), "no image in"),
            ("a photo without position", lambda root: rename_first(root / TREE, "@", "IMG"), "no position in its name"),
            (
                "easting is no number",
                lambda root: rename_first(root / TREE, "@0585", "@nan@"),
                "has no easting, northing in its name",
            ),
            (
                "wrong zone",
                lambda root: rename_first(root / TREE, "@17@T", "@18@T"),
                "has two different positions, 509 km apart",
            ),
            (
                "wrong hemisphere",
                lambda root: rename_first(root / TREE, "@17@T", "@17@H"),
                "two different positions.*in zone 17S",
            ),
            (
                "a zone that is none",
                lambda root: rename_first(root / TREE, "@17@T", "@71@T"),
                "zone 71T in its name",
            ),
            ("columns swapped in names", swap(TREE), "easting 4477.* and northing 585.*, which seem swapped"),
        )
    ),
    # the lists of gsv-cities
    *(
        Fault(name, "pittsburgh-lists", "pitts30k-test", damage, says)
        for name, damage, says in (
            ("names cut off", lambda root: cut(root / "pitts30k_test_dbImages.npy"), "dbImages.npy"),
            ("no names", saved("pitts30k_test_qImages.npy", np.array([], "U9")), "lists no photo"),
            ("positives of other length", lists_shortened, "71 rows, expected 72 "),
            (
                "positives beyond the database",
                saved("pitts30k_test_gt.npy", np.full((72, 1), 72)),
                "holds the index 72, expected 0 or more and below 72,",
            ),
            ("positives that are a program", evil_list, "pitts30k_test_gt.npy"),
        )
    ),
    # Tokyo
    *(
        Fault(name, "tokyo-raw", "tokyo247", damage, says)
        for name, damage, says in (
            ("csv cut off", written(CSV, "00002.jpg,35.6"), "must begin with name, latitude, longitude"),
            ("csv empty", written(CSV, ""), "must begin with name"),
            ("latitude and longitude swapped", written(CSV, "00002.jpg,139.76,35.68,0\n"), "longitude seem swapped"),
            (
                "csv of another place",
                written(CSV, "00002.jpg,40.44,-79.99,0\n"),
                "says latitude 40.44.* but .*has",
            ),
            (
                "csv of another query",
                written(CSV, "00002.jpg,35.70,139.76,0\n"),
                "latitude 35.7, longitude 139.76, but",
            ),
            ("csv of another planet", written(CSV, "00002.jpg,nan,inf,0\n"), "says latitude nan"),
            ("photos of Tokyo missing", lambda root: shutil.rmtree(root / "tokyo247"), r"lists '03816/\S+\.png'"),
            ("one position of Tokyo NaN", rewritten("datasets/tokyo247.mat", utmQ=with_nan), "no position for image 3"),
        )
    ),
    # SVOX and San Francisco
    Fault(
        "a weather missing", "svox", "svox-all", lambda r: shutil.rmtree(r / "images/test/queries_sun"), "queries_sun"
    ),
    Fault(
        "a query elsewhere",
        "svox",
        "svox-all",
        lambda root: rename_first(root / "images/test/queries_rain", "@30@U", "@31@U"),
        "has two different positions, 414 km apart",
    ),
    Fault(
        "list of paths of other photos", "sf_xl", "sf_xl-night", written(DATABASE_LIST, "a/b.jpg\n"), "lists 'a/b.jpg'"
    ),
    Fault("list of paths empty", "sf_xl", "sf_xl-night", written(DATABASE_LIST, "\n\n"), "lists 'nothing'"),
    Fault("list of paths doubled", "sf_xl", "sf_xl-night", listed(lambda lines: lines * 2), "occurs twice"),
    Fault(
        "list of paths leads out", "sf_xl", "sf_xl-night", listed(lambda p: [p[0], "../" + p[1]]), "not a path below"
    ),
]


def _other_mat(root: Path, name: str) -> None:
    from scipy.io import savemat

    savemat(root / MAT, {name: np.ones(3)})


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_gives_one_line_that_says_what_and_where(
    fault: Fault, copy_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(fault, copy_of(fault.miniature))
    assert not (tmp_path / "evil").exists()


def test_there_are_at_least_thirty() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
