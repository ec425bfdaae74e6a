"""Markdown tables that also read as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with aligned columns; columns of numbers stand to the right.

    Example:
        >>> print(markdown(["method", "R@1"], [["cricavpr", "91.6"], ["pixels", "7.0"]]), end="")
        | method   |  R@1 |
        | -------- | ---: |
        | cricavpr | 91.6 |
        | pixels   |  7.0 |
    """
    lines = [head, *rows]
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(head))]
    right = [all(_is_number(row[place]) for row in rows) for place in range(len(head))]
    rule = ["-" * (width - 1) + ":" if number else "-" * width for width, number in zip(widths, right, strict=True)]
    text = [" | ".join(map(_padded, line, widths, right)) for line in lines]
    text.insert(1, " | ".join(rule))
    return "".join(f"| {line} |\n" for line in text)


def _padded(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _is_number(cell: str) -> bool:
    return not cell or cell.lstrip("+-").replace(",", "").replace(".", "").isdecimal()
