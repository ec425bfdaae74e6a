"""Entry point of `cricavpr` and `python -m cricavpr`. Ctrl-C ends it with one line from the first moment on."""

import os
import signal
import sys
from types import FrameType

MESSAGE = b"cricavpr: interrupted. Run the same command again.\n"


def _interrupt(_: int, frame: FrameType | None) -> None:
    """End the process at once during an import, and raise KeyboardInterrupt at any other time.

    An exception inside an import becomes an error of another kind, or ends the process from C++, as with torch.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, MESSAGE)
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line and return its exit code."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        from cricavpr import cli

        code = cli.main()
    except KeyboardInterrupt:
        os.write(2, MESSAGE)
        code = 130
    if code == 130:  # a second Ctrl-C while Python shuts down says no more
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


if __name__ == "__main__":
    sys.exit(main())
