"""Recipes: everything that decides what comes out of a training run, checked before anything costs time.

What only decides how long it takes (device, workers, how often a checkpoint is written) is not in a recipe.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from cricavpr.config import nearest
from cricavpr.errors import InputError
from cricavpr.grouping import Grouping
from cricavpr.images import Resize
from cricavpr.models.aggregators import RegionCuts
from cricavpr.models.cricavpr import Aggregator, CricaVPRConfig, Tuning
from cricavpr.models.vit import BACKBONES
from cricavpr.training.augment import get_augment
from cricavpr.training.losses import LOSSES
from cricavpr.training.samplers import SAMPLERS


def _require(possible: bool, name: str, value: object, wanted: str) -> None:
    if not possible:
        raise InputError(f"{name} = {value!r} is not possible. {wanted}")


@dataclass(frozen=True)
class TownData:
    """Pictures of drawn towns: `places` places of each town, `views` pictures of each."""

    seeds: tuple[int, ...]
    places: int
    views: int

    def __post_init__(self) -> None:
        _require(len(self.seeds) > 0, "data.town.seeds", list(self.seeds), "Give at least one town.")
        _require(min(self.places, self.views) >= 1, "data.town", [self.places, self.views], "Give 1 or more of each.")


@dataclass(frozen=True)
class DiskData:
    """Places on disk: the folder of GSV-Cities (some of its `cities`, or all), or a file of `cricavpr places build`."""

    path: str
    cities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """Where the pictures come from (one of the two), in which order, and what is done to them."""

    town: TownData | None = None
    disk: DiskData | None = None
    sampler: str = "shuffled"
    augment: str = "none"

    def __post_init__(self) -> None:
        given = [name for name in ("town", "disk") if getattr(self, name) is not None]
        _require(len(given) == 1, "data", given, "Give one of data.town and data.disk.")
        _require(self.sampler in SAMPLERS, "data.sampler", self.sampler, nearest(self.sampler, SAMPLERS))
        get_augment(self.augment)


@dataclass(frozen=True)
class Network:
    """The network by the name of its backbone; what is not listed is as in `CricaVPRConfig`.

    Attributes:
        init: how adapters start. Both set the up-projection to zero, so that an untrained adapter changes nothing;
            "authors" sets weights and biases of the adapters' convolutions to 1e-5, as published.
        backbone_weights: a known name or a file for the backbone alone: DINOv2's, or a CricaVPR's without its adapters.
        weights: a known name or a file for the whole network, to go on from.
    """

    backbone: str = "vitb14"
    adapter: str = "mulconv"
    adapter_ratio: float = 0.5
    adapter_scale: float = 0.2
    tuning: Tuning = "adapter"
    aggregator: Aggregator = "pyramid"
    levels: tuple[int, ...] = (1, 2, 3)
    region_cuts: RegionCuts = "grid"
    encoder_depth: int = 2
    encoder_heads: int = 16
    encoder_ffn: int = 2048
    dropout: float = 0.1
    init: Literal["authors", "default"] = "authors"
    backbone_weights: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        _require(self.backbone in BACKBONES, "network.backbone", self.backbone, nearest(self.backbone, BACKBONES))
        width = BACKBONES[self.backbone].width
        _require(self.encoder_depth >= 0, "network.encoder_depth", self.encoder_depth, "Give 0 or more.")
        heads_fit = self.encoder_heads >= 1 and width % self.encoder_heads == 0
        _require(heads_fit, "network.encoder_heads", self.encoder_heads, f"Give a divisor of the width, {width}.")
        _require(0 <= self.dropout < 1, "network.dropout", self.dropout, "Give 0 or more, below 1.")
        both = bool(self.backbone_weights and self.weights)
        _require(not both, "network.weights", self.weights, "Give the whole network or its backbone, not both.")
        learns = self.tuning != "adapter" or self.adapter != "none" or self.encoder_depth > 0
        _require(learns, "network.tuning", self.tuning, "Nothing would learn: there is neither adapter nor encoder.")

    def config(self) -> CricaVPRConfig:
        shared = {field.name for field in fields(CricaVPRConfig)} - {"backbone"}
        return CricaVPRConfig(backbone=BACKBONES[self.backbone], **{name: getattr(self, name) for name in shared})


@dataclass(frozen=True)
class Step:
    """What one step sees: places x images_per_place images, and which of them see one another.

    Attributes:
        group_sizes: one is drawn for each step; 0 is all images that go through together.
        members: who shares a group. "across" shuffles the images of a step first; "in_order" keeps place beside place,
            as the authors' loader does, where a group smaller than a step gives the label away through its company.
        images_at_once: forward passes of so many images, each with its own batch norm and its own groups; the first
            one alone moves the running statistics. So do two GPUs under DataParallel. 0 is all at once.
        self_distillation: weight of 1 - cosine between an image alone and the same image in company (not moved by it).
    """

    places: int
    images_per_place: int = 4
    group_sizes: tuple[int, ...] = (0,)
    members: Literal["across", "in_order"] = "across"
    images_at_once: int = 0
    self_distillation: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False
    compile: bool = False

    @property
    def images(self) -> int:
        return self.places * self.images_per_place

    def __post_init__(self) -> None:
        _require(self.places >= 2, "step.places", self.places, "Give 2 or more: there is nothing else to tell from.")
        _require(self.images_per_place >= 2, "step.images_per_place", self.images_per_place, "Give 2 or more.")
        sizes_fit = bool(self.group_sizes) and min(self.group_sizes) >= 0 and max(self.group_sizes) <= self.images
        _require(sizes_fit, "step.group_sizes", list(self.group_sizes), f"Give sizes of 0 (all) to {self.images}.")
        fits = 0 <= self.images_at_once <= self.images
        _require(fits, "step.images_at_once", self.images_at_once, f"Give 0 (all) to {self.images}.")
        _require(self.self_distillation >= 0, "step.self_distillation", self.self_distillation, "Give 0 or more.")


@dataclass(frozen=True)
class Loss:
    """A loss by its name; what is not given is as its authors have it, and a loss refuses what it does not have."""

    name: str = "multi_similarity"
    alpha: float | None = None
    beta: float | None = None
    base: float | None = None
    epsilon: float | None = None
    margin: float | None = None
    scale: float | None = None

    def settings(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if name != "name" and value is not None}

    def __post_init__(self) -> None:
        _require(self.name in LOSSES, "loss.name", self.name, nearest(self.name, LOSSES))


@dataclass(frozen=True)
class Optimizer:
    """`clip` is the greatest length of the gradient; 0 leaves it as it is. Biases, norms and embeddings never decay."""

    name: Literal["adam", "adamw"] = "adam"
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        _require(self.rate > 0, "optimizer.rate", self.rate, "Give more than 0.")
        fit = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _require(fit, "optimizer.betas", list(self.betas), "Give two numbers of 0 or more, below 1.")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "Give 0 or more.")
        _require(self.clip >= 0, "optimizer.clip", self.clip, "Give 0 (off) or more.")


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up; then constant, halved every so many epochs' worth of steps, or a cosine to 0."""

    kind: Literal["constant", "step", "cosine"] = "constant"
    warmup_steps: int = 0
    halve_every_epochs: int = 3

    def __post_init__(self) -> None:
        _require(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "Give 0 or more.")
        _require(
            self.halve_every_epochs >= 1, "schedule.halve_every_epochs", self.halve_every_epochs, "Give 1 or more."
        )


