"""Recipes: everything that decides the result of a training run, checked before anything costs time.

Settings that only change the speed (device, workers, checkpoint interval) are not in a recipe. Invalid values raise
ValueError, which `schema.build` turns into an InputError that names the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from cricavpr.errors import InputError
from cricavpr.grouping import Grouping
from cricavpr.images import Resize
from cricavpr.models.cnn import TRUNKS
from cricavpr.models.cricavpr import Ablation, CricaVPRConfig
from cricavpr.models.vit import BACKBONES
from cricavpr.schema import build, nearest, to_plain
from cricavpr.training.augment import AUGMENTS
from cricavpr.training.losses import LOSSES
from cricavpr.training.sampling import SAMPLERS


def _require(valid: bool, name: str, expected: str, value: object) -> None:
    if not valid:
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def _require_at_least(least: int, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(value >= least, name, f"at least {least}", value)


def _require_known(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}. {nearest(value, known)}")


@dataclass(frozen=True)
class TownData:
    """Pictures of drawn towns: `places` places of each town, `views` pictures of each place."""

    seeds: tuple[int, ...]
    places: int
    views: int

    def __post_init__(self) -> None:
        _require(len(self.seeds) > 0, "seeds", "at least one town", list(self.seeds))
        _require_at_least(1, self, "places", "views")


@dataclass(frozen=True)
class DiskData:
    """Places on disk: the folder of GSV-Cities (some of its `cities`, or all), or a file of `cricavpr places build`."""

    path: str
    cities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """Source of the pictures (town or disk), order of places, and augmentation."""

    town: TownData | None = None
    disk: DiskData | None = None
    sampler: str = "shuffled"
    augment: str = "none"

    def __post_init__(self) -> None:
        given = [name for name in ("town", "disk") if getattr(self, name) is not None]
        _require(len(given) == 1, "data", "one of data.town and data.disk", given)
        _require_known("sampler", self.sampler, SAMPLERS)
        _require_known("augment", self.augment, AUGMENTS)


@dataclass(frozen=True)
class Network(Ablation):
    """CricaVPR: the name of its backbone, its other choices, and the weights it starts from.

    Attributes:
        init: how adapters start. Both set the up-projection to zero, so that an untrained adapter changes nothing;
            "authors" sets weights and biases of the adapters' convolutions to 1e-5, as published.
        backbone_weights: a known name or a file for the backbone alone: DINOv2's, or a CricaVPR's without its adapters.
        weights: a known name or a file for the whole network, to train further.
    """

    backbone: str = "vitb14"
    init: Literal["authors", "default"] = "authors"
    backbone_weights: str = ""
    weights: str = ""
    kind: Literal["cricavpr"] = "cricavpr"

    @property
    def learns(self) -> bool:
        """Whether training changes more than the power of the generalised mean."""
        return self.tuning == "full" or self.encoder_depth > 0 or (self.tuning == "adapter" and self.adapter != "none")

    def __post_init__(self) -> None:
        _require_known("backbone", self.backbone, BACKBONES)
        width = BACKBONES[self.backbone].width
        _require_at_least(0, self, "encoder_depth")
        heads_fit = self.encoder_heads >= 1 and width % self.encoder_heads == 0
        _require(heads_fit, "encoder_heads", f"a divisor of the width, {width}", self.encoder_heads)
        _require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1", self.dropout)
        one = not (self.backbone_weights and self.weights)
        _require(one, "weights", "empty where backbone_weights is given", self.weights)

    def config(self) -> CricaVPRConfig:
        shared = {one.name: getattr(self, one.name) for one in fields(Ablation)}
        return CricaVPRConfig(**{**shared, "backbone": BACKBONES[self.backbone]})


@dataclass(frozen=True)
class Convolutional:
    """Settings that the baselines share; images do not see one another in them.

    Attributes:
        trunk: vgg16 or a resnet, under the names of `models.cnn`.
        tuning: "end" trains conv5 of VGG-16 or the stages of a ResNet from the third on, and all behind the trunk, as
            CosPlace's authors do; "full" trains everything.
        trunk_weights: a file of torchvision's for the trunk alone.
        weights: a known name or a file for the whole network, to train further.
    """

    trunk: str = "resnet50"
    tuning: Literal["end", "full"] = "end"
    trunk_weights: str = ""
    weights: str = ""
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_known("trunk", self.trunk, TRUNKS)
        one = not (self.trunk_weights and self.weights)
        _require(one, "weights", "empty where trunk_weights is given", self.weights)


@dataclass(frozen=True)
class NetVLADNetwork(Convolutional):
    """A trunk and NetVLAD, which starts from k-means over features of training pictures unless `weights` are given.

    Attributes:
        init_images, init_features: number of pictures for k-means, and of random features of each.
    """

    kind: Literal["netvlad"] = "netvlad"
    clusters: int = 64
    init_images: int = 500
    init_features: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_at_least(2, self, "clusters")
        _require_at_least(1, self, "init_images", "init_features")


@dataclass(frozen=True)
class CosPlaceNetwork(Convolutional):
    """A trunk, GeM and a linear layer to `dim` values."""

    kind: Literal["cosplace"] = "cosplace"
    dim: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_at_least(1, self, "dim")


@dataclass(frozen=True)
class Step:
    """One step: places x images_per_place images, and the groups within which they see one another.

    Attributes:
        group_sizes: one is drawn for each step; 0 is all images of a forward pass.
        members: order of the images before they are divided into groups. "across" shuffles them; "in_order" keeps the
            images of a place together, as the authors' loader does, so a small group gives the label away.
        group_scope: images that a group may hold when several processes train. With "world", those of the whole step:
            results do not depend on the number of processes. With "rank", those of one process: they do.
        images_at_once: images in a forward pass, each with its own batch norm and groups, as on one of several GPUs
            under DataParallel; only the first pass updates the running statistics. 0 takes all.
        micro_batch: images of one process that the backbone keeps in memory at once; it computes them twice, and
            batch norm sees only these. 0 takes all.
        self_distillation: weight of 1 - cosine between the descriptor of an image alone and the one in its group.
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
        _require_at_least(2, self, "places", "images_per_place")  # nothing to tell apart otherwise
        sizes_fit = bool(self.group_sizes) and min(self.group_sizes) >= 0 and max(self.group_sizes) <= self.images
        _require(sizes_fit, "group_sizes", f"sizes of 0 (all) to {self.images}", list(self.group_sizes))
        fits = 0 <= self.images_at_once <= self.images
        _require(fits, "images_at_once", f"0 (all) to {self.images}", self.images_at_once)
        most = self.images_at_once or self.images
        _require(0 <= self.micro_batch <= most, "micro_batch", f"0 (all) to {most}", self.micro_batch)
        _require_at_least(0, self, "self_distillation")


