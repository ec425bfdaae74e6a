"""What lies around the verbs: streams that are closed or full, names that no terminal can show, places in the way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.cli import main
from cricavpr.descriptors import DescriptorSet
from cricavpr.town.write import make_town

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
    monkeypatch.setattr("cricavpr.describing.flow.plan", lambda *_, **__: pytest.fail("photos were described"))
    for to in (str(photos), ".", "..", "/", str(photos / "0.png")):
        assert main(["index", "build", str(photos), "--out", to, *PIXELS]) == 2
        error = capsys.readouterr().err
        assert error.startswith("cricavpr: ") and error.count("\n") == 1


def test_an_index_may_be_built_in_the_folder_one_stands_in(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["index", "build", str(photos), "--out", ".", *PIXELS]) == 0
    assert main(["index", "info", "."]) == 0


def test_building_an_index_leaves_the_descriptors_of_the_user_alone(photos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "index.descriptors"
    mine.write_bytes(b"mine")
    assert main(["index", "build", str(photos), "--out", str(tmp_path / "index"), *PIXELS]) == 0
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
        (["--method", "cricavpr-tiny", "--image-size", "100x112"], "must be multiples of 14 px, such as 98 x 112"),
        (["--method", "cricavpr-tiny", "--image-size", "14x112"], "use larger images"),
        (["--grouping", ""], "invalid grouping"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(
    wrong: list[str], says: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", str(photos), "--out", str(tmp_path / "out"), *PIXELS, *wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1 and says in error
    assert {path.name for path in tmp_path.iterdir()} == {photos.name}


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([], "the following arguments are required: VERB. See: cricavpr --help"),
        (["evlauate"], "invalid choice 'evlauate'. Did you mean 'evaluate'?"),
        (["evaluate", "DATA", "--recall-at", "1,"], "expected whole numbers such as 1,5,10, got '1,'"),
        (["evaluate", "DATA", "--rerank", "x"], "argument --rerank: invalid int value: 'x'. See: cricavpr evaluate"),
        (["evaluate", "DATA", "--unknown\x1b[2J"], r"unrecognized arguments: --unknown\x1b[2J. See: cricavpr evaluate --help"),
        (["index", "info", "INDEX", "more"], "unrecognized arguments: more. See: cricavpr index info --help"),
    ],
)
def test_wrong_usage_is_one_line(typed: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed) == 2
    error = capsys.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1 and says in error


NUMBERS = ["0", "-1", "nan", "inf", "-inf", "1e300", "1" + 30 * "0", "", "x", "1.5"]
OPTIONS = [
    ("evaluate", ["--recall-at", "--rerank", "--pca-dim", "--radius-m", "--batch-size", "--workers", "--image-size"]),
    ("audit", ["--group-size", "--radius-m"]),
    ("compare-methods", ["--radius-m", "--batch-size"]),
    ("locate", ["--top", "--precision", "--batch-size", "--near", "--box", "--since"]),
    ("calibrate", ["--radius-m", "--share-in-map", "--max-photos"]),
    ("fit", ["--dim"]),
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """A command of each verb that is done in no time."""
    here = tmp_path_factory.mktemp("odd")
    make_town(here / "town", 7100, 2, "photos", image_size=(56, 56))
    town, queries, index = str(here / "town"), str(here / "town/queries"), str(here / "index")
    with contextlib.redirect_stdout(None):
        assert main(["index", "build", f"{town}/database", "--out", index, *PIXELS, "--workers", "0"]) == 0
        assert main(["describe", queries, "--out", str(here / "some"), *PIXELS, "--workers", "0"]) == 0
    work = [*PIXELS, "--workers", "0"]
    return {
        "evaluate": ["evaluate", town, "--out", str(here / "out"), *work],
        "audit": ["audit", town, "--out", str(here / "out"), "--shuffles", "1", *work],
        "compare-methods": ["compare-methods", town, "--methods", "pixels", "--quiet", "--workers", "0"],
        "locate": ["locate", queries, "--index", index, *work],
        "calibrate": ["index", "calibrate", index, *work],
        "fit": ["pca", "fit", str(here / "some"), "--out", str(here / "pca"), "--quiet"],
    }


@pytest.mark.parametrize(("verb", "option"), [(verb, option) for verb, options in OPTIONS for option in options])
def test_any_number_is_taken_or_answered_with_one_line(
    verb: str,
    option: str,
    odd: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cricavpr.evaluation.costs.MEASURED_S", 0.0)
    many = {"--near": 3, "--box": 4}.get(option, 1)
    for number in NUMBERS:
        code = main([*odd[verb], f"{option}={','.join([number] * many)}"])
        error = capsys.readouterr().err
        assert code in (0, 2), (number, error)
        assert code == 0 or error.splitlines()[-1].startswith("cricavpr: "), (number, error)
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ([], "cricavpr VERB ... [options]"),
        (["locate"], "cricavpr locate PHOTO ... --index INDEX [options]"),
        (["index", "remove"], "cricavpr index remove INDEX [NAME ...] [options]"),
        (["train"], "cricavpr train [RECIPE.toml] [options]"),
    ],
)
def test_help_begins_with_what_is_acted_on(words: list[str], usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    assert capsys.readouterr().out.splitlines()[0] == f"usage: {usage}"


# --- interrupted

ENTRY = "from cricavpr.__main__ import main; sys.exit(main())"  # what the console script does
AT_IMPORT = """
import os, signal, sys
at = sys.argv.pop(1)
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == at:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
"""
TOLD = """
import os, signal, sys
install = signal.signal
def told(number, handler):
    before = install(number, handler)
    os.write(1, b"here")
    signal.signal = install
    return before
