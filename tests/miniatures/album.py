"""Few pictures for many files: each view of a town is drawn once, however often a miniature needs it."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from cricavpr.town.render import render
from cricavpr.town.views import Split, Town
from tests.miniatures.pictures import SIZE

Page = tuple[int, Split, str | None, bool]  # place, split, condition, greyscale


class Album:
    """Pictures of a town by place, split and condition."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self._pages: dict[Page, Image.Image] = {}

    def put(self, file: Path, place: int, split: Split, condition: str | None = None, *, grey: bool = False) -> None:
        """Write the picture of a place as `file`, in the format of its suffix."""
        page = place % len(self.town.places), split, condition, grey
        if page not in self._pages:
            self._pages[page] = self._drawn(*page)
        data = io.BytesIO()
        self._pages[page].save(data, "PNG" if file.suffix == ".png" else "JPEG")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.getvalue())

    def _drawn(self, place: int, split: Split, condition: str | None, grey: bool) -> Image.Image:
        view = self.town.view(place, 0, split, condition)
        image = Image.fromarray(render(self.town, view.camera, view.scene, SIZE))
        return image.convert("L") if grey else image
