"""`cricavpr index calibrate`, `index health` and `locate`, as a stranger types them, on photos of plain noise."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cricavpr.cli import main

PIXELS = ["--method", "pixels", "--quiet", "--workers", "0"]
PLACES = 36
STEP_M = 60.0


def write(folder: Path, places: range, noise: float, seed: int) -> Path:
    """One photo per place: its own pattern of 4 x 4 squares, and noise; the position is in the name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for place in places:
        pattern = np.random.default_rng(1000 + place).integers(0, 200, (4, 4, 3))
        pixels = np.clip(pattern + rng.normal(scale=noise, size=(4, 4, 3)), 0, 255).astype(np.uint8)
        east, north = 500_000 + STEP_M * (place % 6) + rng.uniform(-4, 4), 1000 + STEP_M * (place // 6)
        name = f"@{east:.2f}@{north:.2f}@31@N@@@p{place:03d}s{seed}@@@@@@@.png"
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of 36 places, two each, queries of 48, and an index."""
    folder = tmp_path_factory.mktemp("noise")
    for seed in (1, 2):
        write(folder / "database", range(PLACES), 6.0, seed)
    write(folder / "queries", range(PLACES), 6.0, 3)
    write(folder / "lost", range(100, 112), 6.0, 4)
    assert main(["index", "build", str(folder / "database"), "--out", str(folder / "index"), *PIXELS]) == 0
    return folder


@pytest.fixture
def index(here: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(here / "index", tmp_path / "index"))


def test_an_index_calibrates_on_itself_and_then_knows_what_it_does_not_know(
    here: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["locate", str(here / "queries"), "--index", str(index), *PIXELS]) == 0
    before = capsys.readouterr()
    assert before.out.count("(confidence: uncalibrated)") == PLACES
    assert before.err.count("is not calibrated") == 1
    assert main(["index", "calibrate", str(index), "--quiet"]) == 0
    said = capsys.readouterr()
    assert "leave-place-out, 72 cases with their place in the map and 72 without" in said.out
    assert "the queries are photos of the index" in said.err
    photos = [str(here / "queries"), str(here / "lost")]
    assert main(["locate", *photos, "--index", str(index), "--precision", "0.9", "--csv", *PIXELS]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    found = [row["status"] == "located" for row in rows]
    assert sum(found[:PLACES]) >= 0.8 * PLACES and sum(found[PLACES:]) <= 2
    assert 0 < np.median([float(row["radius_m"]) for row in rows if row["status"] == "located"]) < 10
    assert all((row["radius_m"] == row["lat_deg"] == "") == (row["status"] == "unknown") for row in rows)
    assert "is not calibrated" not in printed.err
    assert printed.err.count("are right only for photos taken in the same way as those") == 1


def test_labelled_queries_calibrate_too_and_a_plot_is_drawn(
    here: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.svg"
    asked = ["--queries", str(here / "queries"), "--plot", str(plot), "--json"]
    assert main(["index", "calibrate", str(index), *asked, *PIXELS]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["source"] == {
        "cases": "labelled queries",
        "answerable": PLACES,
        "absent": PLACES,
        "share_in_map": 0.5,
        "right_m": 25.0,
    }
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_forms_are_read_by_other_programs(here: Path, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["locate", str(here / "queries"), "--index", str(index), *PIXELS]
    assert main([*base, "--kml"]) == 0
    assert len(list(ElementTree.fromstring(capsys.readouterr().out).iter())) > PLACES
    assert main([*base, "--json"]) == 0
    assert {one["confidence"] for one in json.loads(capsys.readouterr().out)} == {"uncalibrated"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-photos", "0"], "number of photos of the index to use as queries must be at least 1, got 0"),
        (["--max-photos", "-3"], "to use as queries must be at least 1, got -3"),
        (["--share-in-map", "2"], "at most 1, got 2"),
        (["--plot", "curve.bmp"], "unknown figure format 'bmp'"),
    ],
)
def test_what_calibrate_cannot_do_is_said_before_the_photos_ask(
    index: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert main(["index", "calibrate", str(index), "--quiet", *options]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert not (index / "calibration.json").exists()


def test_what_cannot_be_promised_is_one_line(
    here: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(next((here / "queries").iterdir()))
    assert main(["locate", one, "--index", str(index), "--precision", "95", *PIXELS]) == 2
    assert "less than 1, such as 0.95, got 95" in capsys.readouterr().err
    assert main(["index", "calibrate", str(index), "--queries", str(tmp_path / "none"), *PIXELS]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["index", "calibrate", str(index), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["locate", one, "--index", str(index), "--precision", "0.999", *PIXELS]) == 0
    printed = capsys.readouterr()
    assert ": unknown (confidence " in printed.out
    assert "got 0.999, so every answer is unknown" in printed.err


def test_health_writes_a_page_and_json_beside_it(
    here: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "out" / "health.html"
    asked = ["--photos", str(here / "database"), "--out", str(page), "--quiet"]
    assert main(["index", "health", str(index), *asked]) == 0
    assert "72 photos" in capsys.readouterr().out
    html, values = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    assert "http" not in html.replace("http-equiv", "") and html.count("cv-map") >= 1
    assert values["photos"] == values["looked_at"] == 72
    assert main(["index", "health", str(index), "--out", str(tmp_path / "page.txt"), "--quiet"]) == 2
    assert "must end in .html" in capsys.readouterr().err


def test_health_takes_no_other_json_for_its_own(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "town.json").write_text('{"seed": 7}')
    asked = ["index", "health", str(index), "--quiet", "--out"]
    assert main([*asked, str(tmp_path / "town.html")]) == 2
    assert "town.json exists and is not findings" in capsys.readouterr().err
    assert (tmp_path / "town.json").read_text() == '{"seed": 7}' and not (tmp_path / "town.html").exists()
    assert main([*asked, str(tmp_path / "page.html")]) == main([*asked, str(tmp_path / "page.html")]) == 0
    (tmp_path / "folder.json").mkdir()
    assert main([*asked, str(tmp_path / "folder.html")]) == 2 and not (tmp_path / "folder.html").exists()
