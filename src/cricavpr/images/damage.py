"""Load pixels, and detect damage that Pillow ignores: JPEG data of the wrong length, and wrong PNG checksums.

A sequential JPEG with missing or surplus data is detected; libjpeg would decode it and fill missing parts with grey.
Two kinds of damage are not detected, because the decoder still reaches the end of the picture: a flipped bit after
which the decoder resynchronises, and missing refinement scans of a progressive JPEG.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from typing import IO

from PIL import Image, ImageFile

from cricavpr.errors import ImageError
from cricavpr.images.opening import png_chunks


def load_pixels(image: ImageFile.ImageFile, stream: IO[bytes]) -> Image.Image:
    """Decode the first frame; raise ImageError for damage that libjpeg only warns about."""
    if image.format == "PNG":
        _check_png(stream)
    if image.format not in ("JPEG", "MPO"):
        image.load()
        return image
    from PIL.JpegImagePlugin import JpegImageFile

    stream.seek(0)
    watched = _WatchedJpeg(stream.read())
    first_frame = JpegImageFile(watched)  # Image.open would read all pictures of an MPO
    watched.loading = True
    first_frame.load()
    watched.raise_if_damaged()
    return first_frame


def _check_png(stream: IO[bytes]) -> None:
    """Raise if a checksum of the pixel data is wrong. Pillow does not check these checksums."""
    before = stream.tell()
    for kind, length in png_chunks(stream):
        if kind != b"IDAT":
            continue
        checksum = zlib.crc32(stream.read(length), zlib.crc32(kind))
        if stream.read(4) != checksum.to_bytes(4):
            raise ImageError("decode", "is damaged or truncated: wrong checksum in the PNG data")
    stream.seek(before)


class _WatchedJpeg(io.BytesIO):
    """A JPEG as a stream that records how many bytes the decoder reads, to detect missing or surplus data.

    If data are missing, libjpeg goes on with zero bits; if data are left over, it ignores them. It only warns, and
    Pillow drops the warnings. So this stream inserts padding of one-bits between the data and the end marker. No JPEG
    uses a code of all ones, so no pixel of an undamaged picture comes from the padding. Each missing block consumes
    four bytes of padding. Near the end of the data, each read returns only a few bytes, so that the position of the
    stream after decoding shows where the decoder stopped. In an undamaged picture this is at most 8 bytes, the size of
    the decoder's bit buffer, from the end of the data. Only sequential JPEGs with a single scan are padded; others are
    not changed.
    """

    _STEP = 2  # bytes per read near the end of the data
    _NEAR = 64  # bytes before the end of the data where short reads begin
    _PADDING = b"\xff\x00" * 64  # 64 bytes of ones; JPEG data have a zero after each byte of ones
    _LOOK_AHEAD = 16  # allowed bytes of padding read: 8 bytes of ones, each with its zero; 0..14 in undamaged files

    def __init__(self, data: bytes) -> None:
        self.end = _end_of_only_scan(data)  # None: a JPEG that is not padded
        self.loading = False
        self._tail = data[self.end - 16 : self.end] if self.end is not None else b""
        super().__init__(data if self.end is None else data[: self.end] + self._PADDING + b"\xff\xd9")

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.loading or self.end is None:
            return super().read(size)
        ahead = self.end - self._NEAR - self.tell()
        if ahead <= 0:
            return super().read(self._STEP)
        return super().read(ahead if size is None or size < 0 else min(size, ahead))

    def raise_if_damaged(self) -> None:
        if self.end is None:
            return
        beyond = self.tell() - self.end
        if beyond > self._LOOK_AHEAD:
            raise ImageError("decode", "is damaged: the JPEG data end before the picture is complete")
        if beyond < -self._LOOK_AHEAD and self._tail.strip(b"\0"):  # some cameras write zeros after the data
            raise ImageError("decode", "is damaged: JPEG data are left over after the picture is complete")


_SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_RESTARTS = re.compile(rb"\xff[\xd0-\xd7]")
_STANDALONE = (0x01, *range(0xD0, 0xD9))  # markers that no length field follows


def _end_of_only_scan(data: bytes) -> int | None:
    """Return where the entropy-coded data of a sequential, single-scan Huffman JPEG end; None for any other JPEG.

    Raises:
        ImageError: restart markers are missing or out of order.
    """
    frame, interval, at = b"", 0, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] == 0xFF:  # optional fill bytes before a marker
            at += 1
            continue
        if data[at + 1] in _STANDALONE:
            at += 2
            continue
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker in (0xC0, 0xC1):
            frame = segment
        elif marker == 0xDD:
            interval = int.from_bytes(segment[:2], "big")
        elif marker == 0xDA:
            if len(frame) < 6 or not segment or segment[0] != frame[5] or len(frame) < 6 + 3 * frame[5]:
                return None  # progressive, or one scan per colour
            start = at + 2 + length
            end = _SCAN_END.search(data, start)
            if end is None:
                return None  # without an end marker Pillow itself raises an error
            _check_restarts(data[start : end.start()], frame, interval)
            return end.start()
        at += 2 + length
    return None


def _check_restarts(entropy: bytes, frame: bytes, interval: int) -> None:
    """Raise if restart markers are missing or out of order.

    Args:
        entropy: the entropy-coded data of the only scan.
        frame: the SOF segment: precision (1 byte), height (2), width (2), number of components (1), 3 per component.
        interval: number of blocks between two restart markers; 0 if the file has no restart markers.
    """
    if not interval:
        return
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = [(frame[7 + 3 * i] >> 4, frame[7 + 3 * i] & 15) for i in range(frame[5])]
    across, down = (1, 1) if len(factors) == 1 else map(max, zip(*factors, strict=True))
    blocks = math.ceil(width / (8 * max(across, 1))) * math.ceil(height / (8 * max(down, 1)))
    found = [mark[1] & 7 for mark in _RESTARTS.findall(entropy)]
    if len(found) < math.ceil(blocks / interval) - 1 or any(mark != i % 8 for i, mark in enumerate(found)):
        raise ImageError("decode", "is damaged: JPEG data are missing (restart markers are missing or out of order)")
