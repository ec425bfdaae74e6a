"""The door: one file per verb, no logic. Data on stdout, talk on stderr, one line for an error, never a traceback.

Exit codes: 0 all done, 2 a wrong input, 3 done but some photos could not be used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cricavpr import __version__
from cricavpr.cli import compare_methods, demo, describe, evaluate, index, locate, methods, places, town, train, weights
from cricavpr.errors import CricaVPRError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

VERBS = (demo, town, describe, index, locate, evaluate, train, compare_methods, methods, weights, places)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="cricavpr",
        description="Visual place recognition: photos in, places out.",
        epilog="Start with `cricavpr demo`. Exit codes: 0 done, 2 wrong input, 3 done but some photos failed.",
    )
    top.add_argument("--version", action="version", version=f"cricavpr {__version__}")
    verbs = top.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    args = parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except CricaVPRError as error:
        print(f"cricavpr: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cricavpr: interrupted. Run the same command again.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
