"""Your own city: recall on photos that were kept apart, before and after fine-tuning on the others.

Every second photo is the database and what is learnt from; the others are queries, and no step sees them.

Run: python benchmarks/fine_tune.py FOLDER --radius-m 20 --minutes 5 [--seeds 0,1,2] [--apart-m 10 --place-radius-m 15]
     [--set step.places=4] [--out RUNS]. Prints Markdown. --steps N fixes the steps; --minutes goes by the pace
     of 60 others.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from cricavpr import EvalDataset, EvalResult, Grouping, ImageSet, evaluate, load_method, read_photos
from cricavpr.datasets.place_folder import PlaceRule, places_from_positions, read_headings, write_places
from cricavpr.methods.base import Method
from cricavpr.schema import read_recipe
from cricavpr.training.recipe import Recipe, changed, read_settings
from cricavpr.training.train import Machine, train

RECIPE = Path(__file__).parents[1] / "recipes" / "finetune_own_city.toml"
GROUPINGS = ("alone", "in_order:16", "shuffled:16:0")
RECALLS = (1, 5)
PACE_STEPS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--radius-m", type=float, default=25.0, help="a match this near is right (default: 25)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="default: the recipe's")
    length.add_argument("--minutes", type=float)
    parser.add_argument("--seeds", default="0", help="such as 0,1,2 (default: 0)")
    rule = PlaceRule()
    parser.add_argument("--apart-m", type=float, default=rule.apart_m, help="as for `cricavpr places build`")
    parser.add_argument("--place-radius-m", type=float, default=rule.radius_m, help="its --radius-m")
    parser.add_argument("--heading-deg", type=float, default=rule.heading_deg)
    parser.add_argument("--min-images", type=int, default=2, help="default: 2")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    arguments = parser.parse_args()

    photos, unusable = read_photos(arguments.folder, need_positions=True)
    known, asked = photos.take(range(0, len(photos), 2)), photos.take(range(1, len(photos), 2))
    dataset = EvalDataset.within_radius(arguments.folder.name, known, asked, arguments.radius_m)
    rule = PlaceRule(arguments.apart_m, arguments.place_radius_m, arguments.heading_deg, arguments.min_images)
    recipe = changed(read_recipe(RECIPE, Recipe), read_settings(arguments.set))

    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        recipe = changed(recipe, {"data.disk.path": str(places_file(known, rule, out))})
        steps = arguments.steps or recipe.steps
        if arguments.minutes:
            steps = max(1, int(60 * arguments.minutes / pace_s(recipe, out / "pace")))
        recipe = shortened(recipe, steps)
        rows = [("as shipped", recalls(load_method("cricavpr-tiny"), dataset))]
        for seed in map(int, arguments.seeds.split(",")):
            began = time.monotonic()
            run = out / f"seed-{seed}"
            train(replace(recipe, seed=seed), run, Machine(quiet=True))
            minutes = (time.monotonic() - began) / 60
            weights = str(run / "last.safetensors")
            rows.append((f"seed {seed}, {minutes:.1f} min", recalls(load_method("cricavpr-tiny", weights), dataset)))

    print(
        f"\n{len(known)} photos learnt from and searched, {len(asked)} queries kept apart, "
        f"{len(unusable)} photos that could not be used. {steps} steps of {recipe.step.places} places with "
        f"{recipe.step.images_per_place} images. R@{' / R@'.join(map(str, RECALLS))} in %.\n"
    )
    print(f"| weights | {' | '.join(GROUPINGS)} |\n|:--|{'--:|' * len(GROUPINGS)}")
    for name, results in rows:
        cells = (" / ".join(f"{100 * result.recall_at[n]:.1f}" for n in RECALLS) for result in results)
        print(f"| {name} | {' | '.join(cells)} |")


def places_file(photos: ImageSet, rule: PlaceRule, out: Path) -> Path:
    """What `cricavpr places build` makes of these photos, in a file; says how many places there are."""
    found = places_from_positions(photos, rule, read_headings(photos))
    file = out / "places.json"
    write_places(found, file, photos.root.name)
    print(f"{len(found)} places from {found.used} of {len(photos)} photos")
    return file


def pace_s(recipe: Recipe, folder: Path) -> float:
    """Seconds from one step to the next, on average over some that are thrown away."""
    train(shortened(recipe, PACE_STEPS), folder, Machine(quiet=True))
    rows = [json.loads(line) for line in (folder / "speed.jsonl").read_text().splitlines()]
    first, *_, last = (row for row in rows if "images_per_s" in row)
    return float((last["elapsed_s"] - first["elapsed_s"]) / (last["step"] - first["step"]))


def shortened(recipe: Recipe, steps: int) -> Recipe:
    warmup = min(recipe.schedule.warmup_steps, steps // 10)
    return replace(recipe, steps=steps, epochs=0, schedule=replace(recipe.schedule, warmup_steps=warmup))


def recalls(method: Method, dataset: EvalDataset) -> list[EvalResult]:
    return [evaluate(method, dataset, Grouping.parse(grouping), recall_ns=RECALLS) for grouping in GROUPINGS]


if __name__ == "__main__":
    main()
