"""Indexes on a server, such as `milvus://host:port/collection`, instead of in a folder. See docs/remote.md."""

from cricavpr.index.remote.remote_index import RemoteIndex
from cricavpr.index.remote.server import Address, Server, Unavailable, folder_named, is_remote

__all__ = ["Address", "RemoteIndex", "Server", "Unavailable", "folder_named", "is_remote"]
