"""Text cells of CSV files: a spreadsheet must show them, not run them as formulas."""

from __future__ import annotations

QUOTE = "'"  # spreadsheets take the text after a leading apostrophe as it is
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")  # a cell that begins like this is, or may become, a formula


def safe_cell(text: str) -> str:
    """Return the text for a CSV cell, with an apostrophe before it where a spreadsheet could run it.

    For names and other text only: a negative number is no formula. `plain_cell` is the inverse.

    Example:
        >>> safe_cell("=HYPERLINK(1).jpg")
        "'=HYPERLINK(1).jpg"
        >>> safe_cell("may/1.jpg")
        'may/1.jpg'
    """
    return QUOTE + text if text.startswith((*RISKY, QUOTE)) else text


def plain_cell(text: str) -> str:
    """Return the text of a CSV cell without the apostrophe that `safe_cell` adds.

    Example:
        >>> plain_cell("'=HYPERLINK(1).jpg")
        '=HYPERLINK(1).jpg'
        >>> plain_cell("'quoted'.jpg")
        "'quoted'.jpg"
    """
    return text[1:] if text.startswith(QUOTE) and text[1:].startswith((*RISKY, QUOTE)) else text
