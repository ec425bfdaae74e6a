"""`cricavpr index`: build a searchable database of photos, and see what it holds."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cricavpr.cli.options import add_method, add_work, existing_folder, load_method, report

if TYPE_CHECKING:
    from cricavpr.cli import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("index", help="build a database of photos, and see what it holds")
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    building = actions.add_parser(
        "build",
        help="index a folder of photos",
        description="Describe every located photo by itself and keep it with its position.",
    )
    building.add_argument("photos", metavar="PHOTOS", help="a folder of photos with GPS in EXIF, or an @UTM@ folder")
    building.add_argument("--to", required=True, metavar="INDEX", help="the folder of the index")
    building.add_argument("--positions", metavar="FILE", help="a CSV or GeoJSON with the positions of the photos")
    add_method(building)
    add_work(building)
    building.set_defaults(run=build)
    asking = actions.add_parser("info", help="what an index holds and how it was made")
    asking.add_argument("index", metavar="INDEX", help="the folder of the index")
    asking.add_argument("--json", action="store_true", help="print JSON")
    asking.set_defaults(run=info)


def build(args: argparse.Namespace) -> int:
    from cricavpr.datasets import open_photos
    from cricavpr.describing import describe
    from cricavpr.index.place_index import PlaceIndex, refuse_foreign

    to = Path(args.to)
    refuse_foreign(to)
    folder, method = existing_folder(args.photos), load_method(args)
    positions_file = Path(args.positions) if args.positions else None
    photos, unusable = open_photos(folder, positions_file, need_positions=True)
    beside = _unfinished(to)
    described = describe(
        method,
        photos,
        batch_size=args.batch_size,
        workers=args.workers,
        out=beside,
        progress=not args.quiet,
    )
    assert photos.positions is not None
    index = PlaceIndex.build(described.descriptors, photos.positions.take(described.kept), photos.root, to)
    beside.unlink(missing_ok=True)
    print(f"{to}: {len(index):,} photos, method {index.made_by.method}, grouping {index.made_by.grouping}")
    return report((*unusable, *described.problems))


def _unfinished(to: Path) -> Path:
    """Where the descriptors grow until the index has them: hidden beside it, so that no file of the user's is met."""
    whole = Path(os.path.abspath(to))  # noqa: PTH100  # "." has a name too; resolve() would follow links
    return whole.with_name(f".{whole.name}.descriptors")


def info(args: argparse.Namespace) -> int:
    from cricavpr.index.place_index import PlaceIndex

    facts = PlaceIndex.open(Path(args.index)).info()
    if args.json:
        print(json.dumps(facts, indent=1))
        return 0
    for key, value in {**facts, **facts["made_by"]}.items():
        if key != "made_by":
            print(f"{key:<14} {value}")
    return 0
