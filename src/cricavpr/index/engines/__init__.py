"""Search engines over the vectors of an index: exact, or compressed with an exact last word. See docs/search.md."""

from cricavpr.index.engines.array_file import ArrayFileError
from cricavpr.index.engines.choosing import Choice, choose
from cricavpr.index.engines.codes import CodesOf, codes_for, read_codes, write_codes
from cricavpr.index.engines.compressed import CompressedEngine
from cricavpr.index.engines.exact import ExactEngine
from cricavpr.index.engines.filters import All, Box, Facts, Filter, ListedTags, Near, Tagged, Taken, mask_of
from cricavpr.index.engines.opening import (
    LaidOut,
    Opened,
    Segment,
    codes_file,
    open_compressed,
    prepare,
    quantiser_of,
    required_quantiser,
)
from cricavpr.index.engines.quantiser import Coding, Quantiser
from cricavpr.index.engines.rows import Rows
from cricavpr.index.engines.tuning import Tuning, tune

__all__ = [
    "All",
    "ArrayFileError",
    "Box",
    "Choice",
    "CodesOf",
    "Coding",
    "CompressedEngine",
    "ExactEngine",
    "Facts",
    "Filter",
    "LaidOut",
    "ListedTags",
    "Near",
    "Opened",
    "Quantiser",
    "Rows",
    "Segment",
    "Tagged",
    "Taken",
    "Tuning",
    "choose",
    "codes_file",
    "codes_for",
    "mask_of",
    "open_compressed",
    "prepare",
    "quantiser_of",
    "read_codes",
    "required_quantiser",
    "tune",
    "write_codes",
]
