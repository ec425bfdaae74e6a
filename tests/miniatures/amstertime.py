"""AmsterTime in miniature: street views `new/0000.png` and archival photos `old/0000.jpg`, some of them greyscale."""

from __future__ import annotations

from pathlib import Path

from cricavpr.town.views import Town
from tests.miniatures.album import Album

PAIRS = 4


def write_raw(folder: Path, town: Town, pairs: int = PAIRS) -> None:
    """`new/` and `old/`."""
    album = Album(town)
    for number in range(pairs):
        album.put(folder / "new" / f"{number:04d}.png", number, "database")
        album.put(folder / "old" / f"{number:04d}.jpg", number, "query", grey=number % 2 == 0)


def write_tree(folder: Path, town: Town, pairs: int = PAIRS) -> None:
    """`images/test/{database,queries}/@0@<number x 1000>@...@.jpg`."""
    album = Album(town)
    for number in range(pairs):
        name = fake_name(number * 1000.0, f"{number:04d}")
        album.put(folder / "images/test/database" / name, number, "database")
        album.put(folder / "images/test/queries" / name, number, "query", grey=number % 2 == 0)


def fake_name(north_m: float, number: str) -> str:
    """A name of the @ convention for a made-up position on a line: five digits and one decimal to the north."""
    return f"@0@{north_m:07.1f}@@@@@{number}@@@@@@@@.jpg"
