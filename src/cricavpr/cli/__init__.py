"""The door: one file per verb, no logic. Data on stdout, talk on stderr, one line for an error, never a traceback.

Exit codes: 0 all done, 2 a wrong input, 3 done but some photos could not be used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cricavpr import __version__
from cricavpr.cli import (
    ablate,
    audit,
    challenge,
    compare,
    compare_methods,
    datasets,
    demo,
    describe,
    evaluate,
    index,
    locate,
    methods,
    pca,
    places,
    report,
    town,
    train,
    weights,
)
from cricavpr.cli.options import printable
from cricavpr.errors import CricaVPRError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

VERBS = (
    demo,
    town,
    describe,
    index,
    locate,
    evaluate,
    compare,
    pca,
    train,
    ablate,
    compare_methods,
    audit,
    report,
    methods,
    weights,
    places,
    datasets,
    challenge,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="cricavpr",
        description="Visual place recognition: photos in, places out.",
        epilog="Start with `cricavpr demo`. Exit codes: 0 done, 2 wrong input, 3 done but some photos failed, "
        "130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"cricavpr {__version__}")
    verbs = top.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    _prepare_streams()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with a photo is said once, with its name
    typed = list(sys.argv[1:] if arguments is None else arguments)
    args = parser().parse_args(typed, argparse.Namespace(typed=typed))
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except CricaVPRError as error:
        print(f"cricavpr: {printable(str(error))}", file=sys.stderr)  # one line, whatever names are in it
        return 2
    except KeyboardInterrupt:
        print("cricavpr: interrupted. Run the same command again.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has left, as `head` does
        _drop_output()
        return 0
    except OSError as error:  # what no row below has put into words, and a full disk behind stdout
        where = "" if error.filename is None else f" {error.filename}"
        print(f"cricavpr: cannot read or write{where}: {error.strerror or error}.", file=sys.stderr)
        _drop_output()
        return 2


def _prepare_streams() -> None:
    """A closed stdout or stderr takes what it gets, and no file name is too strange for the terminal's encoding."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # also keeps files of ours from being number 1
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what is still in the buffer go nowhere, or Python would fail once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
