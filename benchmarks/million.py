"""Measure cost and recall of an index of a million descriptors with half a gigabyte of memory, against faiss Flat.

Run: python benchmarks/million.py run --folder SCRATCH [--rows 1000000] [--dim 4096] [--dtype float16] [--queries 200]
[--flat]. The folder takes rows x dim x 2 bytes (8.4 GB; twice that with --dtype float32) and may be deleted
afterwards; the same command resumes an interrupted run. --flat also puts all rows into faiss Flat, which takes rows x
dim x 4 bytes of memory. Prints Markdown. Nothing else should run meanwhile, because wall-clock times are printed.

The descriptors are drawn, not described: Gaussian with the spectrum of real ones, of unit length, without clusters. A
query is a row turned towards noise until their cosine is that of two photos of one place. `FIT` says what was measured
on cricavpr-tiny's descriptors of a town it was not trained on; `python benchmarks/million.py fit` measures it again.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.geo import Positions
from cricavpr.index.codes.compressed import CompressedEngine
from cricavpr.index.codes.fast_scan import best_codes
from cricavpr.index.codes.tuning import recalls
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.search import search

AT_ONCE = 4096  # rows drawn at a time, each block from a seed of its own
ADDED_AT_ONCE = 16 * AT_ONCE  # photos of one `add`: half a gigabyte of float16
TOP = 10


@dataclass(frozen=True)
class Fit:
    """Spectrum of descriptors of places.

    Attributes:
        decay: of the variances along principal directions: variance k is exp(-decay * sqrt(k)), k from 1.
        noise_decay: the same for the difference of two photos of one place.
        cosines: of descriptors of two photos of one place: quantiles 0, 0.1, .. 1.
    """

    decay: float
    noise_decay: float
    cosines: tuple[float, ...]

    def rows(self, count: int, dim: int, seed: int) -> NDArray[np.float32]:  # (count, dim) of unit length
        """Draw rows of a database."""
        return _drawn(np.random.default_rng(seed), count, dim, self.decay)

    def seen_again(self, rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:  # (n, D) -> (n, D)
        """Draw another photo of the place of each row."""
        rng = np.random.default_rng(seed)
        noise = _drawn(rng, *rows.shape, self.noise_decay)
        noise -= np.einsum("nd,nd->n", noise, rows)[:, None] * rows
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        places = np.linspace(0, 1, len(self.cosines))
        cosines = np.interp(rng.random(len(rows)), places, self.cosines).astype(np.float32)[:, None]
        return cosines * rows + np.sqrt(1 - cosines**2) * noise


# 1,000 places of town 9100, two photos each at 112 px, cricavpr-tiny (2688-d) alone. Both laws fit the logarithms of
# the first 512 variances with R2 of 0.998 and 0.993.
FIT = Fit(0.1369, 0.1087, (0.030, 0.214, 0.255, 0.286, 0.312, 0.340, 0.367, 0.398, 0.434, 0.485, 0.778))


def _drawn(rng: np.random.Generator, count: int, dim: int, decay: float) -> NDArray[np.float32]:
    from scipy.fft import dct

    spread = np.exp(-0.5 * decay * np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    rows = dct(rng.standard_normal((count, dim), np.float32) * spread, norm="ortho", axis=1, overwrite_x=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows  # type: ignore[no-any-return]


MADE_BY = MadeBy("drawn", "none", None, "benchmarks/million.py", "alone", None, 4096)
ROOT = Path("/photos")


def ids_of(numbers: range) -> list[bytes]:
    return [hashlib.sha256(number.to_bytes(8, "big")).digest() for number in numbers]


def add(index: PlaceIndex, numbers: range, vectors: NDArray[np.float32]) -> PlaceIndex:
    """Add photos 5 m from their neighbours, in rows of a thousand, named by their number."""
    names = tuple(f"{number // 1000:06}/{number % 1000:03}.jpg" for number in numbers)
    metres = np.array([(400_000.0 + 5 * (n % 1000), 6_000_000.0 + 5 * (n // 1000)) for n in numbers])
    described = DescriptorSet(names, vectors, index.made_by)
    return index.add(Photos(described, ROOT, Positions(metres, ("33N",) * len(numbers)), ids=ids_of(numbers))).index


def build(path: Path, count: int, dim: int, dtype: str) -> str:
    """Draw and add missing photos, learn and code; return the time without drawing."""
    made_by = replace(MADE_BY, dim=dim)
    index = PlaceIndex.open(path) if path.exists() else PlaceIndex.create(path, made_by, dtype=dtype)
    rows, took = 0, _Clock()
    took.stop()
    for start in range(len(index), count, ADDED_AT_ONCE):
        numbers = range(start, min(start + ADDED_AT_ONCE, count))
        vectors = np.concatenate([FIT.rows(len(numbers[a : a + AT_ONCE]), dim, start + a) for a in _starts(numbers)])
        adding = _Clock()
        index = add(index, numbers, vectors)
        took, rows = took.and_also(adding.stop()), rows + len(numbers)
        print(f"\r{len(index):,} of {count:,} added", end="", file=sys.stderr, flush=True)
    preparing = _Clock()
    made = index.prepare()
    preparing.stop()
    whole = took.and_also(preparing)
    lines = [_rate("adding to the store, synced", rows, took)] if rows else []
    lines += [_rate("learning the codes once, and coding", count, preparing)] if made else []
    if rows == count and made:
        lines.append(_rate("**build**: both together", rows, whole))
    return "\n".join(lines) or "| the index was there already | |"


def _starts(numbers: range) -> range:
    return range(0, len(numbers), AT_ONCE)


def _rate(what: str, rows: int, took: _Clock) -> str:
    return f"| {what} | {rows / took.wall_s:,.0f} descriptors/s ({rows / took.cpu_s:,.0f} per second of CPU) |"


def exact_answers(index: PlaceIndex, queries: DescriptorSet) -> tuple[NDArray[np.int64], str]:  # (Q, 10)
    """Search exactly; the index is read once for all queries."""
    clock = _Clock()
    found = index.search(queries, TOP, engine="exact").indices
    clock.stop()
    return found, f"| exact search from the index, {len(queries)} queries at once | {clock.wall_s:.0f} s |"


def searching(arguments: argparse.Namespace) -> str:
    """Measure in a new process: opening, one query after another, and adding one photo."""
    folder = arguments.folder
    vectors, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    opening = _Clock()
    index = PlaceIndex.open(folder / "index")
    searcher = index.searcher()
    opening.stop()
    assert searcher.choice.engine == "compressed", searcher.choice
    if arguments.from_disk:
        _forget(index)
    queries = [DescriptorSet(("query.jpg",), vector[None], index.made_by) for vector in vectors]
    rounds = [_round(index, queries, exact) for _ in range(1 if arguments.from_disk else 2)]
    called = "read from the disk" if arguments.from_disk else "the first time"
    lines = [f"| one query, {name}: R@1, R@10; ms: fastest, p50, p95; CPU p50 | {said} |" for name, said in
             zip((called, "again"), rounds, strict=False)]  # fmt: skip
    lines.insert(0, f"| opening | {opening.wall_s:.2f} s ({opening.cpu_s:.2f} s of CPU) |")
    lines.append(f"| memory, MB: own, of files, peak | {_resident()} |")
    lines.append(f"| of a query, comparing codes, ms (CPU) | {_scanned(searcher.engine, vectors)} |")
    return "\n".join(lines if arguments.from_disk else [*lines, *_added(index)])


def _round(index: PlaceIndex, queries: list[DescriptorSet], exact: NDArray[np.int64]) -> str:
    found, clocks = [], []
    for query in queries:
        clock = _Clock()
        found.append(index.search(query, TOP).indices[0])
        clocks.append(clock.stop())
    first, ten = recalls(np.stack(found), exact)
    wall_ms, cpu_ms = (1000 * np.array([getattr(c, f"{kind}_s") for c in clocks]) for kind in ("wall", "cpu"))
    times = f"{wall_ms.min():.1f}, {np.median(wall_ms):.1f}, {np.percentile(wall_ms, 95):.1f}; {np.median(cpu_ms):.1f}"
    return f"{first:.1%}, {ten:.2%}; {times}"


def _scanned(engine: object, vectors: NDArray[np.float32]) -> str:
    assert isinstance(engine, CompressedEngine)
    clocks = []
    for vector in vectors:
        projected, clock = engine.quantiser.project(vector), _Clock()
        best_codes(engine.pieces, projected, engine.shortlist)
        clocks.append(clock.stop())
    return f"{_median_ms(clocks, 'wall'):.1f} ({_median_ms(clocks, 'cpu'):.1f})"


def _forget(index: PlaceIndex) -> None:
    """Drop the files of the index from the page cache."""
    for path in index.path.glob("segment-*"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _added(index: PlaceIndex) -> list[str]:
    adding, finding, before = [], [], len(index)
    for number in range(before, before + 5):
        vector = FIT.rows(1, index.made_by.dim, 10**9 + number)
        clock = _Clock()
        index = add(index, range(number, number + 1), vector)
        adding.append(clock.stop())
        clock = _Clock()
        found = index.search(DescriptorSet(("new.jpg",), vector, index.made_by), 1)
        finding.append(clock.stop())
        assert found.indices[0, 0] == number
    index.remove(ids=ids_of(range(before, before + 5)))
    return [
        f"| {what}, ms (CPU) | {_median_ms(clocks, 'wall'):.0f} ({_median_ms(clocks, 'cpu'):.0f}) |"
        for what, clocks in (("adding one photo, synced", adding), ("finding it in the version that has it", finding))
    ]


def _median_ms(clocks: list[_Clock], kind: str) -> float:
    return float(1000 * np.median([getattr(clock, f"{kind}_s") for clock in clocks]))


def flat(arguments: argparse.Namespace) -> str:
    """Measure faiss Flat over the first rows in a new process: all in memory as float32."""
    import faiss

    folder = arguments.folder
    vectors, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    index = PlaceIndex.open(folder / "index")
    count, dim = min(arguments.flat_rows, len(index)), index.made_by.dim
    clock = _Clock()
    engine = faiss.IndexFlatIP(dim)
    engine.codes.resize(4 * count * dim)  # at once: growing step by step would take twice the memory
    into = faiss.rev_swig_ptr(engine.codes.data(), 4 * count * dim).view(np.float32).reshape(count, dim)
    for start in range(0, count, AT_ONCE):
        into[start : start + AT_ONCE] = index.vectors[start : min(start + AT_ONCE, count)]
    engine.ntotal = count
    clock.stop()
    lines = [f"| faiss Flat: filling it from the index | {clock.wall_s:.0f} s |"]
    one_ms = []
    for query in vectors[:20]:
        clock = _Clock()
        engine.search(query[None], TOP)
        one_ms.append(1000 * clock.stop().wall_s)
    clock = _Clock()
    found = engine.search(vectors, TOP)[1]
    clock.stop()
    lines.append(f"| faiss Flat: one query, p50, ms | {np.median(one_ms):.0f} |")
    lines.append(f"| faiss Flat: {len(vectors)} queries at once | {clock.wall_s:.1f} s |")
    lines.append(f"| faiss Flat: memory, MB: own, of files, peak | {_resident()} |")
    if count == len(index):
        lines.append(f"| of its ten best, those that exact search of the index has | {recalls(found, exact)[1]:.2%} |")
    return "\n".join(lines)


class _Clock:
    """Wall-clock seconds, and CPU seconds of this process, which other processes do not slow."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()
        self.wall_s = self.cpu_s = 0.0

    def stop(self) -> _Clock:
        self.wall_s, self.cpu_s = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
        return self

    def and_also(self, other: _Clock) -> _Clock:
        both = _Clock()
        both.wall_s, both.cpu_s = self.wall_s + other.wall_s, self.cpu_s + other.cpu_s
        return both


