"""Checkpoints: whole or not there, whatever happens while they are written or afterwards."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cricavpr.errors import InputError
from cricavpr.files import sha256_of
from cricavpr.training.checkpoints import (
    KEPT,
    Checkpoint,
    Facts,
    Standing,
    list_checkpoints,
    load,
    load_newest,
    save,
    step_of,
)

CALLS = ("open", "fsync", "replace", "unlink")


class PowerCut(BaseException):
    """Nothing in the product may catch it."""


def checkpoint(step: int) -> Checkpoint:
    facts = Facts(step, Standing(0.5, step, 0, {"R@1 alone": 0.5}), 123, {"note": "é"}, "f" * 64, {"torch": "2"})
    return Checkpoint(facts, {"weight": torch.full((300,), float(step)), "count": torch.tensor(step)})


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path, checkpoint(7))
    loaded = load(path)
    assert loaded.facts == checkpoint(7).facts
    assert torch.equal(loaded.tensors["weight"], checkpoint(7).tensors["weight"])
    assert loaded.tensors["count"].dtype == torch.int64


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (0, 5, 10, 15):
        save(tmp_path, checkpoint(step))
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [15, 10]
    assert len(list(tmp_path.iterdir())) == KEPT


def test_a_broken_newest_one_falls_back_and_both_are_named(tmp_path: Path) -> None:
    before, newest = save(tmp_path, checkpoint(5)), save(tmp_path, checkpoint(10))
    newest.write_bytes(newest.read_bytes()[:-1])
    loaded, path, complaints = load_newest(tmp_path)
    assert (loaded.facts.step, path) == (5, before)
    assert newest.name in complaints[0]


def test_a_run_that_went_back_removes_what_was_broken_ahead(tmp_path: Path) -> None:
    for step in (5, 10):
        save(tmp_path, checkpoint(step))
    save(tmp_path, checkpoint(7))
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [7, 5]


def test_with_nothing_whole_every_broken_one_is_named(tmp_path: Path) -> None:
    paths = [save(tmp_path, checkpoint(step)) for step in (5, 10)]
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(InputError) as error:
        load_newest(tmp_path)
    assert all(path.name in str(error.value) for path in paths)


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Cut anywhere, or one bit flipped."""
    if dice.random() < 0.5:
        return data[: dice.randrange(len(data))]
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


def fall_back_from_damage(folder: Path, times: int) -> None:
    save(folder, checkpoint(5))
    newest = save(folder, checkpoint(10))
    whole, dice = newest.read_bytes(), random.Random(0)
    for _ in range(times):
        newest.write_bytes(damaged(whole, dice))
        assert load_newest(folder)[0].facts.step == 5


def test_every_cut_and_every_flipped_bit_falls_back(tmp_path: Path) -> None:
    fall_back_from_damage(tmp_path, 300)


@pytest.mark.slow
def test_a_thousand_cuts_and_flipped_bits_fall_back(tmp_path: Path) -> None:
    fall_back_from_damage(tmp_path, 1000)


def interrupted(monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], None]) -> list[str]:
    """Let something happen after the n-th call of the system; the list grows with the calls."""
    calls: list[str] = []

    def counted(name: str, call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        result = call(*args, **keywords)
        calls.append(name)
        if len(calls) == number:
            happens()
        return result

    for name in CALLS:
        monkeypatch.setattr(os, name, partial(counted, name, getattr(os, name)))
    return calls


def power_cut() -> None:
    raise PowerCut


def failing(error: OSError) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_crash_after_any_call_of_a_save_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    crashes = 0
    for number in range(1, 100):
        folder = tmp_path / str(number)
        for step in (5, 10):
            save(folder, checkpoint(step))
        with pytest.MonkeyPatch.context() as patch:
            calls = interrupted(patch, number, power_cut)
            try:
                save(folder, checkpoint(15))
            except PowerCut:
                crashes += 1
        assert load_newest(folder)[0].facts.step == (15 if "replace" in calls else 10)
        assert len(list(folder.iterdir())) <= KEPT + 1
        save(folder, checkpoint(20))
        assert step_of(list_checkpoints(folder)[0]) == 20
        assert len(list(folder.iterdir())) == KEPT
        if len(calls) < number:
            break
    assert crashes >= 6


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), PermissionError(13, "Permission denied")], ids=lambda e: e.strerror
)
def test_an_error_in_any_call_of_a_save_is_said_and_nothing_is_lost(error: OSError, tmp_path: Path) -> None:
    for number in range(1, 6):  # up to the rename and the sync of the folder
        folder = tmp_path / str(number)
        save(folder, checkpoint(5))
        with pytest.MonkeyPatch.context() as patch:
            calls = interrupted(patch, number, failing(error))
            with pytest.raises(InputError, match=f"cannot write a checkpoint of step 10 .*: {error.strerror}"):
                save(folder, checkpoint(10))
        assert len(calls) >= number
        assert load_newest(folder)[0].facts.step in (5, 10)


@pytest.mark.parametrize("call", ["mkdir", "iterdir", "replace", "unlink"])
def test_a_folder_that_may_not_be_written_or_listed_is_said(call: str, tmp_path: Path) -> None:
    for step in (5, 10):
        save(tmp_path, checkpoint(step))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, call, lambda *_, **__: failing(PermissionError(13, "Permission denied"))())
        with pytest.raises(InputError, match=r"cannot write a checkpoint of step 15 .*: Permission denied"):
            save(tmp_path, checkpoint(15))
    assert load_newest(tmp_path)[0].facts.step in (10, 15)


def test_checkpoints_that_may_not_be_listed_are_not_taken_for_none(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", lambda _: failing(PermissionError(13, "Permission denied"))())
        patch.setattr(os, "scandir", lambda _: failing(PermissionError(13, "Permission denied"))())
        with pytest.raises(PermissionError):
            list_checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ("", "is not valid JSON"),
        ("[]", "must be a table"),
        ('{"step": 1}', "missing key"),
        ('{"step": "1"}', "step must be int"),
        ('{"format": "cricavpr.checkpoint.2"}', "format must be 'cricavpr.checkpoint.1'"),
    ],
)
def test_facts_that_are_not_those_of_a_checkpoint_are_refused_by_name(facts: str, says: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "file", metadata={"cricavpr": facts})
    path = (tmp_path / "file").rename(tmp_path / f"{1:09d}-{sha256_of(tmp_path / 'file')}.safetensors")
    with pytest.raises(InputError, match=says) as error:
        load(path)
    assert path.name in str(error.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write a checkpoint"):
        save(tmp_path / "file" / "checkpoints", checkpoint(1))
