"""Where a remote index is: `milvus://host:port/collection`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from cricavpr.errors import InputError

SCHEME = "milvus://"
PORT = 19530  # where Milvus listens unless told otherwise
TOKEN = "CRICAVPR_MILVUS_TOKEN"  # the variable that holds user:password, or a token

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")  # what Milvus takes


def is_remote(text: str) -> bool:
    """Whether an index is named by the address of a server rather than by a folder."""
    return text.startswith(SCHEME)


def folder_named(text: str, verb: str) -> Path:
    """The folder of an index, for a verb that cannot do without one.

    Raises:
        InputError: it is the address of a server.
    """
    if is_remote(text):
        raise InputError(
            f"`index {verb}` is for an index in a folder, and {Address.parse(text)} is kept by its server. "
            "Give the folder of an index."
        )
    return Path(text)


@dataclass(frozen=True)
class Address:
    """One collection of one server. It prints as it is written."""

    host: str
    port: int
    collection: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            InputError: not of the form milvus://host:port/collection, or with a password in it.
        """
        try:
            parts = urlsplit(text)
            host, port, collection = parts.hostname, parts.port or PORT, parts.path.removeprefix("/")
        except ValueError as error:
            raise InputError(f"{text!r} is no address ({error}). Write milvus://host:port/collection.") from error
        if "@" in parts.netloc:  # it would be printed with every error
            raise InputError(f"an address holds no user and password. Put user:password into the variable {TOKEN}.")
        if not is_remote(text) or not host or parts.query or parts.fragment:
            raise InputError(f"{text!r} is no address of an index. Write milvus://host:port/collection.")
        if not _COLLECTION.fullmatch(collection):
            raise InputError(
                f"{collection!r} in {text!r} is no name of a collection. "
                "Use letters, digits and underscores, and a letter first."
            )
        return cls(host, port, collection)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{host}:{self.port}/{self.collection}"
