"""Weights from strangers: nothing in them runs, everything in them that is no plain tensor is refused."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cricavpr.errors import WeightsError
from cricavpr.models.weights import read_weights
from tests.models import hostile_weights, read_under_watch

WATCHER = Path(read_under_watch.__file__)


def watched(*arguments: str) -> dict[str, Any]:
    run = subprocess.run([sys.executable, str(WATCHER), *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, f"crashed at {run.stderr.splitlines()[-1:]} with {run.returncode}"
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def write_good(folder: Path) -> None:
    good = hostile_weights.good_state()
    (folder / "good.pth").write_bytes(hostile_weights.saved(good))
    (folder / "good-before-1.6.pth").write_bytes(hostile_weights.saved_before_1_6(good))
    save_file(good, folder / "good.safetensors")


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every hostile file, and every mutation with right checksums, read once in a watched process."""
    folder = tmp_path_factory.mktemp("hostile")
    files, canary = folder / "files", folder / "canary"
    files.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = hostile_weights.write_all(files, canary)
    write_good(folder)
    return {"count": count, "canary": canary.exists(), "files": files, **watched(str(files))}


def test_more_than_200_hostile_files_run_nothing(attack: dict[str, Any]) -> None:
    assert attack["count"] == len(attack["outcomes"]) > 200
    assert attack["seen"] == []
    assert not attack["canary"] and not Path(attack["files"]).with_name("canary").exists()


def test_every_hostile_file_is_refused_in_one_line_that_names_it(attack: dict[str, Any]) -> None:
    for name, outcome in attack["outcomes"].items():
        assert outcome != "READ", name
        assert not outcome.startswith("RAISED"), f"{name}: {outcome}"
        assert "\n" not in outcome and name in outcome and len(outcome) < 700, f"{name}: {outcome}"


def test_the_refusal_names_the_function_that_was_called_for(attack: dict[str, Any]) -> None:
    for form in (
        "alone.pth",
        "hidden.pth",
        "beside.pth",
        "value.safetensors",
        "stack.pt",
        "inst.pt",
        "bare.pth",
        "legacy-hidden.pth",
    ):
        assert "calls os.system" in attack["outcomes"][f"call-000-{form}"], form


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("plain-empty", "empty"),
        ("plain-web-page", "a web page, not weights"),
        ("plain-zeros", "nothing but zeros"),
        ("plain-git-lfs", "git lfs pull"),
        ("plain-object-npz", "a NumPy archive"),
        ("torch-torchscript", "TorchScript"),
        ("torch-tar-of-old-torch", "tar archive"),
        ("torch-duplicate-names", "two entries of the archive have the same name"),
        ("torch-deflated", "compressed or encrypted"),
        ("torch-flipped-bit-0", "checksum of its entry archive/data/1"),
        ("torch-cut-at-1007", "truncated or damaged"),
        ("torch-expanded-bomb", "claims 1,000,000,000,000 values"),
        ("torch-aliased-bomb", "share memory"),
        ("torch-sparse-bad-indices", "torch._utils._rebuild_sparse_tensor"),
        ("before-1.6-key-missing", "its storages are not those that its tensors need"),
        ("before-1.6-length-huge", "another length"),
        ("before-1.6-view", "do not have the form that torch writes"),
        ("before-1.6-module-source", "do not have the form that torch writes"),
        ("before-1.6-asked-for-through-memory", "do not have the form that torch writes"),
        ("before-1.6-one-name-two-kinds", "its storages are not those that its tensors need"),
        ("before-1.6-claims-huge-twice", "truncated"),
        ("before-1.6-big-endian", "big-endian"),
        ("before-1.6-tar-as-well", "tar archive"),
        ("before-1.6-trailing", "bytes after its tensors"),
        ("safetensors-overlap", "invalid offset"),
        ("safetensors-huge-header-length", "header too large"),
        ("safetensors-metadata-deep", "not a JSON object"),
        ("safetensors-not-a-number", "not finite"),
    ],
)
def test_the_reason_is_given(attack: dict[str, Any], name: str, reason: str) -> None:
    assert reason in attack["outcomes"][f"{name}.pth"]


