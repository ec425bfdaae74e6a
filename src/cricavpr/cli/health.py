"""Action `cricavpr index health`: finds weak points of an index, and writes them to a page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cricavpr.cli.options import existing_folder
from cricavpr.errors import InputError
from cricavpr.files import refuse_all_but_files, refuse_other_content, write_text
from cricavpr.health import examine
from cricavpr.health.page import page
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import folder_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Find weak points of an index: holes in its coverage, places with only one photo, near-duplicates, and places "
        "far apart that look the same. Write them to an HTML page with a map, and to a JSON file beside it."
    )
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    parser.add_argument("--out", required=True, metavar="PAGE", help="page to write, an .html file")
    parser.add_argument(
        "--photos", metavar="FOLDER", help="folder of the index's photos, to find blurred and dark photos too"
    )
    parser.add_argument(
        "--same-place-m",
        type=float,
        default=25.0,
        metavar="M",
        help="photos at most this many metres apart show the same place (default: 25)",
    )
    parser.add_argument(
        "--far-m",
        type=float,
        default=100.0,
        metavar="M",
        help="photos more than this many metres apart show different places (default: 100)",
    )
    parser.add_argument(
        "--copy-score",
        type=float,
        default=0.98,
        metavar="S",
        help="photos of one place with at least this score are near-duplicates (default: 0.98)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out)
    if out.suffix != ".html":
        raise InputError(f"--out must end in .html, got {out}.")
    refuse_all_but_files(out)
    findings = out.with_suffix(".json")
    refuse_other_content(
        findings, b'"in_other_zones"', "findings about an index"
    )  # checked, because the user did not give this path
    index = PlaceIndex.open(folder_named(args.index, "health"))
    photos = existing_folder(args.photos) if args.photos else None
    health = examine(
        index, photos, same_m=args.same_place_m, far_m=args.far_m, copy_score=args.copy_score, progress=not args.quiet
    )
    write_text(findings, json.dumps(health.to_dict(), indent=1) + "\n")
    write_text(out, page(health))
    print(f"{out}: {health.summary()}")
    return 0
