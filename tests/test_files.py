"""Durable files: what is synced before its name is there, and what is never opened."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cricavpr.files import make_folders, open_regular, write_text, written_beside


class Steps:
    """What is done to which name, in order: made, synced, renamed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, str]] = []
        names: dict[int, str] = {}
        open_, fsync, replace, mkdir = os.open, os.fsync, os.replace, os.mkdir

        def opened(path: str | Path, *rest: int) -> int:
            descriptor = open_(path, *rest)
            names[descriptor] = Path(path).name
            return descriptor

        def noted(what: str, call: Callable[..., None], name: Callable[..., str]) -> Callable[..., None]:
            def then(*given: object) -> None:
                call(*given)
                self.done.append((what, name(*given)))

            return then

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "fsync", noted("sync", fsync, lambda descriptor: names[descriptor]))
        monkeypatch.setattr(os, "replace", noted("rename", replace, lambda _, path: Path(path).name))
        monkeypatch.setattr(os, "mkdir", noted("make", mkdir, lambda path, *_: Path(path).name))


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    with written_beside(tmp_path / "file") as beside:
        beside.write_text("new")
    assert steps.done == [("sync", beside.name), ("rename", "file"), ("sync", tmp_path.name)]


def test_each_new_folder_is_synced_into_the_one_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    make_folders(tmp_path / "a/b/c")
    up = [tmp_path.name, "a", "b"]
    pairs = zip("abc", up, strict=True)
    assert steps.done == [step for name, above in pairs for step in (("make", name), ("sync", above))]
    steps.done.clear()
    make_folders(tmp_path / "a/b")
    write_text(tmp_path / "a/d/file", "new")
    assert steps.done[:2] == [("make", "d"), ("sync", "a")] and steps.done[-1] == ("sync", "d")


def test_a_folder_that_another_process_makes_meanwhile_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = os.mkdir

    def twice(path: str, *mode: int) -> None:
        mkdir(path, *mode)
        mkdir(path, *mode)

    monkeypatch.setattr(os, "mkdir", twice)
    make_folders(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize("what", ["fifo", "link", "dangling link", "folder", "device"])
def test_only_a_regular_file_is_opened_and_nothing_is_waited_for(tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_text("content")
    try:
        {
            "fifo": lambda: os.mkfifo(path),
            "link": lambda: path.symlink_to(other),
            "dangling link": lambda: path.symlink_to(tmp_path / "nowhere"),
            "folder": path.mkdir,
            "device": lambda: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
        }[what]()
    except PermissionError:
        pytest.skip("this user cannot make devices")
    with pytest.raises(OSError, match=r"regular file|symbolic links") as caught:
        os.close(open_regular(path))
    assert caught.value.errno == (errno.ELOOP if "link" in what else errno.EINVAL)
    descriptor = open_regular(other)
    assert os.read(descriptor, 99) == b"content"
    os.close(descriptor)
