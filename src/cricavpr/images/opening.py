"""Open photos safely: regular files only, known formats only, within limits of size."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, UnidentifiedImageError

from cricavpr.errors import ImageError

MAX_PIXELS = 150_000_000  # above any phone and a 16384 x 8192 panorama; decoding takes 9 bytes per pixel
MAX_BYTES = 1 << 29  # a sparse file of a terabyte must not be read to its end
MIN_SIDE = 2  # pixels; a picture of a single row or column shows nothing

SUFFIXES = (  # suffixes of files that are opened as photos, in lower case
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".heic", ".heif", ".hif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
)
UNREAD = (  # suffixes of pictures and videos that are not read, although users may expect it
    *(".mp4", ".mov", ".m4v", ".avi", ".mkv", ".mts", ".3gp", ".webm", ".insv", ".lrv", ".360"),
    *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".gpr", ".raw"),
    *(".jp2", ".j2k", ".jxl", ".jxr", ".psd", ".svg", ".exr", ".hdr", ".tga", ".insp"),
)
_KNOWN_FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF, PPM, PGM, AVIF or HEIC"


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Turn any error of this block into an ImageError with the stage `name`.

    This is needed because Pillow raises errors of nearly any type for damaged files.
    """
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("size", "has more pixels than can be decoded. Shrink the picture.") from error
    except Exception as error:  # OSError, SyntaxError, ValueError, MemoryError, struct.error, EOFError, ...
        raise ImageError(name, _one_line(error)) from error


def _one_line(error: Exception) -> str:
    """Return the message of an error as one short printable line, which is never empty."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:200] or type(error).__name__


@contextlib.contextmanager
def open_stream(source: Path | bytes) -> Iterator[IO[bytes]]:
    """Open a photo for reading. Raise ImageError if it is not a regular file, is empty or is too large."""
    if isinstance(source, bytes):
        _check_bytes(len(source))
        yield io.BytesIO(source)
        return
    with stage("find"):
        size = _size(source)
    _check_bytes(size)
    with stage("open"):
        # O_NONBLOCK: if a FIFO takes the file's place after the check, opening it must not block.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        file = open(source, "rb", opener=lambda path, _: os.open(path, flags))  # noqa: SIM115
    with file:
        yield file


def _size(path: Path) -> int:
    """Return the size of a regular file in bytes."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ImageError("find", "no such file, or a link whose target does not exist") from error
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        raise ImageError("find", f"is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, not a file")
    return status.st_size


def _check_bytes(size: int) -> None:
    if size == 0:
        raise ImageError("open", "is empty (0 bytes)")
    if size > MAX_BYTES:
        raise ImageError("size", f"is {size:,} bytes long, more than {MAX_BYTES:,}. Shrink it.")


def open_image(stream: IO[bytes], max_pixels: int, min_side: int) -> ImageFile.ImageFile:
    """Read the header of a picture in a supported format. Only the decoders of supported formats are tried."""
    with stage("open"):
        try:
            image = Image.open(stream, formats=_formats())
        except UnidentifiedImageError as error:
            raise ImageError("open", _why_unknown(stream)) from error
    width, height = image.size
    if width * height > max_pixels:
        message = f"is {width} x {height} = {width * height:,} pixels, more than {max_pixels:,}. Shrink it."
        raise ImageError("size", message)
    if min(width, height) < min_side:
        message = f"is {width} x {height} pixels; the shorter side must be at least {min_side}"
        raise ImageError("size", message)
    return image


@cache
def _formats() -> tuple[str, ...]:
    """Load Pillow's plugins for the supported formats, and return the names of these formats.

    None of these plugins runs another program.
    """
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    formats = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"]
    with contextlib.suppress(ImportError):  # Pillow 11.3 and later
        from PIL import AvifImagePlugin  # noqa: F401

        formats.append("AVIF")
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats.append("HEIF")
    return tuple(formats)


def _why_unknown(stream: IO[bytes]) -> str:
    stream.seek(0)
    start = stream.read(12)
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"):
        if "HEIF" not in _formats():
            return "HEIC needs the package pillow-heif. Install it: pip install 'cricavpr[heic]'"
        return "is a damaged HEIC picture"
    return f"is not a picture in {_KNOWN_FORMATS}, or its header is damaged"


def png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield the type and length of each chunk of a PNG. At each yield the stream is at the start of the chunk's data.

    This is needed because Pillow neither checks the checksums of the pixels nor reads the chunks after them.
    """
    at = 8
    while stream.seek(at) == at and len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4])
        yield head[4:], length
        at += 12 + length
