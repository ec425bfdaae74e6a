"""Parse coordinates in tables and file names: degrees in many notations, metres, and UTM zones."""

from __future__ import annotations

import math
import re
from functools import cache

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+"
_SIGNED = re.compile(rf"([+-]?)({_NUMBER})")
_MARKS = re.compile(r"deg(?:rees?)?|(?<=[0-9])d(?=[\s0-9])|[°º˚'’′\"”″:]", re.IGNORECASE)  # degrees, minutes, seconds
_LETTERS = {"lat": ("N", "S"), "lon": ("E", "W")}
_ZONE = re.compile(r"0?([1-9]|[1-5][0-9]|60)\s*([C-HJ-NP-X])")
_EPSG = re.compile(r"(?:.*EPSG:+)?(326|327|258)([0-9]{2})\)?")  # UTM on WGS84, north and south, and on ETRS89
NORTH, SOUTH = "+", "-"  # zone letters that can only mean a hemisphere; N and S may also be latitude bands
BANDS = "CDEFGHJKLMNPQRSTUVWX"  # UTM latitude bands from 80 south, 8 degrees each (X: 12); N to X are northern


def parse_degrees(text: str, axis: str, reference: str = "") -> float:
    """Parse a latitude or longitude.

    Accepted forms are 48.2082, 48,2082, 48.2082 N, N 48.2082, 48 deg 12' 29.5" N, 48°12.49'N and -48 12 29.5. The
    hemisphere may be in another column. Degrees with minutes must have a sign or a hemisphere. Many programs write them
    without either, and then north and south, or east and west, look the same.

    Args:
        axis: "lat" or "lon".
        reference: the hemisphere from another column, such as "S" or "South"; "" without such a column.

    Returns:
        Degrees, or NaN for an empty text.

    Raises:
        ValueError: the text has another form. The message, such as "has 'abc', ...", continues a sentence that begins
            with the row.

    Example:
        >>> parse_degrees("33 deg 51' 24.48\\" S", "lat")
        -33.8568
    """
    plain = text.strip().replace("\N{MINUS SIGN}", "-")
    if not plain or plain.casefold() == "nan":
        return math.nan
    letter, number = _split_letter(_MARKS.sub(" ", plain).strip())
    parts = _decimal_point(number).split()
    if len(parts) > 1 and parts[0] in ("+", "-"):
        parts = [parts[0] + parts[1], *parts[2:]]
    found = _SIGNED.fullmatch(parts[0]) if parts else None
    if found is None or len(parts) > 3 or not all(re.fullmatch(_NUMBER, part) for part in parts[1:]):
        raise ValueError(f"has {plain!r}, which is not a number in degrees")
    sign, values = found[1], [float(found[2]), *map(float, parts[1:])]
    if any(value >= 60 for value in values[1:]) or any(value % 1 for value in values[:-1]):
        raise ValueError(f"has {plain!r}, which cannot be read as degrees, minutes and seconds")
    letter = letter or reference.strip()[:1].upper()
    plus, minus = _LETTERS[axis]
    if letter and letter not in (plus, minus):
        raise ValueError(f"has {plain!r} with {letter!r} where {plus} or {minus} is expected")
    if sign == "-" and letter == plus:
        raise ValueError(f"has {plain!r} with {plus}, which contradicts the minus sign")
    if len(values) > 1 and not (letter or sign):
        raise ValueError(f"has {plain!r} without {plus} or {minus}, so the hemisphere is unknown")
    size = math.fsum(value / 60.0**power for power, value in enumerate(values))
    return -size if sign == "-" or letter == minus else size


def _split_letter(text: str) -> tuple[str, str]:
    """Split a text into its hemisphere letter ("" if it has none), which comes first or last, and the rest."""
    if text[-1:].isalpha():
        return text[-1].upper(), text[:-1].strip()
    if text[:1].isalpha() and not text[1:2].isalpha():
        return text[0].upper(), text[1:].strip()
    return "", text


def _decimal_point(text: str) -> str:
    """Replace a decimal comma by a point, and other commas by blanks.

    A comma is decimal if the text has one comma and no point. Other commas separate numbers, as in XMP.
    """
    return text.replace(",", "." if text.count(",") == 1 and "." not in text else " ")


def rounding_m(text: str) -> float:
    """Return the precision of a latitude or longitude: the metres on the ground of one unit in its last digit.

    Example:
        >>> rounding_m("48.2"), round(rounding_m("48.20824"), 2)
        (11132.0, 1.11)
    """
    parts = _decimal_point(_MARKS.sub(" ", text)).split()
    numbers = [part for part in parts if any(letter.isdigit() for letter in part)]
    behind = re.match(r"[0-9]*", numbers[-1].partition(".")[2]) if numbers else None
    digits = len(behind[0]) if behind else 0
    return 111_320.0 / math.pow(60, max(len(numbers) - 1, 0)) / math.pow(10, digits)


def parse_metres(text: str, decimal_comma: bool = False) -> float:
    """Parse a length in metres; NaN for an empty text.

    Raises:
        ValueError: the text is not one number. The message, such as "has 'abc', ...", continues a sentence that begins
            with the row.
    """
    plain = text.strip().replace("\N{MINUS SIGN}", "-")
    if not plain or plain.casefold() == "nan":
        return math.nan
    found = _SIGNED.fullmatch(_decimal_point(plain) if decimal_comma else plain)
    if found is None or not math.isfinite(float(found[2])):
        raise ValueError(f"has {plain!r}, which is not a number in metres")
    return -float(found[2]) if found[1] == "-" else float(found[2])


@cache
def parse_zone(text: str) -> tuple[int, str] | None:
    """Parse a UTM zone, such as 33N, `33 n`, 33U or EPSG:32633. Return its number and letter, or None for other texts.

    An EPSG code has no letter: "+" is returned for the northern and "-" for the southern hemisphere.

    Example:
        >>> parse_zone("33U"), parse_zone("EPSG:32719"), parse_zone("33")
        ((33, 'U'), (19, '-'), None)
    """
    plain = text.strip().upper()
    if found := _ZONE.fullmatch(plain):
        return int(found[1]), found[2]
    found = _EPSG.fullmatch(plain)
    if found is None or not 1 <= int(found[2]) <= 60:
        return None
    return int(found[2]), SOUTH if found[1] == "327" else NORTH
