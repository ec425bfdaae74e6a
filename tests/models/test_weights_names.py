"""Weights by name: where they lie, what to do when they are not there, and that they stay the same file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cricavpr.errors import WeightsError
from cricavpr.files import sha256_of
from cricavpr.models import registry
from cricavpr.models.registry import KNOWN, find_weights, place_of, record_of, weights_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def put(name: str, content: bytes = b"weights") -> Path:
    place = place_of(KNOWN[name])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def test_every_known_name_has_an_address_a_licence_and_a_page() -> None:
    assert set(KNOWN) >= {"cricavpr-tiny", "cricavpr"} | {
        f"dinov2_vit{size}14{registers}" for size in "sblg" for registers in ("", "_reg")
    }
    for name, known in KNOWN.items():
        assert name == known.name and known.licence
        assert known.shipped or known.page.startswith("https://")
        assert known.shipped or (known.url or "").startswith("https://")
        assert known.sha256 is None or len(known.sha256) == 64
    assert len({known.sha256 for known in KNOWN.values() if known.sha256}) == 8
    assert len({known.filename for known in KNOWN.values()}) == len(KNOWN)


def test_the_addresses_are_the_authors_own() -> None:
    assert KNOWN["cricavpr"].url == "https://github.com/Lu-Feng/CricaVPR/releases/download/v1.0/CricaVPR.pth"
    dinov2 = "https://dl.fbaipublicfiles.com/dinov2"
    assert KNOWN["dinov2_vitb14"].url == f"{dinov2}/dinov2_vitb14/dinov2_vitb14_pretrain.pth"
    assert KNOWN["dinov2_vits14_reg"].url == f"{dinov2}/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth"


@pytest.mark.parametrize(
    ("size", "parameters"), [("s", 22_056_576), ("b", 86_580_480), ("l", 304_368_640), ("g", 1_136_480_768)]
)
def test_the_recorded_sizes_are_four_bytes_a_parameter_and_a_little_more(size: str, parameters: int) -> None:
    known = KNOWN[f"dinov2_vit{size}14"]
    assert 0 <= known.about_bytes - 4 * parameters < 300_000


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"x")
    assert find_weights(tmp_path / "mine.pth") == tmp_path / "mine.pth"
    assert find_weights("mine.pth") == Path("mine.pth")


def test_a_folder_that_bears_a_known_name_does_not_hide_the_weights(tmp_path: Path) -> None:
    (tmp_path / "cricavpr").mkdir()
    place = put("cricavpr")
    assert find_weights("cricavpr") == place


def test_weights_that_are_not_here_say_what_to_run_and_what_to_fetch_where(home: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights("cricavpr")
    message = str(caught.value)
    assert "`cricavpr weights pull cricavpr`" in message
    assert "https://github.com/Lu-Feng/CricaVPR/releases/download/v1.0/CricaVPR.pth" in message
    assert str(home / "weights" / "CricaVPR.pth") in message
    assert "\n" not in message


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(WeightsError, match=r"Did you mean dinov2_vitb14\? See `cricavpr weights list`"):
        find_weights("dinov2_vit_b14")
    with pytest.raises(WeightsError, match="Did you mean cricavpr"):
        find_weights("CricaVPR")
    with pytest.raises(WeightsError, match="weights list"):
        find_weights("zzzz\nzzzz" * 100)


@pytest.mark.parametrize("path", ["no/such/file", "none.pth", "none.safetensors"])
def test_a_path_that_does_not_exist_is_called_a_path(path: str) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        find_weights(path)


def test_a_folder_is_called_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder"):
        find_weights(tmp_path)


def test_a_file_put_in_place_by_hand_is_recorded_and_then_kept_to() -> None:
    place = put("cricavpr", b"first")
    assert find_weights("cricavpr") == place
    assert json.loads(record_of(place).read_text())["sha256"] == sha256_of(place)
    assert find_weights("cricavpr") == place
    place.write_bytes(b"other")
    with pytest.raises(WeightsError, match="has changed since it was first used here"):
        find_weights("cricavpr")
    record_of(place).unlink()
    assert find_weights("cricavpr") == place


def test_a_pinned_file_must_be_the_pinned_one() -> None:
    put("dinov2_vitb14", b"something else")
    with pytest.raises(WeightsError, match=r"is not the known file of dinov2_vitb14: expected SHA-256 0b8b82f8"):
        find_weights("dinov2_vitb14")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sha256": 3}', "\ud800"])
def test_a_record_that_cannot_be_read_is_not_passed_over(content: str) -> None:
    place = put("cricavpr")
    record_of(place).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(WeightsError, match=r"If you trust the weights, delete .*sha256\.json"):
        find_weights("cricavpr")


def test_shipped_weights_are_found_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = KNOWN["cricavpr-tiny"]
    assert place_of(tiny).parts[-3:] == ("cricavpr", "weights", "cricavpr-tiny.safetensors")
    monkeypatch.setitem(KNOWN, "cricavpr-tiny", dataclasses.replace(tiny, filename="not-there.safetensors"))
    with pytest.raises(WeightsError, match="ships with this package"):
        find_weights("cricavpr-tiny")


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights_folder() == tmp_path / "home" / "weights"
    monkeypatch.setenv("CRICAVPR_HOME", "relative")
    assert weights_folder() == tmp_path / "relative" / "weights"
    monkeypatch.delenv("CRICAVPR_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache" / "cricavpr" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert weights_folder() == tmp_path / "me" / ".cache" / "cricavpr" / "weights"


def test_without_a_home_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CRICAVPR_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(registry.Path, "home", no_home)
    with pytest.raises(WeightsError, match="Set CRICAVPR_HOME"):
        weights_folder()
