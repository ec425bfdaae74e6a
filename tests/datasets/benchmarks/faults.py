"""Damage that is met in downloads: how to do it to a miniature, and what has to be said about it.

A test module lists its own and runs `refused` on each; see test_faults.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cricavpr.datasets.benchmarks import open_split
from cricavpr.errors import InputError


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        name: of the test.
        miniature: which miniature it is done to.
        split: which split is opened.
        damage: does it, given the folder.
        says: a regular expression that the line must match.
    """

    name: str
    miniature: str
    split: str
    damage: Callable[[Path], object]
    says: str


def refused(fault: Fault, root: Path) -> str:
    """Damage a sound miniature; the one line that opening it then gives."""
    open_split(fault.split, root)  # sound before, so that the damage is what is answered
    fault.damage(root)
    with pytest.raises(InputError) as caught:
        open_split(fault.split, root)
    line = str(caught.value)
    assert line.isprintable() and line.endswith("."), line
    assert re.search(fault.says, line), line
    assert root.name in line, f"does not say where: {line}"
    return line


def cut(path: Path, keep: float = 0.5) -> None:
    """A download that stopped."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def rename_first(folder: Path, old: str, new: str) -> None:
    """Another text in the name of the first file."""
    first = min(path for path in folder.iterdir() if path.is_file())
    first.rename(folder / first.name.replace(old, new, 1))
