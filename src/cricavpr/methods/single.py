"""What a network that sees every image by itself needs around it to be a method: pictures in, weights, precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

from cricavpr.errors import InputError, WeightsError
from cricavpr.images import Preprocess, Resize
from cricavpr.schema import nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    N = TypeVar("N", bound=nn.Module)

RANDOM = "random:"  # weights="random:0" draws the weights from seed 0: for experiments and benchmarks
DType = Literal["float32", "float64"]


class Network(Protocol):
    """Images (B, 3, H, W) to descriptors (B, D) of unit length."""

    dim: int

    def __call__(self, images: Tensor) -> Tensor: ...
    def to(self, device: str) -> Any: ...
    def eval(self) -> Any: ...
    def parameters(self) -> Any: ...


@dataclass(frozen=True)
class Settings:
    """What a user may set: how pictures reach the network, and how exactly it computes. Defaults are the authors'."""

    image_size: tuple[int, int] | None = None
    resize: Resize = "pil"
    dtype: DType = "float32"

    def overridden(self, overrides: Mapping[str, Any], method: str, fixed: Sequence[str] = ()) -> Settings:
        """These settings with some replaced.

        Args:
            fixed: settings that this method does not leave open.

        Raises:
            InputError: an override that is no setting, or a precision that is not offered.
        """
        known = [field.name for field in fields(self) if field.name not in fixed]
        for key in overrides:
            if key not in known:
                raise InputError(f"{key!r} is not a setting of {method}. {nearest(key, known)}")
        settings = replace(self, **overrides)
        if settings.dtype not in get_args(DType):
            raise InputError(
                f"{method} cannot compute in {settings.dtype!r}. {nearest(settings.dtype, get_args(DType))}"
            )
        return settings


class SingleImageMethod:
    """A network with weights, ready to describe images, each by itself."""

    correlates = False

    def __init__(self, name: str, model: Network, settings: Settings, weights: str, device: str) -> None:
        self.name = name
        self.dim = model.dim
        self.image_size = settings.image_size
        self.weights = weights
        self.settings = settings
        self.model: Network = model.eval().to(device)
        self.preprocess = Preprocess(settings.image_size, resize=settings.resize)  # goes to worker processes by itself
        exact = "" if settings.dtype == "float32" else f"; {settings.dtype}"
        self.preprocessing = f"{self.preprocess.describe()}{exact}"

    def describe(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, h, w)
        import torch

        weight = next(self.model.parameters())
        with torch.inference_mode():
            return self.model(images.to(weight.device, weight.dtype)).cpu()


def with_weights(
    weights: str | Path,
    dtype: DType,
    *,
    published: Callable[[], N],
    fitting: Callable[[Mapping[str, Tensor], str], N],
    renamed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
) -> tuple[N, str]:
    """A network filled with weights, and their SHA-256 or what stands for it.

    Args:
        weights: a file, a known name, or random:SEED.
        published: makes the network of the published size, for random weights.
        fitting: makes the network whose sizes are read off tensors under our names; told the file too, for messages.
        renamed: the authors' names to ours.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: random weights without a seed.
    """
    import torch

    from cricavpr.models.registry import find_weights
    from cricavpr.models.weights import load_strictly, read_weights

    text = str(weights)
    if text.startswith(RANDOM):
        return seeded(text, published).to(torch_dtype(dtype)), text
    file = read_weights(find_weights(text))
    tensors, source = renamed(file.tensors), str(file.path)
    with torch.random.fork_rng(devices=[]):  # the first values are overwritten: leave the caller's numbers alone
        model = fitting(tensors, source).to(torch_dtype(dtype))
    load_strictly(model, tensors, source)
    return model, file.sha256


def shape_of(tensors: Mapping[str, Tensor], name: str, dims: int, source: str) -> tuple[int, ...]:
    """The shape of an entry from which a size of the network is read.

    Raises:
        WeightsError: it is missing, or has not `dims` dimensions.
    """
    if name not in tensors:
        raise WeightsError(f"{source} does not fit the network, nothing was loaded: {name} is missing.")
    shape = tuple(tensors[name].shape)
    if len(shape) != dims or 0 in shape:
        raise WeightsError(f"{source} does not fit the network, nothing was loaded: {name} has the shape {shape}.")
    return shape


def seeded(text: str, build: Callable[[], N]) -> N:
    import torch

    seed = text.removeprefix(RANDOM)
    if not seed.isdecimal():
        raise InputError(f"weights {text!r} name no seed. Write random:0, say.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return build()


def torch_dtype(dtype: DType) -> torch.dtype:
    import torch

    return torch.float64 if dtype == "float64" else torch.float32
