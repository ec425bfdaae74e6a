"""`cricavpr index`: build, change and inspect a database of photos."""

from __future__ import annotations

import argparse

from cricavpr.cli import Verb, add_verbs

ACTIONS = {
    "build": Verb("index_photos", "index a folder of photos", "add_build"),
    "add": Verb("index_photos", "add a folder of photos to an index", "add_add"),
    "update": Verb("index_photos", "replace photos of an index that have changed", "add_update"),
    "remove": Verb("index_files", "remove photos from an index", "add_remove"),
    "merge": Verb("index_files", "add all photos of another index", "add_merge"),
    "compact": Verb("index_files", "merge small segments, and wipe removed photos", "add_compact"),
    "info": Verb("index_files", "show facts about an index", "add_info"),
    "verify": Verb("index_files", "read every byte and name damaged files", "add_verify"),
    "diff": Verb("index_files", "compare two indexes", "add_diff"),
    "export": Verb("index_files", "write names and positions as CSV, GeoJSON or Parquet", "add_export"),
    "tune": Verb("index_files", "make codes for a large index, and measure their recall", "add_tune"),
    "calibrate": Verb("calibrate", "learn how far answers can be trusted"),
    "health": Verb("health", "holes, near-duplicates, look-alikes and bad photos"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_verbs(parser, ACTIONS, "actions")


def add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="wait for another writer (default: not at all)"
    )
