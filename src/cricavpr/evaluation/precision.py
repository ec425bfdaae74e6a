"""A method whose network computes in half precision; its descriptors say so."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Precision
from cricavpr.methods.base import Method, device_of

if TYPE_CHECKING:
    from torch import Tensor


def in_precision(method: Method, precision: Precision) -> Method:
    """Return the method itself for fp32, else the same under torch's autocast, with descriptors in float32.

    Raises:
        InputError: an unknown precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}. Known: {', '.join(get_args(Precision))}.")
    if precision == "fp32":
        return method

    def describe(images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, h, w) -> (B, D)
        import torch

        try:
            with torch.autocast(device_of(method), torch.bfloat16 if precision == "bf16" else torch.float16):
                vectors = method.describe(images, groups)
        except (RuntimeError, NotImplementedError) as error:  # a layer without a kernel for it, or that mixes both
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{method.name} cannot compute in {precision} here ({why}). Use fp32.") from error
        return torch.nn.functional.normalize(vectors.float(), dim=1)

    half = copy.copy(method)
    half.preprocessing = f"{method.preprocessing}; network in {precision}"
    half.describe = describe  # type: ignore[method-assign]
    return half
