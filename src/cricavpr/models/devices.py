"""Choice of the device that torch computes on."""

from __future__ import annotations

import torch

from cricavpr.errors import InputError

AUTO = "auto"
_BEST_FIRST = ("cuda", "mps", "cpu")


def choose_device(device: str = AUTO) -> str:
    """Return the name of a device after testing that torch can compute on it.

    Args:
        device: cpu, cuda, mps, or a numbered device such as cuda:1; "auto" tries cuda, mps and cpu in this order, and
            takes the first that works.

    Raises:
        InputError: the device is not supported, or torch cannot compute on it.

    Example:
        >>> choose_device("cpu")
        'cpu'
    """
    device = str(device)  # a torch.device is accepted too
    if device == AUTO:
        return next(name for name in _BEST_FIRST if _failure(name) is None)
    if device.partition(":")[0] not in _BEST_FIRST:
        raise InputError(f"device must be auto, cpu, cuda or mps, got {device!r}.")
    reason = _failure(device)
    if reason is not None:
        raise InputError(f"device {device!r} cannot be used here ({reason}). Use auto or cpu, or another machine.")
    return device


def _failure(device: str) -> str | None:
    """Return why torch cannot compute on a device; return None if it can.

    A test is needed because a driver may be installed on a machine without a device.
    """
    try:
        ones = torch.ones(8, 8, device=device)
        if (ones @ ones).sum().item() != 512.0:
            return "it computes wrong results"
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).partition("\n")[0].partition(". ")[0][:100].rstrip(".")
    return None
