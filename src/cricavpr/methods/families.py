"""Methods with a torch network, and the table FAMILIES of the methods that differ only in their network and settings.

A row of FAMILIES names a module of `cricavpr.models` and the authors' settings. The module has two functions:
`from_authors_names(tensors)` renames the tensors of the authors' files. `network_of(tensors, name)` builds a network
with the sizes found in the tensors, or with the published sizes where tensors are missing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cricavpr.errors import ImageError, InputError, WeightsError
from cricavpr.images import IMAGENET_MEAN, IMAGENET_STD, Preprocess, Resize
from cricavpr.images.preprocess import resized
from cricavpr.methods.base import Pixels
from cricavpr.methods.embedding import LoadedMethod
from cricavpr.models.fitting import ImageNeeds, build_and_load
from cricavpr.models.weights import find_and_read
from cricavpr.schema import build, nearest, to_plain

N = TypeVar("N", bound=nn.Module)
Colour = tuple[float, float, float]
DType = Literal["float32", "float64"]

RANDOM = "random:"  # weights="random:0" draws the weights with seed 0, for experiments and benchmarks
LONGEST_SEED = 18  # digits; torch takes 64 bits


@dataclass(frozen=True)
class Settings:
    """Settings that a user may change. FAMILIES has the authors' settings of each method.

    Attributes:
        image_size: (height, width) in pixels; None keeps each photo's own size.
        resize: way of resizing, see `Preprocess`.
        dtype: precision of the network.
    """

    image_size: tuple[int, int] | None = None
    resize: Resize = "pil"
    dtype: DType = "float32"

    def overridden(self, overrides: Mapping[str, Any], method: str, fixed: Sequence[str] = ()) -> Self:
        """Return a copy of the settings with some of them replaced.

        Args:
            overrides: new values by the name of the setting.
            method: name of the method, for messages.
            fixed: names of the settings that users cannot change in this method.

        Raises:
            InputError: a setting is unknown or fixed, or a value is invalid.
        """
        known = [field.name for field in fields(self) if field.name not in fixed]
        for key in overrides:
            if key not in known:
                raise InputError(f"unknown setting {key!r} of {method}. {nearest(key, known)}")
        return build(type(self), {**to_plain(self), **to_plain(overrides)}, f"settings of {method}")


@dataclass(frozen=True)
class NativeSize(Preprocess):
    """Preprocessing that does not resize photos to a common size.

    If the network takes only multiples of the patch size, each photo is resized to the nearest multiples.

    Raises:
        ImageError: on a call, if the image is too small for the network.
    """

    image_size: tuple[int, int] | None = None
    needs: ImageNeeds = field(default_factory=ImageNeeds)

    def __call__(self, image: NDArray[np.uint8]) -> Pixels:  # (H, W, 3) to (3, h, w)
        pixels = super().__call__(image)
        height, width = pixels.shape[1:]
        if self.needs.whole:
            height, width = self.needs.nearest(height), self.needs.nearest(width)
        problem = self.needs.problem(height, width)
        if problem is not None:
            raise ImageError("size", f"is too small for this method: {problem}")
        return pixels if pixels.shape[1:] == (height, width) else resized(pixels, (height, width), "bilinear", True)

    def describe(self) -> str:
        if not self.needs.whole:
            return super().describe()
        way = f"size native to the nearest multiple of {self.needs.cell_px}, resize tensor"
        return super().describe().replace("size native, resize none", way)


class TorchMethod(LoadedMethod):
    """A method with a torch network that describes every image independently of the others.

    The network must have the attributes `dim` (length of a descriptor) and `needs` (an `ImageNeeds`).

    Raises:
        InputError: the network cannot take images of the size in the settings.
    """

    network: nn.Module

    def __init__(
        self,
        name: str,
        network: Any,
        settings: Any,  # with image_size, resize and dtype
        weights: str,
        device: str,
        mean: Colour = IMAGENET_MEAN,
        std: Colour = IMAGENET_STD,
    ) -> None:
        self.name, self.weights, self.device, self.settings = name, weights, device, settings
        self.image_size = settings.image_size
        self.dim = network.dim
        self.network = network.eval().to(device)
        if self.image_size is None:
            self.preprocess = NativeSize(None, settings.resize, mean, std, network.needs)
        else:
            self.preprocess = Preprocess(self.image_size, settings.resize, mean, std)
            problem = network.needs.problem(*self.image_size)
            if problem is not None:
                raise InputError(f"{name} does not take the image size {self.image_size}: {problem}.")
        self.preprocessing = self.preprocess.describe() + ("" if settings.dtype == "float32" else f"; {settings.dtype}")

    def describe(self, images: Pixels, groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return the descriptors of images (B, 3, h, w), (B, D) float32 of unit length; see `Method.describe`."""
        with torch.inference_mode():
            vectors: NDArray[np.float32] = self.forward(self.tensor(images), groups).float().cpu().numpy()
        return vectors

    def forward(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, h, w) to (B, D)
        """Run the network: images (B, 3, h, w) to descriptors (B, D). Groups have no effect here."""
        return self.network(images)  # type: ignore[no-any-return]

    def tensor(self, images: Pixels) -> Tensor:
        """Return an array as a tensor on the network's device and in its precision; copy only if necessary."""
        weight = next(self.network.parameters())
        writable = np.require(images, requirements=("C", "W"))  # torch warns about read-only arrays
        return torch.from_numpy(writable).to(weight.device, weight.dtype)


