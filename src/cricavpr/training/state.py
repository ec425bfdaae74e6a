"""A learner as plain tensors and back; and as weights that describe.

The state of random numbers is not among them: each step seeds its own from the recipe's seed and its number.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cricavpr import __version__
from cricavpr.datasets.places import PlaceDataset
from cricavpr.errors import InputError
from cricavpr.models.weights import save_weights
from cricavpr.training.learning import Diverged, Learner
from cricavpr.training.network import Trainable
from cricavpr.training.recipe import Recipe


def tensors_of(learner: Learner) -> dict[str, Tensor]:
    """Weights, running statistics and the optimizer's moments, by name.

    Raises:
        Diverged: a value is not finite.
    """
    tensors = {f"{part}.{name}": value for part, name, value in _entries(learner)}
    tensors |= {
        f"optimizer.{key}.{name}": value
        for name, parameter in learner.named_parameters()
        for key, value in learner.optimizer.state.get(parameter, {}).items()
    }
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise Diverged(f"{name} has values that are not finite")
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def _entries(learner: Learner) -> Iterator[tuple[str, str, Tensor]]:
    for part, module in (("model", learner.model), ("criterion", learner.criterion)):
        for name, value in module.state_dict().items():
            yield part, name, value


def restore(learner: Learner, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Put a learner where it was.

    Raises:
        InputError: the tensors are those of another network.
    """
    own = {f"{part}.{name}": value for part, name, value in _entries(learner)}
    given = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
    misfits = own.keys() ^ given.keys() | {n for n in own.keys() & given.keys() if own[n].shape != given[n].shape}
    if misfits:
        raise InputError(f"the checkpoint {source} is of another network: {', '.join(sorted(misfits)[:5])} differ.")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(given[name])
    for name, parameter in learner.named_parameters():
        moments = {
            key: tensors[entry].clone() if key == "step" else tensors[entry].to(parameter.device, copy=True)
            for key in ("step", "exp_avg", "exp_avg_sq")
            if (entry := f"optimizer.{key}.{name}") in tensors
        }
        if moments and parameter.requires_grad:
            learner.optimizer.state[parameter] = moments


def code_version() -> dict[str, str]:
    """What computed: named in checkpoints and weights, since other versions may round differently."""
    return {"cricavpr": __version__, "torch": torch.__version__, "python": ".".join(map(str, sys.version_info[:3]))}


def export(
    path: Path,
    network: Trainable,
    recipe: Recipe,
    places: PlaceDataset,
    step: int,
    measured: Mapping[str, float],
    processes: int = 1,
) -> None:
    """Weights as `load_method` reads them, with what made them."""
    provenance = {
        "trained_by": "cricavpr train",
        "step": step,
        "measured": dict(measured),
        "recipe": _without_folders(recipe.to_dict()),
        "processes": processes,
        "data": {"name": places.name, "places": len(places), "images": places.image_count()},
        "data_fingerprint": places.fingerprint(),
        "code": code_version(),
    }
    save_weights(path, network.model.state_dict(), {**network.header(), "provenance": provenance})


FOLDERS = ("path", "dataset", "weights", "backbone_weights", "trunk_weights")  # settings that may hold a path


def _without_folders(values: Any) -> Any:
    """Weights travel: the last part of a path says enough, and the rest is nobody's business."""
    if isinstance(values, dict):
        return {key: Path(value).name if key in FOLDERS else _without_folders(value) for key, value in values.items()}
    return values
