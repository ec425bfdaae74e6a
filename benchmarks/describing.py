"""Speed of describing with ViT-B, as a share of the matrix-product rate of this machine, and the cost of a photo.

Run: python benchmarks/describing.py. Ratios are of figures measured in one run, alternating, the best of several:
absolute times say little on a shared machine.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from cricavpr.images import decode
from cricavpr.methods import load_method
from cricavpr.methods.cricavpr import CricaVPRMethod

ROUNDS = 5
BATCHES = (1, 8, 16)


def best_s(work: Callable[[], object]) -> float:
    """Return the shortest of several runs, in seconds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def matrix_rate(rows: int, width: int = 768, hidden: int = 3072) -> float:
    """Return the FLOP/s of float32 matrix products with the shapes of the MLP, at `rows` tokens."""
    left, right, back = torch.randn(rows, width), torch.randn(width, hidden), torch.randn(hidden, width)

    def products() -> None:
        for _ in range(8):
            (left @ right) @ back

    return 8 * 4 * rows * width * hidden / best_s(products)


def flops_per_image(method: CricaVPRMethod) -> float:
    """Return the FLOP of one forward pass, counted by torch: products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        method.describe(np.zeros((1, 3, 224, 224), np.float32))
    return float(counter.get_total_flops())


def photo(width: int, height: int) -> bytes:
    """Return a JPEG with as much detail as a photo."""
    noise = np.random.default_rng(0).normal(128, 40, (height // 8, width // 8, 3)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    method = load_method("cricavpr", "random:0", device="cpu")
    assert isinstance(method, CricaVPRMethod)
    per_image = flops_per_image(method)
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads; ViT-B/14 at 224 px: {per_image / 1e9:.1f} GFLOP per image")
    print("| batch | images/s | share of the matrix-product rate |")
    print("|------:|---------:|---------------------------------:|")
    for batch in BATCHES:
        images = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)
        method.describe(images)
        rate = matrix_rate(257 * batch)
        per_s = batch / best_s(lambda images=images: method.describe(images))
        rate = max(rate, matrix_rate(257 * batch))  # before and after: the machine's best is the yardstick
        print(f"| {batch:5} | {per_s:8.2f} | {100 * per_s * per_image / rate:31.0f} % |")
    print("\n| photo     | decode ms | preprocess ms |\n|-----------|----------:|--------------:|")
    torch.set_num_threads(1)
    for width, height in ((640, 480), (1920, 1080), (4000, 3000)):
        file = photo(width, height)
        image = decode(file)
        decoding = best_s(lambda file=file: decode(file))
        preparing = best_s(lambda image=image: method.preprocess(image))
        print(f"| {f'{width}x{height}':<9} | {1000 * decoding:9.1f} | {1000 * preparing:13.1f} |")


if __name__ == "__main__":
    main()
