"""Weights that only a person can fetch: what is said about them."""

from pathlib import Path

import pytest

from cricavpr.errors import WeightsError
from cricavpr.models.download import pull
from cricavpr.models.registry import KNOWN, find_weights, place_of

BY_HAND = [name for name, known in KNOWN.items() if known.by_hand_only]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path))


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("ask", [find_weights, pull])
def test_the_message_says_what_to_open_what_to_fetch_and_where_to_put_it(name: str, ask: object) -> None:
    known = KNOWN[name]
    assert callable(ask)
    with pytest.raises(WeightsError) as caught:
        ask(name)
    message = str(caught.value)
    assert f"open {known.url} in a browser" in message and f"download {known.filename}" in message
    assert f"put it at {place_of(known)}" in message and "weights pull" not in message
    assert "\n" not in message


def test_a_file_put_in_place_by_hand_is_pulled_without_a_connection() -> None:
    place = place_of(KNOWN["mixvpr_resnet50_128"])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    assert pull("mixvpr_resnet50_128") == place


def test_a_long_list_of_names_is_not_printed() -> None:
    with pytest.raises(WeightsError, match=r"Did you mean cosplace_resnet50_\d+\? See `cricavpr weights list`"):
        find_weights("cosplace_resnet50")
