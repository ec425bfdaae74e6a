"""The operations of RandAugment against torchvision's, pixel by pixel."""

import json

import numpy as np
import pytest
from PIL import Image

from cricavpr.training.augment import OPERATIONS, apply

from .rebuilt import GOLDEN, arrays

CASES = sorted(set(arrays("randaugment")) - {"image"})


@pytest.mark.parametrize("case", CASES)
def test_an_operation_gives_torchvisions_pixels(case: str) -> None:
    golden = arrays("randaugment")
    name = case.removesuffix("_negative")
    ours = apply(Image.fromarray(golden["image"]), name, 9, negative=name != case)
    assert np.array_equal(np.asarray(ours), golden[case])


def test_operations_magnitudes_and_signs_are_torchvisions() -> None:
    golden = json.loads((GOLDEN / "randaugment.json").read_text())
    assert list(OPERATIONS) == list(golden)
    for name, facts in golden.items():
        operation = OPERATIONS[name]
        assert operation.signed == facts["signed"]
        wanted = facts["magnitude_at_bin_9_of_31"]
        strength = operation.strength(9, (128, 96))
        assert strength == (int(wanted) if name.startswith("Translate") else wanted)