@dataclass(frozen=True)
class HeldOutTown:
    """A town that is not trained on: one database and one query picture of each place."""

    seed: int
    places: int


@dataclass(frozen=True)
class Validation:
    """When and on what recall is measured. The best network is the first with the highest recall@`best_by` under the
    first grouping; after `patience` measurements without a better one the run ends (0: never).

    Attributes:
        town: a drawn one; or else
        dataset: the folder of a dataset, as `cricavpr evaluate` takes it.
        every_steps: 0 measures at the end of each epoch.
    """

    town: HeldOutTown | None = None
    dataset: str = ""
    radius_m: float = 25.0
    groupings: tuple[str, ...] = ("alone",)
    every_steps: int = 0
    best_by: int = 5
    patience: int = 0

    def __post_init__(self) -> None:
        one = (self.town is None) != (not self.dataset)
        _require(one, "validation", self.dataset, "Give one of validation.town and validation.dataset.")
        _require(len(self.groupings) > 0, "validation.groupings", list(self.groupings), "Give at least one.")
        for text in self.groupings:
            Grouping.parse(text)
        _require(self.every_steps >= 0, "validation.every_steps", self.every_steps, "Give 0 (each epoch) or more.")
        _require(self.best_by in (1, 5, 10), "validation.best_by", self.best_by, "Give 1, 5 or 10.")
        _require(self.patience >= 0, "validation.patience", self.patience, "Give 0 (off) or more.")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out of a training run.

    Attributes:
        epochs, steps: how long; one of them, the other is 0. An epoch shows each place once, but for a remainder.
        resize: how the trained network resizes when it describes; in training pictures are resized by Pillow.
    """

    data: Data
    network: Network
    step: Step
    image_size: tuple[int, int]
    resize: Resize = "pil"
    epochs: int = 0
    steps: int = 0
    seed: int = 0
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    validation: Validation | None = None

    def __post_init__(self) -> None:
        long = min(self.epochs, self.steps) == 0 and max(self.epochs, self.steps) > 0
        _require(long, "epochs, steps", [self.epochs, self.steps], "Give one of them, above 0.")
        patch = BACKBONES[self.network.backbone].patch
        fits = len(self.image_size) == 2 and all(side > 0 and side % patch == 0 for side in self.image_size)
        _require(fits, "image_size", list(self.image_size), f"Give height and width, multiples of {patch}.")
        _require(self.seed >= 0, "seed", self.seed, "Give 0 or more.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a recipe file has them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain
