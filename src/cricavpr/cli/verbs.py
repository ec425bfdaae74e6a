"""Tables of verbs: the file of a verb is imported when the verb is chosen, so that --help stays fast."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class Verb(NamedTuple):
    """A verb: the module of `cricavpr.cli` that has its arguments, one line of help, and the function there."""

    module: str
    help: str
    function: str = "add_arguments"


class LazyParser(argparse.ArgumentParser):
    """The parser of a verb, which adds its arguments when they are first needed."""

    verb: Verb | None = None

    def _fill(self) -> None:
        if self.verb is not None:
            verb, self.verb = self.verb, None
            getattr(importlib.import_module(f"cricavpr.cli.{verb.module}"), verb.function)(self)

    def parse_known_args(self, *args: Any, **more: Any) -> Any:
        self._fill()
        return super().parse_known_args(*args, **more)

    def format_help(self) -> str:
        self._fill()
        return super().format_help()


def add_verbs(parser: argparse.ArgumentParser, verbs: Mapping[str, Verb], title: str) -> None:
    """Add a parser for each verb. `title` is what the verbs are called in --help: verbs or actions."""
    subparsers = parser.add_subparsers(
        title=title, dest=title[:-1], metavar=title[:-1].upper(), required=True, parser_class=LazyParser
    )
    for name, verb in verbs.items():
        subparsers.add_parser(name, help=verb.help).verb = verb
