"""`cricavpr evaluate`: recall of a method on a dataset, with everything that decides it."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cricavpr.cli.asked import open_asked
from cricavpr.cli.options import add_grouping, add_method, add_work, load_method, report
from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks import find_split
from cricavpr.errors import InputError
from cricavpr.evaluation.evaluate import EvalResult, evaluate, format_table
from cricavpr.evaluation.protocols import PAPER_GROUPING, PAPER_NS, Protocol, groupings, protocol
from cricavpr.evaluation.recording import record
from cricavpr.grouping import Grouping
from cricavpr.methods.base import Method
from cricavpr.pca import Pca


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Recall@N with everything that decides it. DATASET is a folder (an @UTM@ tree, or one with "
        "database/ and queries/ of photos), or with --root a split of a benchmark. Each result is written as a card "
        "with its answers. Interrupted, the same command goes on where it stopped."
    )
    parser.add_argument("data", metavar="DATASET", help="the dataset's folder, or a split such as pitts30k-test")
    parser.add_argument("--root", metavar="DIR", help="where the benchmark lies that the split is of")
    parser.add_argument(
        "--protocol",
        default="honest",
        metavar="P",
        help="honest: alone, in file order and shuffled side by side; paper: what the authors did (default: honest)",
    )
    add_grouping(parser, repeat=True, default="the protocol's")
    parser.add_argument("--unanswered", choices=("miss", "skip"), help="queries without positives (default: as usual)")
    parser.add_argument(
        "--one-hit-per-panorama", action="store_true", help="of each panorama only the best image is a prediction"
    )
    parser.add_argument(
        "--radius-m", type=float, metavar="M", help="a match this near is right (default: 25, or the split's rule)"
    )
    parser.add_argument("--positions", metavar="FILE", help="a CSV or GeoJSON with the positions of the photos")
    parser.add_argument(
        "--queries", metavar="NAME", help="folder of the queries, such as queries_night, if there are several"
    )
    parser.add_argument("--database", metavar="NAME", help="folder of the database (default: database or gallery)")
    parser.add_argument(
        "--recall-at", type=_numbers, metavar="N,N", help="default: 1,5,10; with --protocol paper 1,5,10,100"
    )
    parser.add_argument("--pca", metavar="FILE", help="reduce descriptors by what `cricavpr pca fit` wrote")
    parser.add_argument("--pca-dim", type=int, metavar="D", help="keep so many of its values (default: all)")
    parser.add_argument(
        "--whiten-on-database",
        action="store_true",
        help="whiten by what is learnt on this database, as GCL does: fair for a map of one's own, not to compare",
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (default: fp32)"
    )
    parser.add_argument(
        "--rerank",
        type=int,
        metavar="N",
        help="compare the first N of each query again by local features (transvpr and the patch_netvlad methods)",
    )
    parser.add_argument(
        "--out", default="evaluations", metavar="DIR", help="a folder for cards and answers (default: evaluations)"
    )
    parser.add_argument("--cache", metavar="DIR", help="keep descriptors here for the next run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not understood. Give whole numbers, such as 1,5,10.") from error


def run(args: argparse.Namespace) -> int:

    given = [_grouping(text) for text in args.grouping or []]
    protocol, pca = _protocol(args), _pca(args)
    method = load_method(args)
    dataset, unusable = open_asked(
        args.data, args.root, args.radius_m, args.positions, queries=args.queries, database=args.database
    )
    results = []
    with _kept(args, dataset, method) as cache:
        for grouping in given or _groupings(args, method):
            result = evaluate(
                method,
                dataset,
                grouping,
                recall_ns=args.recall_at or (PAPER_NS if protocol.name == "paper" else (1, 5, 10)),
                batch_size=args.batch_size,
                workers=args.workers,
                progress=not args.quiet,
                cache=cache,
                rerank=args.rerank,
                protocol=protocol,
                pca=pca,
                whiten_on_database=args.whiten_on_database,
            )
            results.append(result)
            folder = record(result, dataset, Path(args.out), _command(args.typed))
            print(f"card and answers: {folder}", file=sys.stderr)
    if args.json:
        print(json.dumps([result.to_dict() for result in results], indent=1))
    else:
        print(format_table(results))
        print("\n".join(_small_print(results)))
    failed = (p for r in results for p in (*r.failed_database, *r.failed_queries, *r.failed_rerank))
    return report(dict.fromkeys((*unusable, *failed)))  # each once, though every grouping meets it again


def _command(typed: list[str]) -> str:
    """What was typed, without the folders above: cards travel, and where files lie is nobody's business."""
    return shlex.join(["cricavpr", *(Path(word).name if Path(word).is_absolute() else word for word in typed)])


def _grouping(text: str) -> Grouping:

    return Grouping.parse(text)


def _split_option(args: argparse.Namespace, option: str) -> str | None:
    """What a split of a benchmark says about itself; None for a folder."""
    if args.root is None:
        return None

    return str(getattr(find_split(args.data)[1], option))


def _protocol(args: argparse.Namespace) -> Protocol:

    own = None if args.protocol == "paper" else _split_option(args, "unanswered")
    return protocol(
        args.protocol,
        unanswered=args.unanswered or own,  # type: ignore[arg-type]  # checked where the split was written
        one_hit_per_panorama=args.one_hit_per_panorama,
        precision=args.precision,
    )


def _groupings(args: argparse.Namespace, method: Method) -> tuple[Grouping, ...]:

    paper_grouping = _split_option(args, "paper_grouping") or PAPER_GROUPING
    return groupings(args.protocol, method.correlates, paper_grouping)


def _pca(args: argparse.Namespace) -> Pca | None:

    if args.pca and args.whiten_on_database:
        raise InputError("--whiten-on-database cannot follow --pca. Give one of the two.")
    if args.pca is None:
        if args.pca_dim is not None:
            raise InputError("--pca-dim needs --pca FILE. Fit one with `cricavpr pca fit`.")
        return None
    pca = Pca.load(Path(args.pca))
    pca = pca if args.pca_dim is None else pca.truncated(args.pca_dim)
    return replace(pca, renormalise=False) if args.protocol == "paper" else pca


@contextlib.contextmanager
def _kept(args: argparse.Namespace, dataset: EvalDataset, method: Method) -> Iterator[Path]:
    """Where descriptors lie: the user's cache, or a folder that is gone when all is done and there if it is not."""
    if args.cache:
        yield Path(args.cache)
        return
    folder = Path(args.out) / f".unfinished-{method.name}-{dataset.split_hash()[:12]}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _small_print(results: list[EvalResult]) -> Iterator[str]:
    """What the table has no room for, and still decides it."""
    for result in results:
        recalls = ", ".join(
            f"R@{n} {100 * result.recall_at[n]:.1f} ({100 * low:.1f} to {100 * high:.1f})"
            for n, (low, high) in result.intervals.items()
        )
        yield f"{result.method}, {result.grouping}: {recalls}; 95 % of 2,000 bootstrap samples of the queries"
    whole = [f"R@{n}" for n in results[0].recall_at if n >= results[0].database]
    if whole:
        yield f"{', '.join(whole)}: among all {results[0].database:,} photos of the database, so no search decides it"
    for made in dict.fromkeys((r.made_by.weights, r.made_by.preprocessing, r.made_by.dim) for r in results):
        yield f"weights {made[0]}; {made[1]}; {made[2]:,} values"
    yield f"split {results[0].split_hash}"
