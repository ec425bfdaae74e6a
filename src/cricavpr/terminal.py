"""Escaping of file names, so that a printed name stays on one line and cannot control the terminal."""

from __future__ import annotations


def printable(name: str) -> str:
    """Return a name on one line, with control characters and bytes that are not UTF-8 escaped.

    Example:
        >>> print(printable("a\\tb\\x1b[2J.jpg"))
        a\\tb\\x1b[2J.jpg
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
