"""What lies around the verbs: streams that are closed or full, names that no terminal can show, places in the way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.cli import main
from cricavpr.descriptors import DescriptorSet

PIXELS = ["--method", "pixels", "--quiet"]


def run(redirection: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    code = "import sys; from cricavpr.cli import main; sys.exit(main())"
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code, *arguments]
    return subprocess.run(words, capture_output=True, env={**os.environ, **environment})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos ü"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "positions.csv").write_text("name,lat,lon\n0.png,55.7,13.2\n1.png,55.8,13.2\n")
    return folder


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_closed_stream_stops_nothing(redirection: str) -> None:
    answer = run(redirection, "methods")
    assert (answer.returncode, answer.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    answer = run(">/dev/full", "methods")
    assert answer.returncode == 2
    assert answer.stderr.startswith(b"cricavpr: cannot read or write") and answer.stderr.count(b"\n") == 1


def test_a_name_that_the_terminal_cannot_show_is_escaped(photos: Path, tmp_path: Path) -> None:
    arguments = ["describe", str(photos), "--out", str(tmp_path / "ü"), *PIXELS]
    answer = run("", *arguments, PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert b"\\xfc: 2 descriptors" in answer.stdout


def test_what_is_in_the_way_of_an_index_is_said_before_a_photo_is_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cricavpr.describing.describe", lambda *_, **__: pytest.fail("photos were described"))
    for to in (str(photos), ".", "..", "/", str(photos / "0.png")):
        assert main(["index", "build", str(photos), "--to", to, *PIXELS]) == 2
        error = capsys.readouterr().err
        assert error.startswith("cricavpr: ") and error.count("\n") == 1


def test_an_index_may_be_built_in_the_folder_one_stands_in(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["index", "build", str(photos), "--to", ".", *PIXELS]) == 0
    assert main(["index", "info", "."]) == 0


def test_building_an_index_leaves_the_descriptors_of_the_user_alone(photos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "index.descriptors"
    mine.write_bytes(b"mine")
    assert main(["index", "build", str(photos), "--to", str(tmp_path / "index"), *PIXELS]) == 0
    assert mine.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {photos.name, mine.name, "index"}


def test_describe_replaces_descriptors_and_nothing_else(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out, photo = tmp_path / "out.safetensors", photos / "0.png"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")  # stands for /dev/null, which a test run as root must not put at risk
    before = photo.read_bytes()
    for _ in range(2):
        assert main(["describe", str(photos), "--out", str(out), *PIXELS]) == 0
    assert len(DescriptorSet.load(out)) == 2
    capsys.readouterr()
    for wrong in (str(photo), "socket", ".", "/"):
        assert main(["describe", str(photos), "--out", wrong, *PIXELS]) == 2
        error = capsys.readouterr().err
        assert error.startswith("cricavpr: ") and error.count("\n") == 1
    assert photo.read_bytes() == before
    assert Path("socket").is_socket()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--device", "meta"], "device must be auto, cpu, cuda or mps, got 'meta'"),
        (["--device", "foo"], "device must be auto, cpu, cuda or mps, got 'foo'"),
        (["--device", ""], "device must be auto, cpu, cuda or mps, got ''"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["--workers", "-1"], "workers must be at least 0, got -1"),
        (["--grouping", ""], "is not understood"),
        (["--method", "cricavpr-tiny", "--image-size", "100x112"], "must be multiples of 14 px, such as 98 x 112"),
        (["--method", "cricavpr-tiny", "--image-size", "14x112"], "use larger images"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(
    wrong: list[str], says: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", str(photos), "--out", str(tmp_path / "out"), *PIXELS, *wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1 and says in error
    assert {path.name for path in tmp_path.iterdir()} == {photos.name}


def test_recall_at_no_number_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["evaluate", "DATA", "--recall-at", "1,"])
    assert exit.value.code == 2
    assert "'1,' is not understood. Give whole numbers, such as 1,5,10." in capsys.readouterr().err
