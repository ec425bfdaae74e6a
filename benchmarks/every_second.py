"""A folder of geotagged photos: every second one is the database, the others are queries.

Run: python benchmarks/every_second.py FOLDER --radius-m 15. Prints Markdown, with the pixel matcher beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cricavpr import EvalDataset, Grouping, evaluate, load_method, read_photos
from cricavpr.evaluation.evaluate import format_table

ROWS = [
    ("cricavpr-tiny", "alone"),
    ("cricavpr-tiny", "in_order:16"),
    ("cricavpr-tiny", "shuffled:16:0"),
    ("pixels", "alone"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--radius-m", type=float, default=15.0)
    arguments = parser.parse_args()
    photos, unusable = read_photos(arguments.folder, need_positions=True)
    database, queries = photos.take(range(0, len(photos), 2)), photos.take(range(1, len(photos), 2))
    dataset = EvalDataset.within_radius(arguments.folder.name, database, queries, arguments.radius_m)
    print(format_table(evaluate(load_method(name), dataset, Grouping.parse(grouping)) for name, grouping in ROWS))
    print(f"{len(unusable)} photos could not be used.")


if __name__ == "__main__":
    main()
