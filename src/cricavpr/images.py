"""Photos as they come: decoded safely and upright to sRGB, their GPS position, and the way to a tensor.

What is not noticed: damage after which the picture still decodes to its end. A sequential JPEG whose data end
too early or too late is noticed, although libjpeg would go on with grey; a flipped bit after which the
decoder finds its step again, and missing refinements of a progressive JPEG, are not. A GPS position that
stands in XMP alone is not read; an orientation that stands in XMP alone is obeyed, as Pillow does.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import math
import numbers
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from cricavpr.errors import ImageError, InputError
from cricavpr.geo import LatLon

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = (
    150_000_000  # above any phone and above a 16384 x 8192 panorama; decoding takes 9 bytes per pixel
)
MAX_BYTES = 1 << 29  # a sparse file of a terabyte must not be read to its end
MIN_SIDE = 32  # pixels; less shows no place
TRANSPARENT = (124, 116, 104)  # ImageNet's mean colour: after normalisation a see-through pixel says nothing

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_KNOWN_FORMATS = "JPEG, PNG, WebP, TIFF, BMP, AVIF or HEIC"
_EXIF_ORIENTATION = 0x0112
_EXIF_GPS = 0x8825


@dataclass(frozen=True)
class Header:
    """What a photo says about itself before its pixels are decoded."""

    width: int  # pixels as stored, before any turn
    height: int
    format: str
    gps: LatLon | None


def decode(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE
) -> NDArray[np.uint8]:  # (H, W, 3)
    """Decode the first frame of a photo, upright, in sRGB.

    EXIF orientation is applied, a damaged one ignored. Grey, palette, CMYK, 1-bit and 16-bit pictures become
    RGB without clipping; see-through pixels are laid over `TRANSPARENT`; an embedded colour profile is
    converted to sRGB unless it is sRGB already, and then the pixels are those of a plain decode, bit for bit.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: refuse more from the header, before anything is decoded; at most Pillow's own 178,956,970.
        min_side: refuse a picture with a shorter side, in pixels.

    Raises:
        ImageError: stage find (no such file, or not a regular one), open (empty, or not a picture of a known
            format), size (too large or too small), or decode (truncated or damaged).
    """
    with _stream(source) as stream:
        image = _open(stream, max_pixels, min_side)
        with _stage("decode"), image:
            upright = _turned(_as_rgb(_loaded(image, stream)), image)
            return np.array(upright)


def read_header(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE) -> Header:
    """Check what can be checked without decoding, and read the position.

    Raises:
        ImageError: as `decode`, except for damage that only decoding shows.
    """
    with _stream(source) as stream, _open(stream, max_pixels, min_side) as image:
        return Header(image.width, image.height, image.format or "", _gps(image, stream))


def read_gps(source: Path | bytes) -> LatLon | None:
    """The position in a photo's EXIF block, or None where there is none or it is not one.

    No position is ever invented: zero denominators, missing hemispheres, text, numbers out of range and
    exactly 0, 0 all mean None.

    Raises:
        ImageError: the file cannot be opened as a picture at all.
    """
    return read_header(source, min_side=1).gps


# --- opening


@contextlib.contextmanager
def _stage(stage: str) -> Iterator[None]:
    """Turn whatever the libraries raise into an ImageError; damaged files make them raise nearly anything."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("size", "has more pixels than Pillow decodes. Shrink it.") from error
    except Exception as error:  # OSError, SyntaxError, ValueError, MemoryError, struct.error, EOFError, ...
        raise ImageError(stage, _one_line(error)) from error


