"""Recognition of files that are not weights, or are incomplete, so that error messages can say what is wrong."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

FIRST_BYTES = 512  # how many bytes from the beginning of a file `other_filetype` needs
LARGEST_HEADER = 100_000_000  # limit of the safetensors library for its header, in bytes
MATLAB = "a MATLAB file"  # the format of some authors' weights

_KINDS = (  # offset, bytes at this offset, description
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"Rar!", "a rar archive"),
    (0, b"\x89HDF\r\n", "an HDF5 or MATLAB 7.3 file"),
    (0, b"MATLAB 5.0", MATLAB),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it points to (run `git lfs pull`)"),
    (0, b"%PDF", "a PDF"),
    (257, b"ustar", "a tar archive (torch's oldest format, or another)"),
)
_WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--")


def other_filetype(start: bytes) -> str | None:
    """Return what kind of file begins with these bytes, as text; return None if it may be a weights file.

    Example:
        >>> other_filetype(b"%PDF-1.7")
        'a PDF'
    """
    if not start:
        return "empty; fetch it again"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGE):
        return "a web page, not weights: a sign-in or error page was saved in their place; fetch it again"
    if not any(start):
        return "nothing but zeros: the download was never finished; fetch it again"
    for offset, magic, what in _KINDS:
        if start[offset:].startswith(magic):
            return what
    return None


def is_truncated(path: Path) -> bool:
    """Return whether the end of a zip archive or safetensors file is missing; return False for other formats."""
    with path.open("rb") as file:
        start = file.read(9)
        if start.startswith(b"PK\x03\x04"):
            return not zipfile.is_zipfile(file)
        length = int.from_bytes(start[:8], "little")
        if start[8:] != b"{" or length > LARGEST_HEADER:
            return False
        file.seek(8)
        header = file.read(length)
    try:
        entries = json.loads(header).values()
        ends = [entry["data_offsets"][1] for entry in entries if "data_offsets" in entry]
        return bool(path.stat().st_size < 8 + length + max(ends, default=0))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return len(header) < length
