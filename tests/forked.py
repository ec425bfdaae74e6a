"""Something done in a child process, which may be killed on the way. Knows nothing heavy."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any


def forked(work: Callable[[], Any]) -> int:
    """Do it in a child; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
