"""NetVLAD in MATLAB files: only arrays of numbers are taken from them, and everything odd is refused in one line."""

import json
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from cricavpr import matlab
from cricavpr.errors import WeightsError
from cricavpr.matlab import is_matlab
from cricavpr.methods import load_method
from cricavpr.methods.netvlad import CONVOLUTIONS, read_matconvnet


def weights(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    both = np.empty(2, object)
    both[0], both[1] = first, second
    return {"type": "conv", "weights": both}


def network(**changes: Any) -> dict[str, Any]:
    """A network of the right form whose layers have two channels each."""
    rng = np.random.default_rng(0)
    layers = np.empty(35, object)
    for number in range(35):
        layers[number] = {"type": "relu"}
    for number in CONVOLUTIONS:
        layers[number] = weights(rng.normal(size=(3, 3, 2, 4)).astype("f4"), np.full((4, 1), number, "f4"))
    layers[30] = weights(rng.normal(size=(1, 1, 4, 3)).astype("f4"), rng.normal(size=(1, 1, 4, 3)).astype("f4"))
    layers[33] = weights(rng.normal(size=(1, 1, 12, 5)).astype("f4"), np.ones((5, 1), "f4"))
    mean = np.broadcast_to(np.array([123.0, 117.0, 104.0], "f4"), (4, 4, 3))
    return {"layers": layers, "meta": {"normalization": {"averageImage": mean}}, **changes}


def saved(folder: Path, net: object, **more: Any) -> Path:
    path = folder / "net.mat"
    savemat(path, {"net": net}, **more)
    return path


def layered(number: int, layer: object, length: int = 35) -> dict[str, Any]:
    net = network()
    net["layers"] = net["layers"][:length]
    if number < length:
        net["layers"][number] = layer
    return net


@pytest.mark.parametrize("compressed", [False, True])
def test_layers_become_tensors_under_our_names(tmp_path: Path, compressed: bool) -> None:
    net = network()
    path = saved(tmp_path, net, do_compression=compressed)
    assert is_matlab(path)
    tensors, mean = read_matconvnet(path)
    assert mean == (123.0, 117.0, 104.0)
    assert len(tensors) == 2 * 13 + 4
    kernel = net["layers"][5]["weights"][0]
    assert np.array_equal(tensors["backbone.5.weight"].numpy(), kernel.transpose(3, 2, 0, 1))
    assert tensors["backbone.28.bias"].tolist() == [28.0] * 4
    assignment, centres = (array[0, 0] for array in net["layers"][30]["weights"])
    assert np.array_equal(tensors["pool.conv.weight"][:, :, 0, 0].numpy(), assignment.T)
    assert np.array_equal(tensors["pool.centroids"].numpy(), -centres.T)
    assert np.array_equal(tensors["whitening.weight"].numpy(), net["layers"][33]["weights"][0][0, 0].T)
    assert tensors["whitening.bias"].tolist() == [1.0] * 5


def test_a_network_that_ends_with_netvlad_has_no_whitening(tmp_path: Path) -> None:
    tensors, _ = read_matconvnet(saved(tmp_path, layered(99, None, length=32)))
    assert not [name for name in tensors if name.startswith("whitening")]


def test_one_mean_colour_instead_of_a_mean_picture_will_do(tmp_path: Path) -> None:
    colour = {"normalization": {"averageImage": np.array([1.0, 2.0, 3.0])[None, None]}}
    assert read_matconvnet(saved(tmp_path, network(meta=colour)))[1] == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (np.ones(3), "lacks the field layers"),
        ({"layers": np.ones(3)}, "has 1 layers and ends before the NetVLAD layer"),
        ({"layers": "__import__('os').system('true')"}, "has 1 layers"),
        (layered(30, {"type": "conv"}, length=29), "has 29 layers"),
        (layered(5, {"type": "conv"}), "lacks the field weights"),
        (layered(5, {"weights": np.ones((3, 3, 2, 4))}), "layer 5 must have two arrays"),
        (layered(5, weights(np.ones((3, 3)), np.ones(4))), r"layer 5 must have 4 dimensions, got the shape \(3, 3\)"),
        (
            layered(30, weights(np.ones((4, 3), np.int32), np.ones((4, 3)))),
            "layer 30 has weights that are not",
        ),
        (layered(33, weights(np.array(["os.system"]), np.ones(3))), "layer 33 has weights that are not"),
        (layered(33, weights(np.ones((4, 3)) * 1j, np.ones(3))), "layer 33 has weights that are not"),
        (layered(28, weights(np.full((3, 3, 2, 4), np.nan), np.ones((4, 1)))), "not finite"),
        (network(meta=np.ones(1)), "lacks the field normalization"),
        (network(meta={"normalization": {"averageImage": "red"}}), "averageImage must be three"),
        (network(meta={"normalization": {"averageImage": np.full((2, 2, 3), np.inf)}}), "averageImage must be three"),
    ],
)
def test_what_is_no_netvlad_is_refused_by_what_it_is(tmp_path: Path, net: object, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason) as error:
        read_matconvnet(saved(tmp_path, net))
    assert "\n" not in str(error.value) and "net.mat" in str(error.value)


