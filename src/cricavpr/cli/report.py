"""Verb `cricavpr report`: writes a page with tables, figures and an explorer of wrong queries from evaluations."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from cricavpr.datasets.place_folder import open_places
from cricavpr.errors import InputError
from cricavpr.evaluation.report import ReportOptions, write_report
from cricavpr.evaluation.report.embedding_map import Embedded, drawn_places, embed
from cricavpr.grouping import Grouping
from cricavpr.methods import load_method
from cricavpr.methods.base import Method
from cricavpr.terminal import printable

MOST_MAPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write one page about evaluations, with tables in the layout of the paper's tables, and figures. For each "
        "wrong query, the page says why it may be wrong. Tables are also written as Markdown, CSV and LaTeX, figures "
        "also as SVG and PNG. In figures that compare methods, the first evaluation is compared with all others."
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders that `cricavpr evaluate --out` or `cricavpr ablate` wrote"
    )
    parser.add_argument("--out", default="report", metavar="DIR", help="folder to write into (default: report)")
    parser.add_argument("--data", metavar="DIR", help="folder of the evaluated dataset, to show its photos")
    parser.add_argument(
        "--rows", type=int, default=5, metavar="N", help="number of queries to show in each photo figure (default: 5)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the random choice of the queries in photo figures (default: 0)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument("--quiet", action="store_true", help="no messages about progress")
    networks = parser.add_argument_group("parts that need a network", "M is the name of a method, or METHOD=WEIGHTS")
    networks.add_argument(
        "--regions",
        metavar="M",
        help="show how much each region of a photo contributes to the score of a match, for a cricavpr method",
    )
    networks.add_argument(
        "--parameters",
        action="append",
        default=[],
        metavar="M",
        help="add a table with the number of parameters of each part of method M; may be given several times",
    )
    networks.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="M@G",
        help="draw the descriptors of method M in two dimensions by t-SNE; G is a grouping such as shuffled:12:0 "
        "(default: alone); may be given up to three times",
    )
    networks.add_argument("--map-data", metavar="DIR", help="data for --map: a GSV-Cities folder or a file of places")
    networks.add_argument(
        "--map-size",
        default="36x12",
        metavar="PxK",
        help="number of places x images per place for --map (default: 36x12)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    options = ReportOptions(
        data=Path(args.data) if args.data else None,
        rows=args.rows,
        seed=args.seed,
        look_by=_method(args.regions, args.device) if args.regions else None,
        maps=tuple(_maps(args)),
        networks=tuple(_method(each, args.device) for each in args.parameters),
    )

    def tell(part: str) -> None:
        if not args.quiet:
            print(f"writing: {printable(part)}", file=sys.stderr, flush=True)

    print(write_report([Path(each) for each in args.runs], Path(args.out), options, tell))
    return 0


def _method(text: str, device: str) -> Method:
    name, _, weights = text.partition("=")
    return load_method(name, weights or None, device)


def _maps(args: argparse.Namespace) -> list[Embedded]:
    """Return the panels of the figure that --map asks for (Supplementary Figure 1)."""
    if not args.map:
        return []
    if len(args.map) > MOST_MAPS or args.map_data is None:
        raise InputError(
            f"--map may be given at most {MOST_MAPS} times, and needs --map-data with a folder of places or a file of "
            "places."
        )
    size = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", args.map_size)
    if size is None or min(places := int(size[1]), images := int(size[2])) < 2:
        raise InputError(
            "--map-size must be the number of places x images per place, both at least 2, such as 36x12, got "
            f"{args.map_size!r}."
        )
    drawn = drawn_places(open_places(Path(args.map_data), min_images=images), places, images)
    panels = []
    for text in args.map:
        who, _, grouping = text.partition("@")
        method, company = _method(who, args.device), Grouping.parse(grouping or "alone")
        weights = who.partition("=")[2]
        of = f" ({Path(weights).name})" if weights else ""
        title = f"{method.name}{of}, {company}" if method.correlates else f"{method.name}{of}"
        panels.append(embed(method, drawn, company, printable(title), progress=not args.quiet))
    return panels
