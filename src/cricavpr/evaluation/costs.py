"""What a method costs: parameters, work per image, bytes per descriptor, images per second on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cricavpr.methods.base import Method, Pixels, network_of

PHOTO = (480, 640)  # pixels of the photo that is prepared: methods of native size see it as it is
BATCH = 4
MEASURED_S = 2.0


@dataclass(frozen=True)
class Cost:
    """One row of the table of cost.

    Attributes:
        parameters: of the network; 0 for a method without one.
        gflop: per image, counted by torch over one forward pass (a product and a sum are two).
        descriptor_bytes: in float32.
        images_per_s: describing prepared images, the best of several passes on `device`.
        image_size: (height, width) that the network saw.
    """

    method: str
    parameters: int
    gflop: float
    descriptor_bytes: int
    images_per_s: float
    image_size: tuple[int, int]
    licence: str


def measure_cost(method: Method, licence: str) -> Cost:
    """Count and time a method on a grey photo of 480 x 640 px.

    Args:
        licence: of its weights, for the table.
    """
    image = method.preprocess(np.full((*PHOTO, 3), 127, np.uint8))
    network = network_of(method)
    parameters = [] if network is None else list(network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)  # torch's counter stumbles over one that a network hands to its parts
    return Cost(
        method=method.name,
        parameters=sum(parameter.numel() for parameter in parameters),
        gflop=_flop(method, image[None]) / 1e9,
        descriptor_bytes=4 * method.dim,
        images_per_s=_rate(method, np.repeat(image[None], BATCH, axis=0)),
        image_size=(image.shape[1], image.shape[2]),
        licence=licence,
    )


def _flop(method: Method, images: Pixels) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        method.describe(images)
    return float(counter.get_total_flops())


def _rate(method: Method, images: Pixels) -> float:
    method.describe(images)  # the first pass pays for what is set up once
    fastest, stop = float("inf"), time.perf_counter() + MEASURED_S
    while time.perf_counter() < stop or fastest == float("inf"):
        started = time.perf_counter()
        method.describe(images)
        fastest = min(fastest, time.perf_counter() - started)
    return len(images) / fastest


def format_costs(costs: Iterable[Cost]) -> str:
    """A Markdown table, one row for each method; images/s compare within one run only."""
    lines = [
        "| method | image | parameters (M) | GFLOP/image | descriptor bytes | images/s here | licence of the weights |",
        "|--------|-------|---------------:|------------:|-----------------:|--------------:|------------------------|",
    ]
    for cost in costs:
        height, width = cost.image_size
        lines.append(
            f"| {cost.method} | {height}x{width} | {cost.parameters / 1e6:.1f} | {cost.gflop:.1f} "
            f"| {cost.descriptor_bytes:,} | {cost.images_per_s:.1f} | {cost.licence} |"
        )
    return "\n".join(lines) + "\n"
