"""Entry point of `cricavpr` and `python -m cricavpr`. At any time, Ctrl-C ends it with a one-line message."""

import os
import signal
import sys
from types import FrameType

MESSAGE = b"cricavpr: interrupted. Run the same command again.\n"


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: end the process at once during an import, and raise KeyboardInterrupt at any other time.

    During an import, KeyboardInterrupt could turn into another error, or abort the process in C++ code of torch.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, MESSAGE)
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        signal.signal(signal.SIGINT, _interrupt)
        from cricavpr import cli

        code = cli.main()
    except KeyboardInterrupt:
        os.write(2, MESSAGE)
        code = 130
    if code == 130:  # a second Ctrl-C, while Python shuts down, must print nothing
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


if __name__ == "__main__":
    sys.exit(main())
