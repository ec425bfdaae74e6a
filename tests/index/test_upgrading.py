"""Indexes of earlier releases: kept for ever, and still read."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.upgrading import upgrade
from tests.index.places import bytes_of, files_of

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / "format_1", tmp_path / "index")
    return tmp_path / "index"


def check(index: PlaceIndex) -> None:
    """What every golden index holds."""
    index.verify()
    assert index.names == ("a.jpg", "ü b.jpg", os.fsdecode(b"\xff.jpg"))
    assert np.array_equal(index.vectors[:], np.eye(4, dtype=np.float32)[:3])
    want = [[386300.0, 6174700.0], [np.nan, np.nan], [386500.25, 6174700.5]]
    assert np.array_equal(index.positions.metres, want, equal_nan=True)
    assert index.positions.zones == ("33N", "", "33N")
    assert (index.made_by.method, index.root) == ("mean_colour", Path("/photos"))


def test_format_1_is_refused_with_the_command_that_upgrades_it(old: Path) -> None:
    with pytest.raises(InputError, match=f"Run: cricavpr index upgrade {old}"):
        PlaceIndex.open(old)
    with pytest.raises(InputError, match="is a place index already"):
        PlaceIndex.create(old, PlaceIndex.open(GOLDEN / "format_2").made_by)


def test_format_1_is_upgraded_and_nothing_of_it_is_left(old: Path) -> None:
    index = upgrade(old)
    check(index)
    assert files_of(old) == sorted(index.snapshot.manifest.files())
    before = bytes_of(old)
    assert upgrade(old).version == 1 and bytes_of(old) == before


def test_format_2_is_read_as_it_was_written() -> None:
    check(PlaceIndex.open(GOLDEN / "format_2"))


def test_photos_that_still_lie_where_they_were_are_known_by_their_bytes(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cricavpr.index import upgrading

    (tmp_path / "a.jpg").write_bytes(b"a photo")
    read = upgrading.read_format_1
    monkeypatch.setattr(upgrading, "read_format_1", lambda path: (*read(path)[:2], tmp_path))
    index = upgrade(old)
    assert index.find([hashlib.sha256(b"a photo").digest()]).tolist() == [0]


def test_damage_of_an_old_index_is_named_and_the_index_stays(old: Path) -> None:
    for path in sorted(old.iterdir()):
        content = path.read_bytes()
        for place in range(0, len(content), 5):
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x21]) + content[place + 1 :])
            with pytest.raises(InputError, match=path.name) as caught:
                upgrade(old)
            assert "\n" not in str(caught.value)
        path.write_bytes(content)
    check(upgrade(old))
