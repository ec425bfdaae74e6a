"""HTML pages of one file that ask the network for nothing: the frame, the looks, and foreign text made harmless.

Names of files are foreign text. In HTML they are escaped; in data they are JSON in which no "<" occurs, so none can
end a script. A content security policy with the hashes of style and script says the same to the browser.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any


def text(value: str) -> str:
    """Foreign text for HTML; bytes of a file name that are no UTF-8 become question marks."""
    return escape(value.encode("utf-8", "replace").decode())


def safe_json(value: Any) -> str:
    """JSON that may stand in a script element: it cannot end it, nor open a comment."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def content_hash(content: str) -> str:
    """What a content security policy says of a style or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def base_style() -> str:
    """The looks that all pages share, light and dark."""
    return resources.files("cricavpr.pages").joinpath("base.css").read_text(encoding="utf-8")


def jpeg_address(jpeg: bytes) -> str:
    """A picture as part of the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def render(
    *, title: str, kicker: str, headline: str, lede: str, body: str, style: str = "", script: str = "", data: Any = None
) -> str:
    """A page as text. `lede`, `body`, `style` and `script` are ready as they are; all else is foreign text.

    Args:
        data: for the script, as JSON in the element `data`; nothing where there is no script.
    """
    style = base_style() + style
    scripts = f"'{content_hash(script)}'" if script else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src '{content_hash(style)}'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )
    end = ""
    if script:
        end = f'<script type="application/json" id="data">{safe_json(data)}</script>\n<script>{script}</script>\n'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<p class="kicker">{text(kicker)}</p>
<h1>{text(headline)}</h1>
<p class="lede">{lede}</p>
</header>
<main>
{body}
</main>
{end}</body>
</html>
"""


def table(columns: Sequence[str], parts: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> str:
    """A table of foreign text in parts, each with a head of its own; all columns but the first stand to the right."""

    def cell(tag: str, place: int, value: str) -> str:
        number = ' class="number"' if place else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{number}>{text(value)}</{tag}>"

    def row(tag: str, values: Sequence[str]) -> str:
        return f"<tr>{''.join(cell(tag, place, value) for place, value in enumerate(values))}</tr>"

    bodies = "".join(
        f'<tbody><tr><th scope="rowgroup" class="part" colspan="{len(columns)}">{text(head)}</th></tr>'
        f"{''.join(row('td', values) for values in rows)}</tbody>"
        for head, rows in parts
    )
    return f'<div class="card scroll"><table class="results"><thead>{row("th", columns)}</thead>{bodies}</table></div>'
