"""Figures: the same bytes each time, no state that outlives them, and one line where the library is missing."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import pytest

from cricavpr.errors import InputError, MissingExtraError
from cricavpr.plotting import STYLES, looks, new_figure, save_figure, style


def drawing() -> mpl.figure.Figure:
    figure, (left, right) = new_figure(4, 2, columns=2)
    with looks():
        left.plot([1, 2, 3], [1, 4, 9], label="squares", **style(0)._asdict())
        left.legend()
        right.set_title("nothing")
    return figure


def test_the_same_figure_gives_the_same_bytes_with_neither_a_date_nor_a_version(tmp_path: Path) -> None:
    first = save_figure(drawing(), tmp_path / "a", ("svg", "png", "pdf"))
    again = save_figure(drawing(), tmp_path / "b", ("svg", "png", "pdf"))
    assert [path.name for path in first] == ["a.svg", "a.png", "a.pdf"]
    for one, other in zip(first, again, strict=True):
        contents = one.read_bytes()
        assert contents == other.read_bytes(), one.name
        assert b"CreationDate" not in contents and b"dc:date" not in contents
        assert mpl.__version__.encode() not in contents


def test_a_suffix_of_a_format_is_replaced_and_any_other_dot_is_part_of_the_name(tmp_path: Path) -> None:
    assert [path.name for path in save_figure(drawing(), tmp_path / "a.svg")] == ["a.svg", "a.png"]
    assert [path.name for path in save_figure(drawing(), tmp_path / "v1.2", ("svg",))] == ["v1.2.svg"]


def test_panels_come_row_by_row_without_top_and_right_frame() -> None:
    figure, axes = new_figure(6, 4, rows=2, columns=3)
    assert (len(axes), tuple(figure.get_size_inches())) == (6, (6.0, 4.0))
    assert axes[1].get_position().y0 == axes[0].get_position().y0 > axes[3].get_position().y0
    assert not any(place.spines[side].get_visible() for place in axes for side in ("top", "right"))


def test_a_picture_has_the_pixels_of_its_inches(tmp_path: Path) -> None:
    from PIL import Image

    (path,) = save_figure(drawing(), tmp_path / "a", ("png",), dpi=100)
    assert Image.open(path).size == (400, 200)


def test_drawing_leaves_the_state_of_the_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    names = set(mpl.rcParams) - {"backend"}  # looking at that one would import it
    before = {name: mpl.rcParams[name] for name in names}
    save_figure(drawing(), tmp_path / "a", ("svg",))
    assert before == {name: mpl.rcParams[name] for name in names}


def test_any_two_styles_differ_without_colour_too() -> None:
    for one, other in combinations(STYLES, 2):
        assert one.marker != other.marker and one.color != other.color
    assert style(len(STYLES)) == STYLES[0]


def test_an_unknown_format_and_a_place_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'gif'\. Known: svg, png, pdf"):
        save_figure(drawing(), tmp_path / "a", ("gif",))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        save_figure(drawing(), tmp_path / "file" / "a")


def test_a_missing_library_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cricavpr\[plots\]'"):
        new_figure(1, 1)
