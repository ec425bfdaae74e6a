"""Tasks: all a machine needs travels as bytes, and a machine that would give other bytes is named."""

from __future__ import annotations

import json
import os
import pickle
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cricavpr.cluster import tasks
from cricavpr.cluster.on_ray import answer_row
from cricavpr.cluster.tasks import (
    Job,
    MethodSpec,
    Task,
    answer,
    differences,
    noise_digest,
    platform_here,
    ready,
)
from cricavpr.datasets.base import ImageSet
from cricavpr.describing import describe
from cricavpr.grouping import Grouping
from cricavpr.methods.base import made_by
from tests.mean_colour import GroupColour, NativeMeanColour, colours, photos

PAIRS = Grouping("in_order", 2)


@pytest.fixture(autouse=True)
def every_method_is_group_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    ready.cache_clear()
    monkeypatch.setattr(tasks, "load_method", lambda *_, **__: GroupColour())


def job_for(images: ImageSet) -> Job:
    method = GroupColour()
    noise = noise_digest(method, (2, 2))
    spec = MethodSpec("group_colour")
    made = made_by(method, PAIRS)
    return Job(spec, made, str(images.root), torch.get_num_threads(), platform_here("cpu"), noise, (2, 2))


def task_for(images: ImageSet) -> Task:
    return Task.of(0, PAIRS.groups(len(images)), images)


def test_a_task_and_its_answer_travel_as_bytes(tmp_path: Path) -> None:
    images = ImageSet(tmp_path, (os.fsdecode(b"\xff ends in a blank "), "b", "c", "d"))
    row = answer_row(job_for(images), {"pickled": pickle.dumps(task_for(images))})
    assert list(map(type, row.values())) == [bytes]
    back = pickle.loads(row["pickled"])
    assert (back.number, back.refusal, sorted(back.failures)) == (0, None, [0, 1, 2, 3])


def test_a_machine_answers_with_what_describe_gives(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(4))
    (tmp_path / "0002.png").write_bytes(b"no picture")
    here = describe(GroupColour(), images, PAIRS, workers=0)
    got = answer(job_for(images), task_for(images))
    assert got.refusal is None and list(got.failures) == [2]
    assert got.failures[2] == (here.problems[0].stage, here.problems[0].reason)
    assert np.array_equal(got.vectors[[0, 1, 3]], here.descriptors.vectors)


def test_a_photo_that_nobody_sees_is_a_failure_and_not_a_machine_without_it(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(4))
    (tmp_path / "0001.png").unlink()
    got = answer(job_for(images), task_for(images))
    assert got.refusal is None and got.failures == {1: ("find", "no such file, or a link whose target does not exist")}


def refusal(job: Job, task: Task) -> str:
    got = answer(job, task)
    assert got.refusal is not None and not got.vectors.size and "\n" not in got.refusal
    return got.refusal


def test_a_machine_that_does_not_see_the_photos_is_named(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(4))
    job, task = job_for(images), task_for(images)
    elsewhere = refusal(replace(job, root="/not/mounted"), task)
    assert elsewhere.startswith(f"machine {socket.gethostname()} cannot join: it has no folder /not/mounted")
    (tmp_path / "0003.png").write_bytes(b"another")
    assert "0003.png has 7 bytes there and has" in refusal(job, task)
    (tmp_path / "0003.png").unlink()
    assert "0003.png is missing there and has" in refusal(job, task)


def test_a_machine_with_other_weights_programs_or_sums_is_named(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(4))
    job, task = job_for(images), task_for(images)
    assert "weights: none here, 123 there" in refusal(replace(job, made=replace(job.made, weights="123")), task)
    older = tuple((name, "1.0" if name == "torch" else value) for name, value in job.platform)
    assert f"torch {torch.__version__} there, 1.0 here" in refusal(replace(job, platform=older), task)
    assert "it computes slightly different descriptors" in refusal(replace(job, noise="0" * 64), task)


def test_what_the_photos_do_is_said_as_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Native(GroupColour, NativeMeanColour):
        pass

    monkeypatch.setattr(tasks, "load_method", lambda *_, **__: Native())
    small = photos(tmp_path, colours(1))
    photos(tmp_path / "large", colours(1), size=(64, 64))
    images = ImageSet(tmp_path, (*small.names, "large/0000.png"))
    method = Native()
    job = replace(job_for(images), made=made_by(method, PAIRS), noise=noise_digest(method, (2, 2)))
    told = refusal(job, task_for(images))
    assert told.startswith("0000.png (32 x 40) and large/0000.png (64 x 64) are in one group but differ in size")


def test_a_crash_of_the_network_is_one_line_with_the_name_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(GroupColour):
        def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
            raise RuntimeError("out of\nmemory")

    images = photos(tmp_path, colours(4))
    job = job_for(images)
    monkeypatch.setattr(tasks, "load_method", lambda *_, **__: Crash())
    assert refusal(job, task_for(images)) == f"machine {socket.gethostname()} failed: RuntimeError: out of memory"


def test_a_weights_file_is_given_by_a_path_that_every_machine_reads_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.safetensors").write_bytes(b"")
    assert MethodSpec("m", "w.safetensors").absolute().weights == str(tmp_path / "w.safetensors")
    assert MethodSpec("m", "random:3").absolute().weights == "random:3"


def test_differences_are_told_from_here_and_from_there() -> None:
    here, there = (("torch", "2.13"), ("numpy", "2.4")), (("torch", "2.12"), ("numpy", "2.4"), ("gpu", "A"))
    assert differences(here, there) == "torch 2.12 there, 2.13 here; gpu A there, none here"
    assert differences(here, here) == ""


def test_the_noise_tells_groups_apart_and_is_the_same_each_time() -> None:
    method = GroupColour()
    assert noise_digest(method, (2, 2)) == noise_digest(method, (2, 2))
    assert noise_digest(method, (2, 2)) != noise_digest(method, (4,))
    assert json.dumps(platform_here("cpu"))  # plain texts
