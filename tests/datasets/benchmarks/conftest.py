"""Miniatures of the benchmarks, drawn once and copied for each test that changes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cricavpr.town import Town
from tests.miniatures import amstertime, msls, nordland, pittsburgh, sped, tokyo, utm_trees


def _pittsburgh_lists(folder: Path, town: Town) -> None:
    pittsburgh.write_raw(folder, town)
    shutil.rmtree(folder / "datasets")
    pittsburgh.write_npy(folder)


WRITERS: dict[str, Callable[[Path, Town], None]] = {
    "pittsburgh-raw": pittsburgh.write_raw,
    "pittsburgh-tree": pittsburgh.write_tree,
    "pittsburgh-lists": _pittsburgh_lists,
    "tokyo-raw": tokyo.write_raw,
    "tokyo-tree": tokyo.write_tree,
    "svox": utm_trees.write_svox,
    "sf_xl": utm_trees.write_sf_xl,
    "eynsham": utm_trees.write_eynsham,
    "st_lucia": utm_trees.write_st_lucia,
    "msls-raw": msls.write_raw,
    "msls-lists": msls.write_lists,
    "msls-lists-in-one": partial(msls.write_lists, all_in_one=True),
    "msls-tree": msls.write_tree,
    "msls-train": partial(msls.write_raw, cities=("london",), subtasks=False),
    "msls-test": msls.write_test,
    "msls-test-answered": partial(msls.write_test, answers=msls.TEST_CITIES),
    "nordland-frames": nordland.write_frames,
    "nordland-tree": nordland.write_tree,
    "nordland-patchnetvlad": nordland.write_patchnetvlad,
    "nordland-vpr-bench": nordland.write_vpr_bench,
    "nordland-partition": nordland.write_partition,
    "amstertime-raw": amstertime.write_raw,
    "amstertime-tree": amstertime.write_tree,
    "sped-raw": sped.write_raw,
    "sped-tree": sped.write_tree,
}


@pytest.fixture(scope="session")
def four_places() -> Town:
    return Town(3, 4)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory, four_places: Town) -> Callable[[str], Path]:
    """The folder of a miniature by name; not to be changed."""
    base = tmp_path_factory.mktemp("miniatures")

    def folder(name: str) -> Path:
        if not (base / name).exists():
            WRITERS[name](base / name, four_places)
        return base / name

    return folder


@pytest.fixture
def copy_of(miniature: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a miniature, to be changed."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(miniature(name), tmp_path / name))

    return copied