def _one_line(error: Exception) -> str:
    """The message of a library on one printable line, never empty and never long."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:200] or type(error).__name__


@contextlib.contextmanager
def _stream(source: Path | bytes) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        _check_bytes(len(source))
        yield io.BytesIO(source)
        return
    with _stage("find"):
        status = _status(source)
    _check_bytes(status.st_size)
    with _stage("open"):
        # O_NONBLOCK: should a FIFO take the file's place after the check, opening it must not wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        file = open(source, "rb", opener=lambda path, _: os.open(path, flags))  # noqa: SIM115
    with file:
        yield file


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ImageError("find", "no such file, or a link to nothing") from error
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        raise ImageError("find", f"is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, not a file")
    return status


def _check_bytes(size: int) -> None:
    if size == 0:
        raise ImageError("open", "is empty (0 bytes)")
    if size > MAX_BYTES:
        raise ImageError("size", f"is {size:,} bytes long, more than {MAX_BYTES:,}. Shrink it.")


def _open(stream: IO[bytes], max_pixels: int, min_side: int) -> ImageFile.ImageFile:
    """Read the header only, in an explicitly known format: nothing else ever sees the bytes."""
    with _stage("open"):
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
    """The formats that may be opened, each with its plugin loaded; never those that call other programs."""
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    formats = ["JPEG", "PNG", "WEBP", "TIFF", "BMP"]
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


# --- pixels


def _loaded(image: ImageFile.ImageFile, stream: IO[bytes]) -> Image.Image:
    """Decode; for JPEG and MPO with a watch on what libjpeg silently swallows."""
    if image.format == "PNG":
        _check_png(stream)
    if image.format not in ("JPEG", "MPO"):
        image.load()
        return image
    from PIL.JpegImagePlugin import JpegImageFile

    stream.seek(0)
    watched = _WatchedJpeg(stream.read())
    first_frame = JpegImageFile(watched)  # the class itself, to leave the later frames of an MPO alone
    watched.loading = True
    first_frame.load()
    watched.raise_if_damaged()
    return first_frame


def _check_png(stream: IO[bytes]) -> None:
    """Compare the checksums of the pixel data, which Pillow skips: a flipped byte would stay unnoticed."""
    before = stream.tell()
    for kind, length in _png_chunks(stream):
        if kind != b"IDAT":
            continue
        checksum = zlib.crc32(stream.read(length), zlib.crc32(kind))
        if stream.read(4) != checksum.to_bytes(4):
            raise ImageError("decode", "is damaged or truncated: wrong checksum in the PNG data")
    stream.seek(before)


def _png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG, with the stream at the chunk's data."""
    at = 8
    while stream.seek(at) == at and len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4])
        yield head[4:], length
        at += 12 + length


class _WatchedJpeg(io.BytesIO):
    """The bytes of a JPEG, handed out so that one sees how much of them the decoder needed.

    libjpeg only warns when the data end before the picture is complete (it goes on with zero bits) or when
    data are left over, and Pillow drops its warnings. So ones are put between the data and the end mark: a
    code that no JPEG uses, so that every missing block costs four bytes of it and no pixel of a sound picture
    comes from it. Towards the end the file is served in small steps. A sound picture then completes within
    the decoder's bit buffer of 8 bytes, a damaged one later or earlier. Only for sequential JPEGs in one
    scan; others are served unchanged.
    """

    _STEP = 2  # bytes per read near the end
    _NEAR = 64  # bytes: where "near the end" begins
    _PADDING = b"\xff\x00" * 64  # 64 bytes of ones, as the entropy coding writes them
    _LOOK_AHEAD = 16  # bytes of padding, which hold 8 bytes of data; sound files were measured at 0..14

    def __init__(self, data: bytes) -> None:
        self.end = _end_of_only_scan(data)  # None: not watched
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
        if beyond < -self._LOOK_AHEAD and self._tail.strip(b"\0"):  # some cameras pad with zeros
            raise ImageError("decode", "is damaged: JPEG data are left over after the picture is complete")


_SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_RESTARTS = re.compile(rb"\xff[\xd0-\xd7]")
_STANDALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length


def _end_of_only_scan(data: bytes) -> int | None:
    """Where the entropy-coded data of a sequential, single-scan Huffman JPEG end; None for any other JPEG.

    Raises:
        ImageError: restart marks are missing or out of order.
    """
    frame, interval, at = b"", 0, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] == 0xFF:  # fill bytes
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
                return None  # no end mark: Pillow itself refuses
            _check_restarts(data[start : end.start()], frame, interval)
            return end.start()
        at += 2 + length
    return None


