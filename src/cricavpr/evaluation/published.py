"""Published recalls to compare with your own, marked where the protocol differs or is unknown.

The figures are in published.csv, one row for each method, split and source. A cell is empty if the source does not give
the value, or if we have not seen it; no value is a guess.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation.cards import Card

TABLE = Path(__file__).with_name("published.csv")
NS = (1, 5, 10)
COLUMNS = ("method", "split", "protocol", "grouping", "dim", "image_size", *(f"R@{n}" for n in NS), "source")
SAME_IMAGES = {"pitts30k-test": ("pitts30k",), "pitts250k-test": ("pitts250k",)}  # usual names of their folders


@dataclass(frozen=True)
class Published:
    """One row of the table.

    Attributes:
        method, split: by our names if we have them.
        protocol: in the words of the source.
        grouping: a `Grouping` as text, "none" for a method whose images do not see one another, or "".
        dim, image_size: as in the source, or "".
        source: where the figures were published.
        recalls: per cent as printed, by N; only the known ones.
        marks: how the row differs from a card, or may differ.
    """

    method: str
    split: str
    protocol: str
    grouping: str
    dim: str
    image_size: str
    source: str
    recalls: dict[int, str]
    marks: tuple[str, ...] = ()


def read_published(path: Path = TABLE) -> list[Published]:
    """Read all rows.

    Raises:
        InputError: the file cannot be read, has other columns, or has an invalid percentage.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restval="")
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path} must have the columns {', '.join(COLUMNS)}.")
            return [_entry(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}. Give a CSV of published figures.") from error


def _entry(row: dict[str, str], where: str) -> Published:
    recalls = {n: row[f"R@{n}"] for n in NS if row[f"R@{n}"]}
    for text in recalls.values():
        if not text.replace(".", "", 1).isdecimal() or not 0 <= float(text) <= 100:
            raise InputError(f"{where}: expected a percentage from 0 to 100, got {text!r}.")
    plain = {name: row[name] for name in COLUMNS if not name.startswith("R@")}
    return Published(**plain, recalls=recalls)  # type: ignore[arg-type]  # all of these are text


def beside(card: Card, entries: Iterable[Published]) -> list[Published]:
    """Return the rows of a card's split, each marked with its known and possible differences from the card."""
    names = {card.dataset, *(split for split, others in SAME_IMAGES.items() if card.dataset in others)}
    return [replace(entry, marks=tuple(_marks(card, entry))) for entry in entries if entry.split in names]


def image_size(card: Card) -> str:
    """Return height x width of the images that the network saw, or "native"."""
    size = card.made_by.image_size
    return "native" if size is None else f"{size[0]}x{size[1]}"


def _marks(card: Card, entry: Published) -> list[str]:
    marks = []
    if entry.grouping != card.grouping:
        marks.append("grouping" if entry.grouping else "grouping not known")
    if entry.image_size != image_size(card):
        marks.append("image size" if entry.image_size else "image size not known")
    marks.append("protocol" if entry.protocol else "protocol not known")  # words cannot be compared
    marks.append("list of images not known")  # no source prints a hash
    return marks