def test_a_file_without_a_network_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"other": np.ones(3)})
    with pytest.raises(WeightsError, match="has no variable net"):
        read_matconvnet(tmp_path / "a.mat")


def test_a_network_of_other_sizes_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"backbone\.0\.weight \(file 4x2x3x3, network 64x3x3x3\)"):
        load_method("netvlad", saved(tmp_path, network()))


def test_a_file_that_was_exchanged_since_its_first_use_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, network())
    path.with_name("net.mat.sha256.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(WeightsError, match="has changed since"):
        load_method("netvlad", path)


def test_an_archive_that_would_grow_without_end_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab, "LARGEST_BYTES", 50_000_000)
    squeezed = zlib.compress(bytes(200_000_000))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    (tmp_path / "bomb.mat").write_bytes(header + struct.pack("<II", 15, len(squeezed)) + squeezed)
    with pytest.raises(WeightsError, match="more than 50,000,000 bytes"):
        read_matconvnet(tmp_path / "bomb.mat")


def test_a_damaged_file_is_refused_or_read_whole_and_runs_nothing(tmp_path: Path) -> None:
    """In a process of its own: an audit hook cannot be taken off, and a crash must not take the tests along."""
    rng, content = random.Random(3), saved(tmp_path, network()).read_bytes()
    (tmp_path / "mutants").mkdir()
    for number in range(400):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(128, len(changed))
            changed[at] = rng.randrange(256) if number % 2 else changed[at] ^ 1 << rng.randrange(8)
        (tmp_path / "mutants" / f"{number}.mat").write_bytes(
            bytes(changed[: rng.randrange(len(changed))] if number % 5 == 0 else changed)
        )
    code = (
        "import sys, json, pathlib\n"
        "from cricavpr.errors import WeightsError\n"
        "from cricavpr.methods.netvlad import read_matconvnet\n"
        f"read_matconvnet(pathlib.Path({str(tmp_path / 'net.mat')!r}))\n"
        "seen, odd = [], []\n"
        "def watch(event, arguments):\n"
        "    if event in ('exec', 'compile', 'pickle.find_class', 'marshal.loads', 'os.system', 'subprocess.Popen'):\n"
        "        seen.append(event)\n"
        "sys.addaudithook(watch)\n"
        f"for path in sorted(pathlib.Path({str(tmp_path / 'mutants')!r}).iterdir()):\n"
        "    try:\n"
        "        read_matconvnet(path)\n"
        "    except WeightsError as error:\n"
        "        if chr(10) in str(error): odd.append(str(error))\n"
        "print(json.dumps([seen, odd]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
    assert json.loads(done.stdout) == [[], []]


def test_cells_nested_without_end_are_refused(tmp_path: Path) -> None:
    nested: Any = np.ones(2)
    for _ in range(40):
        outer = np.empty(1, object)
        outer[0] = nested
        nested = outer
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_matconvnet(saved(tmp_path, {"layers": nested}))


@pytest.mark.parametrize("at", range(0, 128, 16))
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, at: int) -> None:
    path = saved(tmp_path, network(), do_compression=bool(at % 32))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * at // 128])
    with pytest.raises(WeightsError):
        read_matconvnet(path)
