"""HTML pages in one file that work without a network: page frame, styles, and safe output of file names.

File names are untrusted. In HTML they are escaped. In data they are JSON without "<", so that no name can end the
script element. The content security policy of a page lets browsers run only the page's own scripts, by their hashes.
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
    """Escape text for HTML. Bytes of a file name that are not valid UTF-8 become question marks.

    Example:
        >>> text("<b> & 'c'")
        '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return escape(value.encode("utf-8", "replace").decode())


def safe_json(value: Any) -> str:
    """Return a value as JSON that is safe inside an HTML script element, because it contains no "<".

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
    """Return an image as a JPEG in a `data:` URI.

    Args:
        side: maximum of the longer side in pixels; a larger image is reduced.
        quality: JPEG quality.

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
    """Return a distance as text with its unit, rounded to about three digits.

    Example:
        >>> distance(4.21), distance(412.4), distance(1314.0)
        ('4.2 m', '412 m', '1.31 km')
    """
    if metres < 9.95:
        return f"{metres:.1f} m"
    return f"{metres:.0f} m" if metres < 999.5 else f"{metres / 1000:.2f} km"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return pairs of a term and its text as an HTML list. Both are escaped."""
    return f'<dl class="facts">{"".join(f"<dt>{text(term)}</dt><dd>{text(said)}</dd>" for term, said in pairs)}</dl>'


def asset(name: str) -> str:
    """Return the content of a style sheet or script in this package, such as "map.js"."""
    return resources.files("cricavpr.pages").joinpath(name).read_text(encoding="utf-8")


def content_hash(content: str) -> str:
    """Return the SHA-256 of a style sheet or script in the form that a content security policy needs."""
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
    """Return a complete HTML page as text.

    Args:
        title: title of the page in the browser, as plain text.
        kicker, headline: small line above the headline, and the headline, as plain text.
        lede, body, footer: text below the headline, main content, and end of the page, as HTML.
        style: CSS to add after the shared style sheets.
        scripts: names of scripts in this package; a page with a map needs "map.js".
        data: a value for the scripts, written as JSON into the element with the id "data"; None writes nothing.

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
    """Return an HTML fragment together with its style sheet and script, for `_repr_html_` in a notebook.

    A notebook may show several such fragments. Their colours follow the light or dark theme of the notebook.

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
    """Return an HTML table whose rows are divided into parts. Cells are escaped.

    All columns except the first are formatted as numbers.

    Args:
        columns: headings of the columns.
        parts: the parts of the table. Each has a heading and its rows.
    """

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
