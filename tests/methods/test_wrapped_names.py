"""Weights saved from a compiled model or by a training framework: what wraps the names is removed, and said once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cricavpr.errors import WeightsError
from cricavpr.methods import load_method
from cricavpr.models.cosplace import GCL, CosPlace
from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig
from cricavpr.models.mixvpr import MixVPR, MixVPRConfig
from cricavpr.models.vit import ViTConfig
from cricavpr.models.weights import plain_state, remove_wrappers

from .small_files import SMALL, small_state
from .vlad_files import FORMS, authors_state

PREFIXES = ["_orig_mod.", "module.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.", "model.net._orig_mod."]


def cricavpr() -> dict[str, Tensor]:
    config = CricaVPRConfig(ViTConfig(64, 1, 1, grid=4), adapter="mulconv", encoder_heads=16, encoder_ffn=32)
    return CricaVPR(config).state_dict()


STATES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "cricavpr": cricavpr,
    "cosplace": lambda: CosPlace("resnet18", 8).state_dict(),
    "eigenplaces": lambda: CosPlace("resnet18", 8).state_dict(),
    "gcl": lambda: GCL("resnet18").state_dict(),
    "mixvpr": lambda: MixVPR(MixVPRConfig(18, side=2, channels=8, rows=2, mixers=1, hidden=4)).state_dict(),
    **{name: lambda name=name: small_state(name) for name in SMALL},  # type: ignore[misc]
    **{name: lambda name=name: authors_state(name) for name in FORMS},  # type: ignore[misc]
}
SIZES = {"mixvpr": (32, 32), "cricavpr": (224, 224), "transvpr": (64, 64)}


def described(name: str, path: Path) -> np.ndarray:
    size = SIZES.get(name, (56, 56))
    settings = {} if name in ("mixvpr", "cricavpr") else {"image_size": size}
    method = load_method(name, path, device="cpu", **settings)
    return method.describe(np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32))


@pytest.mark.parametrize("name", STATES)
def test_every_loader_takes_names_with_any_wrappers(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = STATES[name]()
    torch.save(state, tmp_path / "plain.pth")
    wanted = described(name, tmp_path / "plain.pth")
    assert "removed" not in capsys.readouterr().err
    for prefix in ("_orig_mod.", "model.net._orig_mod."):
        torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, tmp_path / "wrapped.pth")
        assert np.array_equal(described(name, tmp_path / "wrapped.pth"), wanted)
        (told,) = [line for line in capsys.readouterr().err.splitlines() if "removed" in line]
        assert told.startswith("note: ") and repr(prefix) in told and "wrapped.pth" in told


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_come_off_in_any_order_and_number(prefix: str) -> None:
    state = {"backbone.weight": torch.ones(1), "head.bias": torch.zeros(1)}
    plain, removed = remove_wrappers({prefix + name: value for name, value in state.items()})
    assert plain == state and removed == prefix


def test_a_compiled_part_of_a_network_is_recognised_too() -> None:
    plain, removed = remove_wrappers({"backbone._orig_mod.blocks.0.weight": 1, "head.bias": 2})
    assert plain == {"backbone.blocks.0.weight": 1, "head.bias": 2} and removed == "_orig_mod."


@pytest.mark.parametrize(
    "names",
    [
        ["module.a", "b"],  # not in front of every name
        ["backbone.a", "backbone.b"],  # a name of networks, no wrapper
        ["encoder.a"],
        ["model."],  # nothing would be left
        ["modelling.a", "modelling.b"],
        ["a._orig_mod.b", "a.b"],  # two would become one
    ],
)
def test_other_names_stay(names: list[str]) -> None:
    assert remove_wrappers(dict.fromkeys(names, 0)) == (dict.fromkeys(names, 0), "")


def test_an_optimizer_beside_the_weights_changes_nothing() -> None:
    state = {"model._orig_mod.w": torch.ones(2), "model._orig_mod.b": torch.ones(1)}
    assert set(plain_state({"state_dict": state, "optimizer_states": [], "epoch": 3})) == {"w", "b"}


def test_a_file_of_another_network_is_still_refused_by_its_plain_names(tmp_path: Path) -> None:
    torch.save({"_orig_mod.surprise.weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"1 unexpected: surprise\.weight.*another method"):
        load_method("cosplace", tmp_path / "a.pth", device="cpu")
