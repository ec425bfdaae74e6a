"""Costs of a method: parameters, operations per image, bytes per descriptor, images per second on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cricavpr.evaluation.markdown import markdown
from cricavpr.methods.base import Method, Pixels, network_of

PHOTO = (480, 640)  # height and width of the test photo; methods with a fixed input size resize it
BATCH = 4
MEASURED_S = 2.0


@dataclass(frozen=True)
class Cost:
    """One row of the table of costs.

    Attributes:
        method: name of the method.
        image_size: (height, width) of the network's input.
        parameters: number of parameters of the network; 0 for a method without a network.
        gflop: billions of floating-point operations per image in one forward pass, as torch counts them (a
            multiplication and an addition count as two).
        descriptor_bytes: size of one float32 descriptor in bytes.
        images_per_s: images described per second, without preprocessing; the fastest of several passes.
        licence: licence of the weights.
    """

    method: str
    image_size: tuple[int, int]
    parameters: int
    gflop: float
    descriptor_bytes: int
    images_per_s: float
    licence: str


def measure_cost(method: Method, licence: str) -> Cost:
    """Measure the costs of a method on a grey photo of 480 x 640 px.

    Args:
        licence: licence of the method's weights, for the table.
    """
    from torch.utils.flop_counter import FlopCounterMode

    image = method.preprocess(np.full((*PHOTO, 3), 127, np.uint8))
    network = network_of(method)
    parameters = [] if network is None else list(network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)  # else torch's counter fails if a network passes a parameter to a submodule
    with FlopCounterMode(display=False) as counter:
        method.describe(image[None])
    return Cost(
        method.name,
        (image.shape[1], image.shape[2]),
        sum(parameter.numel() for parameter in parameters),
        float(counter.get_total_flops()) / 1e9,
        4 * method.dim,
        _rate(method, np.repeat(image[None], BATCH, axis=0)),
        licence,
    )


def _rate(method: Method, images: Pixels) -> float:
    method.describe(images)  # the first pass includes work that is done only once
    fastest, stop = float("inf"), time.perf_counter() + MEASURED_S
    while time.perf_counter() < stop or fastest == float("inf"):
        started = time.perf_counter()
        method.describe(images)
        fastest = min(fastest, time.perf_counter() - started)
    return len(images) / fastest


def format_costs(costs: Iterable[Cost]) -> str:
    """Return a Markdown table with a row for each method. The images per second depend on this machine and its load."""
    head = ["method", "image", "parameters (M)", "GFLOP/image", "descriptor bytes", "images/s here"]
    rows = [
        [
            cost.method,
            "x".join(map(str, cost.image_size)),
            f"{cost.parameters / 1e6:.1f}",
            f"{cost.gflop:.1f}",
            f"{cost.descriptor_bytes:,}",
            f"{cost.images_per_s:.1f}",
            cost.licence,
        ]
        for cost in costs
    ]
    return markdown([*head, "licence of the weights"], rows)
