"""HTML pages in one file that need no network: the frame, the style, and safe names.

Names of files are untrusted. In HTML they are escaped; in data they are JSON without "<", so they cannot end a script.
A content security policy with the hashes of style and scripts lets the browser run nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def text(value: str) -> str:
    """Escape a name for HTML; bytes of a file name that are not UTF-8 become question marks.

    Example:
        >>> text("<b> & 'c'")
        '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return escape(value.encode("utf-8", "replace").decode())


def safe_json(value: Any) -> str:
    """Return JSON that cannot end the script element it is in.

    Raises:
        ValueError: a number is NaN or infinite, which browsers cannot read.

    Example:
        >>> safe_json({"name": "</script>"})
        '{"name":"\\\\u003c/script>"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def picture(
    image: NDArray[np.uint8],  # (H, W, 3)
    side: int = 150,
    quality: int = 60,
) -> str:
    """Return a JPEG as a data: URI. `side` limits its longer side in pixels; a smaller image keeps its size.

    Example:
        >>> picture(np.zeros((300, 400, 3), np.uint8))[:23]
        'data:image/jpeg;base64,'
    """
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def distance(metres: float) -> str:
    """Return a distance with its unit, rounded for people.

    Example:
        >>> distance(4.21), distance(412.4), distance(1314.0)
        ('4.2 m', '412 m', '1.31 km')
    """
    if metres < 9.95:
        return f"{metres:.1f} m"
    return f"{metres:.0f} m" if metres < 999.5 else f"{metres / 1000:.2f} km"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return an HTML list of terms and their texts; both are escaped."""
    return f'<dl class="facts">{"".join(f"<dt>{text(term)}</dt><dd>{text(said)}</dd>" for term, said in pairs)}</dl>'


def asset(name: str) -> str:
    """Return the text of a style sheet or script of this package."""
    return resources.files("cricavpr.pages").joinpath(name).read_text(encoding="utf-8")


def content_hash(content: str) -> str:
    """Return the hash of a style or script for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def render(
    *,
    title: str,
    kicker: str,
    headline: str,
    lede: str,
    body: str,
    footer: str = "",
    style: str = "",
    scripts: Sequence[str] = (),
    data: Any = None,
) -> str:
    """Return a page as text.

    Args:
        title, kicker, headline: plain text, escaped here.
        lede, body, footer: HTML.
        style: CSS that follows the shared style sheets.
        scripts: names of scripts of this package; a page with a map needs "map.js".
        data: a value for the scripts, written as JSON into the element with the id "data".

    Example:
        >>> html = render(title="t", kicker="k", headline="<h>", lede="", body="<p>b</p>")
        >>> "<h1>&lt;h&gt;</h1>" in html, "script-src 'none'" in html
        (True, True)
    """
    style = asset("theme.css") + asset("base.css") + asset("map.css") + style
    sources = [asset(name) for name in scripts]
    allowed = " ".join(f"'{content_hash(source)}'" for source in sources) or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src '{content_hash(style)}'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    end = "" if data is None else f'<script type="application/json" id="data">{safe_json(data)}</script>\n'
    end += "".join(f"<script>{source}</script>\n" for source in sources)
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
<a class="skip" href="#main">Skip to the content</a>
<header>
<p class="kicker">{text(kicker)}</p>
<h1>{text(headline)}</h1>
<p class="lede">{lede}</p>
</header>
<main id="main">
{body}
</main>
{f"<footer>{footer}</footer>" if footer else ""}
{end}</body>
</html>
"""


def notebook(html: str) -> str:
    """Return an HTML fragment together with its style and script, for `_repr_html_`.

    One notebook may have several of them. They follow its light or dark theme.

    Example:
        >>> notebook("<p>x</p>").startswith('<div class="cricavpr">')
        True
    """
    theme = asset("theme.css").replace(":root", ".cricavpr")
    for rules, jupyter, code in zip(re.findall(r"{[^{}]*}", theme), ("true", "false"), ("light", "dark"), strict=True):
        theme += f'[data-jp-theme-light="{jupyter}"] .cricavpr, .vscode-{code} .cricavpr {rules}\n'
    style = theme + asset("map.css")
    return f'<div class="cricavpr"><style>{style}</style>{html}<script>{asset("map.js")}</script></div>'


def table(columns: Sequence[str], parts: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> str:
    """Return a table in parts, each with its own heading. Cells are escaped; all columns but the first are numbers."""

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
