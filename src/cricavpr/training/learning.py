"""One training step: descriptors, loss, gradient and update. The loop over steps is in `train`.

Letters: B images of a step, b images of one process, R regions, C channels, D dimension.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cricavpr.datasets.places import PlaceDataset
from cricavpr.errors import CricaVPRError
from cricavpr.training.batch_norm import synchronise_batch_norm
from cricavpr.training.data import StepData
from cricavpr.training.distributed import ALONE, World
from cricavpr.training.losses import make_loss
from cricavpr.training.memory import Regions, checkpoint_blocks, parts_of
from cricavpr.training.network import Trainable, make_network
from cricavpr.training.recipe import Optimizer, Recipe, Schedule, Step
from cricavpr.training.sampling import normalised


class Diverged(CricaVPRError):
    """Raised when the loss, its gradient or a weight is not finite. Nothing of the failed step is saved."""


class Described(NamedTuple):
    """Descriptors of the images of a whole step, from all processes."""

    regions: Regions  # of this process's images
    together: Tensor  # (B, D), descriptors of the images within their groups
    alone: Tensor | None  # (B, D), descriptors of the images alone; None without self-distillation


class StepLoss(NamedTuple):
    """The loss of a training step, and its parts."""

    total: Tensor  # the value that is minimised
    loss: Tensor  # `total` without the self-distillation term
    mined: float  # share of the images that take part in the loss
    distillation: Tensor | None  # mean of 1 - cosine between an image's descriptors alone and within a group


@dataclass(frozen=True, eq=False)
class Learner:
    """The parts that training changes: network, loss (some losses have weights) and optimizer.

    Attributes:
        network: the network.
        criterion: the loss.
        optimizer: the optimizer.
        device: device of network and loss.
        step: settings of a step, from the recipe.
        clip: maximum norm of the gradient; 0 for no limit.
        world: the processes that train.
    """

    network: Trainable
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    step: Step
    clip: float
    world: World = ALONE

    @property
    def model(self) -> nn.Module:
        return self.network.model

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of network and loss with their names in checkpoints."""
        for prefix, module in (("model", self.model), ("criterion", self.criterion)):
            for name, parameter in module.named_parameters():
                yield f"{prefix}.{name}", parameter

    def describe(self, data: StepData) -> Described:
        """Compute the region features of this process's images, then the descriptors of all images of the step."""
        images = normalised(data.images.to(self.device))
        parts = parts_of(len(images), self.step.images_at_once, self.step.micro_batch)

        def compute(rows: slice) -> Tensor:
            with _precision(self.device, self.step):
                return self.network.regions(images[rows])

        with _attention(self.device):
            regions = Regions(self.model, compute, parts, cached=self.step.micro_batch > 0)
            if self.step.group_scope == "world":
                rows = in_step_order(regions.values, data, self.world)
                return Described(regions, *correlate(self.network, rows, data.group_size, self.step))
            together, alone = correlate(self.network, regions.values, data.group_size, self.step)
            alone = None if alone is None else in_step_order(alone, data, self.world)
            return Described(regions, in_step_order(together, data, self.world), alone)

    def loss(self, described: Described, data: StepData) -> StepLoss:
        """Select the images that take part in the loss, and return the loss; raise Diverged if it is not finite."""
        places = in_step_order(data.places.to(self.device), data, self.world)
        loss, mined = self.criterion(described.together, places)
        if described.alone is None:
            return StepLoss(_finite(loss, "loss"), loss, mined, None)
        distillation = distance_to_company(described.alone, described.together)
        total = loss + self.step.self_distillation * distillation
        return StepLoss(_finite(total, "loss"), loss, mined, distillation)

    def backward(self, loss: StepLoss, described: Described) -> None:
        """Compute this process's part of the gradient. The loss, equal in all processes, is divided by their number."""
        with _attention(self.device):  # with activation checkpointing, blocks are computed again here
            (loss.total / self.world.count).backward()  # type: ignore[no-untyped-call]
            described.regions.backward()

    def update(self, rate: float) -> None:
        """Sum the gradients of all processes, clip them, and update the weights with the learning rate `rate`."""
        parameters = [parameter for _, parameter in self.named_parameters()]
        self.world.sum_gradients(parameters)
        _finite(nn.utils.clip_grad_norm_(parameters, self.clip or math.inf), "gradient")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()


def make_learner(recipe: Recipe, places: PlaceDataset, device: torch.device, world: World = ALONE) -> Learner:
    """Return the network, loss and optimizer of a recipe as they are before the first step.

    Args:
        recipe: the recipe.
        places: training data.
        device: device to train on.
        world: the processes that train.
    """
    network = make_network(recipe, device, places)
    model = network.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        ids = [place.id for place in places.places]
        criterion = make_loss(recipe.loss.name, network.dim, ids, **recipe.loss.settings()).to(device)
    if not world.alone:
        synchronise_batch_norm(model, world)
    if recipe.step.activation_checkpointing:
        checkpoint_blocks(network.trunk)
    if recipe.step.compile:
        network.trunk.compile()
    optimizer = make_optimizer([*model.named_parameters(), *criterion.named_parameters()], recipe.optimizer)
    return Learner(network, criterion, optimizer, device, recipe.step, recipe.optimizer.clip, world)


# ---- descriptors


def correlate(
    network: Trainable,
    regions: Tensor,  # (B, R, C)
    group_size: int,
    step: Step,
) -> tuple[Tensor, Tensor | None]:
    """Return the descriptors of images within groups and, for self-distillation, of the images alone (else None).

    A group never extends over several forward passes.
    """
    passes = parts_of(len(regions), step.images_at_once, 0)
    groups = [size for part in passes for size in group_sizes(part.rows.stop - part.rows.start, group_size)]
    dtype = next(network.model.parameters()).dtype
    with _precision(regions.device, step):
        together = network.correlate(regions, groups).to(dtype)
        if not step.self_distillation:
            return together, None
        return together, network.correlate(regions, [1] * len(regions)).to(dtype)


def in_step_order(rows: Tensor, data: StepData, world: World) -> Tensor:  # (b, ...) -> (B, ...)
    """Return the rows of all processes, in the order that they would have in a single process."""
    if world.alone:
        return rows
    positions = world.gather(data.positions.to(rows.device))
    return world.gather(rows)[positions.argsort()]


def group_sizes(count: int, size: int) -> list[int]:
    """Return the sizes of the groups if `count` images are divided into groups of `size`.

    The last group may be smaller. A size of 0 makes one group of all images.

    Example:
        >>> group_sizes(8, 3)
        [3, 3, 2]
    """
    whole, rest = divmod(count, size or count)
    return [size or count] * whole + [rest] * (rest > 0)


def distance_to_company(alone: Tensor, together: Tensor) -> Tensor:  # (B, D) twice, of unit length
    """Return the self-distillation loss: the mean of 1 - cosine of the descriptors in `alone` and in `together`.

    `alone` has the descriptors of images described alone, `together` those of the same images within groups. The latter
    are the teacher, so they get no gradient.
    """
    return (1 - (alone * together.detach()).sum(dim=1)).mean()


def _precision(device: torch.device, step: Step) -> contextlib.AbstractContextManager[None]:
    """Return an autocast context for the precision of the recipe.

    Use a new context for each part of a step. A context caches the weights that it has cast, and parts with a gradient
    cannot use weights that were cached without a gradient.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=step.precision == "bf16")


def _attention(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context that turns off torch's fused attention on a CPU, where its backward pass is slow."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def _finite(value: Tensor, what: str) -> Tensor:
    if not torch.isfinite(value):
        raise Diverged(f"the {what} is {value.item()}")
    return value


# ---- optimisation


def make_optimizer(named: Iterable[tuple[str, nn.Parameter]], settings: Optimizer) -> torch.optim.Optimizer:
    """Return an optimizer over the parameters that are trained.

    Weight decay applies to matrices and kernels, but not to biases, norms, scales, embeddings and tokens.

    Args:
        named: parameters with their names; those that require no gradient are left out.
        settings: settings of the recipe.
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
    used = [group for group in groups if group["params"]] or groups[:1]  # nothing is trained: one empty group
    return kind(used, lr=settings.rate, betas=settings.betas)


def rate_at(step: int, rate: float, schedule: Schedule, steps: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    Args:
        step: number of the step, from 0.
        rate: learning rate of the recipe, before the schedule.
        schedule: schedule of the recipe.
        steps: number of steps of the run.
        steps_per_epoch: number of steps of an epoch.

    Example:
        >>> [rate_at(step, 1.0, Schedule("constant", warmup_steps=2), steps=4, steps_per_epoch=4) for step in range(4)]
        [0.5, 1.0, 1.0, 1.0]
    """
    if step < schedule.warmup_steps:
        return rate * (step + 1) / schedule.warmup_steps
    if schedule.kind == "step":
        return rate * 0.5 ** (step // (schedule.halve_every_epochs * steps_per_epoch))
    if schedule.kind == "cosine":
        done = (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps)
        return rate * 0.5 * (1 + math.cos(math.pi * done))
    return rate
