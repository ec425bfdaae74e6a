"""A weights file whose header claims another network, or none, is refused in one line before memory is taken."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cricavpr.cli import main
from cricavpr.errors import InputError, WeightsError
from cricavpr.methods import load_method
from cricavpr.models.cricavpr import CricaVPR
from cricavpr.models.registry import find_weights
from cricavpr.models.weights import read_weights, save_weights

HUGE = (-1, 0, 2**31, 10**9, 10**18, 10**30, -(10**30))
ODD: tuple[Any, ...] = (None, True, "", "64", 0.5, -0.5, 1e300, [], [1], {}, {"a": 1}, [[]], "mlp\n\x1b[2J", "x" * 5000)
MEMORY_BYTES = 6 * 2**30  # of address space: torch alone maps more than 3 GB


@pytest.fixture(scope="module")
def tiny() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    file = read_weights(find_weights("cricavpr-tiny"))
    header = {key: file.header[key] for key in ("config", "image_size", "resize")}
    return {name: tensor.clone() for name, tensor in file.tensors.items()}, header


def fields(header: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The path of every value in a header."""
    for key, value in header.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *below) for below in fields(value))


def changed(header: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(header))
    inside = copy
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return copy


def outcome(weights: Path) -> str:
    """What loading a file comes to: its one line, or nothing where it is a network."""
    try:
        method = load_method("cricavpr-tiny", weights, device="cpu")
    except (WeightsError, InputError) as error:
        assert "\n" not in str(error) and "\x1b" not in str(error) and 0 < len(str(error)) < 1500
        return str(error)
    assert method.image_size and method.dim < 10**6
    return ""


def every_change(header: dict[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    values = (*HUGE, *ODD)
    return [(path, value) for path in fields(header) for value in values]


def test_every_field_with_every_odd_value_is_refused_or_is_a_network(
    tiny: tuple[dict[str, torch.Tensor], dict[str, Any]], tmp_path: Path
) -> None:
    tensors, header = tiny
    few = {name: tensors[name] for name in list(tensors)[:3]}  # so that many files are quickly written
    refused = 0
    for path, value in every_change(header):
        save_weights(tmp_path / "a.safetensors", few, changed(header, path, value))
        refused += bool(outcome(tmp_path / "a.safetensors"))
    assert refused == len(every_change(header)) > 400


@pytest.mark.parametrize("draw", range(3))
def test_fuzzed_headers_end_in_one_line(
    draw: int, tiny: tuple[dict[str, torch.Tensor], dict[str, Any]], tmp_path: Path
) -> None:
    """Several fields at once, over tensors that are those of the header."""
    tensors, header = tiny
    chance = random.Random(draw)
    kinds = list(fields(header))
    for number in range(15):
        wild = header
        for path in chance.sample(kinds, chance.randint(1, 4)):
            try:
                wild = changed(wild, path, chance.choice((*HUGE, *ODD)))
            except TypeError:  # the field above it has just become a number
                continue
        save_weights(tmp_path / f"{number}.safetensors", tensors, wild)
        outcome(tmp_path / f"{number}.safetensors")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("config", "backbone", "width"), 192_000, "of another shape"),
        (("config", "backbone", "depth"), 1_000, r"has 1000 layers named backbone.blocks.\*, but the file has 6"),
        (("config", "backbone", "depth"), 10**9, "depth must be between 1 and 1,000"),
        (("config", "backbone", "patch"), 0, "patch must be between 1"),
        (("config", "backbone", "heads"), 5, "must be a multiple of heads, got 5"),
        (("config", "backbone", "grid"), 10**6, "cannot be built|of another shape"),
        (("config", "backbone", "ffn"), "gelu", "ffn must be 'mlp' or 'swiglu'"),
        (("config", "encoder_depth"), 3, r"has 3 layers named encoder.layers.\*, but the file has 2"),
        (("config", "encoder_ffn"), 10**6, "of another shape"),
        (("config", "adapter_ratio"), 1e9, "adapter_ratio must be at most 16"),
        (("config", "levels"), [1, 10**9], "each of levels must be between 1 and 1,000"),
        (("config", "levels"), [], "number of regions of levels must be between 1"),
        (("config", "levels"), [30, 30], "number of regions of levels must be between 1 and 1,000, got 1800"),
        (("config", "levels"), [1, 2, 9], "cannot be cut into 9 regions"),
        (("config", "dropout"), 7, "dropout must be between 0 and 1"),
        (("config", "surprise"), 7, "unknown key 'surprise'"),
        (("config",), "paper", "must be a table with keys and values"),
        (("image_size",), [14 * 10**6, 14], "image_size must have at most"),
        (("image_size",), [112], "image_size must have 2 values"),
        (("image_size",), [-112, 112], "image_size"),
        (("image_size",), [113, 112], "must be multiples of 14 px"),
        (("resize",), "nearest", "resize must be"),
    ],
)
def test_the_reason_is_given(
    path: tuple[str, ...], value: Any, says: str, tiny: tuple[dict[str, torch.Tensor], dict[str, Any]], tmp_path: Path
) -> None:
    import re

    tensors, header = tiny
    save_weights(tmp_path / "a.safetensors", tensors, changed(header, path, value))
    assert re.search(says, outcome(tmp_path / "a.safetensors"))


def test_nothing_is_allocated_for_a_network_that_the_file_does_not_hold(
    tiny: tuple[dict[str, torch.Tensor], dict[str, Any]], tmp_path: Path
) -> None:
    """A transformer of 180 GB, in a process that may not have a twentieth of it."""
    tensors, header = tiny
    wide = changed(header, ("config", "backbone", "width"), 49_152)
    save_weights(tmp_path / "wide.safetensors", tensors, changed(wide, ("config", "adapter"), "none"))
    code = (
        "import sys\n"
        "from cricavpr.models.cricavpr import CricaVPR\n"
        "from cricavpr.errors import WeightsError\n"
        "try:\n    CricaVPR.from_pretrained(sys.argv[1], device='cpu')\n"
        "except WeightsError as error:\n    print(error)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "wide.safetensors")],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
    )
    assert run.returncode == 0 and "of another shape" in run.stdout, run.stderr


def test_the_command_line_says_it_in_one_line(
    tiny: tuple[dict[str, torch.Tensor], dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, header = tiny
    save_weights(tmp_path / "a.safetensors", tensors, changed(header, ("config", "backbone", "width"), -1))
    (tmp_path / "photos").mkdir()
    arguments = ["describe", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--weights"]
    assert main([*arguments, str(tmp_path / "a.safetensors")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "width must be between 1" in told and "Traceback" not in told


def test_an_honest_header_is_a_network(tiny: tuple[dict[str, torch.Tensor], dict[str, Any]], tmp_path: Path) -> None:
    tensors, header = tiny
    save_weights(tmp_path / "a.safetensors", tensors, header)
    assert outcome(tmp_path / "a.safetensors") == ""
    assert CricaVPR.from_pretrained(tmp_path / "a.safetensors", device="cpu").config.levels == (1, 2, 3)
