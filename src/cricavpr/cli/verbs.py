"""Tables of verbs. The module of a verb is imported when the verb is chosen, so --help stays fast."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Subparsers = argparse._SubParsersAction


class Verb(NamedTuple):
    """The module of `cricavpr.cli` that has the verb's `add_arguments`, and one line of help."""

    module: str
    help: str


def add_verbs(
    parser: argparse.ArgumentParser, verbs: Mapping[str, Verb], title: str, words: Sequence[str] | None
) -> None:
    """Add a parser for each verb; import only the module of the chosen one.

    Args:
        title: name of the verbs in --help: verbs or actions.
        words: the words of the command line; None imports the module of every verb.
    """
    subparsers: Subparsers[argparse.ArgumentParser] = parser.add_subparsers(
        title=title, dest=title[:-1], metavar=title[:-1].upper(), required=True
    )
    chosen = None if words is None else next((word for word in words if word in verbs), "")
    for name, verb in verbs.items():
        below = subparsers.add_parser(name, help=verb.help)
        if chosen in (None, name):
            importlib.import_module(f"cricavpr.cli.{verb.module}").add_arguments(below)
