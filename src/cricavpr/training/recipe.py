"""Recipes: everything that decides what comes out of a training run, checked before anything costs time.

What only decides how long it takes (device, workers, how often a checkpoint is written) is not in a recipe.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from cricavpr.errors import InputError
from cricavpr.grouping import Grouping
from cricavpr.images import Resize
from cricavpr.models.aggregators import RegionCuts
from cricavpr.models.cnn import TRUNKS
from cricavpr.models.cricavpr import Aggregator, CricaVPRConfig, Tuning
from cricavpr.models.vit import BACKBONES
from cricavpr.schema import nearest
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
    """CricaVPR by the name of its backbone; what is not listed is as in `CricaVPRConfig`.

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
    kind: Literal["cricavpr"] = "cricavpr"

    @property
    def patch(self) -> int:
        """What the sides of an image must be multiples of."""
        return BACKBONES[self.backbone].patch

    @property
    def learns(self) -> bool:
        """Whether steps would change anything that the descriptor owes to: the mean's power alone does not count."""
        return self.tuning == "full" or self.encoder_depth > 0 or (self.tuning == "adapter" and self.adapter != "none")

    def __post_init__(self) -> None:
        _require(self.backbone in BACKBONES, "network.backbone", self.backbone, nearest(self.backbone, BACKBONES))
        width = BACKBONES[self.backbone].width
        _require(self.encoder_depth >= 0, "network.encoder_depth", self.encoder_depth, "Give 0 or more.")
        heads_fit = self.encoder_heads >= 1 and width % self.encoder_heads == 0
        _require(heads_fit, "network.encoder_heads", self.encoder_heads, f"Give a divisor of the width, {width}.")
        _require(0 <= self.dropout < 1, "network.dropout", self.dropout, "Give 0 or more, below 1.")
        both = bool(self.backbone_weights and self.weights)
        _require(not both, "network.weights", self.weights, "Give the whole network or its backbone, not both.")

    def config(self) -> CricaVPRConfig:
        shared = {field.name for field in fields(CricaVPRConfig)} - {"backbone"}
        return CricaVPRConfig(backbone=BACKBONES[self.backbone], **{name: getattr(self, name) for name in shared})


@dataclass(frozen=True)
class Convolutional:
    """What the baselines that are trained for comparison share; images do not see one another in them.

    Attributes:
        trunk: vgg16 or a resnet, under the names of `models.cnn`.
        tuning: "end" trains conv5 of VGG-16 or the last stages of a ResNet from the third on, and all behind the
            trunk, as CosPlace's authors do; "full" trains everything.
        trunk_weights: a file of torchvision's for the trunk alone.
        weights: a known name or a file for the whole network, to go on from.
    """

    trunk: str = "resnet50"
    tuning: Literal["end", "full"] = "end"
    trunk_weights: str = ""
    weights: str = ""

    @property
    def patch(self) -> int:
        """Sides of any length."""
        return 1

    @property
    def learns(self) -> bool:
        return True

    def __post_init__(self) -> None:
        _require(self.trunk in TRUNKS, "network.trunk", self.trunk, nearest(self.trunk, TRUNKS))
        both = bool(self.trunk_weights and self.weights)
        _require(not both, "network.weights", self.weights, "Give the whole network or its trunk, not both.")


@dataclass(frozen=True)
class NetVLADNetwork(Convolutional):
    """A trunk and NetVLAD, which starts from k-means over features of the training pictures unless `weights` are given.

    Attributes:
        init_images, init_features: pictures for k-means, and features of each, drawn by chance.
    """

    kind: Literal["netvlad"] = "netvlad"
    clusters: int = 64
    init_images: int = 500
    init_features: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.clusters >= 2, "network.clusters", self.clusters, "Give 2 or more.")
        enough = min(self.init_images, self.init_features) >= 1
        _require(enough, "network.init_images", [self.init_images, self.init_features], "Give 1 or more of each.")


@dataclass(frozen=True)
class CosPlaceNetwork(Convolutional):
    """A trunk, GeM and a linear layer to `dim` values."""

    kind: Literal["cosplace"] = "cosplace"
    dim: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.dim >= 1, "network.dim", self.dim, "Give 1 or more.")


@dataclass(frozen=True)
class Step:
    """What one step sees: places x images_per_place images, and which of them see one another.

    Attributes:
        group_sizes: one is drawn for each step; 0 is all images that go through together.
        members: who shares a group. "across" shuffles the images of a step first; "in_order" keeps place beside place,
            as the authors' loader does, where a group smaller than a step gives the label away through its company.
        group_scope: how far a group may reach where several processes train. "world" is the whole step, and nothing
            depends on how many there are; "rank" is one process, so how many there are decides who sees whom.
        images_at_once: forward passes of so many images, each with its own batch norm and its own groups; the first
            one alone moves the running statistics. So do two GPUs under DataParallel. 0 is all at once.
        micro_batch: images of one process that the backbone keeps in memory at once: it computes them twice, and
            batch norm sees so many. 0 is all.
        self_distillation: weight of 1 - cosine between an image alone and the same image in company (not moved by it).
    """

    places: int
    images_per_place: int = 4
    group_sizes: tuple[int, ...] = (0,)
    members: Literal["across", "in_order"] = "across"
    group_scope: Literal["world", "rank"] = "world"
    images_at_once: int = 0
    micro_batch: int = 0
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
        most = self.images_at_once or self.images
        _require(0 <= self.micro_batch <= most, "step.micro_batch", self.micro_batch, f"Give 0 (off) to {most}.")
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
            Both are 0 where nothing in the network learns: it is measured as it is.
        resize: how the trained network resizes when it describes; in training pictures are resized by Pillow.
    """

    data: Data
    network: Network | NetVLADNetwork | CosPlaceNetwork
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
        self._require_a_length()
        patch = self.network.patch
        fits = len(self.image_size) == 2 and all(side > 0 and side % patch == 0 for side in self.image_size)
        _require(fits, "image_size", list(self.image_size), f"Give height and width, multiples of {patch}.")
        _require(self.seed >= 0, "seed", self.seed, "Give 0 or more.")

    def _require_a_length(self) -> None:
        """A network that learns takes steps. One that does not takes none, and is measured as it is."""
        given = [self.epochs, self.steps]
        if self.network.learns:
            long = min(given) == 0 and max(given) > 0
            _require(long, "epochs, steps", given, "Give one of them, above 0.")
            return
        measured = given == [0, 0] and self.validation is not None
        wanted = (
            "Nothing would learn: there is neither adapter nor encoder. To measure the network as it is, give "
            "steps = 0, epochs = 0 and a validation."
        )
        _require(measured, "epochs, steps", given, wanted)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a recipe file has them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain
