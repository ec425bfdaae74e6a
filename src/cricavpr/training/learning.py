"""One step: images in, gradients out. And what a run consists of besides its data."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cricavpr.datasets.places import PlaceDataset
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.models.cricavpr import CricaVPR
from cricavpr.training.data import StepData
from cricavpr.training.losses import make_loss
from cricavpr.training.memory import compute_blocks_twice, statistics_held
from cricavpr.training.network import build_network
from cricavpr.training.optimisation import make_optimizer
from cricavpr.training.recipe import Recipe, Step
from cricavpr.training.samples import normalised


class Diverged(CricaVPRError):
    """Loss or gradient is no longer a number; nothing was learnt from that step."""


@dataclass(frozen=True, eq=False)
class Learner:
    """What changes while a run goes on: network, loss (some have weights) and optimizer."""

    model: CricaVPR
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Of network and loss, under the names that checkpoints use."""
        for prefix, module in (("model", self.model), ("criterion", self.criterion)):
            for name, parameter in module.named_parameters():
                yield f"{prefix}.{name}", parameter


@dataclass(frozen=True)
class Learnt:
    """What a step says of itself. `mined`: the share of images that take part in the loss."""

    loss: float
    mined: float
    distillation: float | None


def make_learner(recipe: Recipe, places: PlaceDataset, device: str) -> Learner:
    """Network, loss and optimizer before the first step.

    Raises:
        InputError: there is no such device here.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"there is no GPU for --device {device} here, or torch was built without one. Use cpu.")
    model = build_network(recipe.network, recipe.seed).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        ids = [place.id for place in places.places]
        criterion = make_loss(recipe.loss.name, model.config.dim, ids, **recipe.loss.settings()).to(device)
    if recipe.step.activation_checkpointing:
        compute_blocks_twice(model.backbone)
    if recipe.step.compile:
        model.backbone.compile()
    named = [*model.named_parameters(), *criterion.named_parameters()]
    return Learner(model, criterion, make_optimizer(named, recipe.optimizer), torch.device(device))


def learn(learner: Learner, data: StepData, step: Step, rate: float, clip: float) -> Learnt:
    """One step of the optimizer.

    Raises:
        Diverged: loss or gradient is not finite; weights are as they were.
    """
    images, places = data.images.to(learner.device), data.places.to(learner.device)
    learner.optimizer.zero_grad(set_to_none=True)
    with _attention(learner.device):  # also backwards, where blocks may be computed again
        together, alone = describe(learner.model, normalised(images), data.group_size, step)
        loss, mined = learner.criterion(together, places)
        apart = None if alone is None else distance_to_company(alone, together)
        whole = loss if apart is None else loss + step.self_distillation * apart
        _check(whole, "loss")
        whole.backward()
    parameters = [parameter for _, parameter in learner.named_parameters()]
    _check(nn.utils.clip_grad_norm_(parameters, clip or math.inf), "gradient")
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.optimizer.step()
    return Learnt(loss.item(), mined, None if apart is None else apart.item())


def describe(
    model: CricaVPR,
    images: Tensor,  # (B, 3, H, W)
    group_size: int,
    step: Step,
) -> tuple[Tensor, Tensor | None]:  # (B, D) in company; (B, D) alone where that is learnt from
    """Descriptors in training mode, in as many forward passes as the recipe says."""
    parts = []
    for number, part in enumerate(torch.split(images, step.images_at_once or len(images))):
        with statistics_held(model) if number else contextlib.nullcontext():
            parts.append(_describe_part(model, part, group_sizes(len(part), group_size), step))
    together = torch.cat([part for part, _ in parts])
    alone = [part for _, part in parts if part is not None]
    return together, torch.cat(alone) if alone else None


def _describe_part(model: CricaVPR, images: Tensor, groups: list[int], step: Step) -> tuple[Tensor, Tensor | None]:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=step.precision == "bf16"):
        if not step.self_distillation:
            return model(images, groups).to(images.dtype), None
        regions = model.aggregator(model.backbone(images))  # (B, R, C), computed once for both
        described = [model.encoder(regions, sizes).flatten(1) for sizes in (groups, [1] * len(images))]
        together, alone = (F.normalize(values, dim=1).to(images.dtype) for values in described)
        return together, alone


def distance_to_company(alone: Tensor, together: Tensor) -> Tensor:  # (B, D) twice, of unit length
    """1 - cosine, on average. Only the image alone moves: its company is the teacher."""
    return (1 - (alone * together.detach()).sum(dim=1)).mean()


def group_sizes(count: int, size: int) -> list[int]:
    """Sizes of the groups of `count` images; the last one is smaller where they do not divide. 0 is one group."""
    whole, rest = divmod(count, size or count)
    return [size or count] * whole + [rest] * (rest > 0)


def _attention(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """torch's fused attention is slow backwards on a CPU: a third of a step of the tiny network."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def _check(value: Tensor, what: str) -> None:
    if not torch.isfinite(value):
        raise Diverged(f"the {what} is {value.item()}")
