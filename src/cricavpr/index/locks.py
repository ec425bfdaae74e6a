"""One writer at a time: a lock that names its holder, and that a dead holder cannot keep.

The lock is `flock`, which the system lets go of when the process that holds it ends in any way, so there is
nothing to repair and no age to guess. The file says who holds it, for people only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.index.durable import one_line_errors

LOCK = ".place_index.lock"
POLL_S = 0.02

_held: set[int] = set()  # descriptors of this process, which children must not keep
_registered: list[bool] = []


@contextlib.contextmanager
def one_writer(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only one who writes to an index during the block. On Windows nothing is held.

    Args:
        folder: the index.
        wait_s: how long to wait for another writer.

    Raises:
        InputError: another writer holds it, who is named.
        OSError: the lock file cannot be made.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = _acquire(folder / LOCK, str(folder), wait_s)
    _held.add(descriptor)
    _close_in_children()
    try:
        yield
    finally:
        _held.discard(descriptor)
        with contextlib.suppress(OSError):  # what was to be written is written: this file is only held
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # for children too that were forked meanwhile
            os.close(descriptor)


@contextlib.contextmanager
def writer_of(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """The same for whoever changes an index: what the system refuses meanwhile is one line.

    Raises:
        InputError: no such folder, another writer, or a place that cannot be written.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no place index: there is no such folder. Build one there first.")
    with one_line_errors(path), one_writer(path, wait_s):
        yield


def _acquire(path: Path, what: str, wait_s: float) -> int:
    import fcntl

    until = time.monotonic() + wait_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(descriptor, path):
                _write_name(descriptor)
                return descriptor
        except BlockingIOError as error:
            if time.monotonic() >= until:
                holder = _read_name(descriptor)
                os.close(descriptor)
                raise InputError(f"{what} is locked by {holder}. Wait for it, or give a time to wait.") from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(POLL_S)


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the locked file is the one that others would open now: a failed build may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_name(descriptor: int) -> None:
    """For people only: a disk that is full does not keep anyone from writing less."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)


def _read_name(descriptor: int) -> str:
    text = os.pread(descriptor, 200, 0).decode("ascii", "replace")
    return "".join(filter(str.isprintable, text)) or "another process"


def _close_in_children() -> None:
    """A forked child shares the lock and would keep it after its parent's death: let children close it."""
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()
