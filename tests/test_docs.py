"""What the docs say is what the program says. Run this file to write docs/cli.md anew."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cricavpr import cli

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cli.md"


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The --help of a command and of all below it."""
    yield f"## {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from helps(below)


def page() -> str:
    parts = "\n".join(helps(cli.parser()))
    return f"# The command line\n\nEvery `--help`, written by `python tests/test_docs.py`.\n\n{parts}"


def test_the_page_of_the_command_line_is_what_help_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    assert page() == PAGE.read_text(encoding="utf-8"), "run: python tests/test_docs.py"


def local_links() -> list[tuple[str, str]]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = []
    for path in pages:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                found.append((str(path.relative_to(ROOT)), target))
    return found


@pytest.mark.parametrize(("source", "target"), local_links())
def test_links_in_the_docs_lead_somewhere(source: str, target: str) -> None:
    assert ((ROOT / source).parent / target).exists()


def test_every_dependency_has_its_reason_in_the_docs() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    reasons = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    names = {re.split(r"[<>=\[ ]", requirement)[0] for requirement in wanted}
    assert {name for name in names if name not in reasons} == set()


if __name__ == "__main__":
    import os

    os.environ.update(COLUMNS="100", NO_COLOR="1")
    PAGE.write_text(page(), encoding="utf-8")
