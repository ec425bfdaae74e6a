"""Read and write the files of an index: regular files, synced, and never changed in place.

Files are written with functions of `os`, because tests replace these to count calls, to fail, or to kill the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.files import open_regular, sync
from cricavpr.locks import exclusive

LOCK = ".place_index.lock"
PARTIAL = ".partial"  # end of the name of an unfinished file
MANIFEST_BYTES = 1 << 28  # the largest JSON file that is read
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


# --- errors


class FileError(InputError):
    """A file of an index cannot be used.

    Attributes:
        file: its path.
        why: the reason, which continues a sentence that begins with the path.
        offset: first byte of the damaged block, or None.
    """

    remedy = "."

    def __init__(self, file: Path, why: str, offset: int | None = None) -> None:
        where = "" if offset is None else f" at byte {offset}"
        self.file, self.why, self.offset = Path(file), why, offset
        super().__init__(f"{file} {why}{where}{self.remedy.format(folder=self.file.parent)}")

    def __reduce__(self) -> tuple[type[FileError], tuple[Path, str, int | None]]:
        return type(self), (self.file, self.why, self.offset)  # picklable, for worker processes


class DamagedError(FileError):
    """A file does not have the content that was written."""

    remedy = ": the index is damaged. Restore the file from a copy, or build the index again."


class UnreadableError(FileError):
    """The system refuses to read a file, so its content is unknown."""

    remedy = ". Check its permissions and the disk."


class CodesError(FileError):
    """Codes or quantiser of compressed search cannot be used. They can be made again from the vectors."""

    remedy = ". Remove it: it can be made again from the vectors."


class TuningError(FileError):
    """The measurement of `tune` cannot be used."""

    remedy = ", and is not used. Measure again: cricavpr index tune {folder}"


class CalibrationError(FileError):
    """The calibration cannot be used."""

    remedy = ", and is not used. Calibrate again: cricavpr index calibrate {folder}"


def failed_read(path: Path, error: OSError, kind: type[FileError] = DamagedError) -> InputError:
    """Return the error for a file that could not be read: of class `kind` if it is missing or not a regular file."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return InputError(
            f"too many open files for the index {path.parent}. Raise the limit (ulimit -n), then merge its segments: "
            f"cricavpr index compact {path.parent}"
        )
    if error.errno == errno.ENOENT:
        return kind(path, "is missing")
    if error.errno in (errno.ELOOP, errno.EINVAL, errno.ENXIO):  # a link, a pipe or folder, a socket
        return kind(path, "is not a regular file")
    if error.errno == errno.EFBIG:
        return kind(path, "is too large")
    return UnreadableError(path, f"is unreadable ({error.strerror or error})")


# --- reading and writing


def read_whole(path: Path, most_bytes: int = MANIFEST_BYTES) -> bytes:
    """Return the content of a regular file. Raises OSError if it is unreadable or larger than `most_bytes`."""
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read(size)


def write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> int:
    """Write a new file, sync it, and return its length in bytes. After an error nothing of it is left.

    Raises:
        OSError: the file exists or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            length = sum(_write_all(descriptor, chunk) for chunk in chunks)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        remove_quietly(path)
        raise
    return length


def _write_all(descriptor: int, chunk: bytes | memoryview) -> int:
    """Write all bytes; one call of `os.write` may write only a part."""
    left = memoryview(chunk).cast("B")
    length = len(left)
    while len(left):
        left = left[os.write(descriptor, left) :]
    return length


def publish(path: Path, content: bytes) -> None:
    """Write a new file that appears complete or not at all.

    The folder is synced before, so that earlier files are on the disk under their names, and afterwards. If the last
    sync fails, the state of the disk is unknown, so the file is removed and the earlier version stays the newest.

    Raises:
        OSError: the file exists or cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        write_new(beside, [content])
        sync(path.parent)
        _link(beside, path)
        try:
            sync(path.parent)
        except OSError:
            remove_quietly(path)
            raise
    finally:
        remove_quietly(beside)


def _link(source: Path, path: Path) -> None:
    """Give a file a second name. Raises OSError if that name exists."""
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # a file system without hard links: the lock of the writer prevents a race
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        os.rename(source, path)  # noqa: PTH104


def remove_quietly(path: Path) -> None:
    """Remove a file; errors are ignored."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108  # tests interpose on the calls of `os`


@contextlib.contextmanager
def one_line_errors(folder: Path) -> Iterator[None]:
    """Convert an OSError of the block to an InputError that names the index."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise failed_read(folder / LOCK, error) from error
        raise InputError(
            f"cannot write the index {folder}: {error.strerror or error}. Its content is unchanged. Free disk space, "
            "fix permissions or choose another folder, then run the same command again."
        ) from error


@contextlib.contextmanager
def writer_of(path: Path, wait_s: float = 0.0, *, briefly: bool = False) -> Iterator[None]:
    """Hold the exclusive lock of an index during the block.

    Args:
        wait_s: how long to wait for another writer, in seconds.
        briefly: whether the lock is held for a moment only, see `locks.exclusive`.

    Raises:
        InputError: the folder is missing or cannot be written, or another process (named) holds the lock.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a place index: no such folder. Build one first.")
    with one_line_errors(path), exclusive(path / LOCK, str(path), wait_s, briefly=briefly):
        yield
