"""Cost of re-ranking: time for each photo, pair and query, disk space for each photo, and peak memory.

Run: python benchmarks/reranking.py [--queries 200] [--candidates 100] [--size 480x640] [--only patch_netvlad-speed].
Weights are random: the networks cost the same, and fewer patches match than with trained weights. Candidates are drawn
at random. Each row runs in its own process, to measure its memory. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cricavpr import load_method, open_dataset
from cricavpr.index.search import Predictions
from cricavpr.methods.base import TwoStageMethod
from cricavpr.reranking import rerank
from cricavpr.town.write import make_town

ROWS = {  # label: method and settings
    "patch_netvlad": ("patch_netvlad", {}),
    "patch_netvlad, rapid": ("patch_netvlad", {"matcher": "rapid"}),
    "patch_netvlad-speed": ("patch_netvlad-speed", {}),
    "patch_netvlad-speed, RANSAC": ("patch_netvlad-speed", {"matcher": "ransac"}),
    "patch_netvlad-storage": ("patch_netvlad-storage", {}),
    "transvpr": ("transvpr", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--size", default="480x640", help="height x width in pixels")
    parser.add_argument("--only", action="append", choices=ROWS, help="may be given several times")
    parser.add_argument("--row", nargs=2, metavar=("LABEL", "DATA"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measured(arguments.row[0], Path(arguments.row[1]), arguments)))
        return
    print(f"{arguments.queries} queries x {arguments.candidates} candidates at {arguments.size} px, random weights,")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| method | s/photo | MB/photo | ms/pair | s/query | most memory GB | of it before the first photo |")
    print("|--------|--------:|---------:|--------:|--------:|---------------:|-----------------------------:|")
    with tempfile.TemporaryDirectory() as folder:
        places = max(arguments.queries, arguments.candidates)
        make_town(Path(folder), 9001, places, "utm", image_size=_size(arguments.size), workers=2)
        for label in arguments.only or ROWS:
            passed = ["--queries", str(arguments.queries), "--candidates", str(arguments.candidates)]
            command = [sys.executable, __file__, *passed, "--size", arguments.size, "--row", label, folder]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            cells = [
                f"{row[0]:.2f}",
                f"{row[1]:.2f}",
                f"{row[2]:.1f}",
                f"{row[3]:.2f}",
                f"{row[4]:.2f}",
                f"{row[5]:.2f}",
            ]
            print("| " + " | ".join([label, *cells]) + " |", flush=True)


def measured(label: str, data: Path, arguments: argparse.Namespace) -> tuple[float, ...]:
    """Return seconds and MB for a photo, milliseconds for a pair, seconds for a query, and GB of memory."""
    name, settings = ROWS[label]
    method = load_method(name, "random:0", image_size=_size(arguments.size), **settings)
    assert isinstance(method, TwoStageMethod)
    before = _peak_gb()
    dataset, _ = open_dataset(data)
    queries = dataset.queries.take(np.arange(arguments.queries))
    rng = np.random.default_rng(0)
    rows = [rng.permutation(len(dataset.database))[: arguments.candidates] for _ in range(len(queries))]
    first = Predictions(np.stack(rows), np.zeros((len(queries), arguments.candidates), np.float32))
    marks = [time.perf_counter()]
    photos = len(np.unique(first.indices)) + len(queries)

    def told(done: int, total: int) -> None:
        if done == total and len(marks) == 1 and total == photos:
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as cache:
        rerank(method, dataset.database, queries, first, Path(cache), arguments.candidates, workers=0, progress=told)
        marks.append(time.perf_counter())
        kept = sum(path.stat().st_size for path in Path(cache).rglob("*.safetensors"))
    finding, comparing = np.diff(marks)
    return (
        finding / photos,
        kept / photos / 1e6,
        1000 * comparing / first.indices.size,
        comparing / len(queries),
        _peak_gb(),
        before,
    )


def _peak_gb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


if __name__ == "__main__":
    main()
