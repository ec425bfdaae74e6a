"""Ray, which is the extra "cluster" and has its home here: reaching a cluster, and spreading tasks with Ray Data.

Ray Data does not run behind Ray's client, so a conductor is sent into the cluster and runs it there; the machine
that asked fetches one answer after the other. Where a machine dies, Ray Data gives its tasks to the others; where
the conductor dies with it, another conductor takes the tasks that have no answer yet.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cricavpr.cluster.address import Address
from cricavpr.cluster.tasks import Answer, Job, Row, Task, answer
from cricavpr.errors import InputError
from cricavpr.extras import extra

REACH_S = 5.0  # how long a machine may take to answer at all
LOOK_EVERY_S = 30.0  # without an answer, how often to look whether any machine is left
MOST_LOSSES = 3  # of conductors, with no answer in between


@dataclass(frozen=True)
class Needs:
    """What one task takes of a machine."""

    cpus: int
    gpus: int


@contextlib.contextmanager
def connected(address: Address) -> Iterator[None]:
    """Be a driver of a cluster during the block. Only connect to a cluster you trust: Ray runs what it is sent.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: nobody answers there, or not in Ray's way.
    """
    ray = require_ray()
    here: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if address.host is not None:
        _require_answer(address)
        here = {"address": str(address)}
    try:
        ray.init(**here, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # ray raises RuntimeError, ConnectionError, ValueError and its own
        raise InputError(f"no Ray cluster at {address}: {_one_line(error)}. Is its client server running?") from error
    try:
        yield
    finally:
        ray.shutdown()


def spread(job: Job, tasks: Sequence[Task], needs: Needs, note: Callable[[str], None]) -> Iterator[Answer]:
    """Give the tasks to the machines; their answers in the order in which they come.

    Raises:
        InputError: no machine is large enough, or the cluster is lost. What came before is with the caller.
    """
    ray = require_ray()
    left = {task.number: task for task in tasks}
    losses = 0
    while left:
        _require_machine(needs)
        conductor = ray.remote(num_cpus=0)(Conductor).remote()
        try:
            for one in _fetch(conductor, job, list(left.values()), needs):
                if left.pop(one.number, None) is not None:
                    losses = 0
                    yield one
        except ray.exceptions.RayError as error:
            losses += 1
            if losses >= MOST_LOSSES:
                raise InputError(f"the cluster fails again and again: {_one_line(error)}. {_KEPT}") from error
            note(f"a machine of the cluster was lost; {len(left):,} batches are given to the others.")
        except ConnectionError as error:
            raise InputError(f"the cluster was lost: {_one_line(error)}. {_KEPT}") from error
        finally:
            with contextlib.suppress(Exception):  # it may be dead, and the connection with it
                ray.kill(conductor)


class Conductor:
    """Runs Ray Data inside the cluster."""

    def __init__(self) -> None:
        self.answers: Iterator[Row] = iter(())

    def begin(self, job: Job, rows: list[Row], needs: Needs) -> None:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))  # one task for each row
        work = functools.partial(_row_for_row, job)
        spread_out = dataset.map(work, num_cpus=needs.cpus, num_gpus=needs.gpus or None)
        self.answers = iter(spread_out.iter_rows())

    def next(self) -> Row | None:
        """One more answer; None where there is none left."""
        return next(self.answers, None)


def _row_for_row(job: Job, row: Row) -> Row:
    return answer(job, Task.from_row(row)).to_row()


def _fetch(conductor: Any, job: Job, tasks: Sequence[Task], needs: Needs) -> Iterator[Answer]:
    _wait_for(conductor.begin.remote(job, [task.to_row() for task in tasks], needs), needs)
    while (row := _wait_for(conductor.next.remote(), needs)) is not None:
        yield Answer.from_row(row)


def _wait_for(reference: Any, needs: Needs) -> Any:
    """What a call gives; meanwhile make sure that there still is a machine that could give it."""
    ray = require_ray()
    while True:
        try:
            return ray.get(reference, timeout=LOOK_EVERY_S)
        except ray.exceptions.GetTimeoutError:
            _require_machine(needs)


def _require_machine(needs: Needs) -> None:
    ray = require_ray()
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []
    if not machines:
        raise InputError(f"the cluster was lost: no machine of it answers. {_KEPT}")
    fit = [m for m in machines if m.get("CPU", 0) >= needs.cpus and m.get("GPU", 0) >= needs.gpus]
    if not fit:
        raise InputError(
            f"none of the {len(machines)} machines of the cluster has {needs.cpus} processors"
            f"{f' and {needs.gpus} GPU' if needs.gpus else ''} to give. Set OMP_NUM_THREADS to fewer here, or add one."
        )


def _require_answer(address: Address) -> None:
    """Ray itself would try for half a minute and print pages."""
    try:
        socket.create_connection((address.host or "", address.port), REACH_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"nothing answers at {address} ({reason}). Start Ray there, or give another address."
        ) from error


def require_ray() -> Any:
    """Ray, where it is installed.

    Raises:
        MissingExtraError: it is not.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # or Ray goes on with another cluster when one is lost
    with extra("cluster", "describing on a cluster"):
        import ray
        import ray.exceptions
    return ray


_KEPT = "What is finished is kept; run the same command again, or without --cluster."


def _one_line(error: Exception) -> str:
    """The last line is where Ray says what happened, below its tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")
