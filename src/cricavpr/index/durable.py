"""The few ways in which an index touches the disk: files that are made once, synced, and never changed.

Everything goes through calls of `os` that a test can count, fail or kill: there is no other way to the disk here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.files import sync
from cricavpr.locks import exclusive

LOCK = ".place_index.lock"
PARTIAL = ".partial"  # how the name of a file ends that is not whole yet
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> int:
    """Write a file that must not be there yet and sync it; its length in bytes. One that fails is taken away.

    Raises:
        OSError: it is there, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            length = sum(_write_all(descriptor, chunk) for chunk in chunks)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108  # the calls of `os` are what tests interpose on
        raise
    return length


def _write_all(descriptor: int, chunk: bytes | memoryview) -> int:
    """A write may take less than it was given: write until all is taken."""
    left = memoryview(chunk).cast("B")
    while len(left):
        left = left[os.write(descriptor, left) :]
    return len(memoryview(chunk).cast("B"))


def publish(path: Path, content: bytes) -> None:
    """Make `path` appear with `content`, whole or not at all, and never in place of another file.

    The folder is synced before, so that all files written earlier have names that last, and after. When the last
    sync fails nobody can say what the disk holds, so the name is taken back: what was there before stays true.

    Raises:
        OSError: it cannot be written, or a file of that name is there.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        write_new(beside, [content])
        sync(path.parent)
        _link(beside, path)
        try:
            sync(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108
            raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)  # noqa: PTH108


def _link(source: Path, path: Path) -> None:
    """Give a file its second name, if that is free."""
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # a file system without links: the writer's lock keeps others out between the two calls
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        os.rename(source, path)  # noqa: PTH104


def read_whole(path: Path, most_bytes: int = 1 << 30) -> bytes:
    """A file's bytes.

    Raises:
        OSError: it cannot be read, or is larger than `most_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        length = os.fstat(descriptor).st_size
        if length > most_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        parts = []
        while part := os.read(descriptor, length + 1):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def one_line_errors(folder: Path) -> Iterator[None]:
    """Around all writing: what the system refuses is one line that names the place.

    Raises:
        InputError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        refuse_too_many_files(folder, error)
        raise InputError(
            f"cannot write the index {folder}: {error.strerror or error}. What was in it before is untouched: "
            "free the place or choose another, and do the same again."
        ) from error


def refuse_too_many_files(folder: Path, error: OSError) -> None:
    """Raises: InputError: where nothing is wrong with an index but that this process has too many files open."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise InputError(
            f"{folder} has too many files to open all of them. Allow more (ulimit -n), and then join its segments: "
            f"cricavpr index compact {folder}"
        ) from error


@contextlib.contextmanager
def writer_of(path: Path, wait_s: float = 0.0, *, briefly: bool = False) -> Iterator[None]:
    """Hold the exclusive lock of an index; what the system refuses meanwhile becomes one line.

    Raises:
        InputError: no such folder, another writer, or a place that cannot be written.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no place index: there is no such folder. Build one there first.")
    with one_line_errors(path), exclusive(path / LOCK, str(path), wait_s, briefly=briefly):
        yield