def _check_restarts(entropy: bytes, frame: bytes, interval: int) -> None:
    """frame: the SOF segment: precision 1, height 2, width 2, components 1, then 3 bytes for each."""
    if not interval:
        return
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = [(frame[7 + 3 * i] >> 4, frame[7 + 3 * i] & 15) for i in range(frame[5])]
    across, down = (1, 1) if len(factors) == 1 else map(max, zip(*factors, strict=True))
    blocks = math.ceil(width / (8 * max(across, 1))) * math.ceil(height / (8 * max(down, 1)))
    found = [mark[1] & 7 for mark in _RESTARTS.findall(entropy)]
    if len(found) < math.ceil(blocks / interval) - 1 or any(mark != i % 8 for i, mark in enumerate(found)):
        raise ImageError("decode", "is damaged: parts of the JPEG data are missing (restart marks)")


def _as_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB in sRGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image), _white(image))).convert("RGB")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _in_srgb(_over_colour(image.convert("RGBA")), image.info.get("icc_profile"))
    if image.mode in ("P", "1"):
        return _in_srgb(image.convert("RGB"), image.info.get("icc_profile"))
    return _in_srgb(image, image.info.get("icc_profile")).convert("RGB")


def _over_colour(image: Image.Image) -> Image.Image:  # RGBA
    ground = Image.new("RGBA", image.size, (*TRANSPARENT, 255))
    ground.alpha_composite(image)
    return ground.convert("RGB")


def _white(image: Image.Image) -> float | None:
    """The value of white of a deep picture, None where the file does not say."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))[0]  # BitsPerSample: 12-bit TIFFs are stored as they are in 16 bits
    if image.mode.startswith("I;16"):
        return float(2**bits - 1)
    return 65535.0 if image.format == "PNG" else None


def _to_8_bits(deep: NDArray[Any], white: float | None) -> NDArray[np.uint8]:  # (H, W) -> (H, W)
    """Scale white to 255. Where it is unknown it is the first of 1, 255, 65535 that nothing exceeds."""
    values = np.nan_to_num(deep.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if white is None:
        largest = float(values.max())
        common = (1.0, 255.0, 65535.0) if deep.dtype.kind == "f" else (255.0, 65535.0)
        white = next((level for level in common if largest <= level), largest)
    scaled: NDArray[np.uint8] = np.rint(np.clip(values / white, 0.0, 1.0) * 255.0).astype(np.uint8)
    return scaled


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the embedded profile; unchanged where that is sRGB, damaged or meant for another mode."""
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return image
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any | None:
    """The way from a colour profile to sRGB; None where nothing needs to be done or nothing can be."""
    try:
        from PIL import ImageCms

        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, "RGB"
        )
        if mode not in ("L", "RGB"):
            return transform
        # What a profile calls itself says little; whether it changes colours shows on a few of them.
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        probe = Image.fromarray(grid if mode == "RGB" else grid[..., 0])
        changed = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
        unchanged = np.asarray(probe.convert("RGB")).astype(int)
        return transform if np.abs(changed - unchanged).max() > 2 else None
    except Exception:  # a damaged profile says nothing about the pixels, which stay as they are
        return None


# --- EXIF


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turned(upright: Image.Image, source: Image.Image) -> Image.Image:
    """Turn by the orientation tag alone: exif_transpose re-encodes the whole EXIF block, which can fail."""
    if source.format == "TIFF":
        return upright  # Pillow has already turned it while loading
    orientation: object = 1
    with contextlib.suppress(Exception):
        orientation = _exif(source).get(_EXIF_ORIENTATION, 1)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return upright if turn is None else upright.transpose(turn)


def _exif(image: Image.Image) -> Image.Exif:
    if image.format in ("AVIF", "HEIF"):
        # Their plugins leave in EXIF only the turn that is still due; an orientation in XMP is done already.
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        return exif
    return Image.Image.getexif(image)  # not PNG's own, which decodes the picture to look behind it


def _gps(image: Image.Image, stream: IO[bytes]) -> LatLon | None:
    """Nothing in an EXIF block, however damaged, makes a picture unusable."""
    try:
        exif = _exif(image)
        if image.format == "PNG" and not exif:
            exif.load(_png_exif_behind_pixels(stream))
        return _position(exif.get_ifd(_EXIF_GPS))
    except Exception:
        return None


