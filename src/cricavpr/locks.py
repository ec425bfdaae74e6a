"""Exclusive locks on files. The operating system releases a lock when the process that holds it dies.

The content of a lock file says which process holds the lock; it is used only for error messages.
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

from filelock import FileLock, Timeout

from cricavpr.errors import InputError

POLL_S = 0.02  # time between two tries to get a lock
BRIEFLY = ", for a moment"  # end of the content of the lock file if the lock is held only for a moment
MOMENT_S = 5.0  # every other process waits at least this long for a lock that is held only for a moment


@contextlib.contextmanager
def exclusive(path: Path, what: str, wait_s: float = 0.0, *, briefly: bool = False) -> Iterator[None]:
    """Hold an exclusive lock during the block.

    Args:
        path: the lock file, which is made if it is missing. A symbolic link is refused.
        what: name of the thing that the lock protects, such as the path of an index, for messages.
        wait_s: how long to wait for another process that holds the lock, in seconds.
        briefly: whether the lock is held only for a moment. Other processes then wait for some seconds even if their
            `wait_s` is 0.

    Raises:
        InputError: another process holds the lock (the message names the process), the file cannot be opened, or
            `wait_s` is negative or NaN.
    """
    if not wait_s >= 0:  # True for NaN too
        raise InputError(f"the time to wait (wait_s) must be at least 0 seconds, got {wait_s:g}.")
    lock = FileLock(path, thread_local=False)
    _acquire(lock, path, what, wait_s, briefly)
    try:
        _write_name(path, BRIEFLY if briefly else "")
        yield
    finally:
        with contextlib.suppress(OSError):  # if this fails, the lock is released when the process ends
            lock.release()


def _acquire(lock: FileLock, path: Path, what: str, wait_s: float, briefly: bool) -> None:
    began = time.monotonic()
    while True:
        try:
            _check_regular(path)
            lock.acquire(timeout=0)
            return
        except Timeout as error:
            holder = _read_name(path)
            # A process that wants the lock for a moment does not wait for another such process. Everybody waits long
            # enough for the holder to write its name into the file.
            least_s = MOMENT_S if holder.endswith(BRIEFLY) and not briefly else 2 * POLL_S
            if time.monotonic() >= began + max(wait_s, least_s):
                raise InputError(
                    f"{what} is locked by {holder}. Wait for that process to end, or give a longer time to wait."
                ) from error  # the cause stays an OSError, which searches look for
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or error
            then = "Remove the file" if os.path.lexists(path) else "Make the folder writable"
            raise InputError(f"cannot open the lock file {path}: {why}. {then}, or choose another folder.") from error
        time.sleep(POLL_S)


def _check_regular(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode) and not path.is_symlink():
            raise OSError(errno.EINVAL, "it is not a regular file")


def _write_name(path: Path, how: str) -> None:
    """Write a description of this process into the lock file. Errors such as a full disk are ignored.

    Args:
        how: text to append to the description.
    """
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}{how}".encode()
    with contextlib.suppress(OSError), open(_opened(path, os.O_WRONLY), "wb") as file:
        file.write(text)
        file.truncate()  # after writing, so that the file is never empty


def _read_name(path: Path) -> str:
    try:
        with open(_opened(path, os.O_RDONLY), "rb") as file:
            text = file.read(200).decode("ascii", "replace")
    except OSError:
        text = ""
    return "".join(filter(str.isprintable, text)) or "another process"


def _opened(path: Path, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