signal.signal = told
"""
LINE = b"cricavpr: interrupted. Run the same command again.\n"


@pytest.mark.parametrize(
    "module", ["cricavpr.cli", "argparse", "cricavpr.cli.describe", "numpy", "PIL", "torch", "torch.nn", "safetensors"]
)
def test_ctrl_c_while_something_is_imported_is_one_line(module: str, photos: Path, tmp_path: Path) -> None:
    """A real signal, at the moment when the import begins: some are inside a verb, most are before it."""
    words = ["describe", str(photos), "--out", str(tmp_path / "out"), "--workers", "0", "--quiet"]
    answer = subprocess.run([sys.executable, "-c", AT_IMPORT + ENTRY, module, *words], capture_output=True)
    assert (answer.returncode, answer.stderr) == (130, LINE)
    assert {path.name for path in tmp_path.iterdir()} == {photos.name}


@pytest.mark.parametrize("after_ms", [0, 10, 50, 100, 300, 700, 1500])
def test_ctrl_c_is_one_line_at_any_time(after_ms: int, photos: Path, tmp_path: Path) -> None:
    words = ["describe", str(photos), "--out", str(tmp_path / "out"), "--workers", "0", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-c", TOLD + ENTRY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.read(4) == b"here"  # before, Python itself is starting
    time.sleep(after_ms / 1000)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    done = b"2 descriptors" in out and process.returncode in (0, -signal.SIGINT)  # Python itself is ending
    assert (process.returncode, error) == (130, LINE) or (done and error == b"")


# --- terminals


def test_a_name_on_a_terminal_controls_nothing_and_a_pipe_gets_it_as_it_is(photos: Path, tmp_path: Path) -> None:
    evil = "a\x1b[2J\x9b\u202eb.png"
    (photos / "0.png").rename(photos / evil)
    (photos / "positions.csv").unlink()
    index = tmp_path / "index\x1b[31m"
    (photos / "1.png").unlink()
    table = tmp_path / "table.csv"
    table.write_text(f"name,lat,lon\n{evil},55.7,13.2\n")
    built = ["index", "build", str(photos), "--out", str(index), "--positions", str(table), *PIXELS]
    located = ["locate", str(photos), "--index", str(index), "--csv", *PIXELS]
    code = f"import sys; {ENTRY}"
    for words in (built, located):
        ours, theirs = os.openpty()
        process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=theirs, stderr=subprocess.PIPE)
        os.close(theirs)
        printed = b""
        with contextlib.suppress(OSError):  # the other side is closed
            while part := os.read(ours, 4096):
                printed += part
        os.close(ours)
        assert process.wait() == 0
        assert b"\\x1b[" in printed and not {"\x1b", "\x9b", "\u202e"} & set(printed.decode())
    answer = subprocess.run([sys.executable, "-c", code, *located], capture_output=True, check=True)
    assert evil in answer.stdout.decode()
