"""`cricavpr places`: group photos into training places, and check that all photos of training places exist."""

from __future__ import annotations

import argparse
from pathlib import Path

from cricavpr.cli.options import existing_folder, report
from cricavpr.datasets import open_photos
from cricavpr.datasets.place_folder import (
    PlaceRule,
    open_places,
    places_from_positions,
    places_page,
    read_headings,
    write_places,
)
from cricavpr.errors import InputError
from cricavpr.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    building = actions.add_parser(
        "build",
        help="group a folder of photos into places",
        description="Photos that are near one another and look in the same direction become a place. Writes the places "
        "to a JSON file, and beside it an HTML page with a map of them.",
    )
    building.add_argument("photos", metavar="PHOTOS", help="a folder of photos with positions in EXIF or in file names")
    building.add_argument("--out", required=True, metavar="FILE", help="the file of places to write, such as mine.json")
    building.add_argument("--positions", metavar="FILE", help="a CSV or GeoJSON with the positions of the photos")
    for option, default, metavar, text in (
        ("--apart-m", 25.0, "M", "smallest distance between photos of two places that look the same way"),
        ("--radius-m", 10.0, "M", "largest distance of a photo from the middle photo of its place"),
        (
            "--heading-deg",
            45.0,
            "DEG",
            "largest angle between the headings of a photo and of the middle photo of its place; 180 ignores headings",
        ),
    ):
        help_text = f"{text} (default: {default:g})"
        building.add_argument(option, type=float, default=default, metavar=metavar, help=help_text)
    building.add_argument(
        "--min-images", type=int, default=4, metavar="N", help="smallest number of photos in a place (default: 4)"
    )
    building.set_defaults(run=build)
    checking = actions.add_parser(
        "check",
        help="count the places of a data set, and list its missing photos",
        description="Only looks for the files and opens none. Exit code 3 if some are missing.",
    )
    checking.add_argument("data", metavar="DATA", help="a file from `places build`, or a GSV-Cities folder")
    checking.set_defaults(run=check)


def build(args: argparse.Namespace) -> int:
    rule = PlaceRule(args.apart_m, args.radius_m, args.heading_deg, args.min_images)
    folder, out = existing_folder(args.photos), Path(args.out)
    if out.suffix != ".json":
        raise InputError(f"--out must end in .json, got {out}. The map is written beside it as .html.")
    table = Path(args.positions) if args.positions else None
    photos, unusable = open_photos(folder, table, need_positions=True)
    headings = read_headings(photos)
    found = places_from_positions(photos, rule, headings)
    name = folder.absolute().name
    write_places(found, out, name)
    write_text(out.with_suffix(".html"), places_page(found, name))
    print(f"{out}: {len(found):,} places from {found.used:,} of {len(photos):,} located photos")
    print(f"{int((headings == headings).sum()):,} located photos have a heading")
    for reason, count in found.left_out():
        print(f"{count:,} photos were left out: they {reason}")
    print(f"{out.with_suffix('.html')}: the map")
    return report(unusable)


def check(args: argparse.Namespace) -> int:
    places = open_places(Path(args.data), min_images=1)
    images = [len(place.images) for place in places.places]
    cities = len({place.city for place in places.places})
    print(f"{args.data}: {len(places):,} places of {cities:,} cities, {sum(images):,} photos")
    print(f"{min(images):,} to {max(images):,} photos per place; {sum(n >= 4 for n in images):,} places have 4 or more")
    return report(places.missing())
