"""Matplotlib figures in one style. Equal data gives equal files.

This is the only module that imports matplotlib, which is optional (the extra "plots"). It never imports pyplot, because
pyplot keeps a current figure for the whole process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cricavpr.errors import InputError
from cricavpr.extras import extra
from cricavpr.files import written_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:
    Axes = Figure = Any  # other modules import them for annotations, also without matplotlib

Dash = str | tuple[int, tuple[float, ...]]


class Style(NamedTuple):
    """Style of a line: colour, dash and marker. Use it as `axes.plot(x, y, **STYLES[0]._asdict())`."""

    color: str
    linestyle: Dash
    marker: str


STYLES = (  # colours of Okabe and Ito, which colour-blind people can tell apart
    Style("#0072b2", "-", "o"),
    Style("#d55e00", (0, (5, 2)), "s"),
    Style("#009e73", (0, (1, 1.3)), "^"),
    Style("#cc79a7", (0, (6, 1.5, 1, 1.5)), "D"),
    Style("#56b4e9", (0, (3, 1, 1, 1, 1, 1)), "v"),
    Style("#e69f00", (0, (9, 3)), "P"),
    Style("#000000", (0, (2, 4)), "X"),
    Style("#777777", "-", "<"),
)

_LOOKS: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # this font comes with matplotlib, so every machine has it
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 3.0,  # long enough to show a dash
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a $ in a name is an ordinary character
    "svg.hashsalt": "cricavpr",  # otherwise the ids in an SVG file would be random
    "svg.fonttype": "path",  # text as paths looks the same on a machine without the font
}
_UNDATED: Mapping[str, Mapping[str, None]] = {  # metadata to leave out of each format: date and version
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def style(number: int) -> Style:
    """Return the style of the line with this index. After the last style, the first is used again.

    Example:
        >>> style(0) == style(len(STYLES)), style(1).marker
        (True, 's')
    """
    return STYLES[number % len(STYLES)]


def looks() -> AbstractContextManager[None]:
    """Return a context manager in which matplotlib uses the style of this module. Draw titles and legends inside it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    context: AbstractContextManager[None] = _matplotlib().rc_context(dict(_LOOKS))
    return context


def new_figure(width_in: float, height_in: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its axes, row by row. The figure uses matplotlib's constrained layout.

    Args:
        width_in, height_in: size in inches.
        rows, columns: number of rows and columns of axes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    with looks():
        figure: Figure = matplotlib.figure.Figure(figsize=(width_in, height_in), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def save_figure(figure: Figure, path: Path, formats: Sequence[str] = ("svg", "png"), dpi: float = 150) -> list[Path]:
    """Write a figure in several formats, and return the paths of the files.

    Args:
        path: path of the files; its suffix is replaced by that of each format.
        formats: "svg", "png" or "pdf".
        dpi: resolution of PNG files.

    Raises:
        InputError: a format is not svg, png or pdf, or a file cannot be written.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> figure, (axes,) = new_figure(3.0, 2.0)
        >>> lines = axes.plot([1, 2], [3, 4])
        >>> [path.name for path in save_figure(figure, Path(tempfile.mkdtemp()) / "line", ["png"])]
        ['line.png']
    """
    plain = path.with_suffix("") if path.suffix.removeprefix(".") in _UNDATED else path
    written = []
    require_drawing(formats)
    for kind in formats:
        to = plain.with_name(f"{plain.name}.{kind}")
        with written_beside(to) as beside, looks():
            figure.savefig(beside, format=kind, dpi=dpi, metadata=dict(_UNDATED[kind]))
        written.append(to)
    return written


def require_drawing(formats: Sequence[str]) -> None:
    """Raise if figures cannot be drawn in these formats. Call this before long work, so that errors come early.

    Raises:
        InputError: a format is not svg, png or pdf.
        MissingExtraError: matplotlib is not installed.
    """
    for kind in formats:
        if kind not in _UNDATED:
            raise InputError(f"unknown figure format {kind!r}. Known: {', '.join(_UNDATED)}.")
    _matplotlib()


def _matplotlib() -> Any:
    """Import matplotlib, without pyplot. A Figure that is created without pyplot needs no screen."""
    with extra("plots", "drawing a figure"):
        import matplotlib
        import matplotlib.figure
    return matplotlib
