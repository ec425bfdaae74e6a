"""A method whose network computes in half precision; its descriptors say so."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Precision
from cricavpr.methods.base import Method, Pixels


def in_precision(method: Method, precision: Precision) -> Method:
    """Return the method itself for fp32, else the same under torch's autocast, with descriptors in float32.

    Raises:
        InputError: an unknown precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}. Known: {', '.join(get_args(Precision))}.")
    if precision == "fp32":
        return method

    def describe(images: Pixels, groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        import torch

        try:
            with torch.autocast(
                method.device.partition(":")[0], torch.bfloat16 if precision == "bf16" else torch.float16
            ):
                vectors = method.describe(images, groups)
        except (RuntimeError, NotImplementedError) as error:  # a layer without a kernel for it, or that mixes both
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{method.name} cannot compute in {precision} here ({why}). Use fp32.") from error
        unit: NDArray[np.float32] = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1).numpy()
        return unit

    half = copy.copy(method)
    half.preprocessing = f"{method.preprocessing}; network in {precision}"
    half.describe = describe  # type: ignore[method-assign]
    return half
