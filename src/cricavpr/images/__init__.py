"""Decode photos to upright sRGB pixels, read their positions and times, and preprocess them for networks."""

from cricavpr.images.decoding import TRANSPARENT, Header, decode, decode_image, read_header
from cricavpr.images.opening import MAX_BYTES, MAX_PIXELS, MIN_SIDE, SUFFIXES, UNREAD
from cricavpr.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, Resize

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUFFIXES",
    "TRANSPARENT",
    "UNREAD",
    "Header",
    "Preprocess",
    "Resize",
    "decode",
    "decode_image",
    "read_header",
]
