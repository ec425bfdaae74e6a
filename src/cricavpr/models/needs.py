"""Image sizes that a network takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageNeeds:
    """Image sizes that a network takes.

    Attributes:
        cell_px: side of a patch, or stride of the map, in pixels.
        cells: least number of whole cells in an image.
        whole: whether height and width must be multiples of `cell_px`.
    """

    cell_px: int = 1
    cells: int = 1
    whole: bool = False

    def nearest(self, side_px: int) -> int:
        """Round a side to the nearest multiple of a cell; half-way goes to the even multiple, at least one cell.

        Example:
            >>> ImageNeeds(14).nearest(480)
            476
        """
        return max(1, round(side_px / self.cell_px)) * self.cell_px

    def problem(self, height: int, width: int) -> str | None:
        """Return why the network does not take images of this size: a clause, or None.

        Example:
            >>> ImageNeeds(14, cells=65).problem(100, 100)
            'it needs at least 65 patches of 14 x 14 px, and 100 x 100 px have 49'
        """
        side = self.cell_px
        if self.whole and (height % side or width % side):
            near = f"{self.nearest(height)} x {self.nearest(width)}"
            return f"height and width must be multiples of {side} px, such as {near}, got {height} x {width}"
        cells = (height // side) * (width // side)
        if cells >= self.cells:
            return None
        if self.cells == 1:
            return f"the shorter side must be at least {side} px, got {height} x {width}"
        return f"it needs at least {self.cells} patches of {side} x {side} px, and {height} x {width} px have {cells}"
