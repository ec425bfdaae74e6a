"""Recipes: all settings that decide the result of a training run, checked before training begins.

Settings that change only the speed, such as device, workers and checkpoint interval, are not in a recipe. An invalid
value raises ValueError, which `schema.build` turns into an InputError with the name of the file.
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
    """Pictures of computer-drawn towns.

    Attributes:
        seeds: a seed for each town.
        places: number of places in each town.
        views: number of pictures of each place.
    """

    seeds: tuple[int, ...]
    places: int
    views: int

    def __post_init__(self) -> None:
        _require(len(self.seeds) > 0, "seeds", "at least one town", list(self.seeds))
        _require_at_least(1, self, "places", "views")


@dataclass(frozen=True)
class DiskData:
    """Places on disk.

    Attributes:
        path: the folder of GSV-Cities, or a file written by `cricavpr places build`.
        cities: names of the cities to use; empty for all.
    """

    path: str
    cities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """Source of the pictures, order of the places, and augmentation.

    Attributes:
        town, disk: source of the pictures; give exactly one.
        sampler: order of the places, a key of `sampling.SAMPLERS`.
        augment: augmentation, a key of `augment.AUGMENTS`.
    """

    town: TownData | None = None
    disk: DiskData | None = None
    sampler: str = "shuffled"
    augment: str = "none"

    def __post_init__(self) -> None:
        given = [name for name in ("town", "disk") if getattr(self, name) is not None]
        _require(len(given) == 1, "data", "exactly one of data.town and data.disk", given)
        _require_known("sampler", self.sampler, SAMPLERS)
        _require_known("augment", self.augment, AUGMENTS)


@dataclass(frozen=True)
class Network(Ablation):
    """A CricaVPR network: its settings (see `Ablation`), and the weights from which training starts.

    Attributes:
        backbone: the name of a transformer in `vit.BACKBONES`.
        init: how adapters are initialised. "authors" sets weights and biases of their convolutions to 1e-5, as
            published; "default" draws them at random. In both an untrained adapter changes nothing.
        backbone_weights: weights of the backbone alone: a weights file, or a name from `cricavpr weights list`. They
            may be those of DINOv2 or of a CricaVPR; adapters in the file are ignored. Empty for random weights.
        weights: weights of the whole network, to train it further: a weights file, or a name from `cricavpr weights
            list`. Empty for random weights.
        kind: always "cricavpr".
    """

    backbone: str = "vitb14"
    init: Literal["authors", "default"] = "authors"
    backbone_weights: str = ""
    weights: str = ""
    kind: Literal["cricavpr"] = "cricavpr"

    @property
    def learns(self) -> bool:
        """Whether training changes any parameter other than the exponent p of GeM pooling."""
        return self.tuning == "full" or self.encoder_depth > 0 or (self.tuning == "adapter" and self.adapter != "none")

    def __post_init__(self) -> None:
        _require_known("backbone", self.backbone, BACKBONES)
        width = BACKBONES[self.backbone].width
        _require_at_least(0, self, "encoder_depth")
        heads_fit = self.encoder_heads >= 1 and width % self.encoder_heads == 0
        _require(heads_fit, "encoder_heads", f"a divisor of the width, {width}", self.encoder_heads)
        _require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1", self.dropout)
        one = not (self.backbone_weights and self.weights)
        _require(one, "weights", "empty if backbone_weights is given", self.weights)

    def config(self) -> CricaVPRConfig:
        shared = {one.name: getattr(self, one.name) for one in fields(Ablation)}
        return CricaVPRConfig(**{**shared, "backbone": BACKBONES[self.backbone]})


@dataclass(frozen=True)
class Convolutional:
    """Settings that NetVLAD and CosPlace share. Both describe each image independently of the others.

    Attributes:
        trunk: convolutional backbone, a key of `models.cnn.TRUNKS`.
        tuning: "end" trains all layers after the trunk and the last layers of the trunk, as CosPlace's authors do. The
            last layers are conv5 of VGG-16, or a ResNet from its third stage on. "full" trains everything.
        trunk_weights: file with torchvision's weights, for the trunk alone. Empty for random weights.
        weights: weights of the whole network, to train it further: a weights file, or a name from `cricavpr weights
            list`. Empty for random weights.
    """

    trunk: str = "resnet50"
    tuning: Literal["end", "full"] = "end"
    trunk_weights: str = ""
    weights: str = ""
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_known("trunk", self.trunk, TRUNKS)
        one = not (self.trunk_weights and self.weights)
        _require(one, "weights", "empty if trunk_weights is given", self.weights)


@dataclass(frozen=True)
class NetVLADNetwork(Convolutional):
    """A trunk and NetVLAD. Unless `weights` are given, k-means over features of training pictures initialises NetVLAD.

    Attributes:
        kind: always "netvlad".
        clusters: number of clusters.
        init_images: number of pictures for k-means.
        init_features: number of random features from each of these pictures.
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
    """A trunk, GeM pooling and a linear layer to descriptors of `dim` values."""

    kind: Literal["cosplace"] = "cosplace"
    dim: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_at_least(1, self, "dim")


