"""A million descriptors in half a gigabyte: what search costs, and what it finds, next to exact search.

Run: python benchmarks/million.py run --folder SCRATCH [--rows 1000000] [--dim 4096] [--queries 200]. The folder takes
rows x dim x 2 bytes (8.2 GB) and may be deleted afterwards; an interrupted run goes on where it stopped. Prints
Markdown.

The descriptors are drawn, not described: Gaussian with the spectrum of real ones, of unit length, without clusters. A
query is a row turned towards noise until their cosine is that of two photos of one place. `FIT` says what was measured
on cricavpr-tiny's descriptors of a town it was not trained on; `python benchmarks/million.py fit` measures it again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.index.engines import (
    CodesOf,
    CompressedEngine,
    ExactEngine,
    Quantiser,
    Rows,
    read_codes,
    write_codes,
)
from cricavpr.index.engines.compressed import SHORTLIST
from cricavpr.index.engines.tuning import recalls
from cricavpr.mapped import give_back

AT_ONCE = 4096  # rows drawn at a time, each block from a seed of its own


@dataclass(frozen=True)
class Fit:
    """How descriptors of places spread.

    Attributes:
        decay: of the variances along principal directions: variance k is exp(-decay * sqrt(k)), k from 1.
        noise_decay: the same of what changes between two photos of one place.
        cosines: of descriptors of two photos of one place: quantiles 0, 0.1, .. 1.
    """

    decay: float
    noise_decay: float
    cosines: tuple[float, ...]

    def rows(self, count: int, dim: int, seed: int) -> NDArray[np.float32]:  # (count, dim) of unit length
        """Rows as of a database."""
        return _drawn(np.random.default_rng(seed), count, dim, self.decay)

    def seen_again(self, rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:  # (n, D) -> (n, D)
        """Another photo of the place of each row."""
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


def draw(path: Path, count: int, dim: int) -> NDArray[np.float16]:  # (count, dim), memory-mapped
    """The database as a file; what is there already is kept."""
    with path.open("ab") as file:
        done = file.tell() // (2 * dim * AT_ONCE) * AT_ONCE
        file.truncate(2 * dim * done)
        for start in range(done, count, AT_ONCE):
            FIT.rows(min(AT_ONCE, count - start), dim, start).astype("<f2").tofile(file)
            print(f"\r{start:,} of {count:,} rows drawn", end="", file=sys.stderr, flush=True)
    return np.memmap(path, "<f2", "r", shape=(count, dim))


MADE_BY = MadeBy("drawn", "none", None, "benchmarks/million.py", "alone", None, 4096)
SEGMENT = "drawn"  # stands for the checksum that a store gives a segment


@dataclass(frozen=True)
class Folder:
    """Where everything of a run lies."""

    path: Path
    count: int
    dim: int

    @property
    def quantiser(self) -> Path:
        return self.path / "quantiser"

    @property
    def codes(self) -> Path:
        return self.path / "codes"

    @property
    def queries(self) -> Path:
        return self.path / "queries.npy"

    @property
    def made_by(self) -> MadeBy:
        return replace(MADE_BY, dim=self.dim)

    def vectors(self) -> NDArray[np.float16]:
        return np.memmap(self.path / "vectors.f16", "<f2", "r", shape=(self.count, self.dim))


def build(folder: Folder) -> str:
    """Learn a quantiser and code all rows; what it took."""
    rows = Rows((folder.vectors(),))
    learnt = _Clock()
    quantiser = Quantiser.learn(rows, folder.made_by)
    learnt.stop()
    coded = _Clock()
    parts = []
    for start in range(0, folder.count, AT_ONCE):
        parts.append(quantiser.encode(rows.parts[0][start : start + AT_ONCE]))
        give_back(rows.parts[0])
    owner = CodesOf.segment_by(SEGMENT, folder.count, quantiser)
    write_codes(folder.codes, np.concatenate(parts), owner)
    coded.stop()
    quantiser.save(folder.quantiser)
    rate, cpu_rate = folder.count / coded.wall_s, folder.count / coded.cpu_s
    return (
        f"| learning the quantiser, once | {learnt.wall_s:.0f} s ({learnt.cpu_s:.0f} s of CPU) |\n"
        f"| coding and writing codes | {rate:,.0f} descriptors/s ({cpu_rate:,.0f} per second of CPU) |"
    )


def exact_answers(folder: Folder, queries: NDArray[np.float32]) -> NDArray[np.int64]:  # (Q, 10)
    """By exact search over the whole file; it is read once for all queries."""

    def report(done: int, of: int) -> None:
        print(f"\rexact search: {done:,} of {of:,} rows", end="", file=sys.stderr, flush=True)

    return ExactEngine(Rows((folder.vectors(),))).search(queries, 10, report=report).indices


def flat_agrees(folder: Folder, queries: NDArray[np.float32], count: int = 50_000) -> str:
    """faiss Flat and our exact engine over the first rows, which fit into memory in float32."""
    import faiss

    count = min(count, folder.count)
    some = folder.vectors()[:count]
    flat = faiss.IndexFlatIP(folder.dim)
    flat.add(np.asarray(some, np.float32))
    theirs = _Clock()
    right = flat.search(queries, 10)[1]
    theirs.stop()
    ours = _Clock()
    found = ExactEngine(Rows((some,))).search(queries, 10).indices
    ours.stop()
    return (
        f"| {count:,} rows, all {len(queries)} queries at once: faiss Flat in memory, exact engine from the file | "
        f"{theirs.cpu_s:.1f} s and {ours.cpu_s:.1f} s of CPU; {recalls(found, right)[1]:.2%} of the ten best the same |"
    )


def searching(folder: Folder, exact: NDArray[np.int64], shortlist: int) -> str:
    """In a process of its own: opening, one query after another, and adding one descriptor."""
    queries = np.load(folder.queries)
    opening = _Clock()
    rows = Rows((folder.vectors(),))
    quantiser = Quantiser.load(folder.quantiser, folder.made_by)
    codes = read_codes(folder.codes, CodesOf.segment_by(SEGMENT, folder.count, quantiser), quantiser.code_bytes)
    engine = CompressedEngine(rows, quantiser, [codes], shortlist)
    del codes
    opening.stop()
    for query in queries:  # once round, so that the file's pages are where they would be in use
        engine.search(query[None], 10)
    found, clocks = [], []
    for query in queries:
        clock = _Clock()
        found.append(engine.search(query[None], 10).indices[0])
        clocks.append(clock.stop())
    first, ten = recalls(np.stack(found), exact)
    wall_ms = 1000 * np.array([clock.wall_s for clock in clocks])
    cpu_ms = 1000 * np.array([clock.cpu_s for clock in clocks])
    cells = [
        str(shortlist),
        f"{first:.1%}",
        f"{ten:.2%}",
        f"{wall_ms.min():.1f}, {np.median(wall_ms):.1f}, {np.percentile(wall_ms, 95):.1f}",
        f"{np.median(cpu_ms):.1f}",
        f"{opening.wall_s:.2f} ({opening.cpu_s:.2f})",
        _resident(),
        _added(folder, engine),
    ]
    return "| " + " | ".join(cells) + " |"


COLUMNS = (
    "shortlist",
    "R@1",
    "R@10",
    "one query, ms: fastest, p50, p95",
    "CPU p50, ms",
    "opening, s (CPU)",
    "MB: own, of files, peak",
    "adding one, ms (CPU)",
)


def _added(folder: Folder, engine: CompressedEngine) -> str:
    clocks = []
    for number in range(5):
        vector = FIT.rows(1, folder.dim, 10**9 + number)
        clock = _Clock()
        codes = engine.quantiser.encode(vector)
        owner = CodesOf.segment_by(f"added {number}", 1, engine.quantiser)
        write_codes(folder.path / f"codes-{number}", codes, owner)
        engine = engine.extended(Rows((*engine.rows.parts, vector)), codes)
        clocks.append(clock.stop())
        assert engine.search(vector, 1).indices[0, 0] == folder.count + number
        (folder.path / f"codes-{number}").unlink()
    wall_ms, cpu_ms = (1000 * np.median([getattr(c, f"{kind}_s") for c in clocks]) for kind in ("wall", "cpu"))
    return f"{wall_ms:.0f} ({cpu_ms:.0f})"


class _Clock:
    """Seconds on the wall, and of this process's threads on a CPU: others' work slows the first and not the second."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()
        self.wall_s = self.cpu_s = 0.0

    def stop(self) -> _Clock:
        self.wall_s, self.cpu_s = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
        return self


