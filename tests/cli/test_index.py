"""`cricavpr index`, as a stranger types it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.storage import writer_of
from cricavpr.town.write import make_town

PIXELS = ["--method", "pixels", "--quiet", "--workers", "0"]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "town"
    make_town(folder, 7100, 10, "photos", image_size=(112, 112))
    return folder


@pytest.fixture(scope="module")
def parts(town: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The database in two folders: six photos, and four."""
    folder = tmp_path_factory.mktemp("parts")
    for number, photo in enumerate(sorted((town / "database").iterdir())):
        (folder / ("old" if number < 6 else "new")).mkdir(exist_ok=True)
        shutil.copy(photo, folder / ("old" if number < 6 else "new") / photo.name)
    return folder / "old", folder / "new"


@pytest.fixture(scope="module")
def six(parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("six") / "index"
    assert main(["index", "build", str(parts[0]), "--out", str(to), *PIXELS]) == 0
    return to


@pytest.fixture
def index(six: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(six, tmp_path / "index"))


def test_photos_are_added_once_and_searched_like_those_of_one_build(
    index: Path, parts: tuple[Path, Path], town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "add", str(index), str(parts[1]), "--tag", "new", *PIXELS]) == 0
    assert "4 photos added, 0 in the index already, 10 photos now" in capsys.readouterr().out
    assert main(["index", "add", str(index), str(town / "database"), *PIXELS]) == 0
    assert "0 photos added, 10 in the index already, 10 photos now" in capsys.readouterr().out
    whole = tmp_path / "whole"
    assert main(["index", "build", str(town / "database"), "--out", str(whole), *PIXELS]) == 0
    one, other = PlaceIndex.open(index), PlaceIndex.open(whole)
    queries = other.descriptors
    a, b = one.search(queries, 3), other.search(queries, 3)
    assert a.indices.tobytes() == b.indices.tobytes() and a.scores.tobytes() == b.scores.tobytes()
    assert sum("new" in tags for tags in one.facts.tags) == 4
    assert not list(tmp_path.glob(".*"))


