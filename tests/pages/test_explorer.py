"""The explorer of photos: list, map and panel."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

from cricavpr.pages import Marker, map_of, render
from cricavpr.pages.explorer import Item, Match, Order, explorer
from cricavpr.pages.html import asset

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\u2028\udcff.jpg"
ORDERS = (Order("name"), Order("error", "error", descending=True))


def item(name: str = "a.jpg", right: bool = True, taken: str = "day") -> Item:
    match = Match("database/b.jpg", name, 0.5, 3.0, right, marker=1)
    groups = {"show": ["right" if right else "wrong"], "taken": [taken]}
    return Item(name, name, taken, right, "placed", 3.0, [match], groups=groups, numbers={"error": 3.0}, marker=0)


def test_filters_offer_what_the_items_have_in_their_order() -> None:
    html, _ = explorer([item(), item(right=False), item(taken="night")], {"show": "all", "taken": ""}, ORDERS, {})
    found = ElementTree.fromstring(re.sub(" hidden>", ">", html.partition("</noscript>")[2]))
    options = {
        select.get("data-filter"): [(option.get("value"), option.text) for option in select]
        for select in found.iter("select")
    }
    assert options["show"] == [("", "all"), ("right", "right"), ("wrong", "wrong")]
    assert options["taken"] == [("day", "day"), ("night", "night")]
    assert options[None] == [("0", "name"), ("1", "error")]
    assert [button.get("data-item") for button in found.iter("button") if button.get("data-item")] == ["any"]


def test_names_are_never_markup() -> None:
    items = [item(HOSTILE, taken=HOSTILE)]
    hostile_map = map_of([Marker((0, 0), HOSTILE)])
    pictures = {HOSTILE: "data:,"}
    body, data = explorer(
        items, {"taken": HOSTILE}, [Order(HOSTILE)], pictures, map_html=hostile_map, presets={HOSTILE: 0}
    )
    page = render(title="", kicker="", headline="", lede="", body=body, scripts=["map.js", "explorer.js"], data=data)
    page.encode()
    assert "<img src=x" not in page and page.count("</script>") == 4
    held = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert held["items"][0]["name"] == HOSTILE and held["pictures"] == {HOSTILE: "data:,"}


def test_the_script_never_writes_html_and_finds_its_own_elements() -> None:
    script = asset("explorer.js")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp", script)
    html, _ = explorer([item()], {"show": "all"}, ORDERS, {}, map_html=map_of([Marker((0, 0))]))
    classes = set(" ".join(re.findall(r'class="([^"]*)"', html)).split())
    for used in [*re.findall(r"querySelector(?:All)?\('([^']+)'\)", script), ".items", ".panel", ".more", "output"]:
        for name in re.findall(r"\.([a-z-]+)", used):
            assert name in classes, used
        assert not (used.isalpha() and f"<{used}" not in html), used
    keys = set(vars(item())) | set(vars(item().matches[0]))
    assert set(re.findall(r"\b(?:item|match)\.([a-z_]+)\b(?!\()", script)) <= keys
