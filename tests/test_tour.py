"""The tour of the documentation runs from top to bottom, and shows maps and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

TOUR = Path(__file__).parents[1] / "docs" / "tour.md"


@pytest.mark.slow
def test_the_tour_runs_from_top_to_bottom(tmp_path: Path) -> None:
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(TOUR)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = ["".join(str(output) for output in cell.outputs) for cell in cells]
    assert len(cells) > 8
    assert any("cv-map" in text for text in shown)  # the estimate shows its map
    assert sum("text/html" in text for text in shown) == 3  # index, estimate and result
