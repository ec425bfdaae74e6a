"""How much memory an evaluation takes when the database does not fit into it: made-up descriptors on disk.

Run: python benchmarks/streaming.py --count 2800000 [--folder DIR]. A file of half-precision descriptors is made up from
a seed (count x dim x 2 bytes: 23 GB for SF-XL's 2.8 million x 4096), searched with 1,000 queries exactly as
`cricavpr evaluate` searches, recorded as answers, and deleted. Prints one Markdown row. The queries are
database vectors with noise, so R@1 must be 100: a row that says otherwise is wrong.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.describing import Described
from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.evaluation.answers import answers_of, write_answers
from cricavpr.evaluation.protocols import HONEST
from cricavpr.evaluation.recall import recall_at
from cricavpr.evaluation.streaming import search_split
from cricavpr.geo import Positions

ROWS_AT_ONCE = 8192
NS = (1, 5, 10)


def made_up(count: int, dim: int, file: Path) -> NDArray[np.float16]:  # (count, dim), memory-mapped
    """Random directions of unit length; a block is the one before with its values shifted, which is quick to make."""
    block = np.random.default_rng(0).standard_normal((ROWS_AT_ONCE, dim), np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    half = block.astype(np.float16)
    with file.open("wb") as out:
        for number, start in enumerate(range(0, count, ROWS_AT_ONCE)):
            sign = -1 if (number // dim) % 2 else 1  # after `dim` blocks the shifts begin anew
            out.write((sign * np.roll(half, 7 * number, axis=1))[: count - start].tobytes())
    return np.memmap(file, np.float16, "r", shape=(count, dim))


def dataset(count: int, shown: NDArray[np.int64]) -> EvalDataset:
    """Photos 100 m apart on one line; query i stands where database photo shown[i] stands."""
    east = np.stack([100.0 * np.arange(count), np.zeros(count)], axis=1)
    base = ImageSet(Path("database"), tuple(f"{row:07d}.jpg" for row in range(count)), Positions(east))
    names = tuple(f"{row:04d}.jpg" for row in range(len(shown)))
    return EvalDataset.within_radius("made up", base, ImageSet(Path("queries"), names, Positions(east[shown])))


def described(names: tuple[str, ...], vectors: NDArray[np.floating]) -> Described:
    made = MadeBy("made_up", "none", None, "none", "none", None, vectors.shape[1])
    return Described(DescriptorSet(names, vectors, made), np.arange(len(names)), ())


def rss_gb() -> float:
    """The most memory this process ever had, mapped pages included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--folder", type=Path, help="where the file is made (default: a temporary folder)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    shown = rng.choice(arguments.count, arguments.queries, replace=False)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        database = made_up(arguments.count, arguments.dim, Path(folder) / "database.f16")
        asked = np.asarray(database[shown], np.float32)
        asked += rng.standard_normal(asked.shape, np.float32) * (0.5 / arguments.dim**0.5)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        split = dataset(arguments.count, shown)
        sides = described(split.database.names, database), described(split.queries.names, asked)
        started = time.perf_counter()
        predictions, ranks = search_split(split, *sides, HONEST, max(NS))
        search_s = time.perf_counter() - started
        recalls = recall_at(predictions.indices, split.positives, NS)
        write_answers(Path(folder) / "evaluations", answers_of(split, predictions, ranks, max(NS)))
    print("| descriptors | dim | on disk (GB) | queries | R@1 | search (s) | peak memory (GB) |")
    print("|---|---|---|---|---|---|---|")
    size = arguments.count * arguments.dim * 2 / 1e9
    print(
        f"| {arguments.count:,} | {arguments.dim} | {size:.1f} | {arguments.queries:,} "
        f"| {100 * recalls[1]:.1f} | {search_s:.0f} | {rss_gb():.2f} |"
    )


if __name__ == "__main__":
    main()
