"""A training at the size of a toy: 42 px pictures of two towns, a step in a few hundredths of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from cricavpr.methods.cricavpr import Settings
from cricavpr.models.cricavpr import CricaVPR
from cricavpr.schema import build
from cricavpr.training.data import StepData
from cricavpr.training.learning import Learner, StepLoss, correlate
from cricavpr.training.memory import Regions, parts_of
from cricavpr.training.network import Trainable, trainable_cricavpr
from cricavpr.training.recipe import Recipe, Step, changed
from cricavpr.training.train import Machine

TOY = build(
    Recipe,
    {
        "image_size": [42, 42],
        "steps": 12,
        "data": {"town": {"seeds": [11, 12], "places": 8, "views": 4}, "augment": "mirror"},
        "network": {"backbone": "nano", "tuning": "full", "encoder_heads": 4, "encoder_ffn": 64},
        "step": {"places": 4, "images_per_place": 2, "group_sizes": [1, 4]},
        "optimizer": {"name": "adamw", "rate": 1e-3, "weight_decay": 0.05, "clip": 1.0},
        "schedule": {"kind": "cosine", "warmup_steps": 2},
        "validation": {"town": {"seed": 13, "places": 5}, "every_steps": 5, "groupings": ["alone", "in_order:4"]},
    },
    "toy",
)


def toy(**settings: Any) -> Recipe:
    """TOY with some settings changed, `__` for the dot: step__group_sizes=[4]."""
    return changed(TOY, {name.replace("__", "."): value for name, value in settings.items()})


def learn(learner: Learner, data: StepData, rate: float = 1e-3) -> StepLoss:
    """One step, as the loop takes it."""
    learner.optimizer.zero_grad()
    described = learner.describe(data)
    loss = learner.loss(described, data)
    learner.backward(loss, described)
    learner.update(rate)
    return loss


def regions_of(
    network: Trainable,
    images: Tensor,  # (B, 3, H, W)
    step: Step,
) -> Regions:
    """Regions as a step makes them."""
    parts = parts_of(len(images), step.images_at_once, step.micro_batch)
    return Regions(network.model, lambda rows: network.regions(images[rows]), parts, step.micro_batch > 0)


def describe(
    network: Trainable,
    images: Tensor,  # (B, 3, H, W)
    group_size: int,
    step: Step,
) -> tuple[Tensor, Tensor | None]:  # (B, D) in company; (B, D) alone where that is learnt from
    """Descriptors in training mode, as a step makes them."""
    return correlate(network, regions_of(network, images, step).values, group_size, step)


def as_trained(model: CricaVPR) -> Trainable:
    """A network as the loop sees it."""
    return trainable_cricavpr(model, Settings(model.config, (42, 42), "pil"))


def machine(pictures: Path, workers: int = 0, checkpoint_every: int = 4) -> Machine:
    return Machine(workers=workers, checkpoint_every=checkpoint_every, pictures=pictures, quiet=True)