# --- families


@dataclass(frozen=True)
class Family:
    """A method that differs from others only in its network and settings.

    Attributes:
        module: module of `cricavpr.models` that has the network.
        settings: the authors' settings.
        fixed: names of the settings that users cannot change.
        trunk: the backbone that weights of this method must have; None if any backbone is allowed.
    """

    module: str
    settings: Settings
    fixed: tuple[str, ...] = ()
    trunk: str | None = None


FAMILIES = {
    "cosplace": Family("cosplace", Settings()),
    "eigenplaces": Family("cosplace", Settings()),
    "gcl": Family("cosplace", Settings((480, 640))),
    "mixvpr": Family("mixvpr", Settings((320, 320)), fixed=("image_size",)),  # resized as in the authors' training
    "transvpr": Family("transvpr", Settings((480, 640), "tensor_no_antialias")),
    "salad": Family("salad", Settings((322, 322))),  # the authors train at 224 x 224 and evaluate at 322 x 322
    "boq": Family("boq", Settings((322, 322), "tensor_bicubic"), fixed=("resize",), trunk="dinov2"),
    "boq-resnet50": Family("boq", Settings((384, 384), "tensor_bicubic"), fixed=("resize",), trunk="resnet50"),
    "megaloc": Family("salad", Settings(None, "tensor"), fixed=("resize",)),
}


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> TorchMethod:
    """Load a method of FAMILIES; see `cricavpr.methods.load_method`."""
    family = FAMILIES[name]
    settings = family.settings.overridden(overrides, name, family.fixed)
    network, mark = load_network(name, weights, settings.dtype)
    if "image_size" in family.fixed:  # the weights decide the image size
        settings = replace(settings, image_size=network.image_size)
    return TorchMethod(name, network, settings, mark, device)


def load_network(name: str, weights: str | Path, dtype: DType) -> tuple[Any, str]:
    """Load the network of a method in FAMILIES.

    Return the network, and a text that identifies its weights: the SHA-256 of the weights file, or random:SEED.
    """
    family = FAMILIES[name]
    models = importlib.import_module(f"cricavpr.models.{family.module}")
    network, mark = with_weights(
        weights, dtype, lambda tensors: models.network_of(tensors, name), models.from_authors_names
    )
    if family.trunk is not None and network.trunk != family.trunk:
        wanted = family.module, network.trunk
        others = [other for other, one in FAMILIES.items() if (one.module, one.trunk) == wanted]
        advice = f"Load it as {others[0]!r}." if others else "No method here uses that backbone."
        raise WeightsError(f"{weights} has the backbone {network.trunk}, but {name!r} needs {family.trunk}. {advice}")
    return network, mark


# --- weights


def with_weights(
    weights: str | Path,
    dtype: DType,
    network_of: Callable[[Mapping[str, Tensor]], N],
    renamed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
) -> tuple[N, str]:
    """Build a network and load its weights, or draw random weights.

    Return the network, and a text that identifies its weights: the SHA-256 of the weights file, or random:SEED.

    Args:
        weights: a weights file, a name from `cricavpr weights list`, or random:SEED.
        dtype: precision of the network.
        network_of: function that builds a network with the sizes found in a state dict. If the state dict is empty, it
            builds the published network.
        renamed: function that renames the tensors of the authors' weights file to this package's parameter names.
    """
    if is_random(weights):
        return draw_weights(weights, lambda: network_of({}), dtype), str(weights)
    file = find_and_read(weights)
    tensors = renamed(file.tensors)
    return build_and_load(lambda: network_of(tensors), tensors, str(file.path), torch_dtype(dtype)), file.sha256


def is_random(weights: str | Path) -> bool:
    """Return whether the argument asks for random weights: whether it has the form random:SEED."""
    return str(weights).startswith(RANDOM)


def draw_weights(weights: str | Path, build: Callable[[], N], dtype: DType) -> N:
    """Build a network with random weights. The state of torch's random number generator does not change.

    Args:
        weights: random:SEED.
        build: function that makes the network.
        dtype: precision of the network.

    Raises:
        InputError: the seed is missing or not a number.
    """
    seed = str(weights).removeprefix(RANDOM)
    if not (seed.isdecimal() and len(seed) <= LONGEST_SEED):
        raise InputError(f"random weights need a seed, such as random:0, got {str(weights)[:80]!r}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return build().to(torch_dtype(dtype))


def torch_dtype(dtype: DType) -> torch.dtype:
    """Return the torch.dtype with the name `dtype`."""
    return torch.float64 if dtype == "float64" else torch.float32
