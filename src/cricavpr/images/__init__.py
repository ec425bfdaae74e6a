"""Photos as they come: decoded safely and upright to sRGB, where and when they were taken, and the way to a tensor."""

from cricavpr.images.decoding import Header, decode, decode_image, read_gps, read_header
from cricavpr.images.opening import MAX_BYTES, MAX_PIXELS, MIN_SIDE
from cricavpr.images.pixels import TRANSPARENT
from cricavpr.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, Resize

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "TRANSPARENT",
    "Header",
    "Preprocess",
    "Resize",
    "decode",
    "decode_image",
    "read_gps",
    "read_header",
]
