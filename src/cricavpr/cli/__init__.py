"""Command line of the package, with one module per verb (subcommand), such as `evaluate` in `cricavpr evaluate`.

Results are printed on stdout, messages on stderr. An error is reported in one line.

Exit codes: 0 done, 2 wrong input, 3 done but some photos could not be used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import cricavpr
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.schema import nearest
from cricavpr.terminal import printable


class Verb(NamedTuple):
    """A verb (subcommand) of the command line.

    Attributes:
        module: name of its module in `cricavpr.cli`.
        help: one line for --help.
        function: name of the function in the module that adds the arguments of the verb to a parser.
    """

    module: str
    help: str
    function: str = "add_arguments"


VERBS = {
    "demo": Verb("demo", "draw a synthetic town, locate photos in it and show the answers on a map"),
    "town": Verb("town", "draw the photos of a synthetic town, as a data set to try things on"),
    "describe": Verb("describe", "compute descriptors of photos"),
    "index": Verb("index", "build, change and inspect an index of photos"),
    "locate": Verb("locate", "find where photos were taken"),
    "evaluate": Verb("evaluate", "measure recall on a dataset"),
    "compare": Verb("compare", "compare evaluations, with significance tests"),
    "compare-methods": Verb("compare_methods", "compare the recall and the cost of methods"),
    "audit": Verb("audit", "measure how much descriptors depend on the other photos of their group"),
    "report": Verb("report", "write tables and figures of evaluations, and a page to explore wrong queries"),
    "pca": Verb("pca", "reduce the dimension of descriptors by a PCA"),
    "train": Verb("train", "train a network with the settings of a recipe file"),
    "ablate": Verb("ablate", "train with several recipe files and seeds, and print one table of results"),
    "places": Verb("places", "group photos into places for training"),
    "methods": Verb("methods", "list the methods"),
    "weights": Verb("weights", "list, download, convert and inspect weights files"),
    "datasets": Verb("datasets", "list, explain and check the benchmark datasets"),
    "challenge": Verb("challenge", "write or score a submission to the MSLS challenge"),
}

# Control characters, and characters that change the direction of text. A file name may contain any of them.
_CONTROLS = [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROLS}


class _Escaping(io.TextIOWrapper):
    """Standard output that escapes control characters."""

    def write(self, text: str) -> int:
        return super().write(text.translate(_ESCAPED))


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command line."""
    top = Parser(
        prog="cricavpr",
        description="Visual place recognition: find where photos were taken.",
        epilog="Start with `cricavpr demo`. Exit codes: 0 done, 2 wrong input, 3 done but some photos failed, "
        "130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"cricavpr {cricavpr.__version__}")
    add_verbs(top, VERBS, "verbs")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code.

    Args:
        arguments: the command line after `cricavpr`; None takes that of the process.
    """
    _prepare_streams()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # the verbs report damaged photos by name
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        args = parser().parse_args(typed, argparse.Namespace(typed=typed))
        _escape_controls()  # after --help, whose colours are control characters
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except CricaVPRError as error:
        print(f"cricavpr: {printable(str(error))}", file=sys.stderr)  # a line break in a file name is escaped
        return 2
    except KeyboardInterrupt:
        print("cricavpr: interrupted. Run the same command again.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the program that reads stdout has ended, such as `head`
        _drop_output()
        return 0
    except OSError as error:  # for example a full disk behind stdout
        where = "" if error.filename is None else f" {printable(str(error.filename))}"
        print(f"cricavpr: cannot read or write{where}: {error.strerror or error}.", file=sys.stderr)
        _drop_output()
        return 2


def _prepare_streams() -> None:
    """Replace closed streams by devnull, and let stdout escape characters that its encoding does not have."""
    for name in ("stdout", "stderr"):  # otherwise the next opened file would get the number of the closed stream
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _escape_controls() -> None:
    """Escape control characters in the output if stdout is a terminal, but not if it is a file or a pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, _Escaping) and sys.stdout.isatty():
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        sys.stdout = _Escaping(sys.stdout.detach(), encoding, errors, line_buffering=True)


def _drop_output() -> None:
    """Discard buffered output, because Python would try to write it at exit and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- verbs: the module of a verb is imported only when the verb is used, so that --help is fast


class Parser(argparse.ArgumentParser):
    """Argument parser of a verb.

    It adds the arguments of its verb only when they are needed, and reports wrong usage in one line.
    """

    verb: Verb | None = None

    def parse_known_args(self, *args: Any, **more: Any) -> Any:
        self._fill()
        found, extra = super().parse_known_args(*args, **more)
        if extra and self._subparsers is None:  # here, so that the message names the help of this verb
            self.error(f"unrecognized arguments: {' '.join(extra)}")
        return found, extra

    def format_help(self) -> str:
        self._fill()
        words = [self.prog]
        for action in sorted(self._actions, key=lambda action: bool(action.option_strings)):
            if not action.option_strings:
                name = f"{action.metavar}{' ...' if action.nargs in ('+', '*', argparse.PARSER) else ''}"
                words.append(f"[{name}]" if action.nargs in ("*", "?") else name)
            elif action.required:
                words.append(f"{action.option_strings[0]} {action.metavar}")
        self.usage = " ".join([*words, "[options]"])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.rstrip('.')}. See: {self.prog} --help")

    def _fill(self) -> None:
        if self.verb is not None:
            verb, self.verb = self.verb, None
            getattr(importlib.import_module(f"cricavpr.cli.{verb.module}"), verb.function)(self)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"invalid choice {value!r}. {nearest(str(value), action.choices)}")


def add_verbs(parser: argparse.ArgumentParser, verbs: Mapping[str, Verb], title: str) -> None:
    """Add a parser for each verb or action.

    Args:
        title: heading of the list in --help, "verbs" or "actions".
    """
    subparsers = parser.add_subparsers(
        title=title, dest=title[:-1], metavar=title[:-1].upper(), required=True, parser_class=Parser
    )
    for name, verb in verbs.items():
        subparsers.add_parser(name, help=verb.help).verb = verb
