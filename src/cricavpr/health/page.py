"""HTML page with the findings about an index, in one file without links to the network."""

from __future__ import annotations

from collections.abc import Sequence

from cricavpr.errors import ImageError
from cricavpr.health.findings import Health
from cricavpr.health.measures import Measured
from cricavpr.health.similarity import Pair
from cricavpr.images import decode
from cricavpr.pages import Circle, Line, Marker, map_of, picture, render, text

PICTURE_PX = 320  # long side of a photo on the page
MOST_NAMES = 60
MOST_PHOTOS = 12


def page(health: Health) -> str:
    """Return the HTML of the page. It includes the listed photos that can be read."""
    name = health.index.path.resolve().name
    return render(
        title=f"Health of {name}",
        kicker="cricavpr index health",
        headline=f"{name}: {len(health.index):,} photos, version {health.index.version}",
        lede=text(_lede(health)),
        body=_Page(health).body(),
        scripts=("map.js",),
    )


def _lede(health: Health) -> str:
    found = health.similarity
    if found.usual_score is not None:
        parts = [
            f"Of {found.compared:,} photos, {found.confused:,} {'has its' if found.confused == 1 else 'have their'} "
            f"best match more than {health.far_m:g} m away."
        ]
    elif len(health.thin) == len(health.plane) + health.elsewhere:
        parts = ["No place has two photos, so it is unknown which score two photos of one place usually have."]
    else:
        parts = [
            f"None of {found.compared:,} photos has a match at its own place, so it is unknown which score two photos "
            "of one place usually have."
        ]
    if health.unlocated:
        parts.append(f"{health.unlocated:,} photos have no position and are left out.")
    if health.elsewhere:
        parts.append(f"{health.elsewhere:,} photos in other UTM zones are not on the map and not searched for holes.")
    return " ".join(parts)


