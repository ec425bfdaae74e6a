"""The demo replaces what it wrote, and touches nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cricavpr.demo.folder import MARK, workshop
from cricavpr.errors import InputError


def write(out: Path, **files: str) -> None:
    """A demo of a few files; `_` in a name stands for the folder below."""
    with workshop(out) as stage:
        for name, content in files.items():
            path = stage / f"{name.replace('_', '/')}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


def content(out: Path) -> dict[str, str]:
    """Everything that is not hidden."""
    files = (path for path in out.rglob("*") if path.is_file())
    names = {path.relative_to(out).as_posix(): path for path in files}
    return {name: path.read_text() for name, path in names.items() if not name.startswith(".")}


def test_a_new_demo_replaces_the_former_one_whole(tmp_path: Path) -> None:
    write(tmp_path / "demo", page="old", photos_a="old", photos_b="old", old_c="old")
    write(tmp_path / "demo", page="new", photos_a="new")
    assert content(tmp_path / "demo") == {"page.txt": "new", "photos/a.txt": "new"}
    assert not (tmp_path / "demo" / "old").exists()


def test_an_empty_folder_is_welcome(tmp_path: Path) -> None:
    write(tmp_path, page="new")
    assert content(tmp_path) == {"page.txt": "new"}


def test_a_folder_with_other_things_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"has the file 'thesis.tex', which no demo wrote"):
        write(tmp_path, page="new")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_added_to_a_former_demo_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path, page="old", photos_a="old")
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"photos/mine\.txt"):
        write(tmp_path, page="new")
    assert content(tmp_path) == {"page.txt": "old", "photos/a.txt": "old", "photos/mine.txt": "mine"}


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "demo", page="old")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "demo" / "photos").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="photos"):
        write(tmp_path / "demo", photos_a="new")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(InputError, match="got the file"):
        write(tmp_path / "demo", page="new")


def test_a_demo_that_fails_leaves_the_former_one(tmp_path: Path) -> None:
    write(tmp_path, page="old")
    with pytest.raises(ZeroDivisionError), workshop(tmp_path) as stage:
        (stage / "page.txt").write_text("half")
        raise ZeroDivisionError
    assert content(tmp_path) == {"page.txt": "old"}
    write(tmp_path, page="new")
    assert content(tmp_path) == {"page.txt": "new"}


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), workshop(tmp_path) as stage:
        raise ZeroDivisionError
    stage.mkdir()
    (stage / "half.txt").write_text("half")
    write(tmp_path, page="new")
    assert content(tmp_path) == {"page.txt": "new"}
    assert not stage.exists()


@pytest.mark.parametrize("name", ["../precious.txt", "{root}/precious.txt"])
def test_an_edited_mark_cannot_make_it_remove_a_file_elsewhere(tmp_path: Path, name: str) -> None:
    write(tmp_path / "demo", page="old")
    (tmp_path / "precious.txt").write_text("precious")
    mark = tmp_path / "demo" / MARK
    wanted = json.loads(mark.read_text())
    mark.write_text(json.dumps({**wanted, "files": [*wanted["files"], name.format(root=tmp_path)]}))
    write(tmp_path / "demo", page="new")
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_two_demos_do_not_write_one_folder_at_once(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    import subprocess
    import sys

    write(tmp_path, page="old")
    hold = (
        "import fcntl, sys; lock = open(sys.argv[1], 'ab'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    assert fcntl
    command = [sys.executable, "-c", hold, str(tmp_path / ".cricavpr_demo.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="is locked by"):
            write(tmp_path, page="new")
        other.communicate()
    assert content(tmp_path) == {"page.txt": "old"}
