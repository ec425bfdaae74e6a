"""A method whose network computes in half precision; its descriptors say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Precision
from cricavpr.methods.base import Method, device_of

if TYPE_CHECKING:
    from torch import Tensor


def in_precision(method: Method, precision: Precision) -> Method:
    """Return the method itself for fp32, else the same under torch's autocast.

    Raises:
        InputError: an unknown precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}. Known: {', '.join(get_args(Precision))}.")
    return method if precision == "fp32" else _Autocast(method, precision)


class _Autocast:
    """Describes in half precision; descriptors leave in float32 and of unit length."""

    def __init__(self, method: Method, precision: Precision) -> None:
        self.method, self.precision = method, precision
        self.name, self.dim, self.correlates = method.name, method.dim, method.correlates
        self.image_size, self.weights = method.image_size, method.weights
        self.preprocess = method.preprocess  # goes to worker processes by itself, without the network
        self.preprocessing = f"{method.preprocessing}; network in {precision}"

    def describe(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, h, w) -> (B, D)
        import torch
        import torch.nn.functional as F

        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        try:
            with torch.autocast(device_of(self.method), dtype):
                vectors = self.method.describe(images, groups)
        except (RuntimeError, NotImplementedError) as error:  # a layer without a kernel for it, or that mixes both
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{self.name} cannot compute in {self.precision} here ({why}). Use fp32.") from error
        return F.normalize(vectors.float(), dim=1)
