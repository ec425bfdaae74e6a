"""A method whose network computes in half precision, with the precision written into its descriptors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import PRECISIONS, Precision
from cricavpr.methods.base import Method, Pixels


def in_precision(method: Method, precision: Precision) -> Method:
    """The method itself for fp32, else the same under torch's autocast.

    Raises:
        InputError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"there is no precision {precision!r}. Known: {', '.join(PRECISIONS)}.")
    return method if precision == "fp32" else _Autocast(method, precision)


class _Autocast:
    """Describes in half precision; a descriptor leaves in float32 and of unit length."""

    def __init__(self, method: Method, precision: Precision) -> None:
        self.method, self.precision = method, precision
        self.name, self.dim, self.correlates = method.name, method.dim, method.correlates
        self.image_size, self.weights, self.device = method.image_size, method.weights, method.device
        self.preprocess = method.preprocess  # goes to worker processes by itself, without the network
        self.preprocessing = f"{method.preprocessing}; network in {precision}"

    def describe(self, images: Pixels, groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        import torch
        import torch.nn.functional as F

        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        try:
            with torch.autocast(self.device.partition(":")[0], dtype):
                vectors = self.method.describe(images, groups)
        except (RuntimeError, NotImplementedError) as error:  # a layer that has no kernel for it, or mixes both
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{self.name} does not compute in {self.precision} here ({why}). Use fp32.") from error
        unit: NDArray[np.float32] = F.normalize(torch.from_numpy(vectors), dim=1).numpy()
        return unit
