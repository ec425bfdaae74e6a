"""Explorer of photos and their matches on an HTML page: a list with filters, a map, and a panel with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cricavpr.pages.html import text


@dataclass(frozen=True)
class Match:
    """A matching database photo, shown in the panel of an item.

    Attributes:
        picture: key of its picture in the page's data.
        name: name of the photo.
        score: similarity to the item's photo.
        off_m: distance to the item's photo in metres; None if unknown.
        right: whether the match is correct.
        note: text below the score.
        marker: index of its marker on the map; None without a marker.
    """

    picture: str
    name: str
    score: float
    off_m: float | None
    right: bool
    note: str = ""
    marker: int | None = None


@dataclass(frozen=True)
class Item:
    """A photo in the list of an explorer.

    Attributes:
        picture: key of its picture in the page's data; `#key` in the address of the page opens this item.
        name: name of the photo.
        note: text beside the name, such as "night".
        right: whether the first match is correct.
        verdict: one line above the pictures, which says whether the query was found.
        off_m: distance to the first match in metres; None if unknown.
        matches: matching database photos, best first.
        truth: picture key and caption of the photo that should have been found; None shows no such photo.
        facts: pairs of a term and its text, shown in the panel.
        groups: for each filter, the options under which this item is listed.
        numbers: for each sort key, the value of this item. Items whose value is None come last.
        marker: index of its marker on the map; None without a marker.
    """

    picture: str
    name: str
    note: str
    right: bool
    verdict: str
    off_m: float | None
    matches: Sequence[Match]
    truth: tuple[str, str] | None = None
    facts: Sequence[tuple[str, str]] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    marker: int | None = None


@dataclass(frozen=True)
class Order:
    """A way to sort the list of an explorer.

    Attributes:
        label: text in the selection.
        by: the key of `Item.numbers` to sort by; "" keeps the order in which the items were given.
        descending: whether the largest value comes first.
    """

    label: str
    by: str = ""
    descending: bool = False


def explorer(
    items: Sequence[Item],
    filters: Mapping[str, str],
    orders: Sequence[Order],
    pictures: Mapping[str, str],
    *,
    map_html: str = "",
    presets: Mapping[str, int] | None = None,
    noun: str = "queries",
    first: int = 0,
) -> tuple[str, dict[str, Any]]:
    """Return the explorer as HTML, and the data for its script.

    Pass the data to `render` as `data`, with the scripts "map.js" and "explorer.js".

    Args:
        filters: for each key of `Item.groups`, the name of the option that shows all items. If the name is "", there is
            no such option.
        orders: ways to sort the list; the first is selected at the beginning.
        pictures: addresses of the pictures by key, such as `data:` URIs.
        map_html: HTML of a map with the markers of the items, or "".
        presets: buttons that each show one item. Keys are labels of buttons, values are indices of items.
        noun: name of the items in the plural.
        first: index of the item to show first.
    """
    selects = "".join(_filter(items, name, everything) for name, everything in filters.items())
    options = "".join(f'<option value="{number}">{text(order.label)}</option>' for number, order in enumerate(orders))
    go_to = {**(presets or {}), "any": "any"}
    buttons = "".join(f'<button type="button" data-item="{n}">{text(label)}</button>' for label, n in go_to.items())
    html = (
        '<noscript><p class="card">The explorer needs JavaScript.</p></noscript>'
        f'<div class="explorer{"" if map_html else " no-map"}" data-noun="{text(noun)}"><div class="list card">'
        f'<div class="filters">{selects}<label>sorted by <select class="order">{options}</select></label>'
        '<output></output></div><ol class="items"></ol>'
        '<button type="button" class="more" hidden>Show more</button></div>'
        + (f'<div class="mapbox card">{map_html}</div>' if map_html else "")
        + '<article class="panel card">'
        f'<div class="presets">{buttons}</div>'
        '<div aria-live="polite"><h3></h3><p class="verdict"></p></div><div class="details"></div></article></div>'
    )
    rows, ways = [asdict(item) for item in items], [asdict(order) for order in orders]
    return html, {"items": rows, "orders": ways, "pictures": dict(pictures), "first": first}


def _filter(items: Sequence[Item], name: str, everything: str) -> str:
    values = dict.fromkeys(value for item in items for value in item.groups.get(name, ()))
    options = [f'<option value="">{text(everything)}</option>'] if everything else []
    options += [f'<option value="{text(value)}">{text(value)}</option>' for value in values]
    return f'<label>{text(name)} <select data-filter="{text(name)}">{"".join(options)}</select></label>'
