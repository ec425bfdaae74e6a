"""San Francisco XL, Eynsham and St Lucia: trees of @ names. Database: places 2, 0, 1; queries: places 1 and 3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cricavpr.datasets import utm_names
from cricavpr.datasets.benchmarks import open_split
from cricavpr.town import Town
from tests.miniatures.utm_trees import write_sf_xl

Folder = Callable[[str], Path]

TEST = ["sf_xl-test_v1", "sf_xl-test_v2", "sf_xl-night", "sf_xl-occlusion"]


def list_of(root: Path, size: str = "processed") -> Path:
    return root / size / "test" / "database_images_paths.txt"


@pytest.mark.parametrize("split", [*TEST, "sf_xl_small-test_v1"])
def test_the_list_of_paths_gives_the_database_and_its_order(miniature: Folder, split: str) -> None:
    root = miniature("sf_xl")
    dataset = open_split(split, root)
    lines = list_of(root, "small" if "small" in split else "processed").read_text().splitlines()
    assert dataset.database.names == tuple(lines) and [name.split("@")[7] for name in lines] == [
        *("pano2", "pano0", "pano1")
    ]
    assert [indices.tolist() for indices in dataset.positives] == [[2], []]


def test_with_a_list_of_paths_the_millions_of_files_are_not_looked_for(
    copy_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of("sf_xl")
    looked: list[Path] = []
    honest = utm_names.find_files

    def watched(folder: Path, suffixes: tuple[str, ...]) -> object:
        looked.append(folder)
        return honest(folder, suffixes)

    monkeypatch.setattr(utm_names, "find_files", watched)
    open_split("sf_xl-test_v1", root)
    assert [folder.name for folder in looked] == ["queries_v1"]
    list_of(root).unlink()
    assert open_split("sf_xl-test_v1", root).database.names == tuple(
        sorted(
            path.relative_to(root / "processed/test/database").as_posix() for path in root.glob("processed/test/*/*/*")
        )
    )


def test_each_set_of_queries_has_its_own_folder(miniature: Folder) -> None:
    folders = [open_split(split, miniature("sf_xl")).queries.root.name for split in TEST]
    assert folders == ["queries_v1", "queries_v2", "queries_night", "queries_occlusion"]


def test_there_is_no_level_images_and_val_has_plain_queries(miniature: Folder) -> None:
    dataset = open_split("sf_xl-val", miniature("sf_xl"))
    assert dataset.queries.root.relative_to(miniature("sf_xl")).as_posix() == "processed/val/queries"


def test_the_folder_of_one_size_will_do(four_places: Town, tmp_path: Path) -> None:
    write_sf_xl(tmp_path, four_places, lists=False)
    assert (
        open_split("sf_xl-val", tmp_path / "processed").split_hash() == open_split("sf_xl-val", tmp_path).split_hash()
    )


def test_a_heading_in_a_name_is_not_looked_at_by_the_rule(copy_of: Folder) -> None:
    """It grows to the west there, unlike anywhere else."""
    root = copy_of("sf_xl")
    folder = root / "processed/test/queries_v1"
    for path in list(folder.iterdir()):
        parts = path.name.split("@")
        path.rename(folder / "@".join([*parts[:9], "270", *parts[10:]]))
    assert [indices.tolist() for indices in open_split("sf_xl-test_v1", root).positives] == [[2], []]


def test_eynsham_has_five_cameras_for_each_panorama(miniature: Folder) -> None:
    dataset = open_split("eynsham", miniature("eynsham"))
    assert dataset.database.keys == ("pano0",) * 5 + ("pano1",) * 5 + ("pano2",) * 5
    assert [indices.tolist() for indices in dataset.positives] == [[5, 6, 7, 8, 9]] * 5 + [[]] * 5


def test_st_lucia_lies_south_of_the_equator(miniature: Folder) -> None:
    dataset = open_split("st_lucia", miniature("st_lucia"))
    assert dataset.database.positions is not None and dataset.database.positions.zones == ("56S",) * 3
    assert (dataset.database.positions.latlon()[:, 0] < -27).all()
    assert [indices.tolist() for indices in dataset.positives] == [[1], []]
