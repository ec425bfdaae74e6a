"""A remote index on a real Milvus server: `make test-milvus` starts one and runs these."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cricavpr.cli import main
from cricavpr.errors import InputError, MadeByError
from cricavpr.geo import LatLon
from cricavpr.index.filters import Filter, Near
from cricavpr.index.remote import Address, RemoteIndex
from tests.index.milvus_server import SERVER
from tests.index.places import MADE_BY, WIDE, built, given, ids, photos
from tests.index.test_both import FILTERS, assert_answers_alike, both
from tests.index.test_remote import (
    HERE_AND_THERE,
    assert_same_answers,
    filled,
    names,
    put,
    test_everything_about_a_photo_comes_back_as_it_was,
    test_positions_of_another_frame_are_refused,
)
from tests.locate.worlds import MADE

__all__ = ["test_everything_about_a_photo_comes_back_as_it_was", "test_positions_of_another_frame_are_refused"]

pytestmark = [
    pytest.mark.milvus,
    pytest.mark.skipif(SERVER not in os.environ, reason="needs a Milvus server: run make test-milvus"),
]


@pytest.fixture
def address() -> Iterator[Address]:
    from cricavpr.index.remote.milvus import connect

    here = Address.parse(f"milvus://{os.environ[SERVER]}/test_{secrets.token_hex(4)}")
    yield here
    connect(here).drop()


@pytest.fixture
def index(address: Address) -> RemoteIndex:
    return RemoteIndex.create(address, MADE_BY)


@pytest.fixture
def wide(address: Address) -> RemoteIndex:
    return RemoteIndex.create(address, WIDE)


def test_an_index_is_opened_as_it_was_made(address: Address, index: RemoteIndex) -> None:
    opened = RemoteIndex.open(address)
    assert (opened.made_by, opened.kind, len(opened)) == (MADE_BY, index.kind, 0)
    with pytest.raises(InputError, match="exists already"):
        RemoteIndex.create(address, MADE_BY)
    with pytest.raises(MadeByError, match="dim: 4 here, 64 there"):
        RemoteIndex.create_or_open(address, WIDE)


def test_what_was_added_and_removed_is_seen_at_once_and_doing_it_twice_changes_nothing(index: RemoteIndex) -> None:
    assert put(index, range(1, 8)).added == 7
    assert (put(index, range(5, 10)).already, len(index)) == (3, 9)
    index.server.upsert(_as_sent(index, range(1, 4)))  # as a try after a lost answer
    assert len(index) == 9
    assert index.remove(["3.jpg", "nowhere.jpg"], ids=ids([4])).missing == ("nowhere.jpg",)
    assert len(index) == 7 and index.contains(ids([2, 3, 4, 5])).tolist() == [True, False, False, True]
    assert index.remove(["3.jpg"]).removed == 0
    assert "3.jpg" not in names(index.search(photos([3]), 9))[0]
    assert put(index, range(3, 5)).added == 2


def _as_sent(index: RemoteIndex, numbers: range) -> list[dict[str, object]]:
    from cricavpr.index.remote.server import to_entities

    return list(to_entities(given(numbers).columns(), photos(numbers).vectors))


@pytest.mark.parametrize("filters", [(), *HERE_AND_THERE], ids=str)
def test_a_search_finds_what_the_exact_search_on_disk_finds(
    wide: RemoteIndex, tmp_path: Path, filters: tuple[Filter, ...]
) -> None:
    assert_same_answers(filled(wide, tmp_path / "index"), wide, filters)


def test_an_index_on_disk_is_copied_whole(wide: RemoteIndex, tmp_path: Path) -> None:
    local = built(tmp_path / "index", range(1, 3001), WIDE)
    assert wide.merge(local).added == len(wide) == 3000
    assert wide.merge(local).already == 3000
    assert_same_answers(local, wide, ())


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_kind_is_recorded_and_finds_what_is_there(address: Address, kind: str) -> None:
    index = RemoteIndex.create(address, WIDE, kind)
    put(index, range(1, 2001))
    opened = RemoteIndex.open(address)
    assert opened.info()["exact"] is False and opened.kind == index.kind
    found = opened.search(photos(range(1, 101), WIDE), 200)
    assert np.mean([row[0] == f"{n}.jpg" for n, row in enumerate(names(found), 1)]) >= 0.95
    assert found.scores[:, 0].max() == pytest.approx(1.0, abs=1e-5)


ADDER = """
import sys
from cricavpr.index.remote import Address, RemoteIndex, remote_index
from tests.index.places import MADE_BY, given
remote_index.ROWS_AT_ONCE = 50
index, numbers = RemoteIndex.open(Address.parse(sys.argv[1])), range(1, 1001)
def told(done, total):
    print(done, flush=True)
