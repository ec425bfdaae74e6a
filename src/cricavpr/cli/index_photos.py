"""The commands `cricavpr index build`, `add` and `update`: describe photos and store them in an index."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cricavpr.cli.index import add_wait
from cricavpr.cli.options import add_method, add_work, existing_folder, load_method, report
from cricavpr.index.remote import folder_named
from cricavpr.indexing import add_photos, build_index, update_photos
from cricavpr.terminal import printable


def add_build(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Describe every photo that has a position, and store its descriptor, position and time. If INDEX is the "
        "folder of an index already, that index is replaced as soon as the new index is complete. To keep its photos, "
        "use `cricavpr index add`."
    )
    _add_photos(parser)
    parser.add_argument(
        "--out", required=True, metavar="INDEX", help="the folder of the index, or milvus://host:port/collection"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        metavar="DTYPE",
        help="how an index in a folder stores descriptors: float32, or float16 for half the disk space "
        "(default: float32)",
    )
    parser.add_argument(
        "--kind", metavar="KIND", help="kind of search of an index on a server: flat (exact, the default), ivf or hnsw"
    )
    parser.set_defaults(run=build)


def add_add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Describe the photos with a position that the index does not have, and add them."
    parser.add_argument("index", metavar="INDEX", help="the folder of the index, or milvus://host:port/collection")
    _add_photos(parser)
    parser.set_defaults(run=add)


def add_update(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Describe the photos, and replace the photos of the index that have the same path or the same bytes. Photos "
        "that are not in the index are added. Tags and times that are not given are kept."
    )
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    _add_photos(parser)
    parser.set_defaults(run=update)


def _add_photos(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos",
        metavar="PHOTOS",
        help="a folder of photos with GPS positions in EXIF, or with UTM positions between @ signs in their names",
    )
    parser.add_argument(
        "--positions",
        metavar="FILE",
        help="a CSV or GeoJSON file with the positions, and times if known, of the photos",
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="a tag to store with each of these photos; may be given several times",
    )
    add_wait(parser)
    add_method(parser)
    add_work(parser)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "method": load_method(args),
        "positions": Path(args.positions) if args.positions else None,
        "tags": args.tag,
        "batch_size": args.batch_size,
        "workers": args.workers,
        "wait_s": args.wait,
        "progress": not args.quiet,
        "note": lambda text: print(printable(text), file=sys.stderr),
    }


def build(args: argparse.Namespace) -> int:
    settings = _settings(args) | {"dtype": args.dtype, "kind": args.kind}
    index, problems = build_index(existing_folder(args.photos), args.out, **settings)
    timed = index.info().get("with_time")
    times = "" if timed is None else f"{timed:,} with a time, "
    made = f"method {index.made_by.method}, grouping {index.made_by.grouping}"
    print(printable(f"{index.path}: {len(index):,} photos, {times}{made}"))
    return report(problems)


def add(args: argparse.Namespace) -> int:
    change, problems = add_photos(args.index, existing_folder(args.photos), **_settings(args))
    index = change.index
    added = f"{change.added:,} photos added, {change.already:,} in the index already"
    print(printable(f"{index.path}: {added}, {len(index):,} photos now"))
    return report(problems)


def update(args: argparse.Namespace) -> int:
    where, photos = folder_named(args.index, "update"), existing_folder(args.photos)
    change, problems = update_photos(where, photos, **_settings(args))
    replaced = f"{change.removed:,} photos replaced by {change.added:,} photos, {change.already:,} unchanged"
    print(printable(f"{change.index.path}: {replaced}, {len(change.index):,} photos now"))
    return report(problems)
