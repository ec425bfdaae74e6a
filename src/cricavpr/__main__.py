"""Entry point of `cricavpr` and `python -m cricavpr`. Ctrl-C ends it with one line from the first moment on.

Imports take up to seconds, and an interrupt inside one prints a traceback, or becomes an error of another kind. So the
interrupt ends the process at once until the verb runs; nothing has been written yet.
"""

import os
import signal
import sys

MESSAGE = b"cricavpr: interrupted. Run the same command again.\n"


def _stop(*_: object) -> None:
    os.write(2, MESSAGE)
    os._exit(130)


def _raise_again() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    """Run the command line and return its exit code."""
    signal.signal(signal.SIGINT, _stop)
    from cricavpr import cli

    code = cli.main(ready=_raise_again)
    if code == 130:  # a second Ctrl-C while Python shuts down says no more
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


if __name__ == "__main__":
    sys.exit(main())
