"""Which parameters learn, how, and how fast at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cricavpr.training.recipe import Optimizer, Schedule


def make_optimizer(
    named: Iterable[tuple[str, nn.Parameter]],
    settings: Optimizer,
) -> torch.optim.Optimizer:
    """An optimizer over the parameters that learn: the others get neither gradient nor moments.

    Matrices decay; biases, norms, scales, embeddings and tokens do not.
    """
    learning = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    decaying = [p for name, p in learning if p.ndim > 1 and "embed" not in name and "token" not in name]
    kept = {id(parameter) for parameter in decaying}
    others = [p for _, p in learning if id(p) not in kept]
    groups: list[dict[str, Any]] = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    used = [group for group in groups if group["params"]] or groups[:1]  # a network that is only measured has none
    return kind(used, lr=settings.rate, betas=settings.betas)


def rate_at(step: int, rate: float, schedule: Schedule, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of step 0, 1, ... of `steps`."""
    if step < schedule.warmup_steps:
        return rate * (step + 1) / schedule.warmup_steps
    if schedule.kind == "step":
        return rate * 0.5 ** (step // (schedule.halve_every_epochs * steps_per_epoch))
    if schedule.kind == "cosine":
        done = (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps)
        return rate * 0.5 * (1 + math.cos(math.pi * done))
    return rate
