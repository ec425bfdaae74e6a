"""The command line: one file per verb, without logic. Data on stdout, messages on stderr, one line for an error.

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
    """The module of a verb in `cricavpr.cli`, one line of help, and the function that adds its arguments."""

    module: str
    help: str
    function: str = "add_arguments"


VERBS = {
    "demo": Verb("demo", "locate photos in a drawn town and show the answers on a map"),
    "town": Verb("town", "draw a town to try things on"),
    "describe": Verb("describe", "compute descriptors of photos"),
    "index": Verb("index", "build, change and inspect an index of photos"),
    "locate": Verb("locate", "find where photos were taken"),
    "evaluate": Verb("evaluate", "measure recall on a dataset"),
    "compare": Verb("compare", "compare evaluations, with significance tests"),
    "compare-methods": Verb("compare_methods", "compare the recall and the cost of methods"),
    "audit": Verb("audit", "measure how much descriptors depend on the images beside them"),
    "report": Verb("report", "write tables, figures and a failure explorer of evaluations"),
    "pca": Verb("pca", "shorten descriptors: fit a PCA, apply it"),
    "train": Verb("train", "train a network by a recipe"),
    "ablate": Verb("ablate", "train several recipes with several seeds, and print one table"),
    "places": Verb("places", "group photos into places for training"),
    "methods": Verb("methods", "list the methods"),
    "weights": Verb("weights", "list, download, convert and inspect weights files"),
    "datasets": Verb("datasets", "list, explain and check the benchmarks"),
    "challenge": Verb("challenge", "write or score a submission to the MSLS challenge"),
}

# Control characters and those that change the direction of text; a name may hold any of them.
_CONTROLS = [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROLS}


class _Escaping(io.TextIOWrapper):
    """Standard output that escapes control characters."""

    def write(self, text: str) -> int:
        return super().write(text.translate(_ESCAPED))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = Parser(
        prog="cricavpr",
        description="Visual place recognition: photos in, places out.",
        epilog="Start with `cricavpr demo`. Exit codes: 0 done, 2 wrong input, 3 done but some photos failed, "
        "130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"cricavpr {cricavpr.__version__}")
    add_verbs(top, VERBS, "verbs")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. None takes the arguments of the process."""
    _prepare_streams()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # we report a damaged photo ourselves, with its name
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        args = parser().parse_args(typed, argparse.Namespace(typed=typed))
        _escape_controls()  # after --help, which may be coloured
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
    except OSError as error:  # for example a full disk behind stdout
        where = "" if error.filename is None else f" {printable(str(error.filename))}"
        print(f"cricavpr: cannot read or write{where}: {error.strerror or error}.", file=sys.stderr)
        _drop_output()
        return 2


def _prepare_streams() -> None:
    """Replace closed streams by devnull, and let stdout escape characters that its encoding does not have."""
    for name in ("stdout", "stderr"):  # otherwise the next file that we open would become the stream
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _escape_controls() -> None:
    """Escape control characters if stdout is a terminal; a file or a pipe gets names unchanged."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, _Escaping) and sys.stdout.isatty():
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        sys.stdout = _Escaping(sys.stdout.detach(), encoding, errors, line_buffering=True)


def _drop_output() -> None:
    """Discard buffered output, because Python would fail on it again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- verbs: a verb's module is imported only when the verb is chosen, so --help is fast


class Parser(argparse.ArgumentParser):
    """A parser that adds the arguments of its verb when they are first needed, and reports wrong usage in one line."""

    verb: Verb | None = None

    def parse_known_args(self, *args: Any, **more: Any) -> Any:
        self._fill()
        found, extra = super().parse_known_args(*args, **more)
        if extra and self._subparsers is None:  # the verb says so, and its own help, not the one above it
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
    """Add a parser for each verb. `title` is their heading in --help: verbs or actions."""
    subparsers = parser.add_subparsers(
        title=title, dest=title[:-1], metavar=title[:-1].upper(), required=True, parser_class=Parser
    )
    for name, verb in verbs.items():
        subparsers.add_parser(name, help=verb.help).verb = verb