def _resident() -> str:
    """RssAnon, RssFile and VmHWM."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return ", ".join(f"{int(status[key].split()[0]) * 1024 / 1e6:.0f}" for key in ("RssAnon", "RssFile", "VmHWM"))


def run(arguments: argparse.Namespace) -> None:
    folder = Folder(arguments.folder, arguments.rows, arguments.dim)
    folder.path.mkdir(parents=True, exist_ok=True)
    vectors = draw(folder.path / "vectors.f16", folder.count, folder.dim)
    chosen = np.sort(np.random.default_rng(5).choice(folder.count, arguments.queries, replace=False))
    queries = FIT.seen_again(vectors[chosen].astype(np.float32), 77)
    np.save(folder.queries, queries)
    print(f"{folder.count:,} x {folder.dim} in float16, {arguments.queries} queries, load {os.getloadavg()[0]:.1f}, ")
    print(f"{len(os.sched_getaffinity(0))} cores, numpy {np.__version__}\n\n| what | measured |\n|---|---|")
    print(build(folder), flush=True)
    exact = exact_answers(folder, queries)
    np.save(folder.path / "exact.npy", exact)
    print(flat_agrees(folder, queries), flush=True)
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---:|' * len(COLUMNS)}", flush=True)
    for shortlist in arguments.shortlist:
        again = [sys.executable, __file__, "search", "--folder", str(folder.path), "--shortlist", str(shortlist)]
        subprocess.run([*again, "--rows", str(folder.count), "--dim", str(folder.dim)], check=True)


def fit(arguments: argparse.Namespace) -> None:
    """Describe a town and print what `FIT` says of it."""
    from cricavpr import Grouping, load_method, open_dataset
    from cricavpr.datasets.town.write import make_town
    from cricavpr.describing import describe

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running, again = verbs.add_parser("run"), verbs.add_parser("search", help="the last part of `run` by itself")
    for one in (running, again):
        one.add_argument("--folder", type=Path, required=True)
        one.add_argument("--rows", type=int, default=1_000_000)
        one.add_argument("--dim", type=int, default=4096)
    running.add_argument("--queries", type=int, default=200)
    running.add_argument("--shortlist", type=int, nargs="+", default=[100, 200, SHORTLIST, 2 * SHORTLIST])
    again.add_argument("--shortlist", type=int, default=SHORTLIST)
    fitting = verbs.add_parser("fit")
    fitting.add_argument("--seed", type=int, default=9100)
    fitting.add_argument("--places", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.verb == "search":
        folder = Folder(arguments.folder, arguments.rows, arguments.dim)
        print(searching(folder, np.load(folder.path / "exact.npy"), arguments.shortlist))
    else:
        {"run": run, "fit": fit}[arguments.verb](arguments)


if __name__ == "__main__":
    main()
