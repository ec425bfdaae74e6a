"""Tables of verbs, and their parser. A verb's module is imported only when the verb is chosen, so --help is fast."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from cricavpr.errors import InputError
from cricavpr.schema import nearest


class Verb(NamedTuple):
    """The module of a verb in `cricavpr.cli`, one line of help, and the function that adds its arguments."""

    module: str
    help: str
    function: str = "add_arguments"


class Parser(argparse.ArgumentParser):
    """A parser that adds the arguments of its verb when they are first needed, and reports wrong usage in one line."""

    verb: Verb | None = None

    def parse_known_args(self, *args: Any, **more: Any) -> Any:
        self._fill()
        return super().parse_known_args(*args, **more)

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
