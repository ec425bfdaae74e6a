"""San Francisco eXtra Large: 2.8 million photos to search, and four sets of queries that are hard in four ways.

Source: Berton et al., "Rethinking visual geo-localization for large-scale applications" (CosPlace, CVPR 2022). There is
no folder `images`, and the supplied `*_images_paths.txt` are read instead of looking through millions of files.
"""

from __future__ import annotations

from cricavpr.datasets.benchmarks.area import Area
from cricavpr.datasets.benchmarks.base import Benchmark, Split
from cricavpr.datasets.benchmarks.utm_trees import WITHIN_25_M, tree

AREA = Area("San Francisco", 37.77, -122.42)

_NOTES = (
    "put the supplied database_images_paths.txt beside the folder database: without it every file is looked for",
    "the heading in a name grows to the WEST (90 = west), and that of a crop is of its leftmost column",
    "queries differ in size: give one image size, or describe one by one",
)
_QUERIES = {
    "v1": ("queries_v1", 1_000, "from Flickr, without headings"),
    "v2": ("queries_v2", 598, "the queries of San Francisco Landmarks with refined poses"),
    "night": ("queries_night", 466, "by night"),
    "occlusion": ("queries_occlusion", 76, "with things in the way"),
}


def _split(
    name: str, size: str, part: str, queries: tuple[str, int | None], database: int | None, *notes: str
) -> Split:
    folder, count = queries
    below = (f"{size}/{part}", part, f"sf_xl/{size}/{part}", f"sf_xl/{part}")
    return Split(
        name=name,
        queries=count,
        database=database,
        rule=WITHIN_25_M,
        layouts=(tree(below, folder, area=AREA),),
        notes=notes + _NOTES,
    )


def _test(key: str) -> Split:
    folder, count, what = _QUERIES[key]
    name = f"sf_xl-test_{key}" if key in ("v1", "v2") else f"sf_xl-{key}"
    return _split(name, "processed", "test", (folder, count), 2_805_840, f"queries {what}", _UNSURE)


_UNSURE = "the exact count of the database is not confirmed; the authors write 2.8 million"
_SMALL = "the small version for first trials: its figures are not those of SF-XL"

BENCHMARK = Benchmark(
    key="sf_xl",
    title="San Francisco eXtra Large",
    source="rsync://vandaldata.polito.it/sf_xl/ (processed: val 16,000 photos, test 122 GB; small)",
    registration="the form forms.gle/wpyDzhDyoWLQygAT9",
    licence="as agreed to in the form",
    splits=(
        _split(
            "sf_xl-val", "processed", "val", ("queries", 7_993), 8_015, "the exact counts (8k each) are not confirmed"
        ),
        *map(_test, _QUERIES),
        _split("sf_xl_small-val", "small", "val", ("queries", None), None, _SMALL, "8 thousand photos on each side"),
        _split("sf_xl_small-test_v1", "small", "test", ("queries_v1", 1_000), None, _SMALL, "27 thousand photos"),
    ),
)
