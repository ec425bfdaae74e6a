"""Match rows of a table to photos, by names that need not be complete paths.

The name in a row and the path of a photo are compared from the end. The name may lack the suffix, and folders at the
front, as long as one photo fits better than all others. Case and the Unicode form of accents are ignored. A name with a
different folder does not match.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cricavpr.files import plain_cell

Parts = tuple[str, ...]
Fit = tuple[bool, int, bool, bool]  # suffix given, number of equal path parts, path complete, spelling equal


@dataclass
class Matches:
    """Result of matching the rows of a table to photos. Photos and rows are given by their indices.

    Attributes:
        rows: maps each photo with a row to the rows that fit it best.
        reasons: maps each row without a photo to the reason, such as "names no photo".
        doubtful: maps a photo to a row that fits this photo and others equally well, and so is not used.
    """

    rows: dict[int, list[int]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    doubtful: dict[int, int] = field(default_factory=dict)


class PhotoNames:
    """Photos that can be looked up by the names in a table.

    Args:
        names: paths of the photos relative to `root`.
        root: the folder of the photos. Names in a table may begin with this folder and its parents: for the root
            /home/me/photos, both photos/a.jpg and me/photos/a.jpg mean the photo a.jpg.
    """

    def __init__(self, names: Sequence[str], root: Path) -> None:
        self.names, self.folder = names, root.resolve().name
        folders = Path(os.path.abspath(root)), root.resolve()  # noqa: PTH100  # two paths, if root is a link
        self.above = {tuple(map(_key, folder.parts)) for folder in folders}
        self.keys = [tuple(_key(name).split("/")) for name in names]
        self.by_path: dict[Parts, list[int]] = defaultdict(list)
        self.by_file: dict[str, list[int]] = defaultdict(list)
        self.by_stem: dict[str, list[int]] = defaultdict(list)
        for photo, keys in enumerate(self.keys):
            self.by_path[keys].append(photo)
            self.by_file[keys[-1]].append(photo)
            self.by_stem[keys[-1].rpartition(".")[0]].append(photo)

    def match(self, rows: Sequence[str]) -> Matches:
        """Find the photo that fits each row best, and for each photo the rows that fit it best."""
        matches = Matches()
        found: dict[int, list[tuple[Fit, int]]] = defaultdict(list)
        for row, text in enumerate(rows):
            fits = self._fits(text)
            best = max(fits.values(), default=None)
            photos = [photo for photo, fit in fits.items() if fit == best]
            if best is not None and len(photos) == 1:
                found[photos[0]].append((best, row))
                continue
            matches.reasons[row] = self._why(text, photos)
            for photo in photos:
                matches.doubtful.setdefault(photo, row)
        for photo, fitting in found.items():
            best = max(fit for fit, _ in fitting)
            matches.rows[photo] = [row for fit, row in fitting if fit == best]
            for row in (row for fit, row in fitting if fit != best):
                matches.reasons[row] = f"names {rows[row]!r}, but another row names this photo more exactly"
        return matches

    def _fits(self, text: str) -> dict[int, Fit]:
        """Return the photos that may be meant by the name in a row, and how well the name fits each of them."""
        plain = plain_cell(text)  # without the apostrophe by which a writer keeps a spreadsheet from running the cell
        variants = (plain, plain.replace("\\", "/"), text)
        for parts in dict.fromkeys(map(_parts, variants)):
            keys = tuple(map(_key, parts))
            fits = {photo: fit for photo in self._called(keys) if (fit := self._fit(parts, keys, photo))}
            if fits:
                return fits
        return {}

    def _called(self, keys: Parts) -> Iterable[int]:
        """Return the photos with the path `keys`, or else all with its file name, with or without suffix."""
        for start in range(len(keys)):
            found = self.by_path.get(keys[start:])
            if found and (start == 0 or any(folder[-start:] == keys[:start] for folder in self.above)):
                return found
        last = keys[-1] if keys else ""
        return dict.fromkeys((*self.by_file.get(last, ()), *self.by_stem.get(last, ())))

    def _fit(self, parts: Parts, keys: Parts, photo: int) -> Fit | None:
        here, path = self.keys[photo], self.names[photo].split("/")
        with_suffix = keys[-1] == here[-1]
        if not with_suffix:
            here = (*here[:-1], here[-1].rpartition(".")[0])
            path[-1] = path[-1].rpartition(".")[0]
        common = max(_common(keys, folder + here) for folder in self.above)
        if common < len(keys) and common <= len(here):
            return None
        return with_suffix, common, common == len(here), list(parts[-len(path) :]) == path[-len(parts) :]

    def _why(self, text: str, photos: Sequence[int]) -> str:
        if not text.strip():
            return "names no photo"
        if photos:
            shown = ", ".join(self.names[photo] for photo in photos[:3]) + (", ..." if len(photos) > 3 else "")
            return f"names {text!r}, which fits {len(photos):,} photos ({shown}); add the folder to the name"
        elsewhere = next(iter(self._called(tuple(map(_key, _parts(text.replace("\\", "/")))))), None)
        if elsewhere is not None:
            folder = self.names[elsewhere].rpartition("/")[0] or self.folder
            return f"names {text!r}, but the photo of this name is in the folder {folder!r}"
        return f"names {text!r}, but there is no such photo"


def _parts(text: str) -> Parts:
    """Split a path into its parts. Drop each ./, and drop the last ../ with everything before it."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    while ".." in parts:
        parts = parts[parts.index("..") + 1 :]
    return tuple(parts)


def _key(text: str) -> str:
    """Return a key for comparing names. It ignores case, Unicode form and an old encoding (cp1252) of accents."""
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        text = os.fsencode(text).decode("cp1252", "replace")
    return unicodedata.normalize("NFC", text).casefold()


def _common(one: Parts, other: Parts) -> int:
    """Return how many parts two paths have in common at the end."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
