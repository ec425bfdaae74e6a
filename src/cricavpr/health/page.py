"""The findings as one HTML page that asks the network for nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib import resources

from PIL import Image

from cricavpr.errors import ImageError
from cricavpr.health.findings import Health
from cricavpr.health.ground import MOST_HOLES, counted
from cricavpr.health.likeness import Pair
from cricavpr.health.map_svg import map_svg
from cricavpr.health.photos import Look
from cricavpr.images import decode
from cricavpr.pages import jpeg_address, render, text

PICTURE_PX = 320  # the long side
MOST_NAMES = 60
MOST_LOOKS = 12
KEY = (
    ('<path d="M15 4h0" stroke="var(--base)" stroke-width="6"/>', "photo"),
    ('<path d="M15 4h0" stroke="var(--wrong)" stroke-width="8"/>', "thin place: one photo"),
    ('<circle cx="15" cy="4" r="6" stroke="var(--accent)" stroke-dasharray="3 3"/>', "hole"),
)
ALIKE = '<path d="M1 4H29" stroke="var(--right)" stroke-width="2"/>'


def page(health: Health) -> str:
    """The page as text; pictures are in it where the photos are at hand."""
    name = health.index.path.resolve().name
    return render(
        title=f"Health of {name}",
        kicker="cricavpr index health",
        headline=f"{name}: {len(health.index):,} photos, version {health.index.version}",
        lede=text(_lede(health)),
        body=_body(health),
        style=resources.files("cricavpr.health").joinpath("page.css").read_text(encoding="utf-8"),
    )


def _lede(health: Health) -> str:
    alike, parts = health.alike, []
    if alike.usual is not None:
        parts.append(
            f"Of {alike.asked:,} photos that asked all others, {alike.confused:,} "
            f"{'was' if alike.confused == 1 else 'were'} answered with a place more than {health.far_m:g} m away."
        )
    else:
        everywhere = len(health.thin) == len(health.plane) + health.elsewhere
        none = (
            "No place has two photos"
            if everywhere
            else f"None of {alike.asked:,} photos that asked all others found another one of its own place"
        )
        parts.append(f"{none}, so nothing shows how alike two photos of one place are.")
    if health.unlocated:
        parts.append(f"{health.unlocated:,} photos have no position and are left out.")
    if health.elsewhere:
        parts.append(
            f"{health.elsewhere:,} photos lie in other UTM zones: they are not on the map, and no holes are looked for "
            "among them."
        )
    return " ".join(parts)


def _body(health: Health) -> str:
    sections = [_summary(health), _map(health), _aliases(health), _copies(health), _thin(health), _looks(health)]
    return "\n".join(section for section in sections if section)


def _summary(health: Health) -> str:
    alike = health.alike
    facts = [
        (counted(len(health.holes), MOST_HOLES), "holes in the coverage"),
        (f"{len(health.thin):,}", f"thin places: no other photo within {health.same_m:g} m"),
        (alike.count, f"{alike.kind}, {health.far_m:g} m apart or more"),
        (f"{alike.copies_in_all:,}", f"near-duplicates: a score of {health.copy_score:g} or more at one place"),
    ]
    if health.looks is not None:
        bad = (health.looks.blurred, "blurred photos"), (health.looks.dark, "dark photos")
        facts += [(f"{len(looks):,}", what) for looks, what in bad]
    cells = "".join(f'<div class="card"><b>{count}</b><span>{text(what)}</span></div>' for count, what in facts)
    return f'<div class="sum">{cells}</div>'


def _map(health: Health) -> str:
    shapes = (*KEY, (ALIKE, health.alike.kind))
    key = "".join(f'<li><svg viewBox="0 0 30 8" aria-hidden="true">{shape}</svg>{what}</li>' for shape, what in shapes)
    return f'<h2>The map, north up</h2><div class="card">{map_svg(health)}<ul class="key">{key}</ul></div>'


def _aliases(health: Health) -> str:
    usual = health.alike.usual
    if usual is None:
        why = "The most alike photos of far places: how alike is too alike, photos of one place would show."
        nothing = f"No two photos are more than {health.far_m:g} m apart."
    else:
        score = f"a score of at least {usual:.3f}, which is usual for two photos of one place."
        why, nothing = f"Photos of far places with {score}", f"No two photos of far places have {score}"
    return _pairs(health, "Places that look alike", why, health.alike.aliases, nothing)


def _copies(health: Health) -> str:
    why = f"Photos within {health.same_m:g} m that hardly differ: one of them would do."
    return _pairs(health, "Near-duplicates", why, health.alike.copies, "There are none.")


def _pairs(health: Health, title: str, why: str, pairs: Sequence[Pair], nothing: str) -> str:
    if not pairs:
        return f"<h2>{text(title)}</h2><p>{text(nothing)}</p>"
    cards = "".join(
        f'<div class="card pair"><div class="two">{_picture(health, pair.first)}{_picture(health, pair.second)}</div>'
        f"<p>score {pair.score:.3f}, {pair.apart_m:,.0f} m apart<small>{text(health.index.name(pair.first))}<br>"
        f"{text(health.index.name(pair.second))}</small></p></div>"
        for pair in pairs
    )
    return f'<h2>{text(title)}</h2><p class="caveat">{text(why)}</p><div class="pairs">{cards}</div>'


def _thin(health: Health) -> str:
    if not len(health.thin):
        return ""
    rows = health.thin.tolist()
    names = "".join(f"<li>{text(health.index.name(row))}</li>" for row in rows[:MOST_NAMES])
    more = f"<p>and {len(rows) - MOST_NAMES:,} more; all are in the JSON.</p>" if len(rows) > MOST_NAMES else ""
    return f'<h2>Thin places</h2><ul class="names">{names}</ul>{more}'


def _looks(health: Health) -> str:
    looks = health.looks
    if looks is None:
        return '<p class="caveat">Blurred and dark photos are looked for with --photos FOLDER.</p>'
    missing = f" {looks.missing:,} photos are not there or cannot be read." if looks.missing else ""
    return (
        f'<p class="caveat">{looks.seen:,} photos were looked at.{missing}</p>'
        + _worst(health, "Blurred photos", "Far less sharp than is usual here.", looks.blurred)
        + _worst(health, "Dark photos", "Hardly any light.", looks.dark)
    )


def _worst(health: Health, title: str, why: str, looks: Sequence[Look]) -> str:
    if not looks:
        return ""
    cards = "".join(
        f'<div class="card pair">{_picture(health, one.row)}<p>sharpness {one.sharpness:.0f}, brightness '
        f"{one.brightness:.0f}<small>{text(health.index.name(one.row))}</small></p></div>"
        for one in looks[:MOST_LOOKS]
    )
    more = f"<p>and {len(looks) - MOST_LOOKS:,} more; all are in the JSON.</p>" if len(looks) > MOST_LOOKS else ""
    return f'<h2>{text(title)}</h2><p class="caveat">{text(why)}</p><div class="pairs">{cards}</div>{more}'


def _picture(health: Health, row: int) -> str:
    path = health.path(row)
    try:
        picture = None if path is None else Image.fromarray(decode(path))
    except ImageError:
        picture = None
    if picture is None:
        return '<div class="none">photo not at hand</div>'
    picture.thumbnail((PICTURE_PX, PICTURE_PX))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    return f'<img src="{jpeg_address(data.getvalue())}" alt="{text(health.index.name(row))}">'
