"""Reading, checking, loading and saving of weights."""

from __future__ import annotations

import re
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cricavpr.errors import WeightsError
from cricavpr.files import sha256_of
from cricavpr.models import torch_files
from cricavpr.models.weights import (
    convert,
    load_strictly,
    plain_state,
    read_weights,
    save_weights,
    show,
)


def small_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def authors_checkpoint(network: nn.Module) -> dict[str, Any]:
    """What the authors' training scripts save: optimizer state and numpy scores lie beside the weights."""
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 3, 6, 6)).sum().backward()
    optimizer.step()
    return {
        "epoch_num": 3,
        "model_state_dict": OrderedDict((f"module.{name}", value) for name, value in network.state_dict().items()),
        "optimizer_state_dict": optimizer.state_dict(),
        "recalls": np.array([91.6, 95.5], np.float32),
        "best_r5": np.float64(187.1),
        "not_improved_num": 0,
    }


def test_the_authors_checkpoint_comes_back_as_plain_names_and_fills_the_network(tmp_path: Path) -> None:
    trained = small_network()
    torch.save(authors_checkpoint(trained), tmp_path / "last_model.pth")
    read = read_weights(tmp_path / "last_model.pth")
    assert same(read.tensors, tensors_of(trained))
    assert "1.num_batches_tracked" in read.tensors
    assert (read.format, read.header) == ("torch", {})
    assert read.sha256 == sha256_of(tmp_path / "last_model.pth")
    fresh = small_network(seed=1)
    load_strictly(fresh, read.tensors, "last_model.pth")
    assert same(tensors_of(fresh), tensors_of(trained))


def test_numpy_values_beside_the_weights_are_never_built(tmp_path: Path) -> None:
    scores = {"array": np.zeros(2), "objects": np.array([{}, "x"], object), "number": np.float64(1)}
    torch.save({"state_dict": {"w": torch.ones(1)}, **scores}, tmp_path / "a.pth")
    with (tmp_path / "a.pth").open("rb") as file:
        loaded: Any = torch_files.read_torch(tmp_path / "a.pth", file)
    assert {type(loaded[name]).__name__ for name in scores} == {"Skipped"}
    assert list(read_weights(tmp_path / "a.pth").tensors) == ["w"]


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"state_dict": s, "epoch": 1, "best_score": 0.9}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_flat_and_wrapped_state_dicts_are_the_same(wrapped: Any, prefix: str) -> None:
    state = tensors_of(small_network())
    assert same(plain_state(wrapped({prefix + name: value for name, value in state.items()})), state)


def test_module_is_stripped_only_where_every_name_has_it() -> None:
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(plain_state(state)) == ["module.a", "b"]


def test_a_safetensors_round_trip_keeps_values_header_and_hash(tmp_path: Path) -> None:
    state = tensors_of(small_network())
    header = {"dim": 10752, "name": "déjà vu", "nested": {"on": True}}
    save_weights(tmp_path / "a.safetensors", state, header)
    read = read_weights(tmp_path / "a.safetensors")
    assert same(dict(sorted(read.tensors.items())), dict(sorted(state.items())))
    assert (read.format, read.header, read.path) == ("safetensors", header, tmp_path / "a.safetensors")


def test_the_same_weights_give_the_same_bytes_whatever_their_order(tmp_path: Path) -> None:
    state = tensors_of(small_network())
    save_weights(tmp_path / "a", state, {"x": 1, "y": 2})
    save_weights(tmp_path / "b", dict(reversed(state.items())), {"y": 2, "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_saved_weights_are_as_readable_as_any_other_file_of_this_user(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    save_weights(tmp_path / "a", {"w": torch.ones(1)}, {})
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "other"]


def test_shared_and_transposed_tensors_can_be_saved(tmp_path: Path) -> None:
    matrix = torch.rand(3, 4)
    save_weights(tmp_path / "a", {"w": matrix.T, "tied": matrix, "grad": nn.Parameter(matrix)}, {})
    read = read_weights(tmp_path / "a").tensors
    assert torch.equal(read["w"], matrix.T)
    assert torch.equal(read["tied"], matrix)


def test_half_size_weights_fill_a_full_precision_network(tmp_path: Path) -> None:
    state = tensors_of(small_network())
    save_weights(tmp_path / "half", state, {}, half=True)
    read = read_weights(tmp_path / "half").tensors
    assert read["0.weight"].dtype == torch.float16
    assert read["1.num_batches_tracked"].dtype == torch.int64
    network = small_network(seed=1)
    load_strictly(network, read, "half")
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, state["0.weight"].half().float())


