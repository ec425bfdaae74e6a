"""`cricavpr index tune`, and the options by which a search is narrowed, as a stranger types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cricavpr.cli import Parser, main
from cricavpr.cli.options import add_search, read_filter
from cricavpr.errors import InputError
from cricavpr.geo import LatLon
from cricavpr.index.filters import All, Box, Near, Tagged, Taken
from tests.index.places import WIDE, built


def test_tuning_prints_a_table_keeps_the_shortlist_and_info_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    path = str(built(tmp_path / "index", range(250), WIDE).path)
    assert main(["index", "tune", path, "--sample", "20", "--shortlist", "250", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "A shortlist of 250 finds at least 99% of what exact search finds." in said.out
    assert said.err.splitlines() == [
        "codes made for 250 photos: there were none",
        "exact search: 250 descriptors of 64 values are few enough to read all of them",
    ]
    assert main(["index", "tune", path, "--sample", "20", "--shortlist", "250", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shortlist"] == 250
    assert main(["index", "info", path]) == 0
    said = capsys.readouterr()
    assert "shortlist             250, which found 100.0% of the ten best matches of 20 photos" in said.out
    assert "codes                 32 bytes a photo, 1 of 1 segments coded" in said.out


def test_too_few_photos_and_shortlists_that_are_none_are_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    few, enough = built(tmp_path / "few", range(9), WIDE), built(tmp_path / "enough", range(100), WIDE)
    for odd in (["--shortlist", "0"], ["--sample", "0"]):
        assert main(["index", "tune", str(enough.path), "--quiet", *odd]) == 2
        assert "tuning needs at least 2 photos" in capsys.readouterr().err.splitlines()[-1]
    assert not [*enough.path.glob("codes-*")]  # said before the work is done
    assert main(["index", "tune", str(few.path), "--quiet"]) == 2
    assert "compressed search needs at least 64 photos to learn codes from, got 9" in capsys.readouterr().err


def read(*typed: str) -> object:
    parser = Parser()
    add_search(parser)
    return read_filter(parser.parse_args(typed))


def test_options_become_filters_that_must_all_fit() -> None:
    assert read() is None
    assert read("--near=-33.9,151.2,500") == All((Near(LatLon(-33.9, 151.2), 500.0),))
    assert read("--box", "55,12,56,13", "--tag", "rain", "--tag", "tram") == All(
        (Box(55.0, 12.0, 56.0, 13.0), Tagged("rain"), Tagged("tram"))
    )
    may, noon = np.datetime64("2026-05-01", "ms"), np.datetime64("2026-05-02T12:00", "ms")
    assert read("--since", "2026-05-01", "--until", "2026-05-02T14:00+02:00") == All((Taken(may, noon),))
    assert read("--until", "2026-05-02T12:00") == All((Taken(None, noon),))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--near=55,12", "argument --near: expected LAT,LON,METRES, got '55,12'"),
        ("--near=95,12,5", "95"),
        ("--box=55,12,x,13", "argument --box: expected S,W,N,E, got '55,12,x,13'"),
        ("--box=56,12,55,13", "southern latitude must not be greater than"),
        ("--since=yesterday", "argument --since: expected a time such as 2026-05-01T12:00, got 'yesterday'"),
        ("--since=0001-01-01T00:00+14:00", "expected a time such as 2026-05-01T12:00"),
    ],
)
def test_options_that_make_no_sense_are_answered_in_a_line(typed: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(typed)
    assert said in str(caught.value) and "\n" not in str(caught.value)
