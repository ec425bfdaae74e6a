"""Durable files: written beside the old one, synced, renamed. A reader sees the old file or the new, never half."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from cricavpr.errors import InputError

MARKED_BYTES = 1 << 16  # our files carry their mark within so many first bytes


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path; if the block succeeds, sync that file and rename it to `path`.

    Raises:
        InputError: `path` is not a file, or its folder cannot be written.
    """
    refuse_all_but_files(path)
    # 40 characters are at most 160 bytes, so the longer name still fits where `path` itself fits.
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    try:
        make_folders(path.parent)
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
    """Return the size (bytes) and mtime (ns) of a file, used to detect changes; -1, -1 if there is no file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def refuse_all_but_files(path: Path) -> None:
    """Raise if writing a file to `path` would replace anything but a regular file.

    Raises:
        InputError: `path` is a folder, a device such as /dev/null, or a pipe.
    """
    with contextlib.suppress(OSError):  # an unreadable folder: the write itself reports that
        if not path.name or path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder. Give the name of a file.")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot write {path}: it is a device or a pipe. Give the name of an ordinary file.")


def refuse_other_content(path: Path, mark: bytes, what: str) -> None:
    """Raise if `path` exists and its first bytes do not contain our mark, so that a typing error replaces no photo.

    Args:
        mark: bytes near the start of every file of the kind that may be replaced.
        what: that kind, for the message.

    Raises:
        InputError: the file has other content.
    """
    refuse_all_but_files(path)
    try:
        with path.open("rb") as file:
            start = file.read(MARKED_BYTES)
    except OSError:
        return  # missing or unreadable: the write itself reports that
    if start and mark not in start:
        raise InputError(f"{path} exists and is not {what}. Choose another name, or remove the file.")


@contextlib.contextmanager
def growing(path: Path) -> Iterator[None]:
    """Wrap writes of resumable work: an OSError becomes one line that says how to resume.

    Raises:
        InputError: a write failed; finished work is kept.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Finished work is kept: free "
            "the place and run the same command again."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text durably. Raises InputError if `path` cannot be written."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def read_lines(source: Path | bytes) -> list[str]:
    """Read a list with one name on each line; blank lines are left out.

    Line ends of Windows and a byte-order mark are no part of a name. Bytes that are not UTF-8 are kept, as
    `os.fsdecode` gives them.

    Raises:
        InputError: the file cannot be read.

    Example:
        >>> read_lines(b"\\xef\\xbb\\xbfmay/1.jpg\\r\\nmay/2.jpg\\r\\n")
        ['may/1.jpg', 'may/2.jpg']
    """
    try:
        raw = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the list {source!s}: {error.strerror or error}.") from error
    lines = (line.rstrip("\r") for line in decoded(raw).split("\n"))
    return [line for line in lines if line.strip()]


def decoded(raw: bytes) -> str:
    """Decode text in UTF-8 or UTF-16, with or without a byte-order mark; other bytes are kept as surrogates."""
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return raw.decode("utf-16", "replace")  # what spreadsheets call Unicode text
    return raw.decode("utf-8-sig", "surrogateescape")


def make_folders(path: Path) -> None:
    """Make a folder and its missing parents; sync each new name. Raises OSError if one cannot be made."""
    if path.is_dir():
        return
    make_folders(path.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster, or the next line reports a file
        path.mkdir()
    sync(path.parent)


def open_regular(path: Path) -> int:
    """Open a regular file for reading; return its descriptor.

    Symbolic links are not followed and pipes are not waited for, so that no folder of a stranger's can make a
    reader hang or read a file elsewhere.

    Raises:
        OSError: missing, no permission, or not a regular file (ELOOP for a link, EINVAL for anything else).
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def sync(path: Path) -> None:
    """Flush a file, or a folder's directory entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """Read columns of a csv file of a data set, by name; blank lines are left out.

    Args:
        columns: names of columns that must be there.
        optional: names of columns that may be there.

    Raises:
        InputError: no such file, a missing column, or a row that is too short.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            wanted = [*columns, *(column for column in optional if column in header)]
            if missing := [column for column in wanted if column not in header]:
                shown = ", ".join(filter(None, header))[:100] or "nothing"
                raise InputError(f"{path} has no column {missing[0]!r}, only {shown}. Restore it from the data set.")
            places = [header.index(column) for column in wanted]
            rows = [[line[place] for place in places] for line in lines if line]
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Restore it from the data set.") from None
    except IndexError:
        raise InputError(f"line {lines.line_num} of {path} is too short. Restore it from the data set.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}. Restore it from the data set.") from None
    return {column: [row[at] for row in rows] for at, column in enumerate(wanted)}
