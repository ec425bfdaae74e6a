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

from cricavpr import __version__
from cricavpr.cli.verbs import Verb, add_verbs
from cricavpr.errors import CricaVPRError
from cricavpr.terminal import printable

VERBS = {
    "demo": Verb("demo", "locate photos in a drawn town, and see the answers on a map"),
    "town": Verb("town", "draw a town to try things on"),
    "describe": Verb("describe", "turn photos into descriptors"),
    "index": Verb("index", "build a database of photos, change it, and see what it holds"),
    "locate": Verb("locate", "find where photos were taken"),
    "evaluate": Verb("evaluate", "measure recall on a dataset"),
    "compare": Verb("compare", "evaluations side by side, and whether they differ"),
    "pca": Verb("pca", "make descriptors shorter: fit a PCA, apply it"),
    "train": Verb("train", "train a network by a recipe"),
    "ablate": Verb("ablate", "train several recipes with several seeds, and draw one table"),
    "compare-methods": Verb("compare_methods", "several methods on one dataset, and what each costs"),
    "audit": Verb("audit", "how much descriptors depend on the photos beside them"),
    "report": Verb("report", "tables, figures and a failure explorer from evaluations"),
    "methods": Verb("methods", "list the methods"),
    "weights": Verb("weights", "list, pull, convert and show weights files"),
    "places": Verb("places", "group photos into places to train on"),
    "datasets": Verb("datasets", "list, explain and check the benchmarks"),
    "challenge": Verb("challenge", "write or score the file for the MSLS challenge"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="cricavpr",
        description="Visual place recognition: photos in, places out.",
        epilog="Start with `cricavpr demo`. Exit codes: 0 done, 2 wrong input, 3 done but some photos failed, "
        "130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"cricavpr {__version__}")
    add_verbs(top, VERBS, "verbs")
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