def test_a_photo_is_removed_by_name_id_or_list_and_a_missing_one_is_named(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = PlaceIndex.open(index)
    first, second, third = opened.names[:3]
    one = opened.facts.ids[1].tobytes().hex()
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf" + third.encode() + b"\r\n\r\n")
    verb = ["index", "remove", str(index), first, "nowhere.jpg", "--id", one, "--from", str(tmp_path / "list")]
    assert main(verb) == 3
    said = capsys.readouterr()
    assert "3 photos removed, 3 photos left" in said.out and "not in the index: nowhere.jpg" in said.err
    assert not {first, second, third} & set(PlaceIndex.open(index).names)
    assert main(["index", "compact", str(index), "--quiet"]) == 0
    assert "3 photos in 1 segment files" in capsys.readouterr().out
    assert first.encode() not in b"".join(path.read_bytes() for path in index.iterdir())


def test_an_update_replaces_a_photo_that_was_taken_anew(
    index: Path, parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(parts[0], tmp_path / "photos"))
    to = tmp_path / "mine"
    assert main(["index", "build", str(folder), "--out", str(to), *PIXELS]) == 0
    names = sorted(path.name for path in folder.iterdir())
    shutil.copy(next(parts[1].iterdir()), folder / names[0])
    assert main(["index", "update", str(to), str(folder), *PIXELS]) == 0
    assert "1 photos replaced by 1 photos, 5 unchanged, 6 photos now" in capsys.readouterr().out


def test_two_indexes_are_compared_and_merged(
    index: Path, parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main(["index", "build", str(parts[1]), "--out", str(other), *PIXELS]) == 0
    capsys.readouterr()
    assert main(["index", "diff", str(index), str(other)]) == 0
    assert capsys.readouterr().out.endswith("6 only in the first, 4 only in the second, 0 changed, 0 the same\n")
    assert main(["index", "merge", str(index), str(other)]) == 0
    assert "4 photos added, 0 in the index already, 10 photos now" in capsys.readouterr().out
    assert main(["index", "diff", str(index), str(other), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (len(found["only_first"]), found["only_second"], found["same"]) == (6, [], 4)


def test_verify_names_every_damaged_file_and_its_place(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "verify", str(index), "--quiet"]) == 0
    assert "no damage found, 6 photos" in capsys.readouterr().out
    path = next(index.glob("segment-*"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert main(["index", "verify", str(index), "--json", "--quiet"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["damages"][0] == {
        "file": str(path),
        "offset": 0,
        "why": "does not match its checksum",
    }
    assert said.err.count("\n") == 1


def test_a_table_has_every_photo(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("csv", "geojson", "parquet"):
        assert main(["index", "export", str(index), "--out", str(tmp_path / f"table.{kind}")]) == 0
    names = PlaceIndex.open(index).names
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [row["name"] for row in rows] == list(names)
    features = json.loads((tmp_path / "table.geojson").read_text())["features"]
    assert [feature["properties"]["name"] for feature in features] == list(names)
    assert float(rows[2]["lat"]) == pytest.approx(features[2]["geometry"]["coordinates"][1], abs=1e-7)
    assert main(["index", "export", str(index), "--out", str(tmp_path / "table.xlsx")]) == 2
    assert "Known: csv, geojson, parquet" in capsys.readouterr().err


def test_an_index_of_half_the_size_finds_the_same_photos(
    parts: tuple[Path, Path], six: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "half"
    assert main(["index", "build", str(parts[0]), "--out", str(to), "--dtype", "float16", *PIXELS]) == 0
    half, whole = PlaceIndex.open(to), PlaceIndex.open(six)
    assert half.info()["vectors_bytes"] * 2 == whole.info()["vectors_bytes"]
    assert (half.search(whole.descriptors, 3).indices == whole.search(whole.descriptors, 3).indices).all()
    capsys.readouterr()
    assert main(["index", "info", str(to)]) == 0
    assert "float16" in capsys.readouterr().out


def test_building_where_an_index_is_says_what_it_replaces(
    parts: tuple[Path, Path], index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "build", str(parts[1]), "--out", str(index), *PIXELS]) == 0
    told = f"the new index replaces the 6 photos that were in {index}. Next time, `cricavpr index add` keeps them.\n"
    assert capsys.readouterr().err == told
    assert len(PlaceIndex.open(index)) == 4
    told = f"the new index replaces an index in {index} that could not be opened.\n"
    (index / PlaceIndex.open(index).snapshot.manifest.name).write_text("{}")
    assert main(["index", "build", str(parts[1]), "--out", str(index), *PIXELS]) == 0
    assert told in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["index", "build", str(parts[1]), "--out", str(tmp_path / "empty"), *PIXELS]) == 0
    assert capsys.readouterr().err == ""


WRONG = [
    (["build", ".", "--out", "INDEX", "--dtype", "int8", *PIXELS], "unknown dtype 'int8'"),
    (["info", "nowhere"], "not a place index"),
    (["info", "no\nwhere"], r"no\nwhere is not a place index"),
    (["build", "", "--out", "INDEX", *PIXELS], "there is no folder ''"),
    (["build", ".", "--out", "INDEX", "--tag", "", *PIXELS], "tags must be non-empty words"),
    (["add", "INDEX", ".", "--tag", "", *PIXELS], "tags must be non-empty words"),
    (["remove", "INDEX"], "no photos to remove were given"),
    (["remove", "INDEX", "--id", "xyz"], "must be 64 hexadecimal digits"),
    (["remove", "INDEX", "--from", "nowhere"], "cannot read the list nowhere"),
    (["merge", "INDEX", "nowhere"], "not a place index"),
    (["merge", "INDEX", "milvus://h/c"], "`cricavpr index merge` needs an index in a folder"),
    (["diff", "INDEX", "milvus://h/c"], "`cricavpr index diff` needs an index in a folder"),
    (["add", "INDEX", "nowhere", *PIXELS], "there is no folder nowhere"),
    (["add", "INDEX", ".", "--quiet"], "method: pixels here, cricavpr-tiny there"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_wrong_input_gets_one_line_and_exit_code_2(
    arguments: list[str], says: str, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in index.iterdir()}
    assert main(["index", *(str(index) if word == "INDEX" else word for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1
    assert says in error
    assert {path.name: path.read_bytes() for path in index.iterdir()} == before


@pytest.mark.parametrize("verb", ["build", "add", "update", "remove", "merge", "compact", "info", "verify", "diff"])
def test_no_control_character_of_a_name_reaches_the_terminal(
    verb: str, parts: tuple[Path, Path], six: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    index = Path(shutil.copytree(six, tmp_path / f"{evil}index"))
    photos = tmp_path / f"{evil}photos"
    photos.mkdir()
    for photo in parts[1].iterdir():
        shutil.copy(photo, photos / f"{evil}{photo.name}")
    words = {
        "build": [str(photos), "--out", str(index), *PIXELS],
        "add": [str(index), str(photos), *PIXELS],
        "update": [str(index), str(photos), *PIXELS],
        "remove": [str(index), f"{evil}.jpg"],
        "merge": [str(index), str(index)],
        "verify": [str(index), "--quiet"],
        "compact": [str(index), "--quiet"],
        "diff": [str(index), str(tmp_path / "other")],
    }.get(verb, [str(index)])
    if verb == "diff":
        assert main(["index", "build", str(photos), "--out", words[1], *PIXELS]) == 0
    assert main(["index", verb, *words]) in (0, 3)
    said = capsys.readouterr()
    assert "owned" in said.out + said.err
    assert not {c for c in said.out + said.err if not c.isprintable()} - {"\n"}


def test_info_needs_no_torch(index: Path) -> None:
    code = "import sys; from cricavpr.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    for words in (["info", str(index)], ["verify", str(index), "--quiet"], ["compact", str(index), "--quiet"]):
        command = [sys.executable, "-c", code, "index", *words]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.splitlines()[-1] == "False", words


def test_a_locked_index_names_who_holds_it(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with writer_of(index):
        assert main(["index", "compact", str(index), "--quiet"]) == 2
    assert "is locked by process" in capsys.readouterr().err
