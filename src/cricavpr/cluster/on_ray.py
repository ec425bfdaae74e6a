"""Reach a Ray cluster and spread tasks over it. The only module that uses Ray, which is the extra "cluster".

Ray Data does not run behind Ray's client, so an actor, the conductor, runs it inside the cluster, and the machine that
started the run fetches one answer after the other. If a machine dies, Ray Data gives its tasks to the others; if the
conductor dies, a new one takes the tasks that have no answer yet.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cricavpr.cluster.tasks import Answer, Job, Task, answer
from cricavpr.errors import InputError
from cricavpr.extras import extra

REACH_S = 5.0  # for a machine to answer at all
LOOK_EVERY_S = 30.0  # without an answer, how often to look whether any machine is left
MOST_LOSSES = 3  # of conductors, with no answer in between
KEPT = "Finished work is kept: run the same command again, or without --cluster."

Row = dict[str, bytes]  # a pickled task or answer; Ray Data would change other types


@dataclass(frozen=True)
class Address:
    """The address of a Ray cluster. Without a host, Ray is started on this machine and ends with the run."""

    host: str | None = None
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `ray://HOST:PORT` or `ray://local`. Raises InputError for any other text.

        Example:
            >>> Address.parse("ray://10.0.0.1:10001")
            Address(host='10.0.0.1', port=10001)
        """
        scheme, _, place = text.strip().partition("://")
        if scheme == "ray" and place == "local":
            return cls()
        host, _, port = place.rpartition(":")
        known = host.strip("[]") and not set(host) & set("/@ ")
        if scheme != "ray" or not known or not (port.isdecimal() and 0 < int(port) < 65536):
            raise InputError(
                f"invalid cluster address {text!r}. Expected ray://HOST:PORT, the port of Ray's client server "
                "(10001 by default), or ray://local."
            )
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        if self.host is None:
            return "ray://local"
        return f"ray://[{self.host}]:{self.port}" if ":" in self.host else f"ray://{self.host}:{self.port}"


@contextlib.contextmanager
def connected(address: Address) -> Iterator[None]:
    """Connect to a cluster during the block. Only connect to a cluster you trust: Ray runs what it is sent.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: nothing answers there, or no Ray.
    """
    ray = require_ray()
    here: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if address.host is not None:
        here = {"address": str(address)}
        try:  # Ray itself tries for half a minute and prints pages
            socket.create_connection((address.host, address.port), REACH_S).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"nothing answers at {address} ({reason}). Start Ray there, or fix the address."
            ) from error
    try:
        ray.init(**here, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # ray raises RuntimeError, ConnectionError, ValueError and its own
        raise InputError(
            f"cannot connect to Ray at {address}: {_last_line(error)}. Start its client server."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def spread(job: Job, tasks: Sequence[Task], note: Callable[[str], None]) -> Iterator[Answer]:
    """Give tasks to the machines, and yield their answers in the order of arrival.

    Raises:
        InputError: no machine is large enough, or the cluster is lost.
    """
    ray = require_ray()
    left = {task.number: task for task in tasks}
    losses = 0
    while left:
        _require_machine(job)
        conductor = ray.remote(num_cpus=0)(Conductor).remote()
        try:
            for one in _answers(conductor, job, list(left.values())):
                if left.pop(one.number, None) is not None:
                    losses = 0
                    yield one
        except ray.exceptions.RayError as error:
            losses += 1
            if losses >= MOST_LOSSES:
                raise InputError(f"the cluster failed {losses} times in a row: {_last_line(error)}. {KEPT}") from error
            note(f"a machine of the cluster was lost; {len(left):,} batches are given to the others.")
        except ConnectionError as error:
            raise InputError(f"the cluster was lost: {_last_line(error)}. {KEPT}") from error
        finally:
            with contextlib.suppress(Exception):  # it may be dead, and the connection with it
                ray.kill(conductor)


class Conductor:
    """Runs Ray Data inside the cluster."""

    def __init__(self) -> None:
        self.answers: Iterator[Row] = iter(())

    def begin(self, job: Job, rows: list[Row]) -> None:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))  # one task for each row
        work = functools.partial(answer_row, job)
        self.answers = iter(dataset.map(work, num_cpus=job.threads, num_gpus=job.gpus or None).iter_rows())

    def next(self) -> Row | None:
        """Return one more answer, or None after the last."""
        return next(self.answers, None)


def answer_row(job: Job, row: Row) -> Row:
    return {"pickled": pickle.dumps(answer(job, pickle.loads(row["pickled"])))}


def _answers(conductor: Any, job: Job, tasks: Sequence[Task]) -> Iterator[Answer]:
    _wait_for(conductor.begin.remote(job, [{"pickled": pickle.dumps(task)} for task in tasks]), job)
    while (row := _wait_for(conductor.next.remote(), job)) is not None:
        yield pickle.loads(row["pickled"])


def _wait_for(reference: Any, job: Job) -> Any:
    """Return the result of a call. Raises InputError if no machine is left that could compute it."""
    ray = require_ray()
    while True:
        try:
            return ray.get(reference, timeout=LOOK_EVERY_S)
        except ray.exceptions.GetTimeoutError:
            _require_machine(job)


def _require_machine(job: Job) -> None:
    ray = require_ray()
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []
    if not machines:
        raise InputError(f"the cluster was lost: none of its machines answers. {KEPT}")
    if not any(one.get("CPU", 0) >= job.threads and one.get("GPU", 0) >= job.gpus for one in machines):
        raise InputError(
            f"a task needs {job.threads} CPUs{f' and {job.gpus} GPU' if job.gpus else ''}, and none of the "
            f"{len(machines)} machines of the cluster has them. Set OMP_NUM_THREADS lower here, or add a machine."
        )


def require_ray() -> Any:
    """Import Ray. Raises MissingExtraError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # or Ray goes on with another cluster when one is lost
    with extra("cluster", "describing on a cluster"):
        import ray
        import ray.exceptions
    return ray


def _last_line(error: Exception) -> str:
    """Return the last line of an error, which in errors of Ray follows the tracebacks and has the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")
