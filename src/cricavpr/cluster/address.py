"""Where a cluster is reached: `ray://HOST:PORT`, or `ray://local` for one of this machine alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cricavpr.errors import InputError

SYNTAX = "ray://HOST:PORT, where Ray's client server listens (10001 unless told otherwise), or ray://local"


@dataclass(frozen=True)
class Address:
    """A Ray cluster. Without a host it is started on this machine and ends with the run."""

    host: str | None = None
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ray://10.0.0.1:10001`, `ray://[::1]:10001` or `ray://local`.

        Raises:
            InputError: for anything else.
        """
        scheme, _, place = text.strip().partition("://")
        if scheme == "ray" and place == "local":
            return cls()
        host, _, port = place.rpartition(":")
        known = host.strip("[]") and not set(host) & set("/@ ")
        if scheme != "ray" or not known or not (port.isdecimal() and 0 < int(port) < 65536):
            raise InputError(f"cluster {text!r} is not understood. Give {SYNTAX}.")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        if self.host is None:
            return "ray://local"
        return f"ray://[{self.host}]:{self.port}" if ":" in self.host else f"ray://{self.host}:{self.port}"
