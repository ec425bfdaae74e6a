"""A folder of odd and broken files, each with what has to become of it.

Every sound file shows the same picture, so that one can check not only that it was read but that it was read
right.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

WIDTH, HEIGHT = 96, 64
IGNORED = "ignored"  # not a photo: neither read nor reported


def picture() -> NDArray[np.uint8]:  # (64, 96, 3)
    """Red grows to the right, green downwards, one corner is blue: any turn or mirror changes it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    blue = np.where((x < WIDTH // 3) & (y < HEIGHT // 3), 220, 40)
    return np.stack([x * 2 + 30, y * 3 + 20, blue], axis=-1).astype(np.uint8)


def expected_picture(name: str) -> NDArray[np.uint8]:
    """What the sound file `name` shows: the picture, in grey or black and white if its name says so, or plain red."""
    image = Image.fromarray(picture())
    if name.startswith("sizes/"):
        width, height = map(int, name[len("sizes/") : -len(".png")].split("x"))
        return np.array(Image.new("RGB", (width, height), "red"))
    if "grey" in name:
        return np.array(image.convert("L").convert("RGB"))
    if "1-bit" in name:
        return np.array(image.convert("L").convert("1", dither=Image.Dither.NONE).convert("RGB"))
    return picture()


def make_odd_files(folder: Path) -> dict[str, str]:
    """Fill `folder`; returns "ok", a stage, or `IGNORED` for each name below it."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, str] = {}
    for make in (
        _sound_formats,
        _sound_modes,
        _orientations,
        _gps,
        _names,
        _broken,
        _sizes,
        _not_files,
        _ignored,
    ):
        make(folder, made)
    return made


def encoded(image: Image.Image | None = None, kind: str = "JPEG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    (image or Image.fromarray(picture())).save(buffer, kind, **options)
    return buffer.getvalue()


Value = int | str | tuple[tuple[int, int], ...]  # an EXIF value: short, text, or rationals


def exif_with(
    gps: dict[int, Value] | None = None,
    orientation: int | str | None = None,
    original: dict[int, Value] | None = None,
    edited: str | None = None,
) -> bytes:
    """An EXIF block with these GPS tags (1 N or S, 2 latitude, 3 E or W, 4 longitude) and this orientation.

    `original` is the directory of the camera (0x9003 DateTimeOriginal), `edited` is DateTime. Made by hand, because
    no library writes the rubbish that cameras write.
    """
    tags: dict[int, Value] = {0x0112: orientation, 0x0132: edited}
    tags = {tag: value for tag, value in tags.items() if value is not None}
    below = {tag: values for tag, values in {0x8769: original, 0x8825: gps}.items() if values is not None}
    at = behind = 8 + len(_directory(tags | dict.fromkeys(below, 0), at=8))
    directories = b""
    for tag, values in below.items():
        tags[tag] = at
        directories += _directory(values, at)
        at = behind + len(directories)
    return b"Exif\0\0MM\0*\0\0\0\x08" + _directory(tags, at=8) + directories


def _directory(tags: dict[int, Value], at: int) -> bytes:
    """A big-endian TIFF directory that starts at byte `at`."""
    entries, beyond = b"", b""
    end = at + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, str):
            kind, count, data = 2, len(value) + 1, value.encode() + b"\0"
        elif isinstance(value, tuple):
            kind, count, data = 5, len(value), b"".join(struct.pack(">II", *part) for part in value)
        elif tag in (0x8769, 0x8825):
            kind, count, data = 4, 1, struct.pack(">I", value)
        else:
            kind, count, data = 3, 1, struct.pack(">HH", value, 0)
        if len(data) > 4:
            data, beyond = struct.pack(">I", end + len(beyond)), beyond + data
        entries += struct.pack(">HHI", tag, kind, count) + data.ljust(4, b"\0")
    return struct.pack(">H", len(tags)) + entries + bytes(4) + beyond


def dms(*parts: int | tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Degrees, minutes, seconds as EXIF keeps them: numerator and denominator, even if that is 0."""
    return tuple(part if isinstance(part, tuple) else (part, 1) for part in parts)


def flat_png(width: int, height: int) -> bytes:
    """A black 1-bit PNG of any size in a few bytes per row-block: how a decompression bomb is made."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(min(height, 2000))) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class Canary:
    """A pickle that tells on whoever opens it."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("canary-was-unpickled",)


# --- what can be read


def _sound_formats(folder: Path, made: dict[str, str]) -> None:
    colour = Image.fromarray(picture())
    other = Image.fromarray(255 - picture())
    files = {
        "plain.jpg": encoded(),
        "UPPER.JPG": encoded(),
        "plain.jfif": encoded(),
        "plain.JPE": encoded(),
        "plain.gif": encoded(kind="GIF"),
        "gif-called.jpg": encoded(kind="GIF"),
        "animated.gif": encoded(kind="GIF", save_all=True, append_images=[other]),
        "plain.ppm": encoded(kind="PPM"),
        "plain.pnm": encoded(kind="PPM"),
        "mixed.JpEg": encoded(),
        "progressive.jpg": encoded(progressive=True),
        "restart.jpg": encoded(restart_marker_blocks=4),
        "trailing.jpg": encoded() + b"\0<html>" * 100,
        "plain.png": encoded(kind="PNG"),
        "plain.webp": encoded(kind="WEBP", lossless=True),
        "plain.bmp": encoded(kind="BMP"),
        "plain.tif": encoded(kind="TIFF"),
        "packed.tiff": encoded(kind="TIFF", compression="tiff_lzw"),
        "png-called.jpg": encoded(kind="PNG"),
        "animated.webp": encoded(kind="WEBP", save_all=True, append_images=[other], lossless=True, duration=9),
        "animated.png": encoded(kind="PNG", save_all=True, append_images=[other]),
        "pages.tif": encoded(kind="TIFF", save_all=True, append_images=[other]),
        "two-frames.jpg": encoded(kind="MPO", save_all=True, append_images=[other], quality=95, subsampling=0),
        "srgb-profile.jpg": encoded(icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        "damaged-profile.png": encoded(kind="PNG", icc_profile=b"not a profile"),
    }
    with contextlib.suppress(KeyError, OSError):  # Pillow without AVIF
        files["plain.avif"] = encoded(colour, "AVIF", quality=95)
    for name, data in files.items():
        _write(folder, made, name, data, "ok")


def _sound_modes(folder: Path, made: dict[str, str]) -> None:
    colour = Image.fromarray(picture())
    grey = np.asarray(colour.convert("L"))
    clear = np.full((HEIGHT, WIDTH), 255, np.uint8)
    clear[-4:, -4:] = 0
    with_alpha = Image.fromarray(np.dstack([picture(), clear]))
    palette = colour.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    files = {
        "grey.jpg": encoded(Image.fromarray(grey)),
        "grey-alpha.png": encoded(Image.merge("LA", (Image.fromarray(grey), Image.fromarray(clear))), "PNG"),
        "grey-16-bit.png": encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "grey.pgm": encoded(Image.fromarray(grey), "PPM"),
        "grey-16-bit.pgm": encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PPM"),
        "1-bit.pbm": encoded(colour.convert("L").convert("1", dither=Image.Dither.NONE), "PPM"),
        "grey-16-bit.tif": encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"),
        "grey-float.tif": encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "grey-float-255.tif": encoded(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "grey-int.tif": encoded(Image.fromarray(grey.astype(np.int32)), "TIFF"),
        "1-bit.png": encoded(colour.convert("L").convert("1", dither=Image.Dither.NONE), "PNG"),
        "cmyk.jpg": encoded(colour.convert("CMYK")),
        "cmyk.tif": encoded(colour.convert("CMYK"), "TIFF"),
        "ycbcr.tif": encoded(colour.convert("YCbCr"), "TIFF"),
        "rgba.png": encoded(with_alpha, "PNG"),
        "rgba.webp": encoded(with_alpha, "WEBP", lossless=True),
        "palette.png": encoded(palette, "PNG"),
        "palette-see-through.png": encoded(palette, "PNG", transparency=0),
        "rgb-key.png": encoded(colour, "PNG", transparency=(1, 2, 3)),
        "16-bit-rgb.png": _png_of_16_bits(picture().astype(np.uint16) * 257),
    }
    for name, data in files.items():
        _write(folder, made, name, data, "ok")


def _orientations(folder: Path, made: dict[str, str]) -> None:
    stored = {  # how a camera stores the upright picture when it writes this tag
        1: picture(),
        2: picture()[:, ::-1],
        3: picture()[::-1, ::-1],
        4: picture()[::-1],
        5: picture().transpose(1, 0, 2),
        6: np.rot90(picture(), 1),
        7: picture()[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture(), -1),
    }
    for tag, pixels in stored.items():
        image = Image.fromarray(np.ascontiguousarray(pixels))
        for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF")):
            data = encoded(image, kind, exif=exif_with(orientation=tag))
            _write(folder, made, f"turned/{tag}.{suffix}", data, "ok")
        data = encoded(image, "WEBP", lossless=True, exif=exif_with(orientation=tag))
        _write(folder, made, f"turned/{tag}.webp", data, "ok")
        packed = encoded(image, "TIFF", compression="tiff_lzw", exif=exif_with(orientation=tag))
        _write(folder, made, f"turned/{tag}-packed.tif", packed, "ok")
        with contextlib.suppress(KeyError, OSError):
            turned = encoded(image, "AVIF", quality=95, exif=exif_with(orientation=tag))
            _write(folder, made, f"turned/{tag}.avif", turned, "ok")
    for tag in (0, 9, 65535):
        data = encoded(exif=exif_with(orientation=tag))
        _write(folder, made, f"turned/damaged-{tag}.jpg", data, "ok")
    _write(folder, made, "turned/text.jpg", encoded(exif=exif_with(orientation="upside down")), "ok")
    _write(folder, made, "turned/rubbish.jpg", encoded(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "ok")
    zero = exif_with({1: "N", 2: dms((0, 0), (0, 0), (0, 0)), 3: "E", 4: dms((0, 0), (0, 0), (0, 0))}, 6)
    upright = Image.fromarray(np.ascontiguousarray(stored[6]))
    _write(folder, made, "turned/6-with-gps-0-over-0.jpg", encoded(upright, exif=zero), "ok")


NO_POSITION: dict[str, dict[int, Value]] = {  # GPS blocks that hold no position; all of them are met in the wild
    "0-over-0": {1: "N", 2: dms((0, 0), (0, 0), (0, 0)), 3: "E", 4: dms((0, 0), (0, 0), (0, 0))},
    "one-0-over-0": {1: "N", 2: dms(55, 42, (0, 0)), 3: "E", 4: dms(13, 11, 0)},
    "out-of-range": {1: "N", 2: dms(4294967295, 0, 0), 3: "E", 4: dms(13, 0, 0)},
    "lat-91": {1: "N", 2: dms(91, 0, 0), 3: "E", 4: dms(13, 0, 0)},
    "lon-181": {1: "N", 2: dms(55, 0, 0), 3: "E", 4: dms(181, 0, 0)},
    "minutes-99": {1: "N", 2: dms(55, 99, 0), 3: "E", 4: dms(13, 0, 0)},
    "0-0": {1: "N", 2: dms(0, 0, 0), 3: "E", 4: dms(0, 0, 0)},
    "minus-0-0": {1: "S", 2: dms(0, 0, 0), 3: "W", 4: dms(0, 0, 0)},
    "no-refs": {2: dms(55, 42, 0), 4: dms(13, 11, 0)},
    "one-ref": {1: "N", 2: dms(55, 42, 0), 4: dms(13, 11, 0)},
    "bad-ref": {1: "X", 2: dms(55, 42, 0), 3: "E", 4: dms(13, 11, 0)},
    "refs-only": {1: "N", 3: "E"},
    "text": {1: "N", 2: "55,7047", 3: "E", 4: "13,1910"},
    "one-component": {1: "N", 2: dms(55), 3: "E", 4: dms(13)},
    "altitude-only": {5: 0, 6: dms(43)},
    "empty": {},
}


def _gps(folder: Path, made: dict[str, str]) -> None:
    for name, tags in NO_POSITION.items():
        _write(folder, made, f"gps/{name}.jpg", encoded(exif=exif_with(tags)), "ok")
    lund: dict[int, Value] = {1: "N", 2: dms(55, 42, (1692, 100)), 3: "E", 4: dms(13, 11, (276, 10))}
    _write(folder, made, "gps/good.jpg", encoded(exif=exif_with(lund)), "ok")


NAMES: tuple[bytes, ...] = (
    b"new\nline.jpg",
    b"tab\tand return\r.jpg",
    b"'quotes' and \"quotes\".jpg",
    b"-rf.jpg",
    b"%s $(id) `id` ; & | .jpg",
    "emoji 🗺️ Malmö.jpg".encode(),
    "Malmo\u0308 decomposed.jpg".encode(),
    "\u202eright to left.jpg".encode(),
    b"not utf-8 caf\xe9.jpg",
    b"back\\slash.jpg",
    b"colon: and dot..jpg",
    b" space .jpg",
    b"a" * 251 + b".jpg",
)


def _names(folder: Path, made: dict[str, str]) -> None:
    (folder / "names").mkdir(exist_ok=True)
    for raw in NAMES:
        with contextlib.suppress(OSError):  # some file systems refuse some of them
            _write(folder, made, "names/" + os.fsdecode(raw), encoded(), "ok")


# --- what cannot


def _broken(folder: Path, made: dict[str, str]) -> None:
    jpeg, png = encoded(), encoded(kind="PNG")
    start = jpeg.index(b"\xff\xda") + 14
    gap = bytearray(jpeg)
    del gap[start + 200 : start + 700]
    files = {
        "empty.jpg": (b"", "open"),
        "one-byte.jpg": (b"\xff", "open"),
        "cut-in-header.jpg": (jpeg[:100], "open"),
        "cut-at-half.jpg": (jpeg[: len(jpeg) // 2], "decode"),
        "cut-before-end-mark.jpg": (jpeg[:-2], "decode"),
        "cut-and-ended.jpg": (jpeg[: len(jpeg) // 2] + b"\xff\xd9", "decode"),
        "gap.jpg": (bytes(gap), "decode"),
        "restarts-lost.jpg": (_without_some_restarts(encoded(restart_marker_blocks=4)), "decode"),
        "cut-at-half.png": (png[: len(png) // 2], "decode"),
        "cut-in-header.png": (png[:20], "open"),
        "flipped.png": (png[:200] + bytes([png[200] ^ 255]) + png[201:], "decode"),
        "cut.webp": (encoded(kind="WEBP", lossless=True)[:-50], "open"),
        "cut.tif": (encoded(kind="TIFF")[:-3000], "decode"),
        "cut.bmp": (encoded(kind="BMP")[:-3000], "decode"),
        "cut.gif": (encoded(kind="GIF")[:-3000], "open"),
        "cut.ppm": (encoded(kind="PPM")[:-3000], "decode"),
        "ico-called.jpg": (encoded(kind="ICO"), "open"),
        "text.jpg": (b"hello, this is not a picture\n" * 9, "open"),
        "pickle.png": (pickle.dumps(Canary()), "open"),
        "eps-called.jpg": (encoded(kind="EPS"), "open"),
        "pdf-called.jpg": (encoded(kind="PDF"), "open"),
        "svg-called.png": (b"<svg xmlns='http://www.w3.org/2000/svg' width='99' height='99'/>", "open"),
        "zeros.jpg": (bytes(5000), "open"),
        "bomb.png": (flat_png(65000, 65000), "size"),
        "bomb-below-pillows-limit.png": (flat_png(13000, 13000), "size"),
        "long-text.png": (_png_text_bomb(), "open"),
    }
    for name, (data, stage) in files.items():
        _write(folder, made, f"broken/{name}", data, stage)


def _sizes(folder: Path, made: dict[str, str]) -> None:
    for width, height in ((1, 1), (2, 2), (7, 7), (10000, 1), (1, 10000), (31, 500)):
        data = encoded(Image.new("RGB", (width, height), "red"), "PNG")
        _write(folder, made, f"sizes/{width}x{height}.png", data, "size" if min(width, height) < 2 else "ok")
    sparse = folder / "sizes" / "sparse.jpg"
    with sparse.open("wb") as file:
        file.write(encoded())
        file.truncate(1 << 40)
    made["sizes/sparse.jpg"] = "size"


def _not_files(folder: Path, made: dict[str, str]) -> None:
    base = folder / "not files"
    (base / "folder.jpg").mkdir(parents=True)
    made["not files/folder.jpg"] = "find"
    _write(folder, made, "not files/folder.jpg/inside.jpg", encoded(), "ok")
    os.mkfifo(base / "fifo.jpg")
    made["not files/fifo.jpg"] = "find"
    (base / "dangling.jpg").symlink_to("nowhere.jpg")
    made["not files/dangling.jpg"] = "find"
    (base / "circle.jpg").symlink_to("circle.jpg")
    made["not files/circle.jpg"] = "find"
    (base / "device.jpg").symlink_to("/dev/zero")
    made["not files/device.jpg"] = "find"
    (base / "linked.jpg").symlink_to("../plain.jpg")
    made["not files/linked.jpg"] = "ok"
    (base / "loop").symlink_to("..", target_is_directory=True)  # everything is below it, for ever
    if os.geteuid() != 0:  # root reads everything
        _write(folder, made, "not files/secret.jpg", encoded(), "open")
        (base / "secret.jpg").chmod(0)


def _ignored(folder: Path, made: dict[str, str]) -> None:
    for name in (".hidden.jpg", "._plain.jpg", ".DS_Store", "Thumbs.db", "__MACOSX/plain.jpg", ".git/x.jpg"):
        _write(folder, made, name, encoded(), IGNORED)
    for name in ("notes.txt", "photo", "clip.mp4", "drawing.svg", "model.pkl"):
        _write(folder, made, name, b"something else", IGNORED)


# --- helpers


def _write(folder: Path, made: dict[str, str], name: str, data: bytes, expected: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    made[name] = expected


def _without_some_restarts(data: bytes) -> bytes:
    """Drop eight intervals, so that the numbers of the restart marks go on as if nothing were missing."""
    marks = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    return data[: marks[2]] + data[marks[10] :]


def _png_of_16_bits(pixels: NDArray[np.uint16]) -> bytes:  # (H, W, 3)
    """Pillow cannot write these."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def _png_text_bomb() -> bytes:
    """A compressed comment of 100 MB before the pixels."""
    png = encoded(kind="PNG")
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    data = b"Comment\0\0" + packed
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return png[:33] + chunk + png[33:]
