"""`cricavpr index` on a server, as a stranger types it, against a stand-in (tests/index/fake_server.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.index.remote import Address, RemoteIndex, remote_index
from cricavpr.town.write import make_town
from tests.index.fake_server import FakeServer

PIXELS = ["--method", "pixels", "--quiet", "--workers", "0"]
AT = "milvus://localhost:19530/town"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "town"
    make_town(folder, 7100, 5, "photos", image_size=(112, 112))
    return folder


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(remote_index, "connected", lambda *_: fake)
    monkeypatch.chdir(tmp_path)
    return fake


def test_photos_are_built_on_a_server_and_done_twice_change_nothing(
    town: Path, server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos = str(town / "database")
    assert main(["index", "build", photos, "--out", AT, "--tag", "autumn", *PIXELS]) == 0
    said = capsys.readouterr()
    assert said.out == f"{AT}: 5 photos, method pixels, grouping none\n"
    assert said.err == "5 photos added, 0 photos in the index already\n"
    assert main(["index", "build", photos, "--out", AT, *PIXELS]) == 0
    assert capsys.readouterr().err == "0 photos added, 5 photos in the index already\n"
    assert {tuple(one["tags"]) for one in server.photos.values()} == {("autumn",)}
    assert not list(tmp_path.iterdir())


def test_an_interrupted_build_describes_only_what_is_missing(
    town: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = str(town / "database")
    main(["index", "build", photos, "--out", AT, *PIXELS])
    there = server.photos
    for one in list(there)[:2]:
        del there[one]
    capsys.readouterr()
    assert main(["index", "build", photos, "--out", AT, *PIXELS]) == 0
    assert capsys.readouterr().err == "2 photos added, 3 photos in the index already\n"


def test_a_build_does_not_mix_with_other_photos_and_add_does(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, rest = tmp_path / "first", tmp_path / "rest"
    for number, photo in enumerate(sorted((town / "database").iterdir())):
        folder = first if number == 0 else rest
        folder.mkdir(exist_ok=True)
        shutil.copy(photo, folder)
    main(["index", "build", str(first), "--out", AT, *PIXELS])
    assert main(["index", "build", str(rest), "--out", AT, *PIXELS]) == 2
    assert "holds an index with 1 photos that are not" in capsys.readouterr().err
    assert main(["index", "add", AT, str(rest), *PIXELS]) == 0
    assert capsys.readouterr().out == f"{AT}: 4 photos added, 0 in the index already, 5 photos now\n"


def test_a_folder_index_is_copied_and_photos_are_taken_out(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "build", str(town / "database"), "--out", str(tmp_path / "index"), *PIXELS]) == 0
    assert main(["index", "merge", AT, str(tmp_path / "index"), "--kind", "hnsw"]) == 0
    assert "5 photos added, 0 in the index already, 5 photos now" in capsys.readouterr().out
    assert RemoteIndex.open(Address.parse(AT)).kind == "hnsw"
    name = next((town / "database").iterdir()).name
    assert main(["index", "remove", AT, name, "nowhere.jpg"]) == 3
    said = capsys.readouterr()
    assert said.out == f"{AT}: 1 photos removed, 4 photos left\n" and said.err == "not in the index: nowhere.jpg\n"
    assert main(["index", "info", AT, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["photos"], facts["exact"], facts["made_by"]["method"]) == (4, False, "pixels")


WRONG = [
    (["info", AT], "Build it: "),
    (["verify", AT], "`cricavpr index verify` needs an index in a folder"),
    (["info", "milvus://localhost"], "invalid collection"),
    (["remove", AT], "no photos to remove were given"),
    (["build", "nowhere", "--out", AT, *PIXELS], "there is no folder nowhere"),
    (["build", ".", "--out", AT, "--dtype", "float16", *PIXELS], "stores descriptors as float32"),
    (["build", ".", "--out", "folder", "--kind", "hnsw", *PIXELS], "the kind 'hnsw' is only for an index on a server"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_wrong_input_gets_one_line_and_exit_code_2_and_makes_nothing(
    arguments: list[str], says: str, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1 and says in error
    assert server.description is None


def test_without_the_client_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from cricavpr.index.remote.milvus import connect

    monkeypatch.setattr(remote_index, "connected", lambda address, *_: connect(address))
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    assert main(["index", "info", AT]) == 2
    assert capsys.readouterr().err == (
        "cricavpr: an index on a Milvus server needs the extra 'milvus': pip install 'cricavpr[milvus]'\n"
    )
