"""An exclusive lock on a file, which names its holder and is released when the holder dies.

The lock is `flock`, which the system releases when the process ends in any way, so no lock ever becomes stale. The
content of the file names the holder, for error messages only.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from cricavpr.errors import InputError

POLL_S = 0.02
BRIEFLY = ", for a moment"  # suffix of the name of a brief holder
MOMENT_S = 5.0  # every writer waits at least this long for a brief holder, such as a search that writes codes

_held: set[int] = set()  # descriptors of this process, which forked children must close


@contextlib.contextmanager
def exclusive(path: Path, what: str, wait_s: float = 0.0, *, briefly: bool = False) -> Iterator[None]:
    """Hold an exclusive lock during the block. On Windows nothing is locked.

    Args:
        path: the lock file, made if it is missing. A symbolic link is refused.
        what: the thing that the lock protects, for messages.
        wait_s: how long to wait for another holder, in seconds.
        briefly: whether the lock is held for a moment only; others then wait even if their `wait_s` is 0.

    Raises:
        InputError: another process (named) holds the lock, the file cannot be opened, or `wait_s` is negative or NaN.
    """
    if not wait_s >= 0:  # True for NaN too
        raise InputError(f"wait_s must be at least 0, got {wait_s:g}.")
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = _acquire(path, what, wait_s, briefly)
    _held.add(descriptor)
    _close_in_children()
    try:
        yield
    finally:
        _held.discard(descriptor)
        with contextlib.suppress(OSError):  # otherwise the lock is released when the process ends
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for children that were forked meanwhile
            os.close(descriptor)


def _acquire(path: Path, what: str, wait_s: float, briefly: bool) -> int:
    import fcntl

    began = time.monotonic()
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(descriptor, path):
                _write_name(descriptor, BRIEFLY if briefly else "")
                return descriptor
        except BlockingIOError as error:
            holder = _read_name(descriptor)
            # A brief holder does not wait for another one. Any holder needs a moment to write its name.
            least_s = MOMENT_S if holder.endswith(BRIEFLY) and not briefly else 2 * POLL_S
            if time.monotonic() >= began + max(wait_s, least_s):
                os.close(descriptor)
                raise InputError(
                    f"{what} is locked by {holder}. Wait for it to end, or give a time to wait."
                ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(POLL_S)


def _open(path: Path) -> int:
    """Open the lock file. A symbolic link is refused, because the name of the holder would overwrite its target."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or error
        raise InputError(f"cannot open the lock {path}: {why}. Remove it, or choose another place.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"cannot open the lock {path}: it is not a regular file. Remove it, or choose another place.")
    return descriptor


def _is_still(descriptor: int, path: Path) -> bool:
    """Return whether the path still names this file, which a failed build may have removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_name(descriptor: int, how: str) -> None:
    """Write the name of the holder. Errors such as a full disk are ignored."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}{how}".encode()
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, os.pwrite(descriptor, text, 0))  # in this order the file is never empty


def _read_name(descriptor: int) -> str:
    text = os.pread(descriptor, 200, 0).decode("ascii", "replace")
    return "".join(filter(str.isprintable, text)) or "another process"


@functools.cache  # once in each process
def _close_in_children() -> None:
    """Make forked children close their copies of the locks, which would outlive the death of the parent."""
    os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()
