"""The verbs of an index against a Milvus cluster: `milvus://host:port/collection`, not a folder. See docs/remote.md."""

from cricavpr.index.remote.address import Address, folder_named, is_remote
from cricavpr.index.remote.remote_index import Found, RemoteChange, RemoteIndex
from cricavpr.index.remote.server import KINDS, Kind, Server, Unavailable

__all__ = [
    "KINDS",
    "Address",
    "Found",
    "Kind",
    "RemoteChange",
    "RemoteIndex",
    "Server",
    "Unavailable",
    "folder_named",
    "is_remote",
]
