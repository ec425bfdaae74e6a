"""Databases of photos that are searched by their descriptors, stored in a folder or on a server. See docs/index.md."""

from __future__ import annotations

from pathlib import Path

from cricavpr.index.photo_index import PhotoIndex
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex, is_remote


def open_index(where: str | Path) -> PhotoIndex:
    """Open an index: the newest version of an index in a folder, or an index in a collection of a server.

    Args:
        where: the folder of the index, or its address, such as milvus://host:port/collection.

    Raises:
        InputError: there is no index, the index is damaged, or the server does not answer.
        MissingExtraError: the Python client of the server (such as pymilvus) is not installed.

    Example:
        >>> open_index("nowhere")
        Traceback (most recent call last):
        cricavpr.errors.InputError: nowhere is not a place index: it has no version-*.json. Build an index there first.
    """
    return RemoteIndex.open(Address.parse(str(where))) if is_remote(where) else PlaceIndex.open(Path(where))
