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
BRIEFLY = ", for a moment"  # how the name of a holder ends that only keeps what a search has made
MOMENT_S = 5.0  # for which every writer waits for such a one: nobody knows that a search writes

_held: set[int] = set()  # descriptors of this process, which children must not keep
_registered: list[bool] = []


@contextlib.contextmanager
def one_writer(folder: Path, wait_s: float = 0.0, *, briefly: bool = False) -> Iterator[None]:
    """Be the only one who writes to an index during the block. On Windows nothing is held.

    Args:
        folder: the index.
        wait_s: how long to wait for another writer.
        briefly: it is held for a moment only, and others may wait that long unasked.

    Raises:
        InputError: another writer holds it, who is named, or a time to wait that is none.
        OSError: the lock file cannot be made.
    """
    if not wait_s >= 0:  # NaN too, which would never be over
        raise InputError(f"{wait_s:g} seconds are no time to wait for another writer. Give 0 or more.")
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = _acquire(folder / LOCK, str(folder), wait_s, briefly)
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
def writer_of(path: Path, wait_s: float = 0.0, *, briefly: bool = False) -> Iterator[None]:
    """The same for whoever changes an index: what the system refuses meanwhile is one line.

    Raises:
        InputError: no such folder, another writer, or a place that cannot be written.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no place index: there is no such folder. Build one there first.")
    with one_line_errors(path), one_writer(path, wait_s, briefly=briefly):
        yield


def _acquire(path: Path, what: str, wait_s: float, briefly: bool) -> int:
    import fcntl

    began = time.monotonic()
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(descriptor, path):
                _write_name(descriptor, BRIEFLY if briefly else "")
                return descriptor
        except BlockingIOError as error:
            holder = _read_name(descriptor)
            # Whoever searches does not wait: what it has made serves it anyway.
            least_s = MOMENT_S if holder.endswith(BRIEFLY) and not briefly else 2 * POLL_S  # to say its name in
            patience_s = max(wait_s, least_s)
            if time.monotonic() >= began + patience_s:
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


def _write_name(descriptor: int, how: str) -> None:
    """For people only: a disk that is full does not keep anyone from writing less."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}{how}".encode()
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, os.pwrite(descriptor, text, 0))  # in this order somebody's name is always there


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
