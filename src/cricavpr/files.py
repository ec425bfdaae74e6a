"""Files: written durably, read as text or as memory maps, and safe for spreadsheets.

A file is written beside the old one, synced and renamed, so that a reader sees the old file or the new one.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import mmap
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.errors import InputError

if TYPE_CHECKING:  # `cricavpr weights list` starts without numpy
    from numpy.typing import NDArray

MARKED_BYTES = 1 << 16  # the mark of a file is within its first 64 KiB
QUOTE = "'"  # spreadsheets take the text after a leading apostrophe as it is
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")  # a cell that begins like this is, or may become, a formula


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path; if the block succeeds, sync that file and rename it to `path`.

    Raises:
        InputError: `path` is not a regular file, or its folder cannot be written.
    """
    refuse_all_but_files(path)
    # 40 characters are at most 160 bytes, so the longer name is valid wherever `path` is.
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    try:
        make_folders(path.parent)
        yield beside
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Choose another place, or free disk space."
        ) from error
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
    """Raise if `path` exists and is not a regular file.

    Raises:
        InputError: `path` is a folder, a device such as /dev/null, or a pipe.
    """
    with contextlib.suppress(OSError):  # an unreadable folder: the write itself reports that
        if not path.name or path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder. Give the name of a file.")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot write {path}: it is a device or a pipe. Give the name of an ordinary file.")


def refuse_other_content(path: Path, mark: bytes, what: str) -> None:
    """Raise if `path` exists and its first bytes do not contain a mark, so that a typing error replaces no photo.

    Args:
        mark: bytes near the start of every file that may be replaced.
        what: the kind of these files, for the message.

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
    """Convert an OSError while resumable work is written to an error that says how to resume.

    Raises:
        InputError: a write failed; finished work is kept.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Finished work is kept: free disk space and run the same "
            "command again."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text durably. Raises InputError if `path` cannot be written."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def read_lines(source: Path | bytes) -> list[str]:
    """Read a list with one name on each line; blank lines are left out.

    Line ends of Windows and a byte-order mark are removed. Bytes that are not UTF-8 are decoded as in `os.fsdecode`.

    Raises:
        InputError: the file cannot be read.

    Example:
        >>> read_lines(b"\\xef\\xbb\\xbfmay/1.jpg\\r\\nmay/2.jpg\\r\\n")
        ['may/1.jpg', 'may/2.jpg']
    """
    try:
        raw = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the list {source!s}: {error.strerror or error}. Check the path.") from error
    lines = (line.rstrip("\r") for line in decoded(raw).split("\n"))
    return [line for line in lines if line.strip()]


def decoded(raw: bytes) -> str:
    """Decode text in UTF-8 or UTF-16, with or without a byte-order mark; other bytes are kept as surrogates."""
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return raw.decode("utf-16", "replace")  # what spreadsheets call Unicode text
    return raw.decode("utf-8-sig", "surrogateescape")


def make_folders(path: Path) -> None:
    """Make a folder and its missing parents, durably. Raises OSError if one cannot be made."""
    if path.is_dir():
        return
    make_folders(path.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster, or `sync` fails on a file
        path.mkdir()
    sync(path.parent)


def open_regular(path: Path) -> int:
    """Open a regular file for reading; return its descriptor.

    Symbolic links are not followed and pipes do not block, so that an untrusted folder cannot make a reader hang or
    read a file elsewhere.

    Raises:
        OSError: missing, no permission, or not a regular file (ELOOP for a link, EINVAL for anything else).
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
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


# --- cells of a spreadsheet


def safe_cell(text: str) -> str:
    """Return the text for a CSV cell, with an apostrophe before it if a spreadsheet could run it as a formula.

    For names and other text only, because a negative number needs no apostrophe. `plain_cell` is the inverse.

    Example:
        >>> safe_cell("=HYPERLINK(1).jpg")
        "'=HYPERLINK(1).jpg"
        >>> safe_cell("may/1.jpg")
        'may/1.jpg'
    """
    return QUOTE + text if text.startswith((*RISKY, QUOTE)) else text


def plain_cell(text: str) -> str:
    """Return the text of a CSV cell without the apostrophe that `safe_cell` adds.

    Example:
        >>> plain_cell("'=HYPERLINK(1).jpg")
        '=HYPERLINK(1).jpg'
        >>> plain_cell("'quoted'.jpg")
        "'quoted'.jpg"
    """
    return text[1:] if text.startswith(QUOTE) and text[1:].startswith((*RISKY, QUOTE)) else text


# --- memory maps


def give_back(array: NDArray[Any]) -> None:
    """Release the pages of a memory-mapped array that were read, which would count as memory of this process.

    Values are read from the file again when they are needed. Other arrays are not changed.
    """
    mapping = map_of(array)
    if mapping is not None and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the memory map behind an array, or None for an array in memory."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base
