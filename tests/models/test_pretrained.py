"""from_pretrained and save_pretrained: a network with weights, from a name, a file or a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cricavpr
from cricavpr.errors import InputError, WeightsError
from cricavpr.grouping import Grouping
from cricavpr.methods import load_method
from cricavpr.models import devices
from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig
from cricavpr.models.devices import choose_device
from cricavpr.models.vit import ViTConfig

SMALL = CricaVPRConfig(
    backbone=ViTConfig(64, 2, 4, grid=4), adapter="conv3x3", levels=(1, 2), encoder_heads=8, encoder_ffn=32, dropout=0.0
)


def small() -> CricaVPR:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return CricaVPR(SMALL).eval()


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def test_the_shipped_network_is_ready_to_describe_and_is_that_of_load_method() -> None:
    model = cricavpr.CricaVPR.from_pretrained("cricavpr-tiny", device="cpu")
    assert not model.training and model.config.backbone.width == 192
    pixels = np.random.default_rng(0).normal(size=(4, 3, 112, 112)).astype(np.float32)
    with torch.inference_mode():
        ours = model(torch.from_numpy(pixels), [3, 1])
    assert np.array_equal(ours, load_method("cricavpr-tiny", device="cpu").describe(pixels, [3, 1]))


def test_the_two_halves_are_the_whole() -> None:
    model = small()
    with torch.inference_mode():
        regions = model.regions(images())
        assert regions.shape == (3, SMALL.regions, 64)
        assert torch.equal(model.correlate(regions, [2, 1]), model(images(), [2, 1]))
        assert torch.equal(model.correlate(regions), model(images()))
    with pytest.raises(InputError, match="number of images, 3; got"):
        model.correlate(regions, [2])


def test_a_folder_gives_back_what_was_saved_in_it(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "new" / "folder" / "config.json").read_text())
    assert config["backbone"]["width"] == 64 and config["levels"] == [1, 2]
    for place in (
        tmp_path / "new" / "folder",
        str(tmp_path / "new" / "folder"),
        tmp_path / "new/folder/model.safetensors",
    ):
        again = CricaVPR.from_pretrained(place, device="cpu")
        assert again.config == SMALL and not again.training
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
        with torch.inference_mode():
            assert torch.equal(again(images()), model(images()))


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        small().save_pretrained(tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_saved_folder_is_weights_for_load_method_too(tmp_path: Path) -> None:
    model = CricaVPR.from_pretrained("cricavpr-tiny", device="cpu")
    model.save_pretrained(tmp_path)
    shipped, saved = load_method("cricavpr-tiny", device="cpu"), load_method("cricavpr-tiny", tmp_path, device="cpu")
    assert (saved.image_size, saved.preprocessing) == (shipped.image_size, shipped.preprocessing)
    picture = [np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)]
    assert np.array_equal(saved.embed(picture), shipped.embed(picture))


def test_the_config_beside_the_weights_decides(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "region_cuts": "authors"}))
    assert CricaVPR.from_pretrained(tmp_path, device="cpu").config == replace(SMALL, region_cuts="authors")


def test_bare_weights_of_the_shipped_network_are_that_network_and_what_is_assumed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heads, levels and the size of images leave no trace in the tensors, which is all that torch.save writes."""
    model = CricaVPR.from_pretrained("cricavpr-tiny", device="cpu")
    torch.save({f"_orig_mod.{name}": value for name, value in model.state_dict().items()}, tmp_path / "bare.pth")
    assert capsys.readouterr().err == ""
    again = CricaVPR.from_pretrained(tmp_path / "bare.pth", device="cpu")
    removed, assumed = capsys.readouterr().err.splitlines()
    assert "bare.pth: removed the prefix '_orig_mod.'" in removed
    assert assumed.endswith("bare.pth has no configuration; using that of cricavpr-tiny, with 6 heads in the encoder.")
    assert again.config == replace(model.config, dropout=again.config.dropout)
    shipped, bare = (load_method("cricavpr-tiny", weights, device="cpu") for weights in (None, tmp_path / "bare.pth"))
    assert bare.preprocessing == shipped.preprocessing and bare.image_size == (112, 112)
    picture = [np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)] * 2
    assert np.array_equal(bare.embed(picture, Grouping("in_order", 2)), shipped.embed(picture, Grouping("in_order", 2)))


@pytest.mark.parametrize("place", ["no-such-name", "no/such/folder", "none.safetensors"])
def test_what_is_not_there_is_one_line(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"nor known weights|does not exist"):
        CricaVPR.from_pretrained(place, device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"is a folder without model\.safetensors"):
        CricaVPR.from_pretrained(tmp_path / "empty", device="cpu")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"levels": "x"}', '{"adapter": "mulconv", "surprise": 1}', "[" * 5000]
)
def test_a_config_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match="its configuration is invalid") as caught:
        CricaVPR.from_pretrained(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


# --- the device


def working(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(devices, "_failure", lambda name: None if name.partition(":")[0] in names else "no driver")


@pytest.mark.parametrize(
    ("there", "chosen"), [(("cpu",), "cpu"), (("cuda", "mps", "cpu"), "cuda"), (("mps", "cpu"), "mps")]
)
def test_auto_takes_the_best_device_that_computes(
    there: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    working(monkeypatch, *there)
    assert choose_device() == choose_device("auto") == chosen


def test_a_device_that_is_asked_for_must_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    working(monkeypatch, "cpu", "cuda")
    assert choose_device("cuda:1") == choose_device(torch.device("cuda:1")) == "cuda:1"  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"device 'mps' cannot be used here \(no driver\)"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["gpu", "", "tpu:0", "cuda:x", "cpu:x", "meta", "CPU"])
def test_a_device_that_is_none_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match="device") as caught:
        load_method("pixels", device=name)
    assert "\n" not in str(caught.value)


def test_a_driver_without_a_device_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.ones

    def ones(*size: int, device: str = "cpu") -> torch.Tensor:
        if device == "cuda":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore lines")
        if device == "mps":
            return torch.zeros(*size)  # computes, and wrongly
        return real(*size, device=device)

    monkeypatch.setattr(devices.torch, "ones", ones)
    assert choose_device() == "cpu"
    with pytest.raises(InputError, match="no kernel image is available") as caught:
        choose_device("cuda")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="wrong results"):
        choose_device("mps")


def test_the_method_says_where_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_method("cricavpr-tiny", device="cpu").device == "cpu"
    working(monkeypatch, "cpu")
    assert load_method("cricavpr-tiny").device == load_method("pixels").device == "cpu"


def test_settings_for_the_network_are_read_as_strictly_as_a_file() -> None:
    for settings, says in (
        ({"levels": (1, -2)}, "levels must be between 1"),
        ({"levels": "12"}, "levels must be"),
        ({"region_cuts": "grids"}, "region_cuts must be 'grid' or 'authors'"),
        ({"adapter": "mulcov"}, "adapter must be one of mulconv"),
        ({"encoder_heads": 5}, "must be a multiple of encoder_heads, got 5"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64'"),
        ({"image_size": (0, 0)}, "image_size"),
        ({"image_size": (112,)}, "image_size must have 2 values"),
    ):
        wrong: dict[str, Any] = settings
        with pytest.raises(InputError, match=says):
            load_method("cricavpr-tiny", "random:0", device="cpu", **wrong)
