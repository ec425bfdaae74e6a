"""Databases of photos that are searched by descriptor: in a folder, or on a server. See docs/index.md."""

from __future__ import annotations

from pathlib import Path

from cricavpr.index.photo_index import PhotoIndex
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex, is_remote


def open_index(where: str | Path) -> PhotoIndex:
    """Open an index: the newest version in a folder, or a collection of a server.

    Args:
        where: a folder, or an address such as milvus://host:port/collection.

    Raises:
        InputError: no index there, a damaged one, or a server that does not answer.
        MissingExtraError: the client of the server is not installed.

    Example:
        >>> open_index("no such folder")
        Traceback (most recent call last):
        cricavpr.errors.InputError: no such folder is not a place index: it has no version-*.json. Build one first.
    """
    return RemoteIndex.open(Address.parse(str(where))) if is_remote(where) else PlaceIndex.open(Path(where))
