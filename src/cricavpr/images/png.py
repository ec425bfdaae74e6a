"""The chunks of a PNG, for what Pillow leaves unread: checksums of pixels and what stands behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO


def png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG, with the stream at the chunk's data."""
    at = 8
    while stream.seek(at) == at and len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4])
        yield head[4:], length
        at += 12 + length
