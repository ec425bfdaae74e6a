"""Two machines of a real Ray cluster, as processes on this one: the bytes of one machine, whoever dies.

Run by `make test-cluster`, whose environment has Ray.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cricavpr.datasets import open_photos
from cricavpr.describing import describe
from cricavpr.grouping import Grouping
from cricavpr.methods import load_method

pytestmark = pytest.mark.cluster

PHOTOS, GROUP, BROKEN = 200, 16, 37
ENDS_S = 540.0  # no run takes longer, or it hangs
VERB = """
import sys
from cricavpr import cli
from cricavpr.describing import work
work.STATE_EVERY_S = 0.0  # so that a kill at any moment finds what was counted
sys.exit(cli.main(sys.argv[1:]))
"""


def draw_photos(folder: Path) -> Path:
    """Patches of colour, and one file that breaks off."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for index in range(PHOTOS):
        patches = Image.fromarray(draw.integers(0, 256, (6, 6, 3), np.uint8))
        patches.resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{index:04d}.jpg")
    broken = folder / f"{BROKEN:04d}.jpg"
    broken.write_bytes(broken.read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("cluster") / "photos")


@pytest.fixture(scope="module")
def alone(photos: Path) -> tuple[bytes, str]:
    """The file and the list of failures that one machine gives."""
    out = photos.parent / "alone.safetensors"
    return finish(verb(photos, out), out)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Any, str]]:
    """The head of a cluster with two processors, and its address; each test brings a second machine."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray reads it so; its own 15 makes a busy machine crawl
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = {"num_cpus": 2, "ray_client_server_port": port, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made, f"ray://127.0.0.1:{port}"
    made.shutdown()


def verb(photos: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """The verb `describe` as a process, in a folder of its own."""
    typed = ["describe", str(photos), "--out", str(out), "--grouping", f"in_order:{GROUP}", "--quiet", *more]
    return subprocess.Popen(
        [sys.executable, "-c", VERB, *typed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(run: subprocess.Popen[str], out: Path) -> tuple[bytes, str]:
    """Its file and the photos that it names, once it has ended as one with a broken photo must."""
    _, told = run.communicate(timeout=ENDS_S)
    assert run.returncode == 3, told
    return out.read_bytes(), "\n".join(line for line in told.splitlines() if "cannot use" in line)


def batches_done(out: Path) -> int:
    state = out.with_name(f".{out.name}.partial") / "state.json"
    return int(json.loads(state.read_text())["batches_done"]) if state.exists() else 0


def wait_until(true: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    until = time.monotonic() + ENDS_S
    while not true():
        assert run.poll() is None and time.monotonic() < until, "the run ended before its middle"
        time.sleep(0.01)


def test_two_machines_give_the_bytes_and_the_failures_of_one(
    cluster: tuple[Any, str], photos: Path, alone: tuple[bytes, str], tmp_path: Path
) -> None:
    machines, address = cluster
    second = machines.add_node(num_cpus=2)
    out = tmp_path / "two.safetensors"
    assert finish(verb(photos, out, "--cluster", address), out) == alone
    assert f"{BROKEN:04d}.jpg" in alone[1]
    machines.remove_node(second)


def test_a_machine_that_dies_in_the_middle_changes_no_byte(
    cluster: tuple[Any, str], photos: Path, alone: tuple[bytes, str], tmp_path: Path
) -> None:
    machines, address = cluster
    second = machines.add_node(num_cpus=2)
    out = tmp_path / "dead.safetensors"
    run = verb(photos, out, "--cluster", address)
    wait_until(lambda: batches_done(out) >= 2, run)
    machines.remove_node(second, allow_graceful=False)
    assert run.poll() is None, "the machine died after the work was done"
    assert finish(run, out) == alone


def test_a_run_whose_driver_was_killed_is_finished_on_one_machine(
    cluster: tuple[Any, str], photos: Path, alone: tuple[bytes, str], tmp_path: Path
) -> None:
    out = tmp_path / "killed.safetensors"
    run = verb(photos, out, "--cluster", cluster[1])
    wait_until(lambda: batches_done(out) >= 2, run)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=ENDS_S)
    told: list[int] = []
    torch.set_num_threads(1)  # as `verb` has it: threads decide about the last bits
    images, _ = open_photos(photos)
    method, grouping = load_method("cricavpr-tiny"), Grouping("in_order", GROUP)
    described = describe(method, images, grouping, out=out, workers=0, progress=lambda done, _: told.append(done))
    assert told[0] >= 3 * GROUP, "it began again"
    assert out.read_bytes() == alone[0]
    assert [problem.name for problem in described.problems] == [f"{BROKEN:04d}.jpg"]
