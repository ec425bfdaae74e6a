"""The address of an index on a server: `milvus://host:port/collection`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from cricavpr.errors import InputError

TOKEN = "CRICAVPR_{}_TOKEN"  # the variable that holds user:password, or a token

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")  # letters that every server accepts


class Scheme(NamedTuple):
    """A kind of server: the module of `cricavpr.index.remote` that has its `connect(address)`, and its usual port."""

    module: str
    port: int


SCHEMES = {"milvus": Scheme("milvus", 19530)}  # a new kind of server is one row here and one module


def is_remote(where: str | Path) -> bool:
    """Return whether this is the address of a server, not a folder.

    Example:
        >>> is_remote("milvus://host/town"), is_remote("town.index")
        (True, False)
    """
    return isinstance(where, str) and where.partition("://")[0] in SCHEMES and "://" in where


def folder_named(text: str, verb: str) -> Path:
    """Return the folder of an index, for a verb that needs one. Raises InputError for the address of a server."""
    if is_remote(text):
        raise InputError(
            f"`index {verb}` needs an index in a folder, and {Address.parse(text)} is on a server. Give a folder."
        )
    return Path(text)


@dataclass(frozen=True)
class Address:
    """One collection of one server; `str` gives the address as users write it.

    Example:
        >>> print(Address.parse("milvus://10.0.0.7/town"))
        milvus://10.0.0.7:19530/town
    """

    host: str
    port: int
    collection: str
    scheme: str = "milvus"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address.

        Raises:
            InputError: not of the form SCHEME://host:port/collection, or with a password in it.
        """
        form = f"Write {' or '.join(SCHEMES)}://host:port/collection."
        try:
            parts = urlsplit(text)
            host, port, collection = parts.hostname, parts.port, parts.path.removeprefix("/")
        except ValueError as error:
            raise InputError(f"invalid address {text!r} ({error}). {form}") from error
        if "@" in parts.netloc:  # it would be printed with every error
            variable = TOKEN.format(parts.scheme.upper())
            raise InputError(f"an address must not hold a password. Put user:password into the variable {variable}.")
        if not is_remote(text) or not host or parts.query or parts.fragment:
            raise InputError(f"invalid address {text!r}. {form}")
        if not _COLLECTION.fullmatch(collection):
            raise InputError(
                f"invalid collection {collection!r} in {text!r}. Use letters, digits and underscores, and a letter "
                "first."
            )
        return cls(host, port or SCHEMES[parts.scheme].port, collection, parts.scheme)

    @property
    def netloc(self) -> str:
        """host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}/{self.collection}"
