"""What readers of lists share: lists name photos, and the photos lie in one of a few places below a root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.geo import Metres, Positions


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of several paths below a root that is a file."""
    return next((root / name for name in names if (root / name).is_file()), None)


def folder_of(root: Path, folders: Sequence[str], name: str, listed_in: Path) -> Path:
    """The first of several folders below a root that holds the photo `name`.

    Raises:
        InputError: none does.
    """
    for folder in folders:
        if (root / folder / name).is_file():
            return root / folder
    looked = ", ".join(str(root / folder) for folder in folders)
    raise InputError(
        f"{listed_in} lists {name!r}, which is in none of {looked}. Unpack the photos there, or give their folder."
    )


def in_zone(metres: Metres, zone: str) -> Positions:  # metres: (N, 2)
    """Positions that all lie in one UTM zone."""
    return Positions(metres, (zone,) * len(metres))


def panoramas(names: Sequence[str], length: int | None = None) -> tuple[str, ...]:
    """The panorama in each file name: its first `length` letters, or what stands before the first underscore."""
    files = (name.rpartition("/")[2] for name in names)
    return tuple(file.split("_", 1)[0] if length is None else file[:length] for file in files)
