"""The training loop, visible: pictures of towns in, a CricaVPR weights file out.

Run it with `python -m cricavpr.training.train recipes/cricavpr_tiny_town.toml --out FOLDER`. Letters: P places,
K pictures of each, B = P K images in a step, D dimension.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from cricavpr.config import read_recipe
from cricavpr.images import IMAGENET_MEAN, IMAGENET_STD
from cricavpr.methods.cricavpr import Settings
from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig
from cricavpr.models.vit import BACKBONES
from cricavpr.models.weights import save_weights
from cricavpr.training.losses import MultiSimilarity
from cricavpr.training.pictures import Pictures, TownPictures, render_test, render_towns


@dataclass(frozen=True)
class Network:
    """The network to train, by the name of its backbone; the rest as in `CricaVPRConfig`."""

    backbone: str
    encoder_heads: int
    encoder_ffn: int
    dropout: float


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out of a training run.

    Attributes:
        group_sizes: one is drawn for each step; members of a group are drawn across places, since a group that is
            one place would give the label away.
        mirror: show half of the places of a step mirrored, all pictures of a place alike: other places, for free.
    """

    pictures: TownPictures
    validation_seed: int
    validation_places: int
    network: Network
    steps: int
    places_per_step: int
    pictures_per_place: int
    group_sizes: tuple[int, ...]
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    mirror: bool
    precision: Literal["bf16", "fp32"]
    seed: int


def config_of(network: Network) -> CricaVPRConfig:
    return CricaVPRConfig(
        backbone=BACKBONES[network.backbone],
        tuning="full",
        encoder_heads=network.encoder_heads,
        encoder_ffn=network.encoder_ffn,
        dropout=network.dropout,
    )


def steps_of(recipe: Recipe, towns: list[Pictures]) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """Endless steps: images (B, 3, H, W), the place of each (B,), and the sizes of its groups."""
    random = np.random.default_rng(recipe.seed)
    catalogue = [(town, place) for town, pictures in enumerate(towns) for place in range(len(pictures))]
    while True:
        order = random.permutation(len(catalogue))
        for start in range(0, len(order) - recipe.places_per_step + 1, recipe.places_per_step):
            chosen = [catalogue[i] for i in order[start : start + recipe.places_per_step]]
            shown = np.stack([_show(towns[town][place], recipe, random) for town, place in chosen])  # (P, K, H, W, 3)
            places = np.repeat(np.arange(len(chosen)), recipe.pictures_per_place)
            mixed = random.permutation(len(places))
            images = to_tensor(shown.reshape(-1, *shown.shape[2:])[mixed])
            yield images, torch.from_numpy(places[mixed]), _groups(len(places), int(random.choice(recipe.group_sizes)))


def _show(views: Pictures, recipe: Recipe, random: np.random.Generator) -> Pictures:  # (V, H, W, 3) -> (K, H, W, 3)
    chosen = views[np.sort(random.choice(len(views), recipe.pictures_per_place, replace=False))]
    return chosen[:, :, ::-1] if recipe.mirror and random.random() < 0.5 else chosen


def _groups(count: int, size: int) -> list[int]:
    whole, rest = divmod(count, size)
    return [size] * whole + [rest] * (rest > 0)


def to_tensor(images: Pictures) -> Tensor:
    """(B, H, W, 3) bytes to the normalised (B, 3, H, W) that the network takes."""
    scaled = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


def rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to zero."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(recipe: Recipe, out: Path, workers: int = 2, every: int = 250) -> CricaVPR:
    """Train, and leave weights.safetensors and log.jsonl in `out`."""
    towns = render_towns(recipe.pictures, out / "pictures", workers)
    held_out = render_test(recipe.validation_seed, recipe.validation_places, recipe.pictures.image_size, workers)
    torch.manual_seed(recipe.seed)
    model = CricaVPR(config_of(recipe.network)).train()
    criterion = MultiSimilarity()
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, recipe.weight_decay), lr=recipe.learning_rate, betas=(0.9, 0.98)
    )
    started = time.monotonic()
    for step, (images, places, groups) in enumerate(steps_of(recipe, towns)):
        if step == recipe.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe)
        descriptors = _forward(model, images, groups, recipe.precision)
        loss, mined = criterion(descriptors, places)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 0:
            _log(
                out, step=step, loss=loss.item(), mined=mined, group_size=groups[0], seconds=time.monotonic() - started
            )
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            _log(out, step=step + 1, **{f"r1_{n}": right_first(model, held_out, n) for n in (1, 16)})
            _save(model, recipe, out / "weights.safetensors", step + 1)
    return model


def _parameter_groups(model: CricaVPR, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, scales and embeddings do not."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name and "token" not in name]
    kept = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in kept]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _forward(model: CricaVPR, images: Tensor, groups: list[int], precision: str) -> Tensor:
    # torch's fused attention is slow backwards on a CPU: a third of the step at this size.
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), sdpa_kernel(SDPBackend.MATH):
        return model(images, groups).float()  # type: ignore[no-any-return]


def right_first(model: CricaVPR, pictures: Pictures, group_size: int) -> float:
    """Share of queries whose most similar database picture shows their place, both in groups in order."""
    model.eval()
    with torch.inference_mode():
        database, queries = (_describe(model, pictures[:, i], group_size) for i in (0, 1))
    model.train()
    return (queries @ database.T).argmax(dim=1).eq(torch.arange(len(queries))).float().mean().item()


def _describe(model: CricaVPR, images: Pictures, group_size: int) -> Tensor:
    parts = torch.split(to_tensor(images), max(1, 64 // group_size) * group_size)
    return torch.cat([model(part, _groups(len(part), group_size)) for part in parts])


def _save(model: CricaVPR, recipe: Recipe, path: Path, steps: int) -> None:
    settings = Settings(model.config, recipe.pictures.image_size, "tensor")
    provenance = {"trained_by": "cricavpr.training.train", "steps": steps, "recipe": asdict(recipe)}
    save_weights(path, model.state_dict(), {**settings.to_dict(), "provenance": provenance}, half=True)


def _log(out: Path, **values: float) -> None:
    line = json.dumps({key: round(value, 4) for key, value in values.items()})
    print(line, file=sys.stderr, flush=True)
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures, weights and log")
    parser.add_argument("--steps", type=int, help="fewer steps than the recipe says, for a trial")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe, Recipe)
    if arguments.steps:
        recipe = replace(recipe, steps=arguments.steps)
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(recipe, arguments.out)


if __name__ == "__main__":
    main()
