"""Durable files: written beside, synced, renamed. A reader sees the old file or the new one, never half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cricavpr.errors import InputError

MARKED_BYTES = 1 << 16  # in which a file of ours says what it is


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it is synced and takes `path`'s place.

    Raises:
        InputError: the folder does not exist or cannot be written.
    """
    refuse_all_but_files(path)
    # 40 characters are at most 160 bytes, so the longer name still fits where `path` itself fits.
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}. Choose another place or free it.") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def size_and_time(path: Path) -> tuple[int, int]:
    """By which a file that was written anew is told from the one before: bytes, and nanoseconds; -1 for no file."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def refuse_all_but_files(path: Path) -> None:
    """Make sure that a file may take the place of what is at `path`: another file, or nothing.

    Raises:
        InputError: a folder, a device such as /dev/null, or another thing that renaming would destroy.
    """
    with contextlib.suppress(OSError):  # what cannot be looked at cannot be written, and that is said later
        if not path.name or path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder. Give the name of a file.")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot write {path}: it is a device or a pipe. Give the name of an ordinary file.")


def refuse_other_content(path: Path, mark: bytes, what: str) -> None:
    """Make sure that a file may be written to `path`: nothing is there, or a file that bears our mark near its start.

    Raises:
        InputError: something else, such as a photo that a slip of the hand would have replaced.
    """
    refuse_all_but_files(path)
    try:
        with path.open("rb") as file:
            start = file.read(MARKED_BYTES)
    except OSError:
        return  # nothing there, or nothing that can be written: that is said by whoever writes
    if start and mark not in start:
        raise InputError(f"{path} holds something else than {what}. Choose another name, or remove it.")


@contextlib.contextmanager
def growing(path: Path) -> Iterator[None]:
    """Around every write to a file or folder that a later run takes up where this one stopped.

    Raises:
        InputError: the write failed; what was finished before it is still there.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Choose another place or free it; "
            "what is finished is kept, and the next run goes on from there."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text durably."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