class _Page:
    """Body of the page. The first picture of each photo has an id, to which the map links."""

    def __init__(self, health: Health) -> None:
        self.health = health
        self.pictured: set[int] = set()

    def body(self) -> str:
        sections = [self._lookalikes(), self._copies(), self._thin(), self._quality()]
        return "\n".join(
            [self._counts(), self._map(), *filter(None, sections)]
        )  # after the sections, because the map links to their ids

    def _counts(self) -> str:
        health = self.health
        counts = [
            (health.hole_count, "holes in the coverage"),
            (f"{len(health.thin):,}", f"places with one photo: no other within {health.same_m:g} m"),
            (health.lookalike_count, f"{health.lookalike_kind}, more than {health.far_m:g} m apart"),
            (f"{health.similarity.copy_count:,}", f"near-duplicates: score {health.copy_score:g} or more at one place"),
        ]
        if health.quality is not None:
            counts.append((f"{len(health.quality.blurred):,}", "blurred photos"))
            counts.append((f"{len(health.quality.dark):,}", "dark photos"))
        cards = "".join(f'<div class="card"><b>{count}</b><span>{text(what)}</span></div>' for count, what in counts)
        return f'<div class="counts">{cards}</div>'

    def _map(self) -> str:
        """Return the map of the photos in the most common UTM zone."""
        health, index = self.health, self.health.index
        metres = index.positions.metres.tolist()
        thin, shown = set(health.thin.tolist()), set(health.plane.tolist())
        markers = []
        for row in health.plane.tolist():
            photo = f"#photo-{row}" if row in self.pictured else ""
            markers.append(Marker(metres[row], index.name(row), "thin" if row in thin else "photo", photo))
        pairs = [pair for pair in health.similarity.lookalikes if {pair.first, pair.second} <= shown]
        circles = [
            Circle((hole.easting_m, hole.northing_m), hole.radius_m, f"hole of {hole.radius_m:.0f} m radius", "hole")
            for hole in health.holes
        ]
        key = {
            "photo": "photo",
            "thin": "place with only one photo",
            "circle:hole": "hole",
            "line:link": health.lookalike_kind,
        }
        label = (
            f"Map of {len(markers):,} photos with {len(circles)} holes, "
            f"{len(thin & shown):,} places with one photo and "
            f"{len(pairs)} {health.lookalike_kind}"
        )
        lines = [
            Line([metres[pair.first], metres[pair.second]], f"score {pair.score:.3f}, {pair.apart_m:,.0f} m apart")
            for pair in pairs
        ]
        return f'<h2>Map</h2><div class="card">{map_of(markers, circles, lines, key=key, label=label)}</div>'

    def _lookalikes(self) -> str:
        usual, far_m = self.health.similarity.usual_score, self.health.far_m
        if usual is None:
            why = (
                f"The most similar photos that are more than {far_m:g} m apart. Whether they could be confused is "
                "unknown, because no place has two photos to compare with."
            )
            nothing = f"No two photos are more than {far_m:g} m apart."
        else:
            score = f"a score of at least {usual:.3f}, the median score of two photos of one place."
            why = f"Photos more than {far_m:g} m apart with {score}"
            nothing = f"No two photos more than {far_m:g} m apart have {score}"
        return self._pairs("Similar places", why, self.health.similarity.lookalikes, nothing)

    def _copies(self) -> str:
        why = f"Photos within {self.health.same_m:g} m of each other that hardly differ: one of them is enough."
        return self._pairs("Near-duplicates", why, self.health.similarity.copies, "There are none.")

    def _pairs(self, title: str, why: str, pairs: Sequence[Pair], nothing: str) -> str:
        if not pairs:
            return f"<h2>{text(title)}</h2><p>{text(nothing)}</p>"
        name = self.health.index.name
        cards = "".join(
            f'<div class="card"><div class="two">{self._picture(pair.first)}{self._picture(pair.second)}</div>'
            f"<p>score {pair.score:.3f}, {pair.apart_m:,.0f} m apart<small>{text(name(pair.first))}<br>"
            f"{text(name(pair.second))}</small></p></div>"
            for pair in pairs
        )
        return f'<h2>{text(title)}</h2><p class="caveat">{text(why)}</p><div class="pairs">{cards}</div>'

    def _thin(self) -> str:
        rows = self.health.thin.tolist()
        if not rows:
            return ""
        names = "".join(f"<li>{text(self.health.index.name(row))}</li>" for row in rows[:MOST_NAMES])
        return f'<h2>Places with one photo</h2><ul class="names">{names}</ul>{_more(len(rows), MOST_NAMES)}'

    def _quality(self) -> str:
        found = self.health.quality
        if found is None:
            return '<p class="caveat">Give --photos FOLDER to look for blurred and dark photos.</p>'
        missing = f" {found.missing:,} do not exist or cannot be read." if found.missing else ""
        return (
            f'<p class="caveat">{found.measured:,} photos were measured.{missing}</p>'
            + self._worst(
                "Blurred photos", "Less than a tenth as sharp as the median photo of this index.", found.blurred
            )
            + self._worst("Dark photos", "Mean brightness below 40 of 255.", found.dark)
        )

    def _worst(self, title: str, why: str, worst: Sequence[Measured]) -> str:
        if not worst:
            return ""
        cards = "".join(
            f'<div class="card">{self._picture(one.row)}<p>sharpness {one.sharpness:.0f}, brightness '
            f"{one.brightness:.0f}<small>{text(self.health.index.name(one.row))}</small></p></div>"
            for one in worst[:MOST_PHOTOS]
        )
        more = _more(len(worst), MOST_PHOTOS)
        return f'<h2>{text(title)}</h2><p class="caveat">{text(why)}</p><div class="pairs">{cards}</div>{more}'

    def _picture(self, row: int) -> str:
        path, name = self.health.path(row), text(self.health.index.name(row))
        try:
            address = "" if path is None else picture(decode(path), PICTURE_PX, 80)
        except ImageError:
            address = ""
        if not address:
            return '<div class="none">photo not available</div>'
        first = "" if row in self.pictured else f' id="photo-{row}"'
        self.pictured.add(row)
        return f'<img{first} src="{address}" alt="{name}">'


def _more(count: int, shown: int) -> str:
    return f"<p>and {count - shown:,} more; the JSON file beside this page has all.</p>" if count > shown else ""