index.add(given(numbers), progress=told)
"""


def test_a_killed_add_leaves_what_it_was_told_and_is_finished_by_the_next(index: RemoteIndex) -> None:
    command = [sys.executable, "-c", ADDER, str(index.address)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as adding:
        assert adding.stdout is not None
        told = [int(adding.stdout.readline()) for _ in range(4)][-1]
        adding.kill()
    left = len(index)
    assert 200 == told <= left < 1000
    change = put(index, range(1, 1001))
    assert (change.added, change.already, len(index)) == (1000 - left, left, 1000)


def test_a_collection_of_somebody_else_is_refused(address: Address) -> None:
    from cricavpr.index.remote.milvus import connect

    connect(address).create("photos of cats", 4, "flat")
    with pytest.raises(InputError, match="was not made by cricavpr"):
        RemoteIndex.open(address)


def test_a_wrong_expression_is_one_line_and_is_not_tried_again(index: RemoteIndex) -> None:
    from cricavpr.index.remote.milvus import connect

    with pytest.raises(InputError, match="refused the call: ") as raised:
        connect(index.address).query("no such field ==", ["id"], 1)
    assert "\n" not in str(raised.value)


def test_the_command_line_says_what_is_in_it_and_takes_photos_out(
    index: RemoteIndex, capfd: pytest.CaptureFixture[str]
) -> None:
    put(index, range(1, 8))
    assert main(["index", "info", str(index.address)]) == 0
    assert "photos                7\n" in capfd.readouterr().out
    assert main(["index", "remove", str(index.address), "3.jpg", "nowhere.jpg"]) == 3
    said = capfd.readouterr()
    assert said.out.endswith("1 photos removed, 6 photos left\n") and said.err == "not in the index: nowhere.jpg\n"


@pytest.mark.parametrize(("where", "says"), [("127.0.0.1:9/town", "no server answers"), (None, "there is no index")])
def test_a_wrong_address_is_one_line_and_exit_code_2(
    where: str | None, says: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cricavpr.cli.locate.load_method", lambda _: None)  # without torch no method can be loaded
    address = f"milvus://{where or os.environ[SERVER] + '/nothing_is_called_this'}"
    assert main(["index", "info", address]) == 2
    error = capfd.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1 and says in error


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_what_locate_asks_of_a_server_is_answered_as_by_a_folder(
    address: Address, tmp_path: Path, where: Filter | None
) -> None:
    """With ready-made descriptors: describing photos would need torch, which is not here."""
    assert_answers_alike(*both(tmp_path / "index", RemoteIndex.create(address, MADE)), where)


def test_locate_is_told_by_a_server_that_no_photo_fits_and_which_kind_it_is(address: Address, tmp_path: Path) -> None:
    local, remote = both(tmp_path / "index", RemoteIndex.create(address, MADE, "hnsw"))
    assert (
        remote.searcher().choice
        == f"approximate search: {address} is of the kind hnsw, which may miss some of the best photos"
    )
    for index in (local, remote):
        with pytest.raises(InputError, match=r"matches the filter: within 500 m of 10\.0, 20\.0\. Use a wider"):
            index.searcher(where=Near(LatLon(10.0, 20.0), 500.0))


@pytest.mark.parametrize(("where", "says"), [("127.0.0.1:9/town", "no server answers"), (None, "there is no index")])
def test_locating_at_a_wrong_address_is_one_line_and_exit_code_2(
    where: str | None, says: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cricavpr.cli.locate.load_method", lambda _: None)  # without torch no method can be loaded
    address = f"milvus://{where or os.environ[SERVER] + '/nothing_is_called_this'}"
    assert main(["locate", "photo.jpg", "--index", address, "--method", "pixels"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1 and says in error