def test_the_watcher_would_have_seen_an_execution(tmp_path: Path) -> None:
    call = hostile_weights.reduce_call("os", "system", (f"touch {tmp_path / 'canary'}",))
    (tmp_path / "bare").write_bytes(b"\x80\x02" + call + b".")
    assert any("os.system" in event for event in watched("control", str(tmp_path / "bare"))["seen"])
    assert (tmp_path / "canary").exists()


def test_the_hostile_archives_would_be_read_if_they_were_honest(tmp_path: Path) -> None:
    """The rebuilding of archives is not what gets them refused."""
    path = tmp_path / "a.pth"
    honest = hostile_weights.honest_program()
    harmless = hostile_weights.reduce_call("collections", "OrderedDict", ())
    for program in (honest, hostile_weights.beside_an_honest_state(harmless)):
        path.write_bytes(hostile_weights.with_program(program))
        assert list(read_weights(path).tensors) == list(hostile_weights.good_state())


def test_the_hostile_files_of_old_torch_would_be_read_if_they_were_honest(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    old = hostile_weights.legacy_parts()
    harmless = hostile_weights.reduce_call("collections", "OrderedDict", ())
    beside = b"\x80\x02}(X\x0a\0\0\0state_dict" + old["program"][2:-1] + b"X\x05\0\0\0score" + harmless + b"u."
    for program in (old["program"], beside):
        path.write_bytes(hostile_weights.legacy(old, program=program))
        read = read_weights(path)
        assert read.format == "torch"
        for name, tensor in hostile_weights.good_state().items():
            assert torch.equal(read.tensors[name], tensor)


def test_no_refusal_advises_to_switch_the_protection_off(attack: dict[str, Any]) -> None:
    assert not [outcome for outcome in attack["outcomes"].values() if "weights_only" in outcome]


def test_a_safetensors_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    save_file(hostile_weights.good_state(), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read_weights(tmp_path / "cut")


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_read_whole_or_refused(tmp_path: Path, seed: int) -> None:
    """Anything but a WeightsError, or a tensor of another name or shape, fails; the seed replays it."""
    rng = random.Random(seed)
    good = hostile_weights.good_state()
    buffer = io.BytesIO()
    torch.save(good, buffer)
    save_file(good, tmp_path / "good")
    path = tmp_path / "mutant"
    old = hostile_weights.saved_before_1_6(good)
    for original in (buffer.getvalue(), (tmp_path / "good").read_bytes(), old):
        for _ in range(100):
            path.write_bytes(_mutated(original, rng))
            try:
                read = read_weights(path).tensors
            except WeightsError as error:
                assert "\n" not in str(error)
            else:
                assert sum(tensor.numel() for tensor in read.values()) <= 2 * 36


def test_mutated_programs_with_right_checksums_run_nothing(tmp_path: Path) -> None:
    rng = random.Random(11)
    files = tmp_path / "files"
    files.mkdir()
    for number in range(300):
        program = _mutated(hostile_weights.honest_program(), rng)
        (files / f"mutant-{number}").write_bytes(hostile_weights.with_program(program))
        old = hostile_weights.legacy_parts()
        for part in ("facts", "program", "keys"):
            mutant = hostile_weights.legacy(old, **{part: _mutated(old[part], rng)})
            (files / f"mutant-{number}-{part}").write_bytes(mutant)
    write_good(tmp_path)
    result = watched(str(files))
    assert result["seen"] == []
    assert not [outcome for outcome in result["outcomes"].values() if outcome.startswith("RAISED")]


def _mutated(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.randrange(256)
        elif kind == 2:
            del changed[at : at + rng.randint(1, 20)]
        else:
            changed[at:at] = rng.randbytes(rng.randint(1, 8))
        if not changed:
            break
    return bytes(changed)
