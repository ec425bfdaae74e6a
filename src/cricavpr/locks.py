"""An exclusive lock on a file: it names its holder, and the death of the holder releases it.

The lock is `flock`, which the system releases when the process that holds it ends in any way, so nothing has to be
repaired and no age has to be guessed. The content of the file says who holds the lock, for people only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from cricavpr.errors import InputError

POLL_S = 0.02
BRIEFLY = ", for a moment"  # ends the name of a holder that holds the lock briefly
MOMENT_S = 5.0  # every writer waits so long for a brief holder: nobody knows that a search writes

_held: set[int] = set()  # descriptors of this process, which children must not keep
_registered: list[bool] = []


@contextlib.contextmanager
def exclusive(path: Path, what: str, wait_s: float = 0.0, *, briefly: bool = False) -> Iterator[None]:
    """Hold an exclusive lock during the block. On Windows nothing is locked.

    Args:
        path: the lock file; created if missing, never followed if it is a symbolic link.
        what: what the lock protects, for messages.
        wait_s: how long to wait for another holder, in seconds.
        briefly: the lock is held for a moment only, and others wait that long without being asked to.

    Raises:
        InputError: another process holds the lock, which is named; the lock file cannot be opened; or `wait_s` is
            not 0 or more.
    """
    if not wait_s >= 0:  # NaN too, which would never be over
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
        with contextlib.suppress(OSError):  # the block is done: a lock that cannot be released goes with the process
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # for children too that were forked meanwhile
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
            # A search does not wait: what it has made serves it anyway.
            least_s = MOMENT_S if holder.endswith(BRIEFLY) and not briefly else 2 * POLL_S  # to write its name in
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
    """Open the lock file itself: a link would let a stranger's folder overwrite any file of ours."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or error
        raise InputError(f"cannot open the lock {path}: {why}. Remove it, or choose another place.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"cannot open the lock {path}: it is not a regular file. Remove it.")
    return descriptor


def _is_still(descriptor: int, path: Path) -> bool:
    """Return whether others would open this very file now: a failed build may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_name(descriptor: int, how: str) -> None:
    """Write who holds the lock. For people only, so a full disk does not matter."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}{how}".encode()
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, os.pwrite(descriptor, text, 0))  # in this order there is always a name


def _read_name(descriptor: int) -> str:
    text = os.pread(descriptor, 200, 0).decode("ascii", "replace")
    return "".join(filter(str.isprintable, text)) or "another process"


def _close_in_children() -> None:
    """Make forked children close the lock: they share it, and would keep it after the death of their parent."""
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()
