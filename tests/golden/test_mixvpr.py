"""Our MixVPR against outputs of the authors' implementation, loaded from a file in their form."""

from pathlib import Path

import pytest
import torch

from .convolutional import check, check_refusals, loaded, with_counters
from .rebuilt import arrays, state


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [4096, 128])
def test_maps_and_descriptors_are_the_authors(dim: int, dtype: str, tmp_path: Path) -> None:
    name = f"mixvpr_ResNet50_{dim}"
    torch.save(with_counters(state(name)), tmp_path / "mixvpr.ckpt")  # as published: a flat state dict
    method = loaded("mixvpr", tmp_path / "mixvpr.ckpt", dtype)
    assert (method.dim, method.image_size, method.correlates) == (dim, (320, 320), False)
    check(method, arrays(name), "320x320", images=4 if dtype == "float32" else 2)


def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    check_refusals(
        "mixvpr",
        state("mixvpr_ResNet50_128"),
        tmp_path,
        absent="backbone.model.layer1.0.conv1.weight",
        misshapen="aggregator.mix.3.mix.0.bias",
    )