@dataclass(frozen=True)
class Step:
    """Settings of one training step.

    Attributes:
        places: number of places in a step.
        images_per_place: number of images of each place.
        group_sizes: sizes of groups, within which images influence one another. One size is drawn for each step; 0
            stands for all images of a forward pass.
        members: order of the images before they are divided into groups. "across" shuffles them. "in_order" keeps the
            images of a place together, as the authors' loader does. Then small groups reveal the place labels.
        group_scope: which images a group may hold if several processes train. "world" allows those of the whole step,
            so results do not depend on the number of processes. "rank" allows only those of one process, so results
            depend on the number of processes.
        images_at_once: number of images in a forward pass; 0 takes all. Each pass has its own batch norm and groups, as
            each GPU has under DataParallel. Only the first pass updates the running statistics of batch norm.
        micro_batch: number of images that the backbone keeps in memory at once, in each process; 0 takes all. Images
            are computed twice, and batch norm sees only those of one micro-batch.
        self_distillation: weight of a loss term, 1 - cosine between an image's descriptors alone and in its group.
        precision: "bf16" computes with autocast to bfloat16; "fp32" does not.
        activation_checkpointing: whether to save memory by computing the blocks of the backbone twice.
        compile: whether to use torch.compile for the backbone.
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
        _require_at_least(2, self, "places", "images_per_place")  # a loss needs 2 places, and 2 images of a place
        sizes_fit = bool(self.group_sizes) and min(self.group_sizes) >= 0 and max(self.group_sizes) <= self.images
        _require(sizes_fit, "group_sizes", f"sizes of 0 (all) to {self.images}", list(self.group_sizes))
        fits = 0 <= self.images_at_once <= self.images
        _require(fits, "images_at_once", f"0 (all) to {self.images}", self.images_at_once)
        most = self.images_at_once or self.images
        _require(0 <= self.micro_batch <= most, "micro_batch", f"0 (all) to {most}", self.micro_batch)
        _require_at_least(0, self, "self_distillation")


@dataclass(frozen=True)
class Loss:
    """A loss and its settings. None stands for the default of the loss.

    Attributes:
        name: a key of `losses.LOSSES`.
        alpha, beta, base, epsilon: settings of multi_similarity.
        margin: setting of all losses except multi_similarity.
        scale: setting of cosface.
    """

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
    """The optimizer and its settings.

    Attributes:
        name: "adam" or "adamw".
        rate: learning rate, before the schedule.
        betas: decay rates of the moments.
        weight_decay: weight decay; it never applies to biases, norms and embeddings.
        clip: maximum norm of the gradient; 0 for no limit.
    """

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
    """Schedule of the learning rate.

    Attributes:
        kind: what follows the warm-up: "constant", "step" (halved every few epochs), or "cosine" (falls to 0).
        warmup_steps: number of steps in which the rate rises linearly.
        halve_every_epochs: number of epochs between two halvings, for "step".
    """

    kind: Literal["constant", "step", "cosine"] = "constant"
    warmup_steps: int = 0
    halve_every_epochs: int = 3

    def __post_init__(self) -> None:
        _require_at_least(0, self, "warmup_steps")
        _require_at_least(1, self, "halve_every_epochs")


@dataclass(frozen=True)
class HeldOutTown:
    """A computer-drawn town for validation, with one database picture and one query picture of each place.

    Attributes:
        seed: seed of the town; it should not be one of the training towns.
        places: number of places.
    """

    seed: int
    places: int


@dataclass(frozen=True)
class Validation:
    """Validation data, and when recall is measured on it.

    The weights with the highest recall@`best_by` under the first grouping are the best weights of the run; ties go to
    the earlier step.

    Attributes:
        town: a computer-drawn town; give either `town` or `dataset`.
        dataset: the folder of a dataset, as for `cricavpr evaluate`.
        radius_m: distance in metres within which a photo of `dataset` counts as a correct match.
        groupings: groupings under which recall is measured, as texts for `Grouping.parse`.
        every_steps: number of steps between validations; 0 validates at the end of each epoch.
        best_by: cut-off N of the recall@N that decides which weights are best: 1, 5 or 10.
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
        _require(one, "validation", "exactly one of validation.town and validation.dataset", self.dataset)
        _require(len(self.groupings) > 0, "groupings", "at least one", list(self.groupings))
        for text in self.groupings:
            Grouping.parse(text)
        _require_at_least(0, self, "every_steps", "patience")
        _require(self.best_by in (1, 5, 10), "best_by", "1, 5 or 10", self.best_by)


