"""Connection to a Ray cluster, and distribution of tasks over its machines. The only module that uses Ray.

Ray Data cannot be used through Ray's client. So an actor, called the conductor, runs Ray Data inside the cluster. The
machine that started the run fetches the answers from the conductor, one after another. If a machine dies, Ray Data
gives its tasks to other machines. If the conductor dies, a new conductor takes the tasks that have no answer yet.
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

REACH_S = 5.0  # how long to wait for an answer when connecting
LOOK_EVERY_S = 30.0  # while waiting for an answer, check this often whether any machine is left
MOST_LOSSES = 3  # give up after this many lost conductors without any answer in between
KEPT = "Finished work is kept: run the same command again to continue, with or without --cluster."

Row = dict[str, bytes]  # a task or an answer as pickled bytes, because Ray Data would convert other types


@dataclass(frozen=True)
class Address:
    """The address of a Ray cluster. Without a host, Ray is started on this machine only and stopped after the run."""

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
                f"invalid cluster address {text!r}. Expected ray://HOST:PORT, where PORT is the port of Ray's client "
                "server (10001 by default), or ray://local."
            )
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        if self.host is None:
            return "ray://local"
        return f"ray://[{self.host}]:{self.port}" if ":" in self.host else f"ray://{self.host}:{self.port}"


@contextlib.contextmanager
def connected(address: Address) -> Iterator[None]:
    """Connect to a cluster during the block.

    Connect only to a cluster that you trust, because its answers are unpickled, which can run any code.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: nothing answers at the address, or it is not a Ray cluster.
    """
    ray = require_ray()
    here: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if address.host is not None:
        here = {"address": str(address)}
        try:  # because Ray would try for half a minute and print long errors
            socket.create_connection((address.host, address.port), REACH_S).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"nothing answers at {address} ({reason}). Start Ray on that machine, or correct the address."
            ) from error
    try:
        ray.init(**here, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # ray raises RuntimeError, ConnectionError, ValueError and its own
        raise InputError(
            f"cannot connect to Ray at {address}: {_last_line(error)}. Start Ray's client server on that machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def spread(job: Job, tasks: Sequence[Task], note: Callable[[str], None]) -> Iterator[Answer]:
    """Give tasks to the machines of the cluster, and yield the answers in the order in which they arrive.

    Args:
        note: called with a message for the user when a machine is lost.

    Raises:
        InputError: no machine has enough CPUs or GPUs, or the cluster is lost.
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
            note(f"a machine of the cluster was lost. Its work is given to other machines: {len(left):,} batches left.")
        except ConnectionError as error:
            raise InputError(f"the cluster was lost: {_last_line(error)}. {KEPT}") from error
        finally:
            with contextlib.suppress(Exception):  # the conductor or the connection may be dead
                ray.kill(conductor)


class Conductor:
    """An actor that runs Ray Data inside the cluster."""

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
        """Return the next answer, or None after the last answer."""
        return next(self.answers, None)


def answer_row(job: Job, row: Row) -> Row:
    return {"pickled": pickle.dumps(answer(job, pickle.loads(row["pickled"])))}


def _answers(conductor: Any, job: Job, tasks: Sequence[Task]) -> Iterator[Answer]:
    _wait_for(conductor.begin.remote(job, [{"pickled": pickle.dumps(task)} for task in tasks]), job)
    while (row := _wait_for(conductor.next.remote(), job)) is not None:
        yield pickle.loads(row["pickled"])


def _wait_for(reference: Any, job: Job) -> Any:
    """Wait for the result of a call and return it. Raises InputError if no machine is left that could compute it."""
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
            f"a task needs {job.threads} CPUs{f' and {job.gpus} GPU' if job.gpus else ''}, but none of the "
            f"{len(machines)} machines of the cluster has as many. Set OMP_NUM_THREADS to a lower number on this "
            "machine, or add a larger machine to the cluster."
        )


def require_ray() -> Any:
    """Import Ray. Raises MissingExtraError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray must not send usage statistics
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # otherwise Ray connects elsewhere when a cluster is lost
    with extra("cluster", "describing on a cluster"):
        import ray
        import ray.exceptions
    return ray


def _last_line(error: Exception) -> str:
    """Return the last line of an error message. In errors of Ray, this line has the reason, after the tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")
