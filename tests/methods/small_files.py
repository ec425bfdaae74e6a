"""Files in the authors' form with networks so small that a test can afford many."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cricavpr.models import boq, salad, transvpr
from cricavpr.models.vit import ViTConfig

GOLDEN = Path(__file__).parents[1] / "golden"
VIT = ViTConfig(64, 2, 1, grid=4)
SALAD = salad.SaladConfig(VIT, clusters=3, cluster_width=8, scene_width=5, hidden=16)
TRANSVPR = transvpr.TransVPRConfig((4, 6, 8, 10), (16, 16, 16, 16), depth=4, ffn=32, dim=12)

SMALL = {  # network, names of the authors' entries, how they are called here
    "salad": (lambda: salad.Salad(SALAD), "salad_dinov2_vitb14", salad.from_authors_names),
    "megaloc": (lambda: salad.Salad(replace(SALAD, reduced_to=20)), "megaloc", salad.from_authors_names),
    "boq": (lambda: boq.BoQ(boq.BoQConfig(VIT, 64, 4, 2, 3)), "boq_dinov2_12288", boq.from_authors_names),
    "boq-resnet50": (
        lambda: boq.BoQ(boq.BoQConfig(50, 64, 4, 2, 3)),
        "boq_resnet50_16384",
        boq.from_authors_names,
    ),
    "transvpr": (lambda: transvpr.TransVPR(TRANSVPR), "transvpr_240x320", transvpr.from_authors_names),
}


def small_network(method: str) -> nn.Module:
    """With random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network: nn.Module = SMALL[method][0]().eval()
    return network


def small_state(method: str) -> dict[str, Tensor]:
    """The weights of the small network under the authors' names."""
    _, golden, renamed = SMALL[method]
    theirs = json.loads((GOLDEN / f"{golden}.keys.json").read_text())
    name_of = {next(reversed(renamed({name: torch.zeros(1, 1, 1)}))): name for name in theirs}
    return {name_of[name]: value for name, value in small_network(method).state_dict().items() if name in name_of}


def small_file(method: str, folder: Path, **changes: Tensor | None) -> Path:
    """Save the small network in the authors' form; `changes` replace entries, or leave them out where None."""
    state = {**small_state(method), **changes}
    path = folder / f"{method}.pth"
    torch.save({name: value for name, value in state.items() if value is not None}, path)
    return path
