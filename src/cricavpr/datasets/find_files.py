"""Finding files below a folder: every folder once, in natural order (img2 before img10)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cricavpr.datasets.base import Problem
from cricavpr.errors import InputError


def find_files(folder: Path, suffixes: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Names below `folder` with one of `suffixes` in any case, in natural order, and what could not be
    entered.

    Raises:
        InputError: `folder` is not a folder.
    """
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # a name that is too long, a parent that may not be entered
        is_folder = False
    if not is_folder:
        raise InputError(f"{folder} is not a folder. Give the folder that holds the photos.")
    names: list[str] = []
    problems: list[Problem] = []
    for name, entry in walk(folder, problems):
        if name.lower().endswith(tuple(suffixes)):
            if _is_folder(entry):
                problems.append(Problem(name, "find", "is a folder, not a file"))
            else:
                names.append(name)
    return sorted(names, key=natural_key), problems


def walk(folder: Path, problems: list[Problem]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below, every real folder once; links to folders come last, so that a real name wins."""
    seen: set[tuple[int, int]] = set()
    folders = [(folder, "")]
    links: list[tuple[Path, str]] = []
    while folders or links:
        path, prefix = folders.pop() if folders else links.pop()
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            problems.append(Problem(prefix.rstrip("/") or ".", "find", error.strerror or "cannot be read"))
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            name = prefix + entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append((Path(entry.path), name + "/"))
            yield name, entry


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort key under which img2 comes before img10, folder by folder."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in name.split("/")]
    return tuple(tuple(int(p) if i % 2 else p for i, p in enumerate(part)) for part in parts), name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError:  # a dangling or circular link: not a folder, and reported when it is read
        return False
