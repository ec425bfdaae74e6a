"""The command `cricavpr index`: build, change and inspect an index, a database of photos."""

from __future__ import annotations

import argparse

from cricavpr.cli import Verb, add_verbs

ACTIONS = {
    "build": Verb("index_photos", "index a folder of photos", "add_build"),
    "add": Verb("index_photos", "add a folder of photos to an index", "add_add"),
    "update": Verb("index_photos", "describe changed photos again and replace them in an index", "add_update"),
    "remove": Verb("index_files", "remove photos from an index", "add_remove"),
    "merge": Verb("index_files", "add all photos of another index", "add_merge"),
    "compact": Verb("index_files", "merge the files of an index, and wipe removed photos from them", "add_compact"),
    "info": Verb("index_files", "show facts about an index", "add_info"),
    "verify": Verb("index_files", "read every byte of an index and list damaged files", "add_verify"),
    "diff": Verb("index_files", "compare two indexes photo by photo", "add_diff"),
    "export": Verb("index_files", "write names and positions as CSV, GeoJSON or Parquet", "add_export"),
    "tune": Verb("index_files", "prepare compressed search of a large index, and measure its recall", "add_tune"),
    "calibrate": Verb("calibrate", "measure how reliable the positions found by `cricavpr locate` are"),
    "health": Verb("health", "find holes in the coverage, near-duplicates, similar places, and blurred or dark photos"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_verbs(parser, ACTIONS, "actions")


def add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long to wait for another process that uses the index, in seconds (default: 0)",
    )