@dataclass(frozen=True)
class Recipe:
    """All settings that decide the result of a training run.

    Attributes:
        data: training data.
        network: the network.
        step: settings of a step.
        image_size: (height, width) in pixels.
        resize: how the trained network resizes photos that it describes; training itself resizes with Pillow.
        epochs, steps: length of the run; one of them is above 0, and the other is 0. An epoch shows each place once,
            except for the last places if they do not fill a step. If no part of the network is trained, both are 0, and
            the network is only validated.
        seed: seed of all random numbers.
        loss: the loss.
        optimizer: the optimizer.
        schedule: schedule of the learning rate.
        validation: validation data; None for no validation.
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
            _require(min(given) == 0 and max(given) > 0, "one of [epochs, steps]", "above 0 and the other 0", given)
        elif given != [0, 0] or self.validation is None:
            raise ValueError(
                "this network has nothing to train: it has neither adapter nor encoder. To validate it without "
                "training, give steps = 0, epochs = 0 and a [validation] table"
            )
        patch = BACKBONES[self.network.backbone].patch if isinstance(self.network, Network) else 1
        fits = len(self.image_size) == 2 and all(side > 0 and side % patch == 0 for side in self.image_size)
        _require(fits, "image_size", f"height and width, multiples of {patch}", list(self.image_size))
        _require_at_least(0, self, "seed")


# ---- changes


def changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return a copy of a recipe with some settings replaced.

    Args:
        recipe: the recipe.
        settings: new values by setting, such as `{"optimizer.rate": 2e-4}`.

    Raises:
        InputError: a setting is unknown, or a value is invalid.
    """
    values = to_plain(recipe)
    for key, value in settings.items():
        *tables, last = key.split(".")
        table = values
        for name in tables:
            if not isinstance(table.get(name, {}) or {}, dict):
                raise InputError(f"unknown setting {key!r}: {name!r} is a single setting, not a table.")
            table[name] = table = table.get(name) or {}
        table[last] = value
    return build(Recipe, values, "the changed recipe")


def read_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse settings such as `optimizer.rate=2e-4`. A value that is not valid TOML is taken as text.

    Raises:
        InputError: a setting has no equals sign, or nothing before it.

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
    """Return a text that lists the settings that differ between two recipes, with both values; empty if there are none.

    Args:
        recorded: the earlier recipe.
        wanted: the present recipe.
        named: settings that may differ, such as "optimizer.rate"; a table such as "data" stands for all its settings.
    """
    before, after = _flat(to_plain(recorded)), _flat(to_plain(wanted))
    return ", ".join(
        f"{key} was {before.get(key)!r} and is now {after.get(key)!r}"
        for key in sorted(before | after)
        if before.get(key) != after.get(key) and not any(f"{key}.".startswith(f"{name}.") for name in named)
    )


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat
