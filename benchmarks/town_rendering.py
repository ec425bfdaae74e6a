"""How fast the drawn town is drawn, and how hard it is for a matcher that only compares pixels.

Run from the repository root: `python -m benchmarks.town_rendering`. Takes about two minutes on one core.
`--sheet FILE.png` draws the contact sheet of docs/town.png instead, in seconds.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tests.town.pixel_matcher import recall_at_1

from cricavpr.town import CONDITIONS, Town, render
from cricavpr.town.views import Split

SHEET_SEED, SHEET_PLACES = 5, (36, 63, 117, 171, 198, 207, 432)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workers", type=int, default=1, help="processes for the recall table")
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet here and do nothing else")
    arguments = parser.parse_args()
    if arguments.sheet:
        draw_sheet(arguments.sheet)
        return
    print(f"numpy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores; rendering on one core\n")
    time_layout()
    time_rendering()
    tabulate_recall(arguments.seeds, arguments.places, arguments.workers)


def time_layout() -> None:
    for places in (500, 5000):
        start = time.perf_counter()
        town = Town(1, places)
        seconds = time.perf_counter() - start
        print(f"laying out {places:5d} places: {seconds:4.1f} s, {len(town.plan.houses.key):,} houses")


def time_rendering(pictures: int = 140) -> None:
    """The mixed-condition queries, all conditions alike; the better of two rounds, in processor time."""
    town = Town(1, 200)
    names = list(CONDITIONS)
    views = [town.view(k % 200, k // 200, "query", names[k % len(names)]) for k in range(pictures)]
    for side in (112, 224):
        rounds = []
        for _ in range(2):
            start = time.process_time()
            for view in views:
                render(town, view.camera, view.scene, (side, side))
            rounds.append(time.process_time() - start)
        print(f"drawing {side} x {side}: {pictures / min(rounds):5.0f} pictures/s per core")


def tabulate_recall(seeds: list[int], places: int, workers: int) -> None:
    print(f"\nR@1 of the pixel matcher, {places} places, one database picture and one query each, 25 m\n")
    print("| seed | size | all | " + " | ".join(CONDITIONS) + " |")
    print("|---" * (3 + len(CONDITIONS)) + "|")
    for side in (112, 224):
        for seed in seeds:
            right = recall_at_1(seed, places, (side, side), workers)
            cells = " | ".join(f"{100 * share:.1f}" for share in right.values())
            print(f"| {seed} | {side} | {cells} |", flush=True)


def draw_sheet(path: Path) -> None:
    """Rows are places; columns the database picture, then a query in each condition."""
    town, side, gap = Town(SHEET_SEED, 500), 112, 2
    visits: list[tuple[Split, str | None]] = [("database", None), *(("query", name) for name in CONDITIONS)]
    pixels = np.full((len(SHEET_PLACES) * (side + gap) - gap, len(visits) * (side + gap) - gap, 3), 255, np.uint8)
    for row, place in enumerate(SHEET_PLACES):
        for column, (split, condition) in enumerate(visits):
            view = town.view(place, column, split, condition)
            top, left = row * (side + gap), column * (side + gap)
            pixels[top : top + side, left : left + side] = render(town, view.camera, view.scene, (side, side))
    sheet = Image.fromarray(pixels)
    sheet.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
