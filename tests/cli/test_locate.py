"""`cricavpr locate` on a folder and on a server (a stand-in: tests/index/fake_server.py): one question, one answer."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from cricavpr.cli import main
from cricavpr.datasets.photos import read_photos
from cricavpr.describing import describe
from cricavpr.index.columns import Photos, photo_ids
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex, remote_index
from cricavpr.methods import load_method
from cricavpr.town.write import make_town
from tests.index.fake_server import FakeServer

AT = "milvus://localhost:19530/town"
PIXELS = ["--method", "pixels", "--workers", "0"]
COUNT = 12


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "town"
    make_town(folder, 7100, COUNT, "photos", image_size=(112, 112))
    return folder


@pytest.fixture(scope="module")
def index(town: Path, tmp_path_factory: pytest.TempPathFactory) -> PlaceIndex:
    """One photo a month of 2024; every second one is of a tram."""
    photos, _ = read_photos(town / "database")
    described = describe(load_method("pixels"), photos, workers=0, progress=False).descriptors
    times = np.datetime64("2024-01", "M") + np.arange(COUNT)
    return PlaceIndex.build(
        Photos(
            described,
            photos.root,
            photos.positions,
            ids=photo_ids(photos.root, photos.names),
            times=times.astype("datetime64[ms]"),
            tags=[["tram"] if n % 2 == 0 else [] for n in range(COUNT)],
        ),
        tmp_path_factory.mktemp("index") / "index",
    )


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeServer]:
    """The collections of a server, by name."""
    there: dict[str, FakeServer] = {}
    monkeypatch.setattr(remote_index, "connected", lambda at, *_: there.setdefault(at.collection, FakeServer()))
    return there


@pytest.fixture(autouse=True)
def server(
    index: PlaceIndex, servers: dict[str, FakeServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> FakeServer:
    """The same photos, on a server."""
    RemoteIndex.create(Address.parse(AT), index.made_by).merge(index)
    monkeypatch.chdir(tmp_path)
    return servers["town"]


def located(where: object, photos: Path, *options: str) -> int:
    return main(["locate", str(photos), "--index", str(where), *PIXELS, *options])


def near_photo(index: PlaceIndex, row: int, radius_m: float) -> str:
    lat, lon = index.positions.latlon()[row].tolist()
    return f"--near={lat:.8f},{lon:.8f},{radius_m}"


def asked(index: PlaceIndex, name: str) -> list[str]:
    """The options of a filter that some photos fit and others do not."""
    lat, lon = index.positions.latlon().T
    box = (lat.min() - 1e-6, lon.min() - 1e-6, lat.max() + 1e-6, float(np.median(lon)))
    return {
        "none": [],
        "near": [near_photo(index, 3, 200.0)],
        "box": ["--box=" + ",".join(f"{side:.7f}" for side in box)],
        "since": ["--since", "2024-04-01"],
        "until": ["--until", "2024-04-01"],
        "tag": ["--tag", "tram"],
        "all": [near_photo(index, 3, 5000.0), "--since", "2024-02-01", "--until", "2024-12-01", "--tag", "tram"],
    }[name]


@pytest.mark.parametrize("name", ["none", "near", "box", "since", "until", "tag", "all"])
def test_a_server_answers_as_a_folder_does_under_every_filter(
    name: str, town: Path, index: PlaceIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    options, answers = asked(index, name), []
    for where in (index.path, AT):
        assert located(where, town / "queries", "--json", "--quiet", "--top", "4", *options) == 0
        answers.append(json.loads(capsys.readouterr().out))
    for here, there in zip(*answers, strict=True):
        assert (here["photo"], here["status"]) == (there["photo"], "uncalibrated")
        assert here["metres"]["easting_m"] == pytest.approx(there["metres"]["easting_m"], rel=0, abs=0.01)
        assert here["metres"]["northing_m"] == pytest.approx(there["metres"]["northing_m"], rel=0, abs=0.01)
        scores = [[match.pop("score") for match in one["matches"]] for one in (here, there)]
        assert scores[0] == pytest.approx(scores[1], rel=0, abs=1e-5)
        assert here["matches"] == there["matches"]  # names, positions and where the photos lay
    fits = {match["name"] for one in answers[1] for match in one["matches"]}
    assert (len(fits) < COUNT) == (name != "none")


@pytest.mark.parametrize("form", ["text", "json", "geojson", "kml", "csv"])
def test_every_form_of_output_is_that_of_a_folder(
    form: str, town: Path, index: PlaceIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [] if form == "text" else [f"--{form}"]
    said = []
    for where in (index.path, AT):
        assert located(where, town / "queries", "--quiet", *options) == 0
        said.append(capsys.readouterr())
    digits = re.compile(r"\d\.\d+(?:[eE]-?\d+)?")  # scores may differ in the sixth
    assert digits.sub("#", said[0].out) == digits.sub("#", said[1].out) != ""
    assert said[1].err == (
        f"{AT} is not calibrated, so the confidence of an answer is unknown. Only an index in a folder can be "
        "calibrated.\n"
    )


def test_the_kind_of_the_server_and_whether_it_is_exact_are_said(
    town: Path, index: PlaceIndex, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    RemoteIndex.create(Address.parse(f"{AT}_fast"), index.made_by, "hnsw").merge(index)
    for where, says in ((AT, "exact search: "), (f"{AT}_fast", "approximate search: ")):
        assert located(where, town / "queries") == 0
        error = capsys.readouterr().err
        assert error.splitlines()[0].startswith(f"{says}{where} is of the kind ")
    assert located(AT, town / "queries", "--quiet") == 0
    assert "exact search" not in capsys.readouterr().err


def test_what_an_index_that_misses_photos_does_not_find_is_said(
    town: Path,
    index: PlaceIndex,
    servers: dict[str, FakeServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of three photos one gets nothing, one a single match, and one all that it asked for."""
    RemoteIndex.create(Address.parse(f"{AT}_fast"), index.made_by, "hnsw").merge(index)
    server = servers["town_fast"]
    whole = server.search
    kept = iter((0, 1, 20))
    monkeypatch.setattr(server, "search", lambda *asked: [hits[: next(kept)] for hits in whole(*asked)])
    queries = sorted((town / "queries").iterdir())[:3]
    options = ["--index", f"{AT}_fast", "--quiet", *PIXELS, "--top", "3"]
    assert main(["locate", *map(str, queries), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{queries[0]}: no matching photo was found in the index"
    assert [line.startswith("  ") for line in lines] == [False, False, True, False, True, True, True]
    kept = iter((0, 1, 20))
    assert main(["locate", *map(str, queries), *options, "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [bool(row["lat_deg"]) for row in rows] == [bool(row["best_match"]) for row in rows] == [False, True, True]


WRONG = [
    (
        ["--engine", "exact"],
        f"the engine for {AT} cannot be chosen: its kind of search, flat, was fixed when the collection was made",
    ),
    (["--engine", "compressed"], "Leave out the engine 'compressed'"),
    (["--tag", "dawn"], f"none of the photos of {AT} matches the filter: tagged dawn. Use a wider filter."),
    (
        ["--near=10,20,500", "--tag", "tram"],
        "matches the filter: within 500 m of 10.0, 20.0 and tagged tram. Use a wider filter.",
    ),
    (["--since", "2031-05-01"], "matches the filter: taken on or after 2031-05-01T00:00Z. Use a wider filter."),
    (["--top", "20000"], f"the number of matches from {AT} must be at most 16,384, got 20,000."),
    (["--method", "cricavpr-tiny"], "method: pixels here, cricavpr-tiny there"),
    (["--index", f"{AT}_2"], f"there is no index at {AT}_2. Build it: cricavpr index build PHOTOS --out {AT}_2"),
    (["--index", "milvus://localhost"], "invalid collection"),
    (["--index", "milvus://me:secret@localhost/town"], "an address must not contain a password"),
]


@pytest.mark.parametrize(("options", "says"), WRONG, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_what_a_server_cannot_do_is_one_line_and_exit_code_2(
    options: list[str], says: str, town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert located(AT, town / "queries", "--quiet", *options) == 2
    said = capsys.readouterr()
    assert said.err.startswith("cricavpr: ") and said.err.count("\n") == 1 and said.out == ""
    assert says in said.err and "secret" not in said.err


def test_an_empty_collection_is_as_an_empty_folder(
    town: Path, index: PlaceIndex, server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RemoteIndex.create(Address.parse(f"{AT}_new"), index.made_by)
    PlaceIndex.create(tmp_path / "new", index.made_by)
    for where in (f"{AT}_new", tmp_path / "new"):
        assert located(where, town / "queries", "--quiet") == 2
        assert capsys.readouterr().err == (
            f"cricavpr: locating needs photos in the index, but {where} has none. Add photos to it first.\n"
        )


def test_a_server_that_goes_away_is_one_line_and_exit_code_2(
    town: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    server.dies_after = len(server.calls) + 3  # described, loaded and counted: gone when it is searched
    opened = RemoteIndex.open(Address.parse(AT))
    monkeypatch.setattr(RemoteIndex, "open", lambda _: opened)
    monkeypatch.setattr(time, "sleep", waits.append)
    assert located(AT, town / "queries", "--quiet") == 2
    error = capsys.readouterr().err
    assert (
        error.startswith(f"cricavpr: the server of {AT} does not answer after 7 tries (gone).")
        and error.count("\n") == 1
    )
    assert len(waits) == 6


@pytest.mark.parametrize("verb", ["tune", "calibrate", "health"])
def test_verbs_of_a_folder_refuse_a_server_in_one_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--out", "page.html"] if verb == "health" else []
    assert main(["index", verb, AT, *more]) == 2
    assert capsys.readouterr().err == (
        f"cricavpr: `cricavpr index {verb}` needs an index in a folder, but {AT} is on a server. "
        "Give the folder of an index.\n"
    )


def test_a_folder_without_photos_does_not_keep_the_others_from_being_located(
    index: PlaceIndex, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    one = str(next((town / "queries").iterdir()))
    (tmp_path / "also empty").mkdir()
    empty = [str(tmp_path / "empty"), str(tmp_path / "also empty")]
    options = ["--index", str(index.path), *PIXELS, "--quiet"]
    assert main(["locate", *empty, one, "--json", *options]) == 3
    said = capsys.readouterr()
    assert [answer["photo"] for answer in json.loads(said.out)] == [one]
    assert f"cannot use {empty[0]}: no photo in {empty[0]}" in said.err
    for none in (empty, empty[:1]):
        assert main(["locate", *none, *options]) == 2
        assert (
            capsys.readouterr()
            .err.splitlines()[-1]
            .startswith(f"cricavpr: no photo in {empty[0]}. Supported suffixes: jpg")
        )


def test_a_name_that_is_empty_is_not_taken_for_the_folder_that_one_is_in(
    town: Path, index: PlaceIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(town / "queries")
    assert main(["locate", "", "--index", str(index.path), *PIXELS]) == 2
    assert "got an empty path" in capsys.readouterr().err


def test_a_path_that_cannot_be_looked_at_does_not_stop_the_others(
    town: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    index, good = tmp_path / "index", str(next((town / "queries").iterdir()))
    assert main(["index", "build", str(town / "database"), "--out", str(index), *PIXELS]) == 0
    capsys.readouterr()
    assert main(["locate", "x" * 300 + ".jpg", good, "", "--index", str(index), *PIXELS]) == 3
    said = capsys.readouterr()
    assert said.out.startswith(good) and said.err.count("cannot use") == 2


def test_a_precision_is_refused_where_no_calibration_can_keep_it(
    town: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    index, good = tmp_path / "index", str(next((town / "queries").iterdir()))
    assert main(["index", "build", str(town / "database"), "--out", str(index), *PIXELS]) == 0
    capsys.readouterr()
    assert main(["locate", good, "--index", str(index), "--precision", "0.9", *PIXELS]) == 2
    assert "--precision needs a calibrated index" in capsys.readouterr().err
