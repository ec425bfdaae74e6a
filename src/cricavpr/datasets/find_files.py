"""Find the photos in a folder and its subfolders, in natural order (img2 before img10). Each folder is visited once."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cricavpr.datasets.base import Problem
from cricavpr.errors import InputError
from cricavpr.images import UNREAD

_NOT_OF_THE_USER = {  # folders of NAS systems, Windows, macOS and Linux for thumbnails, deleted files and snapshots
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "$recycle.bin", "recycler"),
    *("system volume information", "__macosx", "lost+found"),
}


def find_files(folder: Path, suffixes: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Find the files below `folder` that have one of `suffixes`, in upper or lower case.

    Hidden files, and folders in which other programs keep thumbnails and deleted files, are skipped.

    Returns:
        The names in natural order, and a list of problems and notes. A problem is a folder that cannot be read or that
        is named like a photo. Notes tell what was skipped, and which pictures and videos have an unsupported format.

    Raises:
        InputError: `folder` is not a folder.
    """
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # the name is too long, or a parent folder may not be entered
        is_folder = False
    if not is_folder:
        raise InputError(f"{folder} is not a folder. Give the folder that holds the photos.")
    names: list[str] = []
    problems: list[Problem] = []
    skipped: list[tuple[str, bool]] = []
    unread: Counter[str] = Counter()
    known = tuple(suffixes)
    for name, entry in walk(folder, problems, skipped):
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if suffix in known:
            if _is_folder(entry):
                problems.append(Problem(name, "find", "is a folder, not a file"))
            else:
                names.append(name)
        elif suffix in UNREAD and not _is_folder(entry):
            unread[suffix] += 1
    return sorted(names, key=natural_key), [*problems, *_notes(skipped, unread, known)]


def walk(
    folder: Path, problems: list[Problem] | None = None, skipped: list[tuple[str, bool]] | None = None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the path and entry of every file and folder below `folder`.

    Each folder is listed once, however many links lead to it. Links are followed last, so that a folder is listed under
    its real path if that is below `folder`.

    Args:
        problems: list that receives a problem for each folder that cannot be entered.
        skipped: list that receives (name, is a folder) for each hidden entry and each folder of another program.
    """
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
            if problems is not None:
                problems.append(Problem(prefix.rstrip("/") or ".", "find", error.strerror or "cannot be read"))
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.casefold() in _NOT_OF_THE_USER:
                if skipped is not None:
                    skipped.append((entry.name, _is_folder(entry)))
                continue
            name = prefix + entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append((Path(entry.path), name + "/"))
            yield name, entry


def _notes(skipped: Sequence[tuple[str, bool]], unread: Counter[str], known: tuple[str, ...]) -> Iterator[Problem]:
    folders = sorted({name for name, is_folder in skipped if is_folder})
    hidden = sum(name.lower().endswith(known) for name, is_folder in skipped if not is_folder)
    parts = []
    if folders:
        count = sum(is_folder for _, is_folder in skipped)
        shown = ", ".join(folders[:4]) + (", ..." if len(folders) > 4 else "")
        parts.append(f"{count:,} folder{'s' * (count > 1)} of hidden or deleted files ({shown})")
    if hidden:
        parts.append(f"{hidden:,} hidden photo{'s' * (hidden > 1)}")
    if parts:
        yield Problem(".", "note", f"skipped {' and '.join(parts)}")
    if unread:
        shown = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(unread.items()))
        yield Problem(".", "note", f"skipped files in formats that are not supported: {shown}")


def natural_key(name: str) -> tuple[Any, ...]:
    """Return a sort key that puts img2 before img10 and compares paths folder by folder."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in name.split("/")]
    return tuple(tuple(int(p) if i % 2 else p for i, p in enumerate(part)) for part in parts), name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError:  # a broken or circular link is no folder; reading it later reports it
        return False
