"""An index on a server, such as `milvus://host:port/collection`, in place of a folder. See docs/remote.md."""

from cricavpr.index.remote.address import Address, folder_named, is_remote
from cricavpr.index.remote.remote_index import RemoteIndex
from cricavpr.index.remote.server import Kind, Server, Unavailable

__all__ = ["Address", "Kind", "RemoteIndex", "Server", "Unavailable", "folder_named", "is_remote"]
