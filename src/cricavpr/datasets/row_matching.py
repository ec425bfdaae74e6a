"""Match rows of a table to photos, by names that need not be complete paths.

The name in a row and the path of a photo are compared from the end. The name may lack folders at the front, and the
suffix, if only one photo fits best. Upper and lower case are equal, and so are the Unicode forms of accents. A name
with another folder does not match.
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
Fit = tuple[bool, int, bool, bool]  # suffix is given, number of equal path parts, path is complete, spelling is equal


@dataclass
class Matches:
    """Result of matching the rows of a table to photos. Photos and rows are numbers.

    Attributes:
        rows: for each photo, the rows that fit it best.
        reasons: for each row without a photo, the reason, such as "names no photo".
        doubtful: for each photo that fits a row as well as other photos do, so that the row is not used, this row.
    """

    rows: dict[int, list[int]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    doubtful: dict[int, int] = field(default_factory=dict)


class PhotoNames:
    """Photos that can be looked up by the names in a table.

    Args:
        names: paths of the photos relative to `root`.
        root: the folder of the photos; names in a table may begin with this folder and folders above it.
    """

    def __init__(self, names: Sequence[str], root: Path) -> None:
        self.names, self.folder = names, root.resolve().name
        folders = Path(os.path.abspath(root)), root.resolve()  # noqa: PTH100  # a link has two names
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
        """Find the photo of each row, and for each photo the rows that fit it best."""
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
        """Return the photos that the name in a row may mean, each with how well the name fits."""
        plain = plain_cell(text)  # without the apostrophe that made the cell safe for a spreadsheet
        variants = (plain, plain.replace("\\", "/"), text)
        for parts in dict.fromkeys(map(_parts, variants)):
            keys = tuple(map(_key, parts))
            fits = {photo: fit for photo in self._called(keys) if (fit := self._fit(parts, keys, photo))}
            if fits:
                return fits
        return {}

    def _called(self, keys: Parts) -> Iterable[int]:
        """Return the photos with the path `keys`, or else those with its file name, with or without suffix."""
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
    """Split a path into its parts. Drop ./, and drop ../ with everything before it."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    while ".." in parts:
        parts = parts[parts.index("..") + 1 :]
    return tuple(parts)


def _key(text: str) -> str:
    """Return a key that is equal for names that differ only in case, Unicode form or an old encoding of accents."""
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
