"""What the golden tests of the convolutional methods share: descriptors with the maps they came from, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cricavpr.errors import WeightsError
from cricavpr.methods import load_method
from cricavpr.methods.families import TorchMethod

from .rebuilt import described, lengths, normalised, scenes

DESCRIPTOR = {"float32": 1e-4, "float64": 1e-8}  # length of the difference, see the golden files' tolerances
FEATURE = {"float32": 1e-4, "float64": 1e-10}  # of the largest value of the map


def loaded(name: str, path: Path, dtype: str) -> TorchMethod:
    method = load_method(name, path, dtype=dtype)
    assert isinstance(method, TorchMethod)
    return method


def with_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as torch saves it: batch norm counts the batches it has seen."""
    counted = {name: name.replace("running_var", "num_batches_tracked") for name in state if "running_var" in name}
    return {**state, **{counter: torch.tensor(7) for counter in counted.values()}}


def check(
    method: TorchMethod,
    golden: dict[str, np.ndarray],
    size: str,
    images: int = 4,
    descriptor: float | None = None,
    feature: float | None = None,
) -> None:
    """Compare descriptors, and maps where there are some, of the first `images` scenes; a wrong scene must fail."""
    dtype = method.settings.dtype
    height, width = map(int, size.split("x"))
    batch = normalised(scenes(4, height, width, golden[f"{size}_images_sha256"]))[:images]
    maps: list[Tensor] = []
    hook = method.network.backbone.register_forward_hook(lambda *call: maps.append(call[-1]))
    ours = described(method, batch)
    hook.remove()
    theirs = golden[f"{size}_descriptors"]
    tolerance = descriptor or DESCRIPTOR[dtype]
    assert ours.dtype == getattr(torch, dtype) and ours.shape == (images, method.dim)
    assert lengths(ours, theirs[:images]) < tolerance
    assert lengths(ours, np.roll(theirs, 1, axis=0)[:images]) > max(0.05, 5 * tolerance)
    if f"{size}_feature_map_sample" in golden:
        assert list(maps[0].shape[1:]) == golden[f"{size}_feature_map_shape"][1:].tolist()
        every = max(1, maps[0].shape[1] // 16)
        sample = torch.from_numpy(golden[f"{size}_feature_map_sample"][:images])
        difference = (maps[0][:, ::every, ::3, ::3].double() - sample).abs().max()
        assert difference < (feature or FEATURE[dtype]) * sample.abs().max()


def check_refusals(method: str, state: dict[str, Tensor], folder: Path, absent: str, misshapen: str) -> None:
    """A file that lacks an entry, has one too many, one of another shape or one that is no number is refused by name.

    Args:
        absent, misshapen: names of the authors that the rename map leaves alone.
    """
    broken = {name: value.float() for name, value in state.items()}
    del broken[absent]
    broken["surprise.weight"] = torch.zeros(3)
    broken[misshapen] = torch.zeros(5)
    torch.save(broken, folder / "broken.pth")
    with pytest.raises(WeightsError) as error:
        load_method(method, folder / "broken.pth")
    told = str(error.value)
    assert f"1 missing: {absent.replace('backbone.model.', 'backbone.')}" in told
    assert "1 unexpected: surprise.weight" in told
    assert f"1 of another shape: {misshapen.replace('backbone.model.', 'backbone.')}" in told
    nowhere = {name: value.float() for name, value in state.items()}
    nowhere[misshapen].view(-1)[1] = torch.nan
    torch.save(nowhere, folder / "nowhere.pth")
    with pytest.raises(WeightsError, match=f"{misshapen} has values that are not finite"):
        load_method(method, folder / "nowhere.pth")
