"""Positions on the command line: what is said of photos, what of rows, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from cricavpr.cli import main
from tests.photos import photo

Output = pytest.CaptureFixture[str]
QUICK = ["--method", "pixels", "--workers", "0", "--quiet"]


def run(capsys: Output, *words: str) -> tuple[int, str, str]:
    code = main([*words, *QUICK])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """Photos without GPS, numbered like those of the folder beside."""
    for number in (0, 1):
        photo(tmp_path / "photos" / "101" / f"IMG_{number}.jpg", number)
    return tmp_path / "photos" / "101"


def table(walk: Path, *rows: str) -> str:
    path = walk.parent / "all.csv"
    path.write_text("\n".join(["name,lat,lon", *rows]) + "\n")
    return str(path)


def test_rows_of_another_folder_are_a_note_and_cost_no_photo(walk: Path, tmp_path: Path, capsys: Output) -> None:
    rows = ["100/IMG_0.jpg,48.20,16.37", "101/IMG_0.jpg,47.00,15.00", "101/IMG_1.jpg,47.01,15.00"]
    index = str(tmp_path / "index")
    code, out, err = run(capsys, "index", "build", str(walk), "--positions", table(walk, *rows), "--out", index)
    assert code == 0 and "2 photos" in out
    assert err.splitlines()[0].startswith(
        "note: all.csv: line 2 names '100/IMG_0.jpg', but the photo of this name is in"
    )
    assert "could not be used" not in err
    assert main(["index", "export", index, "--out", str(tmp_path / "out.csv")]) == 0
    exported = (tmp_path / "out.csv").read_text()
    assert "47.0" in exported and "48.2" not in exported


def test_a_table_of_another_folder_alone_locates_nothing(walk: Path, tmp_path: Path, capsys: Output) -> None:
    rows = ["100/IMG_0.jpg,48.20,16.37", "100/IMG_1.jpg,48.21,16.37"]
    index = ["--out", str(tmp_path / "index")]
    code, out, err = run(capsys, "index", "build", str(walk), "--positions", table(walk, *rows), *index)
    assert code == 2 and out == "" and err.count("\n") == 1 and "is in the folder '101'" in err
    assert not (tmp_path / "index").exists()


def test_a_photo_without_a_position_is_counted_as_a_photo(walk: Path, tmp_path: Path, capsys: Output) -> None:
    index = ["--out", str(tmp_path / "index")]
    rows = ["IMG_0.jpg,48.20,16.37", "gone.jpg,48.20,16.37", "IMG_1.jpg,139.7,35.6"]
    code, _, err = run(capsys, "index", "build", str(walk), "--positions", table(walk, *rows), *index)
    assert code == 3 and "1 photos could not be used; all others are done." in err
    assert "cannot use IMG_1.jpg: line 4 of all.csv is wrong: latitude 139.7" in err
    assert "note: all.csv: line 3 names 'gone.jpg', but there is no such photo" in err


@pytest.mark.parametrize("content", ["customer,amount\n1,2\n", "name,lat,lon\ngone.jpg,1,1\nlost.jpg,1,1\n", "\0"])
def test_locate_describe_and_pca_read_no_table_of_positions(
    walk: Path, tmp_path: Path, capsys: Output, content: str
) -> None:
    index = str(tmp_path / "index")
    rows = ["IMG_0.jpg,48.20,16.37", "IMG_1.jpg,48.21,16.37"]
    assert run(capsys, "index", "build", str(walk), "--positions", table(walk, *rows), "--out", index)[0] == 0
    (walk / "positions.csv").write_text(content)
    code, out, err = run(capsys, "locate", str(walk), "--index", index)
    assert code == 0 and out.count("confidence") == 2 and "could not be used" not in err and "gone.jpg" not in err
    code, out, err = run(capsys, "describe", str(walk), "--out", str(tmp_path / "d.safetensors"))
    assert code == 0 and "2 descriptors" in out and "note" not in err
    code, _, err = run(capsys, "pca", "fit", str(walk), "--dim", "1", "--out", str(tmp_path / "pca.safetensors"))
    assert code == 0 and "note" not in err


def test_one_of_several_folders_of_queries_is_chosen_by_name(tmp_path: Path, capsys: Output) -> None:
    for side in ("db_2020", "queries_day", "queries_night"):
        for number in range(2):
            photo(tmp_path / "sf" / side / f"{number}.jpg", number, 37.77 + number / 100, -122.42)
    out = ["--out", str(tmp_path / "out")]
    code, _, err = run(capsys, "evaluate", str(tmp_path / "sf"), *out)
    assert code == 2 and "--database" in err
    base = ["evaluate", str(tmp_path / "sf"), "--database", "db_2020"]
    code, _, err = run(capsys, *base, *out)
    assert code == 2 and "queries_day, queries_night. Choose one: --queries queries_day" in err
    code, said, _ = run(capsys, *base, "--queries", "queries_night", "--grouping", "alone", *out)
    assert code == 0 and "sf/queries_night" in said
    code, _, err = run(capsys, *base, "--queries", "queries_dusk", *out)
    assert code == 2 and "no query folder 'queries_dusk'" in err and "queries_day, queries_night" in err
    code, _, err = run(capsys, "evaluate", "pitts30k-test", "--root", str(tmp_path), "--queries", "queries_day", *out)
    assert code == 2 and "the benchmark decides the folders" in err


def test_what_is_skipped_and_not_read_is_said_once(tmp_path: Path, capsys: Output) -> None:
    for number in range(2):
        photo(tmp_path / "photos" / f"{number}.jpg", number, 48.2, 16.37)
        photo(tmp_path / "photos" / "@eaDir" / f"{number}.jpg" / "thumb.jpg", 10 + number)
    (tmp_path / "photos" / "film.mov").touch()
    code, out, err = run(capsys, "index", "build", str(tmp_path / "photos"), "--out", str(tmp_path / "index"))
    assert code == 0 and "2 photos" in out
    assert err.splitlines() == [
        "note: skipped 1 folder of hidden or deleted files (@eaDir)",
        "note: skipped files in formats that are not supported: 1 .mov",
    ]


def test_the_same_photo_with_two_positions_is_named(walk: Path, tmp_path: Path, capsys: Output) -> None:
    (walk / "copy.jpg").write_bytes((walk / "IMG_0.jpg").read_bytes())
    rows = ["IMG_0.jpg,48.20,16.37", "IMG_1.jpg,48.21,16.37", "copy.jpg,48.30,16.37"]
    to = ["--out", str(tmp_path / "index")]
    code, out, err = run(capsys, "index", "build", str(walk), "--positions", table(walk, *rows), *to)
    assert code == 3 and "1 photos" in out and "2 photos could not be used" in err
    assert "cannot use IMG_0.jpg: is the same photo as 'copy.jpg', byte for byte, but has another position" in err