def _png_exif_behind_pixels(stream: IO[bytes]) -> bytes:
    """PNG allows the eXIf chunk after the pixels; walk there over the chunk headers."""
    return next((stream.read(length) for kind, length in _png_chunks(stream) if kind == b"eXIf"), b"")


def _position(gps: dict[int, Any]) -> LatLon | None:
    lat = _signed_degrees(gps.get(2), gps.get(1), "N", "S")
    lon = _signed_degrees(gps.get(4), gps.get(3), "E", "W")
    if lat is None or lon is None or (lat == 0.0 and lon == 0.0):
        return None  # 0, 0 lies in the ocean and is what a receiver without a fix writes
    try:
        return LatLon(lat, lon)
    except InputError:
        return None


def _signed_degrees(value: object, reference: object, plus: str, minus: str) -> float | None:
    """Degrees, minutes, seconds and a hemisphere to one number."""
    if isinstance(reference, bytes):
        reference = reference.decode("ascii", "replace")
    if not isinstance(reference, str) or not isinstance(value, tuple) or len(value) != 3:
        return None
    sign = {plus: 1.0, minus: -1.0}.get(reference.strip(" \0").upper())
    if sign is None or not all(isinstance(part, numbers.Real) for part in value):
        return None
    degrees, minutes, seconds = map(float, value)
    # A zero denominator has become NaN, which fails every comparison.
    if not (0.0 <= degrees <= 180.0 and 0.0 <= minutes <= 60.0 and 0.0 <= seconds <= 60.0):
        return None
    return sign * (degrees + minutes / 60 + seconds / 3600)


# --- to a tensor

Resize = Literal["tensor_no_antialias", "tensor", "pil"]


@dataclass(frozen=True)
class Preprocess:
    """From pixels to the tensor a network takes. The default is what CricaVPR was published with.

    tensor_no_antialias   normalise, then bilinear on the tensor as torchvision 0.15 did it
    tensor                the same with antialias, torchvision's default today
    pil                   bilinear on the 8-bit picture by Pillow (antialiased), then normalise

    Attributes:
        image_size: (height, width) in pixels, or None to keep each image's own.
        resize: one of the three above; it changes descriptors.
        mean, std: per channel, of pixel values in 0..1.

    Raises:
        InputError: a size or a spread that is not positive, or an unknown way to resize.
    """

    image_size: tuple[int, int] | None = (224, 224)
    resize: Resize = "tensor_no_antialias"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        ways = get_args(Resize)
        if self.resize not in ways:
            near = difflib.get_close_matches(self.resize, ways, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"cannot resize by {self.resize!r}. Known: {', '.join(ways)}.{hint}")
        if self.image_size is not None and min(self.image_size) < 1:
            raise InputError(
                f"image size {self.image_size} is not (height, width) in pixels. Give 1 or more."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(0 < spread < math.inf for spread in self.std):
            raise InputError(f"mean {self.mean}, std {self.std} is not three numbers each, with std above 0.")

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:  # (H, W, 3) -> (3, h, w) float32
        """Never resamples an image that already has the wanted size."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"an image is uint8 (H, W, 3), not {image.dtype} {image.shape}. Use `decode`.")
        if self.image_size is None or image.shape[:2] == tuple(self.image_size):
            return self._normalised(image)
        height, width = self.image_size
        if self.resize == "pil":
            picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            return self._normalised(np.asarray(picture))
        import torch.nn.functional as F

        pixels = self._normalised(image)[None]  # (1, 3, H, W)
        antialias = self.resize == "tensor"
        return F.interpolate(
            pixels, (height, width), mode="bilinear", align_corners=False, antialias=antialias
        )[0]

    def _normalised(self, image: NDArray[np.uint8]) -> Tensor:  # (H, W, 3) -> (3, H, W)
        import torch

        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32) / 255
        mean, std = torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]
        return (pixels - mean) / std

    def describe(self) -> str:
        """One line that tells preprocessings apart: their descriptors must not be compared."""
        size = "native" if self.image_size is None else "{}x{}".format(*self.image_size)
        mean, std = (",".join(repr(value) for value in values) for values in (self.mean, self.std))
        way = "none" if self.image_size is None else self.resize
        return f"sRGB upright, size {size}, resize {way}, mean {mean}, std {std}"
