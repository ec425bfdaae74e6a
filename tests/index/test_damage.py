"""Every byte of an index that changes is named, or changes nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.index.auditing import damages
from cricavpr.index.checksummed_json import seal
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.storage import DamagedError
from tests.index.places import MADE_BY, added, built, photos


@pytest.fixture
def index(tmp_path: Path) -> PlaceIndex:
    """Two segments, one with a removed photo; no version before."""
    folder = tmp_path / "index"
    index = added(built(folder, range(20, 40)), range(6)).index.remove(["2.jpg"]).index
    assert len(index.snapshot.segments) == 2
    for path in folder.iterdir():
        if path.name not in index.snapshot.manifest.files():
            path.unlink()
    return index


def everything(folder: Path) -> Any:
    """All that a reader can ask of an index."""
    index = PlaceIndex.open(folder)
    found = index.search(photos(range(50, 53)), 4)
    rows, positions = index.facts, index.positions
    columns = (rows.ids.tobytes(), rows.times.tobytes(), rows.tags, positions.metres.tobytes(), positions.zones)
    names = (index.names, [index.photo(row) for row in range(len(index))])
    looked_up = index.find([row.tobytes() for row in rows.ids]).tobytes()
    return found.indices.tobytes(), found.scores.tobytes(), columns, names, looked_up, index.made_by, index.version


def silent_or_crashed(folder: Path, want: Any) -> str | None:
    """None where damage was named in one line, or provably changes nothing."""
    try:
        got = everything(folder)
    except InputError as error:
        return None if "\n" not in str(error) and str(folder) in str(error) else f"said badly: {error}"
    except Exception as error:
        return repr(error)
    return None if got == want else "another answer"


def mutations(content: bytes, stride: int) -> Any:
    for place in range(0, len(content), stride):
        for value in {content[place] ^ (1 << (place % 8)), 0, 255} - {content[place]}:
            yield f"{place}={value}", content[:place] + bytes([value]) + content[place + 1 :]
    for length in range(0, len(content), stride):
        yield f"cut to {length}", content[:length]
    yield "one more byte", content + b"\0"


def wrong_answers(index: PlaceIndex, stride: int) -> tuple[int, list[str]]:
    folder, want, tried, wrong = index.path, everything(index.path), 0, []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for what, damaged in mutations(content, stride):
            path.unlink()
            path.write_bytes(damaged)
            tried += 1
            if reason := silent_or_crashed(folder, want):
                wrong.append(f"{path.name} {what}: {reason}")
        path.unlink()
        path.write_bytes(content)
    assert everything(folder) == want
    return tried, wrong


def test_bytes_that_change_are_named_or_change_nothing(index: PlaceIndex) -> None:
    tried, wrong = wrong_answers(index, 23)
    assert wrong == [] and tried > 500


@pytest.mark.slow
def test_every_byte_that_changes_is_named_or_changes_nothing(index: PlaceIndex) -> None:
    tried, wrong = wrong_answers(index, 1)
    assert wrong == [] and tried > 10_000


def test_every_damaged_byte_of_a_segment_is_found_by_verify_with_its_place(index: PlaceIndex) -> None:
    path = next(index.path.glob("segment-*"))
    content = path.read_bytes()
    for place in range(0, len(content), 31):
        path.unlink()
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(DamagedError, match=rf"{path.name} .* at byte \d+"):
            index.verify()
    path.write_bytes(content)
    index.verify()


def test_a_damaged_block_is_named_by_its_first_byte_and_the_others_are_read(tmp_path: Path) -> None:
    index = built(tmp_path / "index", range(9000))
    path = next(index.path.glob("segment-*"))
    content = bytearray(path.read_bytes())
    content[8192 + 16 * 6000] ^= 1  # a vector of photo 6000, in the thirteenth block of 8,192 bytes
    path.write_bytes(content)
    again = PlaceIndex.open(index.path)
    assert np.array_equal(again.vectors[:4000], photos(range(4000)).vectors)
    with pytest.raises(DamagedError, match="at byte 98304"):
        again.search(photos([1]))
    (damage,) = damages(index.path)
    assert (damage.file, damage.offset) == (path, 98304)


def test_a_file_that_has_grown_is_named(index: PlaceIndex) -> None:
    for path in list(index.path.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content + b"x")
        with pytest.raises(DamagedError, match=path.name):
            PlaceIndex.open(index.path)
        path.write_bytes(content)


def test_a_file_that_is_missing_is_named(index: PlaceIndex) -> None:
    for path in list(index.path.iterdir()):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(InputError, match=re.escape(str(index.path))) as caught:
            PlaceIndex.open(index.path)
        assert path.name in str(caught.value) or "not a place index" in str(caught.value)
        path.write_bytes(content)


def test_files_that_were_swapped_between_versions_are_found(index: PlaceIndex, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(index.path, before)
    newer = added(index, [50]).index.compact()
    old, new = index.snapshot.manifest, newer.snapshot.manifest
    shutil.copy(before / old.name, newer.path / new.name)  # an old manifest under the new one's name
    with pytest.raises(DamagedError, match=f"{new.name} .*the version number {old.version}"):
        PlaceIndex.open(newer.path)
    shutil.rmtree(newer.path)
    shutil.copytree(before, newer.path)
    one, two = old.pieces[0].file, old.pieces[1].file
    shutil.copy(before / one, newer.path / two)
    with pytest.raises(DamagedError, match=two):
        PlaceIndex.open(newer.path)


def test_all_damages_are_listed(index: PlaceIndex) -> None:
    for path in index.path.glob("segment-*"):
        content = bytearray(path.read_bytes())
        content[70] ^= 1
        path.write_bytes(content)
    assert {damage.file for damage in damages(index.path)} == set(index.path.glob("segment-*"))


# --- manifests without sense


def forged(index: PlaceIndex, **changes: object) -> None:
    """A manifest with a sound checksum that says something else."""
    path = index.path / index.snapshot.manifest.name
    values = {**json.loads(path.read_text()), **changes}
    values.pop("checksum")
    path.write_text(seal(values))


PIECE = {"file": "segment-0123456789abcdef.bin", "bytes": 9, "checksum": "", "count": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 7},
        {"version": "3"},
        {"made_by": {}},
        {"made_by": {**MADE_BY.to_dict(), "colour": 1}},
        {"made_by": {**MADE_BY.to_dict(), "dim": 5}},
        {"dtype": "float8"},
        {"colour": 1},
        {"pieces": 3},
        {"pieces": [{}]},
        {"pieces": [{**PIECE, "file": "../../etc/passwd"}]},
        {"pieces": [{**PIECE, "count": -1}]},
        {"pieces": [{**PIECE, "count": True}]},
        {"pieces": [{**PIECE, "bytes": 10**30}]},
        {"pieces": [{**PIECE, "removed": {"file": "/etc/passwd", "count": 1, "sha256": ""}}]},
        {"pieces": [{**PIECE, "removed": {"file": "removed-0123456789abcdef.bin", "count": 1, "sha256": ""}}]},
    ],
)
def test_a_manifest_without_sense_is_refused(changes: dict[str, object], index: PlaceIndex) -> None:
    forged(index, **changes)
    with pytest.raises(InputError) as caught:
        PlaceIndex.open(index.path)
    assert "\n" not in str(caught.value)
    assert list(damages(index.path))


def test_an_index_of_a_later_release_is_refused_with_the_command_that_helps(index: PlaceIndex) -> None:
    forged(index, format="cricavpr.place_index.9")
    with pytest.raises(InputError, match=r"place_index\.9") as caught:
        PlaceIndex.open(index.path)
    assert "pip install --upgrade cricavpr" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"index"', "{}", "[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(text: str, index: PlaceIndex) -> None:
    (index.path / index.snapshot.manifest.name).write_text(text)
    with pytest.raises(InputError, match="the index is damaged"):
        PlaceIndex.open(index.path)