@dataclass(frozen=True)
class Loss:
    """A loss by name. Settings default to those of its authors; a setting that the loss does not have is an error."""

    name: str = "multi_similarity"
    alpha: float | None = None
    beta: float | None = None
    base: float | None = None
    epsilon: float | None = None
    margin: float | None = None
    scale: float | None = None

    def settings(self) -> dict[str, float]:
        return {name: value for name, value in to_plain(self).items() if name != "name" and value is not None}

    def __post_init__(self) -> None:
        _require_known("loss", self.name, LOSSES)


@dataclass(frozen=True)
class Optimizer:
    """Optimizer; `clip` is the maximum norm of the gradient, 0 for none. Biases, norms and embeddings never decay."""

    name: Literal["adam", "adamw"] = "adam"
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        _require(self.rate > 0, "rate", "above 0", self.rate)
        fit = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _require(fit, "betas", "two numbers of at least 0 and below 1", list(self.betas))
        _require_at_least(0, self, "weight_decay", "clip")


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up, then constant, halved every few epochs' worth of steps, or a cosine to 0."""

    kind: Literal["constant", "step", "cosine"] = "constant"
    warmup_steps: int = 0
    halve_every_epochs: int = 3

    def __post_init__(self) -> None:
        _require_at_least(0, self, "warmup_steps")
        _require_at_least(1, self, "halve_every_epochs")


