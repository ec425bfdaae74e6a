"""One step: images in, gradients out. And what a run consists of besides its data."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cricavpr.datasets.places import PlaceDataset
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.training.data import StepData
from cricavpr.training.distributed import ALONE, World, synchronise_batch_norm
from cricavpr.training.losses import make_loss
from cricavpr.training.memory import compute_blocks_twice, give_back, parts_of, statistics_moved
from cricavpr.training.network import Trainable, make_network
from cricavpr.training.optimisation import make_optimizer
from cricavpr.training.recipe import Recipe, Step
from cricavpr.training.samples import normalised


class Diverged(CricaVPRError):
    """Loss or gradient is no longer a number; nothing was learnt from that step."""


@dataclass(frozen=True, eq=False)
class Learner:
    """What changes while a run goes on: network, loss (some have weights) and optimizer."""

    network: Trainable
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device

    @property
    def model(self) -> nn.Module:
        return self.network.model

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


def make_learner(recipe: Recipe, places: PlaceDataset, device: str, world: World = ALONE) -> Learner:
    """Network, loss and optimizer before the first step.

    Raises:
        InputError: there is no such device here.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"there is no GPU for --device {device} here, or torch was built without one. Use cpu.")
    own = device if world.alone else world.device
    network = make_network(recipe, own, places)
    model = network.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        ids = [place.id for place in places.places]
        criterion = make_loss(recipe.loss.name, network.dim, ids, **recipe.loss.settings()).to(own)
    if not world.alone:
        synchronise_batch_norm(model, world)
    if recipe.step.activation_checkpointing:
        compute_blocks_twice(network.trunk)
    if recipe.step.compile:
        network.trunk.compile()
    named = [*model.named_parameters(), *criterion.named_parameters()]
    return Learner(network, criterion, make_optimizer(named, recipe.optimizer), torch.device(own))


def learn(learner: Learner, data: StepData, step: Step, rate: float, clip: float, world: World = ALONE) -> Learnt:
    """One step of the optimizer.

    Raises:
        Diverged: loss or gradient is not finite; weights are as they were.
    """
    images, places = data.images.to(learner.device), data.places.to(learner.device)
    learner.optimizer.zero_grad(set_to_none=True)
    with _attention(learner.device):  # also backwards, where blocks may be computed again
        regions = Regions(learner.network, normalised(images), step)
        together, alone = _described(learner.network, regions.values, data, step, world)
        loss, mined = learner.criterion(together, in_order(places, data, world))
        apart = None if alone is None else distance_to_company(alone, together)
        whole = loss if apart is None else loss + step.self_distillation * apart
        _check(whole, "loss")
        (whole / world.count).backward()  # every process has the same loss; the gradients are summed below
        regions.backward()
    parameters = [parameter for _, parameter in learner.named_parameters()]
    world.sum_gradients(parameters)
    _check(nn.utils.clip_grad_norm_(parameters, clip or math.inf), "gradient")
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.optimizer.step()
    return Learnt(loss.item(), mined, None if apart is None else apart.item())


class Regions:
    """The regions of images, and the way back into the weights: at once, or in micro-batches computed twice."""

    def __init__(self, network: Trainable, images: Tensor, step: Step) -> None:  # (B, 3, H, W)
        self.network, self.images, self.step = network, images, step
        self.parts = parts_of(len(images), step.images_at_once, step.micro_batch)
        if step.micro_batch:
            with torch.no_grad():
                self.values = self._compute()
            self.values.requires_grad_()  # collects what the loss wants of it
        else:
            self.values = self._compute()  # (B, R, C)

    def _compute(self) -> Tensor:
        found = []
        for part in self.parts:
            with statistics_moved(self.network.model, part.share, part.later, part.counted):
                found.append(self._of(part.rows))
        return torch.cat(found)

    def _of(self, rows: slice) -> Tensor:
        with _precision(self.images.device, self.step):
            return self.network.regions(self.images[rows])

    def backward(self) -> None:
        """After the loss's own: what stopped at the regions goes on to the weights below them."""
        if self.step.micro_batch and self.values.grad is not None:
            give_back(self._of, self.parts, self.values.grad, self.network.model)


def _described(
    network: Trainable,
    regions: Tensor,  # (b, R, C) of this process
    data: StepData,
    step: Step,
    world: World,
) -> tuple[Tensor, Tensor | None]:  # (B, D) twice, of the whole step and in its order
    """Descriptors of all images, whoever computes them; groups reach as far as `step.group_scope`."""
    if step.group_scope == "rank":
        mine = correlate(network, regions, data.group_size, step)
        together, alone = (None if values is None else in_order(values, data, world) for values in mine)
        assert together is not None
        return together, alone
    return correlate(network, in_order(regions, data, world), data.group_size, step)


def in_order(rows: Tensor, data: StepData, world: World) -> Tensor:  # (b, ...) -> (B, ...)
    """The rows of all processes, in the order that the step would have in one."""
    if world.alone:
        return rows
    positions = world.everyone(data.positions.to(rows.device))
    return world.everyone(rows)[positions.argsort()]


def correlate(
    network: Trainable,
    regions: Tensor,  # (B, R, C)
    group_size: int,
    step: Step,
) -> tuple[Tensor, Tensor | None]:
    """Descriptors in company and, where that is learnt from, alone. No group reaches over a forward pass."""
    passes = parts_of(len(regions), step.images_at_once, 0)
    groups = [size for part in passes for size in group_sizes(part.rows.stop - part.rows.start, group_size)]
    dtype = next(network.model.parameters()).dtype
    with _precision(regions.device, step):
        together = network.correlate(regions, groups).to(dtype)
        if not step.self_distillation:
            return together, None
        return together, network.correlate(regions, [1] * len(regions)).to(dtype)


def _precision(device: torch.device, step: Step) -> contextlib.AbstractContextManager[None]:
    """A context of its own for each part: autocast keeps the weights it has cast, with or without their gradient."""
    return torch.autocast(device.type, torch.bfloat16, enabled=step.precision == "bf16")


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
