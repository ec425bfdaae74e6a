"""Augmentations: what is drawn, and that chance comes from the caller alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from cricavpr.training import augment
from cricavpr.training.augment import AUGMENTS, OPERATIONS, randaugment


def noise(count: int = 4, seed: int = 0) -> list[Image.Image]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 36, 48, 3), np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def pixels(pictures: list[Image.Image]) -> list[bytes]:
    return [picture.tobytes() for picture in pictures]


@pytest.mark.parametrize("name", AUGMENTS)
def test_chance_comes_from_the_generator_and_size_and_input_stay(name: str) -> None:
    given = noise()
    first = AUGMENTS[name](given, np.random.default_rng(5))
    assert pixels(AUGMENTS[name](given, np.random.default_rng(5))) == pixels(first)
    assert [picture.size for picture in first] == [(48, 36)] * 4
    assert pixels(given) == pixels(noise())


def test_none_changes_nothing() -> None:
    assert pixels(AUGMENTS["none"](noise(), np.random.default_rng(0))) == pixels(noise())


def test_mirror_turns_all_pictures_of_half_of_the_places() -> None:
    turned = 0
    for seed in range(200):
        shown = AUGMENTS["mirror"](noise(), np.random.default_rng(seed))
        changed = [ours != theirs for ours, theirs in zip(pixels(shown), pixels(noise()), strict=True)]
        assert len(set(changed)) == 1
        turned += changed[0]
    assert 70 < turned < 130


def test_three_operations_are_drawn_with_replacement_and_signs_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int, bool]] = []

    def remember(picture: Image.Image, name: str, magnitude: int, negative: bool = False) -> Image.Image:
        drawn.append((name, magnitude, negative))
        return picture

    monkeypatch.setattr(augment, "apply", remember)
    random = np.random.default_rng(0)
    for _ in range(1000):
        randaugment(noise(1)[:1], random)
    assert len(drawn) == 3000 and {magnitude for _, magnitude, _ in drawn} == {9}
    times = Counter(name for name, _, _ in drawn)
    assert set(times) == set(OPERATIONS) and max(times.values()) < 300 and min(times.values()) > 140
    assert 0.45 < np.mean([negative for *_, negative in drawn]) < 0.55
    triples = [drawn[k][0] for k in range(0, 3000)]
    assert any(len(set(triples[k : k + 3])) < 3 for k in range(0, 3000, 3))


def test_pictures_of_one_place_are_changed_differently() -> None:
    same = [noise(1)[0]] * 8
    assert len(set(pixels(randaugment(same, np.random.default_rng(1))))) > 4


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_magnitude_works_and_the_weakest_hardly_changes_anything(name: str) -> None:
    picture = noise(1)[0]
    for magnitude in range(augment.BINS):
        for negative in (False, True):
            assert augment.apply(picture, name, magnitude, negative).size == picture.size
    if name not in ("AutoContrast", "Equalize", "Posterize", "Solarize"):
        assert pixels([augment.apply(picture, name, 0)]) == pixels([picture])


def test_magnitudes_are_those_of_an_even_ramp_in_float32() -> None:
    ours = [OPERATIONS["ShearX"].strength(magnitude, (48, 36)) for magnitude in range(31)]
    assert ours == torch.linspace(0, 0.3, 31).tolist()
    assert [OPERATIONS["Posterize"].strength(magnitude, (48, 36)) for magnitude in (0, 3, 4, 9, 30)] == [8, 8, 7, 7, 4]
