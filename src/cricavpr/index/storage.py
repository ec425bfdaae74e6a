"""Reading and writing of the files of an index: regular files that are synced to the disk and never changed in place.

Files are written with functions of the module `os`, because tests replace these functions to count calls, to simulate
errors, or to kill the process.
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
PARTIAL = ".partial"  # suffix of the name of an unfinished file
MANIFEST_BYTES = 1 << 28  # the largest JSON file that is read
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


# --- errors


class FileError(InputError):
    """A file of an index cannot be used.

    Attributes:
        file: path of the file.
        why: the reason, as the end of a sentence that begins with the path, such as "is missing".
        offset: first byte of the damaged block, or None if it is not known.
    """

    remedy = "."  # end of the message, what to do; {folder} is replaced by the folder of the file

    def __init__(self, file: Path, why: str, offset: int | None = None) -> None:
        where = "" if offset is None else f" at byte {offset}"
        self.file, self.why, self.offset = Path(file), why, offset
        super().__init__(f"{file} {why}{where}{self.remedy.format(folder=self.file.parent)}")

    def __reduce__(self) -> tuple[type[FileError], tuple[Path, str, int | None]]:
        return type(self), (self.file, self.why, self.offset)  # picklable, for worker processes


class DamagedError(FileError):
    """A file does not have the content that was written."""

    remedy = ": the index is damaged. Restore the file from a backup, or build the index again."


class UnreadableError(FileError):
    """The operating system refuses to read a file, so it is not known whether the file is damaged."""

    remedy = ". Check its permissions and the disk."


class CodesError(FileError):
    """The codes or the quantiser of compressed search cannot be used. They can be made again."""

    remedy = ". Remove this file, then make it again: cricavpr index tune {folder}"


class TuningError(FileError):
    """The file with the result of `cricavpr index tune` cannot be used."""

    remedy = ", and is not used. Measure again: cricavpr index tune {folder}"


class CalibrationError(FileError):
    """The calibration file of an index cannot be used."""

    remedy = ", and is not used. Calibrate again: cricavpr index calibrate {folder}"


def failed_read(path: Path, error: OSError, kind: type[FileError] = DamagedError) -> InputError:
    """Return the error to raise for a file that could not be read.

    Args:
        error: the error that reading the file raised.
        kind: the class of the returned error if the file is missing, too large, or not a regular file.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return InputError(
            f"too many open files for the index {path.parent}. Raise the limit of open files (ulimit -n), then merge "
            f"the files of the index: cricavpr index compact {path.parent}"
        )
    if error.errno == errno.ENOENT:
        return kind(path, "is missing")
    if error.errno in (errno.ELOOP, errno.EINVAL, errno.ENXIO):  # a symbolic link; a pipe or a folder; a socket
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
    """Write a new file, sync it, and return its length in bytes. After an error the incomplete file is removed.

    Raises:
        OSError: the file exists already or cannot be written.
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
    """Write all bytes and return their number. One call of `os.write` may write only some of them."""
    left = memoryview(chunk).cast("B")
    length = len(left)
    while len(left):
        left = left[os.write(descriptor, left) :]
    return length


def publish(path: Path, content: bytes) -> None:
    """Write the manifest of a new version, so that the file appears complete or not at all.

    The folder is synced before the file appears, so that the files listed in the manifest are on the disk by then. The
    folder is synced again afterwards. If this last sync fails, the state of the disk is unknown, so the manifest is
    removed and the earlier version remains the newest.

    Raises:
        OSError: the file exists already or cannot be written.
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
    """Give the file `source` the second name `path`, or rename it where the file system has no hard links.

    Raises:
        OSError: `path` exists already, or the file cannot be linked.
    """
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # without hard links, this check is safe because the caller holds the lock of the index
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        os.rename(source, path)  # noqa: PTH104


def remove_quietly(path: Path) -> None:
    """Remove a file and ignore errors."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108  # tests replace `os.unlink`


@contextlib.contextmanager
def one_line_errors(folder: Path) -> Iterator[None]:
    """Convert an OSError raised in the block to an InputError that names the index and says what to do."""
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
        wait_s: how long to wait for another process that holds the lock, in seconds.
        briefly: whether the lock is held only for a moment; then others wait for it, see `locks.exclusive`.

    Raises:
        InputError: the folder is missing or cannot be written, or another process holds the lock (the message names
            the process).
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a place index: there is no such folder. Build an index first.")
    with one_line_errors(path), exclusive(path / LOCK, str(path), wait_s, briefly=briefly):
        yield
