"""Markdown tables that are also readable as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with padded columns; columns of numbers are right-aligned.

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
    signs = [">" if number else "<" for number in right]
    text = [" | ".join(map("{:{}{}}".format, line, signs, widths)) for line in lines]
    text.insert(1, " | ".join(rule))
    return "".join(f"| {line} |\n" for line in text)


def table_of(
    rows: Sequence[Mapping[str, str]], usual: Mapping[str, str], own: Sequence[Mapping[str, str]] | None = None
) -> str:
    """Return a Markdown table. The columns R@N are placed side by side, in ascending order of N.

    Args:
        rows: for each row, the cell texts by column name.
        usual: default values by column name. A column is left out if every row has the default value in it.
        own: rows that decide which columns are left out; None takes all rows.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    recalls = sorted((name for name in names if name.startswith("R@")), key=lambda name: int(name[2:]))
    quiet = {name for name, value in usual.items() if all(row.get(name) == value for row in own or rows)}
    first = names.index(recalls[0])
    others = [name for name in names if name not in quiet and name not in recalls]
    head = [*(name for name in others if names.index(name) < first), *recalls]
    columns = [*head, *(name for name in others if name not in head)]
    return markdown(columns, [[row.get(column, "") for column in columns] for row in rows])


def _is_number(cell: str) -> bool:
    return not cell or cell.lstrip("+-").replace(",", "").replace(".", "").isdecimal()