def _resident() -> str:
    """Return RssAnon, RssFile and VmHWM."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return ", ".join(f"{int(status[key].split()[0]) * 1024 / 1e6:.0f}" for key in ("RssAnon", "RssFile", "VmHWM"))


def run(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{arguments.rows:,} x {arguments.dim} in {arguments.dtype}, {arguments.queries} queries, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores, numpy {np.__version__}")
    print("\n| what | measured |\n|---|---|")
    print(build(folder / "index", arguments.rows, arguments.dim, arguments.dtype), flush=True)
    index = PlaceIndex.open(folder / "index")
    chosen = np.sort(np.random.default_rng(5).choice(arguments.rows, arguments.queries, replace=False))
    vectors = FIT.seen_again(index.vectors[chosen], 77)
    np.save(folder / "queries.npy", vectors)
    queries = DescriptorSet(tuple(f"{row}.jpg" for row in chosen.tolist()), vectors, index.made_by)
    exact, said = exact_answers(index, queries)
    np.save(folder / "exact.npy", exact)
    print(said, flush=True)
    tuning = index.tune()
    del index
    gc.collect()
    for again in (["search"], ["search", "--from-disk"], *([["flat"]] if arguments.flat else [])):
        subprocess.run([sys.executable, __file__, *again, "--folder", str(folder)], check=True)
    print(f"\n`index tune` on it:\n\n{tuning}")


def fit(arguments: argparse.Namespace) -> None:
    """Describe a town and print its `FIT`."""
    from cricavpr import Grouping, load_method, open_dataset
    from cricavpr.describing import describe
    from cricavpr.town.write import make_town

    with tempfile.TemporaryDirectory() as place:
        make_town(place, arguments.seed, arguments.places, "utm", image_size=(112, 112), workers=2)
        dataset, _ = open_dataset(Path(place))
        method, alone = load_method("cricavpr-tiny"), Grouping.parse("alone")
        sides = [describe(method, side, alone).descriptors.vectors for side in (dataset.database, dataset.queries)]
    database, queries = (side.astype(np.float64) for side in sides)
    same = database[[int(positives[0]) for positives in dataset.positives]]
    centred = np.concatenate([database, queries]) - np.concatenate([database, queries]).mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    cosines = np.einsum("nd,nd->n", queries, same)
    changes = ((queries - cosines[:, None] * same) @ directions.T) ** 2
    for name, variances in (("decay", lengths**2), ("noise_decay", changes.mean(axis=0))):
        root, logs = np.sqrt(np.arange(1, 513)), np.log(variances[:512])
        slope, start = np.polyfit(root, logs, 1)
        explained = 1 - (logs - slope * root - start).var() / logs.var()
        print(f"{name} {-slope:.4f} (R2 {explained:.3f})")
    print("cosines", np.quantile(cosines, np.linspace(0, 1, 11)).round(3).tolist())
    rounded = sides[0].astype(np.float16).astype(np.float32)
    first, ten = recalls(search(rounded, sides[1], TOP).indices, search(sides[0], sides[1], TOP).indices)
    print(f"stored as float16: {first:.2%} of the first matches and {ten:.2%} of the ten best are the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("--rows", type=int, default=1_000_000)
    running.add_argument("--dim", type=int, default=4096)
    running.add_argument("--dtype", default="float16")
    running.add_argument("--queries", type=int, default=200)
    running.add_argument("--flat", action="store_true", help="next to faiss Flat over all rows")
    again = verbs.add_parser("search", help="the searches of `run` by themselves")
    again.add_argument("--from-disk", action="store_true", help="with nothing of the vectors in memory")
    other = verbs.add_parser("flat", help="faiss Flat by itself")
    other.add_argument("--flat-rows", type=int, default=1_000_000, help="how many of the rows it takes")
    for one in (running, again, other):
        one.add_argument("--folder", type=Path, required=True)
    fitting = verbs.add_parser("fit")
    fitting.add_argument("--seed", type=int, default=9100)
    fitting.add_argument("--places", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.verb in ("search", "flat"):
        print({"search": searching, "flat": flat}[arguments.verb](arguments), flush=True)
    else:
        {"run": run, "fit": fit}[arguments.verb](arguments)


if __name__ == "__main__":
    main()
