"""What all miniatures share: pictures of a town put where a benchmark would have them, and names with positions."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cricavpr.datasets.benchmarks.base import Area
from cricavpr.geo import Metres, Positions
from cricavpr.town.render import render
from cricavpr.town.views import Split, Town, View

SIZE = (32, 40)  # (h, w) pixels: the least that counts as a photo
_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # of latitude, 8 degrees each, from 80 degrees south


@dataclass(frozen=True)
class Shot:
    """A view of the town, moved to the town that a benchmark was taken in."""

    view: View
    area: Area

    @property
    def metres(self) -> tuple[float, float]:
        """Easting, northing, to the centimetre."""
        east, north = (self.area.centre.metres[0] + (self.view.camera.x_m, self.view.camera.y_m)).tolist()
        return round(east, 2), round(north, 2)

    @property
    def latlon(self) -> tuple[float, float]:
        """Degrees."""
        lat, lon = Positions(np.array([self.metres]), (self.area.zone,)).latlon()[0].tolist()
        return lat, lon

    def turned(self, yaw_deg: float, pitch_deg: float = 6.0) -> Shot:
        """Another cut-out of the same panorama."""
        camera = replace(self.view.camera, yaw_deg=yaw_deg % 360, pitch_deg=pitch_deg)
        return replace(self, view=replace(self.view, camera=camera))


def shoot(town: Town, area: Area, place: int, split: Split, visit: int = 0, condition: str | None = None) -> Shot:
    """One visit to a place of the town."""
    return Shot(town.view(place, visit, split, condition), area)


def utm_name(
    shot: Shot,
    panorama: str = "",
    tile: str = "",
    heading: str = "",
    time: str = "",
    note: str = "",
    suffix: str = "jpg",
) -> str:
    """A name of the @ convention, all sixteen fields; roll and height stay empty."""
    (east, north), (lat, lon) = shot.metres, shot.latlon
    number, band = int(shot.area.zone[:-1]), _BANDS[int(lat + 80) // 8]
    fields = (f"{east:010.2f}", f"{north:010.2f}", f"{number:02d}", band, f"{lat:09.5f}", f"{lon:010.5f}")
    return "@" + "@".join((*fields, panorama, tile, heading, "", "", "", time, note, f".{suffix}"))


def metres(shots: Iterable[Shot]) -> Metres:
    """(N, 2) easting, northing."""
    return np.array([shot.metres for shot in shots])


def draw(town: Town, folder: Path, shots: dict[str, Shot], image_size: tuple[int, int] = SIZE) -> None:
    """Write one picture for each path below `folder`, as its suffix says."""
    for path, shot in shots.items():
        image = Image.fromarray(render(town, shot.view.camera, shot.view.scene, image_size))
        data = io.BytesIO()
        image.save(data, "PNG" if path.endswith(".png") else "JPEG")
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.getvalue())
