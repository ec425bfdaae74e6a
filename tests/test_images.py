"""Decoding, EXIF positions, silent JPEG damage, and the way to a tensor."""

import hashlib
import io
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, features

from cricavpr.errors import ImageError, InputError
from cricavpr.geo import LatLon
from cricavpr.images import TRANSPARENT, Preprocess, decode, opening, read_header
from tests.odd_files import (
    HEIGHT,
    NO_POSITION,
    WIDTH,
    dms,
    encoded,
    exif_with,
    flat_png,
    picture,
)

GOLDEN = Path(__file__).parent / "golden"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's about damaged EXIF blocks


def photo(height, width, seed=0):
    """Something like a photo: random, but smooth."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def stage_of(source, **limits):
    with pytest.raises(ImageError) as caught:
        decode(source, **limits)
    assert str(caught.value) == " ".join(str(caught.value).split()) != ""  # one line
    return caught.value.stage


def gps_of(data):
    return read_header(data).gps


# --- decoding


def test_a_plain_photo_is_decoded_as_pillow_decodes_it_from_a_path_and_from_bytes(tmp_path):
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP"):
        data = encoded(photo(123, 77), kind)
        (tmp_path / "photo").write_bytes(data)
        plain = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        for source in (data, tmp_path / "photo"):
            image = decode(source)
            assert image.dtype == np.uint8 and image.shape == (123, 77, 3) and image.flags.writeable
            np.testing.assert_array_equal(image, plain)


def test_the_golden_photo_has_the_pixels_of_the_authors_pipeline():
    golden = np.load(GOLDEN / "preprocess.npz")
    image = decode(GOLDEN / "preprocess_640x480.jpg")
    assert hashlib.sha256(image.tobytes()).hexdigest() == str(golden["decoded_sha256"])


def test_importing_is_quick_and_loads_no_torch_and_no_plugin():
    code = (
        "import sys, time; start = time.perf_counter(); import cricavpr.images; "
        "print(time.perf_counter() - start, 'torch' in sys.modules, 'PIL.EpsImagePlugin' in sys.modules)"
    )
    seconds, torch_is_there, eps_is_there = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert (torch_is_there, eps_is_there) == ("False", "False")
    assert float(seconds) < 1.0  # 0.07 where nothing else runs


def test_a_bomb_is_refused_before_it_is_decoded():
    assert stage_of(flat_png(65000, 65000)) == "size"
    assert stage_of(encoded(photo(100, 100)), max_pixels=9999) == "size"
    assert decode(encoded(photo(100, 100)), max_pixels=10000).shape == (100, 100, 3)


def test_a_side_below_the_minimum_is_refused():
    assert stage_of(encoded(photo(31, 500)), min_side=32) == "size"
    assert decode(encoded(photo(31, 500)), min_side=31).shape == (31, 500, 3)
    assert stage_of(encoded(photo(1, 500))) == "size"
    assert decode(encoded(photo(8, 8))).shape == (8, 8, 3)


def test_see_through_pixels_become_the_mean_colour_whatever_hides_behind_them():
    hidden = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    image = decode(encoded(Image.fromarray(hidden), "PNG"))
    assert (image == TRANSPARENT).all()


def test_deep_grey_is_scaled_and_not_clipped():
    ramp = np.tile(np.linspace(0, 65535, 256).round().astype(np.uint16), (40, 1))
    for kind in ("PNG", "TIFF"):
        image = decode(encoded(Image.fromarray(ramp), kind))
        np.testing.assert_array_equal(image[0, :, 0], np.arange(256))


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0, 1e6])
def test_float_grey_is_scaled_by_the_white_that_holds_it_and_nan_is_black(scale):
    ramp = np.tile(np.linspace(0, scale, 256, dtype=np.float32), (40, 1))
    ramp[5] = np.nan
    image = decode(encoded(Image.fromarray(ramp), "TIFF"))
    np.testing.assert_allclose(image[0, :, 0], np.arange(256), atol=1)
    assert (image[5] == 0).all()


def test_an_srgb_profile_changes_nothing_and_a_wide_one_is_converted():
    image = Image.fromarray(picture())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(decode(encoded(image, "PNG", icc_profile=srgb)), picture())
    swapped = _profile_with_red_and_green_swapped(srgb)
    converted = decode(encoded(image, "PNG", icc_profile=swapped)).astype(int)
    assert np.abs(converted - picture()[..., [1, 0, 2]]).max() <= 2
    damaged = decode(encoded(image, "PNG", icc_profile=srgb[:200]))
    np.testing.assert_array_equal(damaged, picture())


def _profile_with_red_and_green_swapped(profile: bytes) -> bytes:
    """A true matrix profile whose effect is seen by eye: the tags rXYZ and gXYZ change places."""
    head, table = profile[:128], profile[128:]
    assert table.count(b"rXYZ") == table.count(b"gXYZ") == 1
    return head + table.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")


def test_an_orientation_in_xmp_alone_is_obeyed():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
    data = encoded(Image.fromarray(np.ascontiguousarray(picture()[::-1, ::-1])), xmp=xmp)
    assert np.abs(decode(data).astype(int) - picture()).mean() < 1


def test_a_heic_photo_names_the_extra_that_reads_it():
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
        with pytest.raises(ImageError, match=r"cricavpr\[heic\]") as caught:
            decode(heic)
        assert caught.value.stage == "open"


XMP_TURNED = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


def test_a_heic_photo_is_turned_once():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    stored = Image.fromarray(np.rot90(picture(), 1).copy())
    image = decode(encoded(stored, "HEIF", exif=exif_with(orientation=6), quality=95))
    assert image.shape == picture().shape and np.abs(image.astype(int) - picture()).mean() < 4


@pytest.mark.parametrize(
    "exif, xmp", [(None, XMP_TURNED), (exif_with(orientation=1), XMP_TURNED), (exif_with(orientation=6), None)]
)
def test_what_the_opener_of_heic_has_turned_is_not_turned_again(monkeypatch, exif, xmp):
    """pillow-heif gives upright pixels, and leaves in EXIF the turn that is still due; XMP it leaves as it was."""
    due = exif is not None and xmp is None

    class Opener(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            pixels = np.rot90(picture(), 1) if due else picture()
            self._mode, self._size = "RGB", (pixels.shape[1], pixels.shape[0])
            self.im = Image.fromarray(np.ascontiguousarray(pixels)).im
            self.info.update({key: value for key, value in (("exif", exif), ("xmp", xmp)) if value is not None})
            self.tile = []

        def load(self):
            return Image.Image.load(self)

    monkeypatch.setitem(Image.OPEN, "HEIF", (Opener, lambda start: start[4:8] == b"ftyp"))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
    monkeypatch.setattr(opening, "_formats", lambda: ("HEIF",))
    np.testing.assert_array_equal(decode(b"\0\0\0\x18ftypheic" + bytes(100)), picture())


def test_an_avif_photo_is_turned_by_its_own_box_and_not_by_xmp():
    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    assert np.abs(decode(encoded(kind="AVIF", xmp=XMP_TURNED, quality=95)).astype(int) - picture()).mean() < 3
    stored = Image.fromarray(np.rot90(picture(), 1).copy())
    turned = encoded(stored, "AVIF", xmp=XMP_TURNED, exif=exif_with(orientation=6), quality=95)
    assert np.abs(decode(turned).astype(int) - picture()).mean() < 3


def test_threads_decode_alike(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encoded(photo(200, 300)))
    with ThreadPoolExecutor(8) as pool:
        digests = {image.tobytes() for image in pool.map(decode, [tmp_path / "photo.jpg"] * 40)}
    assert len(digests) == 1


# --- damage that Pillow hides


def _jpegs():
    """60 sound JPEGs of every kind that cameras write."""
    rng = random.Random(0)
    for seed in range(60):
        height, width = rng.randrange(32, 200), rng.randrange(32, 200)
        mode = ("RGB", "RGB", "L", "CMYK")[seed % 4]
        options = {"quality": rng.randrange(1, 101), "optimize": seed % 2 == 0, "progressive": seed % 7 == 0}
        if seed % 3 == 0:
            options["restart_marker_blocks"] = rng.randrange(1, 9)
        if mode == "RGB":
            options["subsampling"] = seed % 3
        yield encoded(photo(height, width, seed).convert(mode), **options), options


def test_no_sound_jpeg_is_called_damaged():
    for data, _ in _jpegs():
        plain = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode(data), plain)
        np.testing.assert_array_equal(decode(data + b"something behind the end" * 9), plain)


def test_every_jpeg_that_was_cut_is_flagged_even_with_an_end_mark():
    rng = random.Random(1)
    silent = 0
    for data, options in _jpegs():
        start = data.index(b"\xff\xda") + 14
        for _ in range(5):
            cut = data[: rng.randrange(start, len(data) - 40)]
            assert stage_of(cut) == "decode"
            if not options["progressive"]:
                np.array(Image.open(io.BytesIO(cut + b"\xff\xd9")))  # Pillow says nothing
                assert stage_of(cut + b"\xff\xd9") == "decode"
                silent += 1
    assert silent > 200


def test_damage_in_the_first_frame_of_an_mpo_is_noticed():
    """Phones save portraits and stereo pictures as MPO, whose first frame is a JPEG like any other."""
    frames = encoded(photo(120, 160), "MPO", save_all=True, append_images=[photo(120, 160, 1)])
    assert Image.open(io.BytesIO(frames)).format == "MPO"
    decode(frames)
    start = frames.index(b"\xff\xda") + 14
    end = frames.index(b"\xff\xd9", start)
    padded = bytes(200)
    assert stage_of(frames[: start + 200] + padded + frames[start + 400 :]) == "decode"
    cut = frames[: (start + end) // 2]
    assert stage_of(cut + b"\xff\xd9" + bytes(end - len(cut)) + frames[end + 2 :]) == "decode"


def test_random_damage_never_raises_anything_but_an_image_error():
    rng = random.Random(2)
    sources = [data for data, _ in _jpegs()][:20]
    sources += [encoded(photo(60, 60), kind) for kind in ("PNG", "WEBP", "TIFF", "BMP")]
    sources += [
        encoded(photo(60, 60), "TIFF", compression="tiff_lzw"),
        encoded(photo(60, 60).quantize(), "PNG"),
    ]
    for data in sources:
        for _ in range(15):
            damaged = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(len(data))] = rng.randrange(256)
            try:
                assert decode(bytes(damaged), max_pixels=10**6).dtype == np.uint8
            except ImageError as error:
                assert error.stage in ("open", "size", "decode")


# --- positions


@pytest.mark.parametrize(
    "lat, north, lon, east, expected",
    [
        (dms(55, 42, (1692, 100)), "N", dms(13, 11, (276, 10)), "E", (55.7047, 13.191)),
        (dms(33, 51, (2448, 100)), "S", dms(151, 12, (3348, 100)), "E", (-33.8568, 151.2093)),
        (dms(22, 57, 6), "S", dms(43, 12, 36), "W", (-22.951667, -43.21)),
        (dms((557047, 10000), (0, 1), (0, 1)), "n", dms(13, (1146, 100), 0), "E", (55.7047, 13.191)),
        (dms(0, 0, 0), "N", dms(32, 30, 0), "E", (0.0, 32.5)),  # on the equator
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_positions_are_read_to_a_millionth_of_a_degree(lat, north, lon, east, expected, kind):
    data = encoded(kind=kind, exif=exif_with({1: north, 2: lat, 3: east, 4: lon}))
    found = gps_of(data)
    assert (found.lat_deg, found.lon_deg) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tags", NO_POSITION.values(), ids=NO_POSITION.keys())
def test_no_position_is_ever_invented(tags):
    header = read_header(encoded(exif=exif_with(tags)))
    assert header.gps is None
    assert bool(header.no_gps) == (2 in tags and 4 in tags)  # where there are coordinates, the reason is told


def test_damaged_exif_is_no_position_and_no_error():
    sound = exif_with({1: "N", 2: dms(55, 42, 0), 3: "E", 4: dms(13, 11, 0)})
    assert gps_of(encoded(exif=sound)) == LatLon(55.7, 13 + 11 / 60)
    for cut in range(6, len(sound)):
        assert gps_of(encoded(exif=sound[:cut])) in (None, LatLon(55.7, 13 + 11 / 60))


def test_a_position_behind_the_pixels_of_a_png_is_found_without_decoding_them():
    block = exif_with({1: "N", 2: dms(55, 42, 0), 3: "E", 4: dms(13, 11, 0)})
    data = encoded(kind="PNG", exif=block)
    at = data.index(b"eXIf") - 4
    chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
    moved = data.replace(chunk, b"")[:-12] + chunk + data[-12:]
    assert gps_of(moved) == LatLon(55.7, 13 + 11 / 60)


def test_a_header_tells_size_and_format():
    header = read_header(encoded(photo(50, 80), "PNG"))
    assert (header.width, header.height, header.format, header.gps) == (80, 50, "PNG", None)


def test_a_position_in_another_datum_is_refused_because_it_is_hundreds_of_metres_off():
    tags = {1: "N", 2: dms(35, 41, 0), 3: "E", 4: dms(139, 42, 0)}
    assert read_header(encoded(exif=exif_with({**tags, 18: "WGS-84"}))).gps is not None
    header = read_header(encoded(exif=exif_with({**tags, 18: "TOKYO"})))
    assert header.gps is None and "datum 'TOKYO'" in header.no_gps


def test_a_heading_is_read_and_a_damaged_one_is_none():
    for value, heading in ((dms((12345, 100)), 123.45), (dms(360), 0.0), (dms((1, 0)), None), (dms(400), None)):
        assert read_header(encoded(exif=exif_with({17: value}))).heading_deg == heading
    assert read_header(encoded()).heading_deg is None


def test_a_dark_16_bit_pgm_is_not_taken_for_8_bits():
    dark = np.full((40, 40), 2570, np.uint16)
    data = b"P5 40 40 65535\n" + dark.astype(">u2").tobytes()
    assert (decode(data) == 10).all()
    faint = np.full((40, 40), 200, np.uint16)  # nearly black: below 1 of 255
    assert (decode(b"P5 40 40 65535\n" + faint.astype(">u2").tobytes()) == 1).all()


# --- to a tensor


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "preprocess.npz"), decode(GOLDEN / "preprocess_640x480.jpg")


@pytest.mark.parametrize("resize, key", [("tensor_no_antialias", "antialias_false"), ("tensor", "antialias_true")])
def test_the_tensor_is_that_of_the_authors_pipeline(golden, resize, key):
    expected, image = golden
    array = Preprocess(resize=resize)(image)
    assert array.dtype == np.float32 and array.flags.c_contiguous
    np.testing.assert_allclose(array, expected[key], atol=1e-5)


def test_resizing_by_pillow_gives_pillows_pixels(golden):
    expected, image = golden
    pixels = Preprocess(resize="pil", mean=(0, 0, 0), std=(1, 1, 1))(image) * 255
    np.testing.assert_allclose(pixels.transpose(1, 2, 0), expected["pil_bilinear_uint8"], atol=1e-3)


@pytest.mark.parametrize("resize", ["tensor_no_antialias", "tensor", "tensor_bicubic", "pil"])
@pytest.mark.parametrize("size", [None, (30, 40)])
def test_an_image_of_the_wanted_size_is_not_resampled(resize, size):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((image / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(Preprocess(size, resize)(image), expected, atol=1e-6)


def test_height_comes_before_width():
    image = np.zeros((100, 50, 3), np.uint8)
    for resize in ("tensor_no_antialias", "tensor", "pil"):
        assert Preprocess((28, 42), resize)(image).shape == (3, 28, 42)


def test_the_image_is_neither_changed_nor_shared_and_may_be_a_view():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    image.setflags(write=False)
    np.testing.assert_array_equal(Preprocess()(image[:, ::-1]), Preprocess()(image[:, ::-1].copy()))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_not_an_image_is_refused(image):
    with pytest.raises(InputError, match="uint8"):
        Preprocess()(image)


def test_a_wrong_setting_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="Did you mean tensor"):
        Preprocess(resize="tensr")
    with pytest.raises(InputError, match="height, width"):
        Preprocess((0, 5))
    with pytest.raises(InputError, match="std"):
        Preprocess(std=(1, 0, 1))


def test_the_fingerprint_is_one_line_that_tells_settings_apart_and_survives_pickling():
    settings = [
        Preprocess(),
        Preprocess((224, 225)),
        Preprocess(None),
        Preprocess(resize="tensor"),
        Preprocess(resize="pil"),
        Preprocess(mean=(0.5, 0.5, 0.5)),
        Preprocess(std=(0.5, 0.5, 0.5)),
    ]
    assert len({setting.describe() for setting in settings}) == len(settings)
    assert all("\n" not in setting.describe() for setting in settings)
    assert pickle.loads(pickle.dumps(settings[1])) == settings[1]
    # Kept for ever: an index of last year must still open.
    usual = "resize tensor_no_antialias, mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
    assert Preprocess().describe() == f"sRGB upright, size 224x224, {usual}"