def test_values_too_large_for_16_bits_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tensor big .* too large for 16 bits"):
        save_weights(tmp_path / "half", {"big": torch.tensor([70_000.0])}, {}, half=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("header", [{"x": float("nan")}, {"x": object()}])
def test_a_header_that_is_not_json_is_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="cannot be written as JSON"):
        save_weights(tmp_path / "a", {"w": torch.ones(1)}, header)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite_are_refused_by_name(value: float, kind: torch.dtype) -> None:
    with pytest.raises(WeightsError, match=r"x\.pth: the tensor layer\.w has values that are not finite"):
        plain_state({"layer.w": torch.tensor([1.0, value]).to(kind)}, "x.pth")


def test_8_bit_floats_are_checked_as_well() -> None:
    nan = torch.tensor([float("nan")]).to(torch.float8_e4m3fn)
    with pytest.raises(WeightsError, match="not finite"):
        plain_state({"w": nan})
    assert plain_state({"w": torch.ones(1).to(torch.float8_e4m3fn)})


def test_the_format_is_told_by_content_and_not_by_suffix(tmp_path: Path) -> None:
    state = {"w": torch.ones(2)}
    torch.save(state, tmp_path / "a.safetensors")
    save_weights(tmp_path / "b.pth", state, {})
    assert read_weights(tmp_path / "a.safetensors").format == "torch"
    assert read_weights(tmp_path / "b.pth").format == "safetensors"


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="it is a folder"):
        read_weights(tmp_path)


@pytest.mark.parametrize("version", ["2.9.1", "1.13.0+cu117", "2.5.0a0", "strange"])
def test_an_old_torch_is_refused_for_pth_files(version: str) -> None:
    with pytest.raises(WeightsError, match=r"Upgrade to torch 2\.10"):
        torch_files.check_torch_version(version)


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0"])
def test_a_new_torch_is_accepted(version: str) -> None:
    torch_files.check_torch_version(version)


def test_an_old_torch_still_reads_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tmp_path / "a", {"w": torch.ones(1)}, {})
    torch.save({"w": torch.ones(1)}, tmp_path / "b")
    monkeypatch.setattr(torch, "__version__", "2.9.0")
    assert read_weights(tmp_path / "a").tensors
    with pytest.raises(WeightsError, match=r"torch 2\.9\.0 cannot open"):
        read_weights(tmp_path / "b")


def test_classes_that_somebody_else_allowed_are_still_refused(tmp_path: Path) -> None:
    import argparse

    torch.save({"w": torch.ones(1), "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth")
    with (
        torch.serialization.safe_globals([argparse.Namespace]),
        pytest.raises(WeightsError, match=r"calls argparse\.Namespace"),
    ):
        read_weights(tmp_path / "a.pth")


def test_the_environment_cannot_switch_the_protection_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"w": print}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"builtin.*print"):
        read_weights(tmp_path / "a.pth")


def test_every_misfit_is_named_in_one_error_and_nothing_is_loaded() -> None:
    network = small_network()
    before = tensors_of(network)
    given = tensors_of(small_network(seed=1))
    del given["0.bias"], given["1.running_var"]
    given["extra"] = torch.ones(1)
    given["2.weight"] = torch.ones(2, 5)
    given["2.bias"] = torch.ones(2, dtype=torch.int64)
    with pytest.raises(WeightsError) as caught:
        load_strictly(network, given, "x.pth")
    message = str(caught.value)
    assert message == (
        "x.pth does not fit the network, nothing was loaded: 2 missing: 0.bias, "
        "1.running_var; 1 unexpected: extra; "
        "1 of another shape: 2.weight (file 2x5, network 2x4); "
        "1 of another type: 2.bias (file torch.int64, network torch.float32)."
    )
    assert same(tensors_of(network), before)


