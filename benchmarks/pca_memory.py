"""How much memory fitting a PCA takes: made-up descriptors of CricaVPR's size on disk, 10752 to 4096 values.

Run: python benchmarks/pca_memory.py [--count 12000] [--dim 10752] [--to 4096]. Prints one Markdown row. Memory is the
most that the process held, mapped pages included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cricavpr.pca import principal_directions

ROWS_AT_ONCE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--dim", type=int, default=10_752)
    parser.add_argument("--to", type=int, default=4096)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        vectors = np.lib.format.open_memmap(Path(folder) / "v.npy", "w+", np.float32, (given.count, given.dim))
        dice = np.random.default_rng(0)
        scale = np.exp(-np.arange(given.dim) / given.dim * 4).astype(np.float32)
        for start in range(0, given.count, ROWS_AT_ONCE):
            rows = dice.standard_normal((min(ROWS_AT_ONCE, given.count - start), given.dim), np.float32) * scale
            vectors[start : start + len(rows)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        vectors.flush()
        del vectors
        found = np.load(Path(folder) / "v.npy", mmap_mode="r")
        started = time.perf_counter()
        principal_directions(found, given.to)
        taken_s = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    print("| descriptors | dim | to | fit (s) | peak memory (GB) |\n|---:|---:|---:|---:|---:|")
    print(f"| {given.count:,} | {given.dim} | {given.to} | {taken_s:.0f} | {peak_gb:.2f} |")


if __name__ == "__main__":
    main()
