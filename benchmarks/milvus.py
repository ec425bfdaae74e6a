"""Measure the cost of an index on a real Milvus server on this machine, filled and searched through `RemoteIndex`.

Run: make benchmark-milvus, or in an environment with the packages of `make test-milvus`:

    python -m benchmarks.milvus FOLDER [--rows 5000 10000 20000] [--dim 512] [--kinds flat ivf hnsw]

The descriptors are drawn with the spectrum of real ones (benchmarks/million.py). Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.million import FIT
from tests.index.milvus_server import Running, running

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.geo import LatLon, Positions
from cricavpr.index.columns import Photos
from cricavpr.index.filters import Near, Tagged
from cricavpr.index.remote import Address, RemoteIndex
from cricavpr.index.remote.milvus import KINDS
from cricavpr.index.search import search

QUERIES, TOP = 50, 10
WAIT_S = 300
DEGREE_M = 111_195.0  # of latitude


@dataclass(frozen=True)
class Figures:
    """Measurements of one kind of collection at one size.

    Attributes:
        add_per_s: photos a second, through `add`, with the last of them settled.
        one_ms, slow_ms: median and 95th percentile of a search for one query.
        batch_ms: each query of a batch of all.
        near_ms: median with a filter that leaves a hundredth.
        recall: share of the exact ten best that were found.
        tagged: photos found of the ten best with a tag that a hundredth have, on average; there are more than ten.
        off: largest difference of a score from the exact one.
        rss_mb, disk_mb: of the server, when it has come to rest; `empty_mb` before anything was in it.
    """

    kind: str
    rows: int
    dim: int
    add_per_s: float
    one_ms: float
    slow_ms: float
    batch_ms: float
    near_ms: float
    recall: float
    tagged: float
    off: float
    rss_mb: float
    empty_mb: float
    disk_mb: float


def measure(server: Running, kind: str, sizes: list[int], dim: int) -> list[Figures]:
    """Fill one collection step by step."""
    made_by = MadeBy("drawn", "none", None, "benchmarks/milvus.py", "alone", None, dim)
    vectors = FIT.rows(sizes[-1], dim, 0)
    chosen = np.random.default_rng(1).choice(sizes[0], QUERIES, replace=False)
    queries = DescriptorSet(tuple(map(str, chosen)), FIT.seen_again(vectors[chosen], 2), made_by)
    empty_mb = server.rss_mb()
    index = RemoteIndex.create(Address.parse(f"milvus://{server.at}/{kind}"), made_by, kind)
    done, found = 0, []
    for size in sizes:
        begun = time.perf_counter()
        _add(index, vectors, done, size)
        add_per_s = (size - done) / (time.perf_counter() - begun)
        done = size
        _wait_for_index(server, kind, done)
        found.append(_searched(index, server, kind, vectors[:size], queries, add_per_s, empty_mb))
        print(row_of(found[-1]), file=sys.stderr, flush=True)
    return found


def _add(index: RemoteIndex, vectors: np.ndarray, start: int, end: int) -> None:
    names = tuple(f"{row:07d}.jpg" for row in range(start, end))
    descriptors = DescriptorSet(names, vectors[start:end], index.made_by)
    degrees = np.stack([55 + np.arange(start, end) / DEGREE_M, np.full(end - start, 13.0)], axis=1)  # a metre apart
    tags = [["hundredth"] if row % 100 == 0 else [] for row in range(start, end)]
    index.add(Photos(descriptors, Path("/photos"), Positions.from_latlon(degrees), tags=tags))


def _wait_for_index(server: Running, kind: str, rows: int) -> None:
    """Wait until the final index answers.

    The server seals, indexes and loads by itself, and meanwhile answers from an interim index that finds less.
    """
    import pymilvus

    if KINDS[kind].exact:
        return time.sleep(5)
    pymilvus.connections.connect(server.at, uri=f"http://{server.at}")
    until = time.monotonic() + WAIT_S
    while sum(s.num_rows for s in pymilvus.utility.get_query_segment_info(kind, using=server.at) if s.indexID) < rows:
        if time.monotonic() > until:
            raise RuntimeError(f"{kind}: {rows} photos are not indexed after {WAIT_S} s")
        time.sleep(0.5)
    return None


def _searched(
    index: RemoteIndex,
    server: Running,
    kind: str,
    vectors: np.ndarray,
    queries: DescriptorSet,
    add_per_s: float,
    empty_mb: float,
) -> Figures:
    one = [_one(queries, row) for row in range(len(queries))]
    index.search(queries, TOP)  # warm
    near = Near(LatLon(55 + len(vectors) / 2 / DEGREE_M, 13.0), len(vectors) / 200)
    plain_ms = [_ms(lambda query=query: index.search(query, TOP)) for query in one]
    near_ms = [_ms(lambda query=query: index.search(query, TOP, where=near)) for query in one[:20]]
    batch_ms = _ms(lambda: index.search(queries, TOP)) / len(queries)
    found = index.search(queries, TOP)
    exact = search(vectors, queries.vectors, TOP)
    names = [[int(found.photos.name(row)[:7]) for row in rows] for rows in found.indices.tolist()]
    share = [len({*a} & {*b}) / TOP for a, b in zip(names, exact.indices.tolist(), strict=True)]
    true = np.einsum("qnd,qd->qn", vectors[np.array(names)].astype(np.float64), queries.vectors.astype(np.float64))
    tagged = index.search(queries, TOP, where=Tagged("hundredth")).indices
    return Figures(
        kind,
        len(vectors),
        vectors.shape[1],
        add_per_s,
        float(np.median(plain_ms)),
        float(np.quantile(plain_ms, 0.95)),
        batch_ms,
        float(np.median(near_ms)),
        float(np.mean(share)),
        float((tagged >= 0).sum(axis=1).mean()),
        float(np.abs(true - found.scores).max()),
        server.rss_mb(),
        empty_mb,
        server.disk_mb(),
    )


def _one(queries: DescriptorSet, row: int) -> DescriptorSet:
    return DescriptorSet(queries.names[row : row + 1], queries.vectors[row : row + 1], queries.made_by)


def _ms(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return 1000 * (time.perf_counter() - begun)


HEAD = """\
| kind | photos | added a second | one query, median ms | 95 % ms | each of a batch of 50, ms | near, ms | recall@10 \
| found of 10 with a tag | score off by | server's memory, MB | on disk, MB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def row_of(one: Figures) -> str:
    return (
        f"| {one.kind} | {one.rows:,} | {one.add_per_s:,.0f} | {one.one_ms:.1f} | {one.slow_ms:.1f} "
        f"| {one.batch_ms:.2f} | {one.near_ms:.1f} | {one.recall:.3f} | {one.tagged:.1f} | {one.off:.0e} "
        f"| {one.rss_mb:,.0f} | {one.disk_mb:,.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the server; may be deleted afterwards")
    parser.add_argument("--rows", type=int, nargs="+", default=[5000, 10_000, 20_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kinds", nargs="+", default=["flat", "ivf", "hnsw"])
    given = parser.parse_args()
    found: list[Figures] = []
    for kind in given.kinds:  # each has a server of its own, so that its memory is its own
        with running(given.folder) as server:
            found += measure(server, kind, sorted(given.rows), given.dim)
    print(
        f"{given.dim} values a descriptor, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}. An empty server takes"
    )
    print(f"{min(one.empty_mb for one in found):,.0f} MB.\n")
    print("\n".join([HEAD, *map(row_of, found)]))


if __name__ == "__main__":
    main()