def test_long_lists_of_misfits_are_counted() -> None:
    given = {f"w{number}": torch.ones(1) for number in range(37)}
    with pytest.raises(WeightsError, match=r"37 unexpected: w0, .*w9 and 27 more"):
        load_strictly(nn.Identity(), given, "x.pth")


def test_the_counter_of_batch_norm_may_be_missing_or_too_many() -> None:
    network = small_network()
    given = tensors_of(small_network(seed=1))
    del given["1.num_batches_tracked"]
    load_strictly(network, given, "old.pth")
    assert torch.equal(network[0].weight, given["0.weight"])
    load_strictly(nn.Linear(4, 2), {"weight": torch.ones(2, 4), "bias": torch.ones(2),
                                    "bn.num_batches_tracked": torch.tensor(3)}, "x")  # fmt: skip


def test_64_bit_values_that_overflow_the_network_are_refused() -> None:
    given = {"weight": torch.full((2, 4), 1e300, dtype=torch.float64), "bias": torch.ones(2)}
    with pytest.raises(WeightsError, match="too large for the network's precision: weight"):
        load_strictly(nn.Linear(4, 2), given, "x")


def test_a_scalar_does_not_pass_for_a_vector_of_one() -> None:
    with pytest.raises(WeightsError, match="file scalar, network 2"):
        load_strictly(nn.Linear(4, 2), {"weight": torch.ones(2, 4), "bias": torch.tensor(1.0)}, "x")


def test_names_from_a_file_cannot_break_the_line_or_fill_the_screen() -> None:
    with pytest.raises(WeightsError) as caught:
        load_strictly(nn.Identity(), {"a\nb\x1b[31m" + "x" * 5000: torch.ones(1)}, "x")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_convert_keeps_the_values_and_says_where_they_come_from(tmp_path: Path) -> None:
    network = small_network()
    torch.save(authors_checkpoint(network), tmp_path / "a.pth")
    made = convert(tmp_path / "a.pth", tmp_path / "a.safetensors", {"dim": 8})
    assert same(dict(sorted(made.tensors.items())), dict(sorted(tensors_of(network).items())))
    origin = {"name": "a.pth", "sha256": sha256_of(tmp_path / "a.pth"), "half": False}
    assert made.header == {"dim": 8, "converted_from": origin}
    again = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", half=True)
    assert again.header["dim"] == 8
    assert again.header["converted_from"]["name"] == "a.safetensors"


def test_a_file_is_not_converted_onto_itself(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")
    before = (tmp_path / "a.pth").read_bytes()
    with pytest.raises(WeightsError, match="the same file"):
        convert(tmp_path / "a.pth", tmp_path / "." / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == before


def test_show_counts_what_is_inside(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", {"w": torch.ones(2, 3), "bn.num_batches_tracked": torch.tensor(1)}, {"dim": 8})
    shown = show(tmp_path / "a")
    assert (shown["format"], shown["header"], shown["tensors"]) == ("safetensors", {"dim": 8}, 2)
    assert (shown["values"], shown["bytes"], shown["kinds"]) == (6, 32, ["float32", "int64"])
    assert {"name": "w", "shape": [2, 3]} in shown["first"]
    assert re.fullmatch(r"[0-9a-f]{64}", shown["sha256"])


def test_a_file_exchanged_behind_its_record_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", {"w": torch.ones(1)}, {})
    from cricavpr.models.registry import record

    record(tmp_path / "a", sha256_of(tmp_path / "a"), "test")
    assert read_weights(tmp_path / "a").tensors
    save_weights(tmp_path / "a", {"w": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="has changed since it was first used here"):
        read_weights(tmp_path / "a")
