"""The address of a cluster: `ray://HOST:PORT`, or `ray://local` for one on this machine alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cricavpr.errors import InputError


@dataclass(frozen=True)
class Address:
    """A Ray cluster. Without a host it is started on this machine and ends with the run."""

    host: str | None = None
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address. Raises InputError if it is not one.

        Example:
            >>> Address.parse("ray://10.0.0.1:10001")
            Address(host='10.0.0.1', port=10001)
        """
        scheme, _, place = text.strip().partition("://")
        if scheme == "ray" and place == "local":
            return cls()
        host, _, port = place.rpartition(":")
        known = host.strip("[]") and not set(host) & set("/@ ")
        if scheme != "ray" or not known or not (port.isdecimal() and 0 < int(port) < 65536):
            raise InputError(
                f"invalid address of a cluster: {text!r}. Expected ray://HOST:PORT, the port of Ray's client server "
                "(10001 by default), or ray://local."
            )
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        if self.host is None:
            return "ray://local"
        return f"ray://[{self.host}]:{self.port}" if ":" in self.host else f"ray://{self.host}:{self.port}"
