"""What a training step costs in time and memory, against the authors' way of doing it; and what micro-batches change.

Run: python benchmarks/training.py [--network vitb14 --places 72 --image-size 224] [--only NAME ...]
     python benchmarks/training.py --micro-batches

Each way has a fresh process of its own. The authors' way is fp32 and keeps everything; ratios are of CPU seconds of one
run, alternating, the best of several, since the clock on the wall says little on a shared machine. Peak memory is the
process's, less what it had with network and images in place (torch itself, some 0.4 GB), and whole.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cricavpr.training.data import StepData
    from cricavpr.training.learning import Learner

CHECKPOINTED = {"activation_checkpointing": True}
WAYS: dict[str, dict[str, Any]] = {
    "authors": {},
    "checkpointing": CHECKPOINTED,
    "bf16": {"precision": "bf16"},
    "bf16+checkpointing": CHECKPOINTED | {"precision": "bf16"},
    "micro_batch": {"micro_batch": 16},
    "micro_batch+bf16": {"micro_batch": 16, "precision": "bf16"},
}


def measured(way: str, network: str, places: int, image_size: int, steps: int, group_size: int) -> dict[str, float]:
    """Seconds of the best step and peak GB, in this process: see `in_a_child`."""
    import torch

    from cricavpr.models.vit import BACKBONES
    from cricavpr.schema import build
    from cricavpr.training.data import StepData
    from cricavpr.training.learning import make_learner
    from cricavpr.training.recipe import Recipe

    small = {"encoder_heads": BACKBONES[network].width // 48, "encoder_ffn": 256} if network in ("tiny", "nano") else {}
    values: dict[str, Any] = {
        "image_size": [image_size, image_size],
        "steps": 1,
        "data": {"town": {"seeds": [1], "places": places, "views": 4}},
        "network": {"backbone": network, **small},
        "step": {"places": places, "group_sizes": [group_size], **WAYS[way]},
    }
    recipe = build(Recipe, values, "the benchmark")
    learner = make_learner(recipe, _Labels(), torch.device("cpu"))  # type: ignore[arg-type]
    count = recipe.step.images
    images = torch.randint(0, 256, (count, image_size, image_size, 3), dtype=torch.uint8)
    labels = torch.arange(places).repeat_interleave(4)
    data = StepData(images, labels, group_size, (), torch.arange(count))
    before = peak_gb()
    best_s, best_cpu_s = float("inf"), float("inf")
    for _ in range(steps):
        started, started_cpu = time.perf_counter(), time.process_time()
        take_step(learner, data)
        best_s = min(best_s, time.perf_counter() - started)
        best_cpu_s = min(best_cpu_s, time.process_time() - started_cpu)
    return {"step_s": best_s, "cpu_s": best_cpu_s, "peak_gb": peak_gb(), "before_gb": before, "images": count}


def take_step(learner: Learner, data: StepData, rate: float = 1e-4) -> float:
    """Take one step, as the training loop does; return the loss."""
    learner.optimizer.zero_grad()
    described = learner.describe(data)
    loss = learner.loss(described, data)
    learner.backward(loss, described)
    learner.update(rate)
    return loss.loss.item()


class _Labels:
    """A data set of which the step needs nothing but that it is there."""

    places = ()


def peak_gb() -> float:
    """The most that this process had in memory. Not `ru_maxrss`, which a child inherits from its parent."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def in_a_child(way: str, args: argparse.Namespace) -> dict[str, float]:
    given = ["--network", args.network, "--places", args.places, "--image-size", args.image_size]
    given += ["--steps", args.steps, "--group-size", args.group_size, "--child", way]
    done = subprocess.run([sys.executable, __file__, *map(str, given)], stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def table(args: argparse.Namespace) -> None:
    ways = args.only or list(WAYS)
    found: dict[str, dict[str, float]] = {}
    for _ in range(args.rounds):
        for way in ways:
            figures = in_a_child(way, args)
            best = found.setdefault(way, figures)
            best |= {name: min(best[name], figures[name]) for name in ("step_s", "cpu_s")}
    first = found[ways[0]]
    print(
        f"{args.network} at {args.image_size} px, {first['images']} images a step, groups of {args.group_size or 'all'}"
    )
    print(f"| way | s/step | CPU s/step | speed / {ways[0]} | peak GB | of it the step's | step's / {ways[0]} |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    for way, now in found.items():
        speed = first["cpu_s"] / now["cpu_s"]
        own, base = (figures["peak_gb"] - figures["before_gb"] for figures in (now, first))
        times = f"{now['step_s']:.2f} | {now['cpu_s']:.2f} | {speed:.2f}"
        print(f"| {way} | {times} | {now['peak_gb']:.2f} | {own:.2f} | {own / base:.2f} |", flush=True)


# ---- what micro-batches change ---------------------------------------------------------------------------------


def micro_batches(sizes: list[int], warm: int, steps: int) -> None:
    """Drawn towns, the nano network with MulConv adapters: one step's loss and gradient, then a short training."""
    import torch

    from cricavpr.schema import build
    from cricavpr.training.data import Steps, open_places
    from cricavpr.training.learning import make_learner
    from cricavpr.training.recipe import Recipe, changed

    values = {
        "image_size": [56, 56],
        "steps": warm + steps,
        "data": {"town": {"seeds": [1, 2], "places": 60, "views": 8}, "augment": "mirror"},
        "network": {"backbone": "nano", "tuning": "full", "encoder_heads": 4, "encoder_ffn": 128, "init": "default"},
        "step": {"places": 16, "group_sizes": [16]},
        "optimizer": {"name": "adamw", "rate": 5e-4, "clip": 1.0},
    }
    recipe = build(Recipe, values, "the benchmark")
    print(f"{recipe.step.images} images a step; measured after {warm} plain steps, then {steps} steps each")
    print("| images in batch norm | loss of the step | gradient: distance / length | mean loss of the last quarter |")
    print("|:--|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        places = open_places(recipe, Path(folder), 1)
        exact: torch.Tensor | None = None
        for size in [0, *sizes]:
            whole = make_learner(recipe, places, torch.device("cpu"))
            divided = replace(whole, step=changed(recipe, {"step.micro_batch": size}).step)
            losses = []
            for number, data in enumerate(Steps(recipe, places).read(0, 0)):
                torch.manual_seed(number)
                losses.append(take_step(whole if number < warm else divided, data, 5e-4))
                if number == warm:
                    grads = [p.grad.flatten() for _, p in whole.named_parameters() if p.grad is not None]
                    gradient = torch.cat(grads)
            exact = gradient if exact is None else exact
            away = (gradient - exact).norm() / exact.norm()
            late = losses[-steps // 4 :]
            print(
                f"| {size or 'all'} | {losses[warm]:.4f} | {away:.3f} | {sum(late) / len(late):.4f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="tiny")
    parser.add_argument("--places", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--group-size", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2, help="in each process; the best counts")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each way; the best counts")
    parser.add_argument("--only", nargs="+", choices=WAYS, metavar="WAY", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--micro-batches", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.micro_batches:
        micro_batches([32, 16, 8, 4], warm=40, steps=80)
    elif args.child:
        sizes = (args.places, args.image_size, args.steps, args.group_size)
        print(json.dumps(measured(args.child, args.network, *sizes)))
    else:
        table(args)


if __name__ == "__main__":
    main()
