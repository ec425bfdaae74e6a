"""What a file is when it is plainly not weights: told from its first bytes, for messages that help."""

from __future__ import annotations

FIRST_BYTES = 512  # what `what_else` wants to see
MATLAB = "a MATLAB file"  # which some authors' weights are

_KINDS = (  # (offset, bytes there, what it is)
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


def what_else(start: bytes) -> str | None:
    """What a file is that begins with these bytes, or None when it may be weights."""
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