@dataclass(frozen=True)
class HeldOutTown:
    """A town that is not trained on: one database picture and one query picture of each place."""

    seed: int
    places: int


@dataclass(frozen=True)
class Validation:
    """Validation data, and when recall is measured on it.

    The best network is the first with the highest recall@`best_by` under the first grouping.

    Attributes:
        town: a drawn town.
        dataset: the folder of a dataset, as for `cricavpr evaluate`, instead of a town.
        every_steps: steps between validations; 0 validates at the end of each epoch.
        patience: number of validations without a better recall after which the run ends; 0 for no limit.
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
        _require(one, "validation", "one of validation.town and validation.dataset", self.dataset)
        _require(len(self.groupings) > 0, "groupings", "at least one", list(self.groupings))
        for text in self.groupings:
            Grouping.parse(text)
        _require_at_least(0, self, "every_steps", "patience")
        _require(self.best_by in (1, 5, 10), "best_by", "1, 5 or 10", self.best_by)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training run.

    Attributes:
        image_size: (height, width) in pixels.
        resize: how the trained network resizes when it describes; training itself resizes with Pillow.
        epochs, steps: length of the run; give one, the other is 0. An epoch shows each place once, except a remainder
            that does not fill a step. If nothing in the network learns, both are 0, and it is only validated.
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
        given = [self.epochs, self.steps]
        if self.network.learns:
            _require(min(given) == 0 and max(given) > 0, "[epochs, steps]", "one above 0 and the other 0", given)
        elif given != [0, 0] or self.validation is None:
            raise ValueError(
                "nothing in this network learns: it has neither adapter nor encoder. To validate it as it is, give "
                "steps = 0, epochs = 0 and a validation"
            )
        patch = BACKBONES[self.network.backbone].patch if isinstance(self.network, Network) else 1
        fits = len(self.image_size) == 2 and all(side > 0 and side % patch == 0 for side in self.image_size)
        _require(fits, "image_size", f"height and width, multiples of {patch}", list(self.image_size))
        _require_at_least(0, self, "seed")


# ---- changes


def changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with some settings replaced, such as `{"optimizer.rate": 2e-4}`.

    Raises:
        InputError: unknown setting, or invalid value.
    """
    values = to_plain(recipe)
    for key, value in settings.items():
        *tables, last = key.split(".")
        table = values
        for name in tables:
            if not isinstance(table.get(name, {}) or {}, dict):
                raise InputError(f"unknown setting {key!r}: {name!r} has no settings below it.")
            table[name] = table = table.get(name) or {}
        table[last] = value
    return build(Recipe, values, "the changed recipe")


def read_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Read settings such as `optimizer.rate=2e-4`; a value that is not valid TOML is plain text.

    Raises:
        InputError: no equals sign.

    Example:
        >>> read_settings(["optimizer.rate=2e-4", "step.group_sizes=[1, 16]", "data.disk.path=mine.json"])
        {'optimizer.rate': 0.0002, 'step.group_sizes': [1, 16], 'data.disk.path': 'mine.json'}
    """
    settings = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise InputError(f"--set must be key=value, such as optimizer.rate=2e-4, got {text!r}.")
        try:
            settings[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key.strip()] = value.strip()
    return settings


def differences(recorded: Recipe, wanted: Recipe, named: Collection[str] = ()) -> str:
    """Describe the settings that differ, with both values, except those that are `named`."""
    before, after = _flat(to_plain(recorded)), _flat(to_plain(wanted))
    return ", ".join(
        f"{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in sorted(before | after)
        if before.get(key) != after.get(key) and not any(f"{key}.".startswith(f"{name}.") for name in named)
    )


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat
