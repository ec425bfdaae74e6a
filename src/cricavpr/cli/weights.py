"""`cricavpr weights`: list, download, convert and show weights files."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from cricavpr.models import registry
from cricavpr.models.download import pull
from cricavpr.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the known weights; download, convert or show weights files."
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="list the known weights, and which of them are on this machine")
    listing.add_argument("--json", action="store_true", help="print the list as JSON")
    listing.set_defaults(run=list_weights)

    pulling = actions.add_parser("pull", help="download known weights; an interrupted download is resumed")
    pulling.add_argument("name", metavar="NAME", help="a name from `cricavpr weights list`")
    pulling.add_argument("--url", help="address of a mirror to download from (https)")
    pulling.add_argument("--quiet", action="store_true", help="print no progress bar")
    pulling.set_defaults(run=pull_weights)

    converting = actions.add_parser(
        "convert", help="convert a weights file to safetensors, a format that cannot run code"
    )
    converting.add_argument("source", metavar="SRC", help="a weights file, or a name from `cricavpr weights list`")
    converting.add_argument("target", metavar="DST", help="safetensors file to write")
    converting.add_argument("--half", action="store_true", help="store values in 16 bits, for half the size")
    converting.set_defaults(run=convert_weights)

    showing = actions.add_parser("show", help="print a summary of a weights file")
    showing.add_argument(
        "weights", metavar="PATH_OR_NAME", help="a weights file, or a name from `cricavpr weights list`"
    )
    showing.add_argument("--json", action="store_true", help="print the summary as JSON")
    showing.set_defaults(run=show_weights)


def list_weights(args: argparse.Namespace) -> int:
    """Print the table of known weights."""
    rows = [_row(known) for known in registry.KNOWN.values()]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    cells = [("name", "size", "licence", "here", "address")]
    cells += [(row["name"], _size(row), row["licence"], _where(row), row["url"] or row["page"] or "") for row in rows]
    name, size, licence, here = (max(len(line[column]) for line in cells) for column in range(4))
    for line in cells:
        print(f"{line[0]:<{name}}  {line[1]:>{size}}  {line[2]:<{licence}}  {line[3]:<{here}}  {line[4]}".rstrip())
    return 0


def pull_weights(args: argparse.Namespace) -> int:
    """Download known weights and print their path."""
    place = pull(args.name, progress=not args.quiet, url=args.url)
    known = registry.known_weights(args.name)
    print(f"licence: {known.licence}; {known.page}", file=sys.stderr)
    print(place)
    return 0


def convert_weights(args: argparse.Namespace) -> int:
    """Convert a weights file to safetensors and print the path of the new file."""
    from cricavpr.models.weights import convert  # imports torch

    converted = convert(registry.find_weights(args.source), args.target, half=args.half)
    print(f"{len(converted.tensors)} tensors, SHA-256 {converted.sha256}", file=sys.stderr)
    print(converted.path)
    return 0


def show_weights(args: argparse.Namespace) -> int:
    """Print a summary of a weights file."""
    from cricavpr.models.weights import show  # imports torch

    shown = show(registry.find_weights(args.weights))
    if args.json:
        print(json.dumps(shown, indent=1, ensure_ascii=False))
        return 0
    for label in ("path", "format", "sha256", "file_bytes", "tensors", "values", "bytes", "kinds"):
        print(f"{label.replace('_', ' '):<11} {_plain(shown[label])}")
    print(f"{'header':<11} {json.dumps(shown['header'], ensure_ascii=True, sort_keys=True)}")
    for entry in shown["first"]:
        print(f"  {printable(entry['name'])} {'x'.join(map(str, entry['shape'])) or 'scalar'}")
    if shown["tensors"] > len(shown["first"]):
        print(f"  … and {shown['tensors'] - len(shown['first'])} more")
    return 0


def _row(known: registry.KnownWeights) -> dict[str, Any]:
    place = registry.place_of(known)
    columns = ("name", "licence", "url", "page", "size_bytes", "about_bytes", "sha256", "shipped", "note")
    return {**{column: getattr(known, column) for column in columns}, "path": str(place) if place.is_file() else None}


def _size(row: dict[str, Any]) -> str:
    if not row["about_bytes"]:
        return "small"
    return f"{'' if row['size_bytes'] else 'about '}{row['about_bytes'] / 1e6:,.0f} MB"


def _where(row: dict[str, Any]) -> str:
    if row["path"] is None:
        return "missing from this installation" if row["shipped"] else "no"
    return "ships with the package" if row["shipped"] else row["path"]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
