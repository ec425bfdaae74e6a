"""Files: safe writing, reading as text or as memory maps, and cells of CSV files that are safe for spreadsheets.

A file is written under a temporary name in the same folder, synced to the disk and renamed. So a reader sees either the
old file or the complete new file.
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

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # at the beginning of a text in UTF-16
MARKED_BYTES = 1 << 16  # `refuse_other_content` looks for the mark in the first 64 KiB of a file
QUOTE = "'"  # spreadsheets do not run the text after a leading apostrophe
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")  # spreadsheets may run a cell that begins with one of these as a formula


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path, to which the block writes a file. If the block succeeds, the file is renamed to `path`.

    The file is synced to the disk first. If the block fails, the file is removed.

    Raises:
        InputError: `path` is not a regular file, or its folder cannot be written.
    """
    refuse_all_but_files(path)
    # The temporary name has at most 40 characters (160 bytes) of the name of `path`, so it is never too long.
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    try:
        make_folders(path.parent)
        yield beside
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Choose another path, or free disk space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def size_and_time(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time in nanoseconds of a file; -1, -1 if there is no file.

    Compare two results to find out whether a file has changed.
    """
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
    with contextlib.suppress(OSError):  # if the folder cannot be read, writing the file reports that
        if not path.name or path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder. Give the name of a file.")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot write {path}: it is a device or a pipe. Give the name of a regular file.")


def refuse_other_content(path: Path, mark: bytes, what: str) -> None:
    """Raise if `path` is a file of another kind, so that a mistyped path does not overwrite a photo, for example.

    Args:
        mark: bytes that are among the first 64 KiB of every file that may be replaced.
        what: the kind of file that may be replaced, for the message, such as "a descriptor file".

    Raises:
        InputError: the file does not have the mark.
    """
    refuse_all_but_files(path)
    try:
        with path.open("rb") as file:
            start = file.read(MARKED_BYTES)
    except OSError:
        return  # if the file cannot be read, writing the file reports that
    if start and mark not in start:
        raise InputError(
            f"{path} exists and is not {what}, so it is not replaced. Choose another name, or remove the file."
        )


@contextlib.contextmanager
def growing(path: Path) -> Iterator[None]:
    """Convert an OSError of the block to an InputError that says how to resume the work.

    Use it around a block that writes to `path` and can be resumed.

    Raises:
        InputError: `path` could not be written. Work that is finished is kept.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Finished work is kept: free disk space and run the same "
            "command again."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a file and sync it to the disk. Raises InputError if `path` cannot be written."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def read_lines(source: Path | bytes) -> list[str]:
    """Read a list of names with one name on each line. Blank lines are left out.

    Windows line endings and a byte-order mark are removed. Bytes that are not UTF-8 are kept as surrogate escapes, as
    `os.fsdecode` does.

    Args:
        source: the path of the list, or its content.

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
    """Decode text in UTF-8, with or without a byte-order mark, or in UTF-16 with a byte-order mark.

    Bytes that are not UTF-8 are kept as surrogate escapes.
    """
    if raw[:2] in UTF16_MARKS:
        return raw.decode("utf-16", "replace")  # spreadsheets save such files as "Unicode text"
    return raw.decode("utf-8-sig", "surrogateescape")


def make_folders(path: Path) -> None:
    """Make a folder and its missing parents, and sync them to the disk. Raises OSError if this fails."""
    if path.is_dir():
        return
    make_folders(path.parent)
    with contextlib.suppress(FileExistsError):  # another process made the folder, or a file with this name exists
        path.mkdir()
    sync(path.parent)


def open_regular(path: Path) -> int:
    """Open a regular file for reading, and return its file descriptor.

    The files of a folder may be untrusted. So symbolic links, which may lead out of the folder, are not followed, and
    opening a pipe does not block.

    Raises:
        OSError: the file is missing, cannot be read, or is not a regular file (ELOOP for a symbolic link, EINVAL for a
            pipe, a folder or a device).
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def sync(path: Path) -> None:
    """Flush the content of a file, or the list of names in a folder, to the disk with fsync."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the content of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """Read columns of a CSV file of a data set. Blank lines are left out.

    Args:
        columns: names of the columns to read; the file must have all of them.
        optional: names of columns to read if the file has them.

    Returns:
        The values of each column that was read, from top to bottom, by the name of the column.

    Raises:
        InputError: the file is missing or unreadable, it lacks a column, or a row is too short.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            wanted = [*columns, *(column for column in optional if column in header)]
            if missing := [column for column in wanted if column not in header]:
                shown = ", ".join(filter(None, header))[:100] or "nothing"
                raise InputError(
                    f"{path} has no column {missing[0]!r}, only {shown}. Restore the file from the original data set."
                )
            places = [header.index(column) for column in wanted]
            rows = [[line[place] for place in places] for line in lines if line]
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Restore the file from the original data set.") from None
    except IndexError:
        raise InputError(
            f"line {lines.line_num} of {path} has too few columns. Restore the file from the original data set."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}. Restore the file from the original data set.") from None
    return {column: [row[at] for row in rows] for at, column in enumerate(wanted)}


# --- cells of a spreadsheet


def safe_cell(text: str) -> str:
    """Return text for a CSV cell, with an apostrophe before it if a spreadsheet program could run it as a formula.

    Use it for names and other text, not for numbers: a negative number would get an apostrophe, too. `plain_cell` is
    the inverse.

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
    """Release the memory of a memory-mapped array.

    Without this call, all pages that were read count as memory of this process. Values are read from the file again
    when they are needed. An array that is not memory-mapped, or that is writable, is left as it is.
    """
    mapping = map_of(array)
    if mapping is not None and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the memory map that holds the data of an array, or None if the array is not memory-mapped."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base
