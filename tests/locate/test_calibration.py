"""Calibration, on a made-up world where the truth is known and each promise can be counted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError, MadeByError
from cricavpr.geo import Positions, distances_m
from cricavpr.index.auditing import damages
from cricavpr.index.checksummed_json import seal
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.sketch import CALIBRATION, left_of, likeness, sketch_of
from cricavpr.locate.calibration import Calibration, Logistic, Ring, Source, precision_table, read_calibration
from cricavpr.locate.cases import Cases, cases_of_index, cases_of_queries
from cricavpr.locate.consensus import Rule, consensus
from cricavpr.locate.fitting import Judged, case_weights, fit, levels, out_of_fold, rings
from cricavpr.schema import build, to_plain
from tests.locate.worlds import MADE, World

RULE = Rule()
PLACES = np.arange(150)
MAPPED, UNMAPPED = PLACES[:110], PLACES[110:]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def index(world: World, tmp_path_factory: pytest.TempPathFactory) -> PlaceIndex:
    return world.index(tmp_path_factory.mktemp("world") / "index", np.repeat(MAPPED, 3))


@pytest.fixture(scope="module")
def calibration(index: PlaceIndex) -> Calibration:
    return fit(index, cases_of_index(index, 25.0, RULE), RULE)


# --- cases


def test_every_photo_asks_once_with_its_place_and_once_without(index: PlaceIndex) -> None:
    cases = cases_of_index(index, 25.0, RULE)
    assert len(cases) == 2 * 330 and cases.in_map.sum() == 330 and cases.own
    assert cases.right[cases.in_map].mean() > 0.9
    assert not cases.right[~cases.in_map].any() and (cases.error_m[~cases.in_map] > 25).all()


def test_no_photo_finds_itself(tmp_path: Path) -> None:
    """Two photos at each place, of which the descriptors have nothing in common: none can be right."""
    world = World(40, noise=1000.0)
    cases = cases_of_index(world.index(tmp_path / "index", np.repeat(np.arange(40), 2)), 25.0, RULE)
    assert cases.right[cases.in_map].mean() < 0.2


def test_a_thin_place_asks_only_as_one_that_is_not_in_the_map(world: World, tmp_path: Path) -> None:
    thin = world.index(tmp_path / "index", np.array([0, 0, 1, 2, 2, 3]))
    assert cases_of_index(thin, 25.0, RULE).in_map.tolist() == [True, False] * 2 + [False] + [True, False] * 2 + [False]


def test_labelled_queries_ask_with_and_without_their_place(world: World, index: PlaceIndex) -> None:
    described, positions = world.photos(np.array([0, 1, 2, 120]), "queries")
    cases = cases_of_queries(index, described, positions, 25.0, RULE)
    assert cases.in_map.tolist() == [True, False, True, False, True, False, False]  # place 120 is not in the map
    assert not cases.own


def test_fewer_photos_may_ask_and_progress_is_told(index: PlaceIndex) -> None:
    told: list[tuple[int, int]] = []
    cases = cases_of_index(index, 25.0, RULE, 10, lambda done, of: told.append((done, of)))
    assert len(cases) == 20 and told == [(10, 10)]


def test_one_photo_per_place_has_no_answerable_case(world: World, tmp_path: Path) -> None:
    lone = world.index(tmp_path / "index", MAPPED)
    with pytest.raises(InputError, match=r"needs photos within 25 m of each other.*--queries"):
        cases_of_index(lone, 25.0, RULE)


def test_queries_that_say_nothing_are_refused(world: World, index: PlaceIndex) -> None:
    described, positions = world.photos(UNMAPPED, "queries")
    with pytest.raises(InputError, match=r"needs queries within 25 m of a photo of .*, got none among 40"):
        cases_of_queries(index, described, positions, 25.0, RULE)
    with pytest.raises(InputError, match="a query without a position"):
        cases_of_queries(index, described, Positions(np.full((40, 2), np.nan), ("",) * 40), 25.0, RULE)
    other = replace(described, made_by=replace(MADE, weights="other"))
    with pytest.raises(MadeByError):
        cases_of_queries(index, other, positions, 25.0, RULE)


def test_too_few_cases_promise_nothing(index: PlaceIndex) -> None:
    cases = cases_of_index(index, 25.0, RULE, 10)
    with pytest.raises(InputError, match=r"at least 30 queries whose place is in the index.* got 10 queries"):
        fit(index, cases, RULE)
    with pytest.raises(InputError, match="at most 1, got 1\\.5"):
        fit(index, cases_of_index(index, 25.0, RULE), RULE, 1.5)


# --- what is promised is kept, on photos that took no part


def test_promises_are_kept_on_new_photos(world: World, index: PlaceIndex, calibration: Calibration) -> None:
    described, positions = world.photos(np.concatenate([np.repeat(MAPPED, 5), np.repeat(UNMAPPED, 10)]), "new")
    in_map = np.repeat([True, False], [550, 400])
    found = index.search(described, RULE.depth)
    guesses = [
        consensus(index.positions.take(rows), scores, RULE)
        for rows, scores in zip(found.indices, found.scores, strict=True)
    ]
    doubts = [calibration.doubt(guess, 0.95) for guess in guesses if guess is not None]
    metres = np.array([guess.metres for guess in guesses if guess is not None])
    error_m = distances_m(Positions(metres, ("31N",) * 950), positions)
    answered = np.array([doubt.answered for doubt in doubts])
    assert answered[in_map].mean() >= 0.6
    assert (~answered)[~in_map].mean() >= 0.9
    assert (error_m <= 25)[answered].mean() >= 0.93
    inside = error_m <= np.array([doubt.radius_m for doubt in doubts])
    assert 0.85 <= inside[answered].mean() <= 0.95
    said = np.array([doubt.confidence for doubt in doubts])
    assert abs(said[in_map].mean() - (error_m <= 25)[in_map].mean()) < 0.1
    assert all(doubt.probability_in_map >= doubt.confidence for doubt in doubts)


def test_a_bolder_user_gets_more_answers(calibration: Calibration) -> None:
    bold, careful = calibration.level(0.8), calibration.level(0.97)
    assert bold is not None and careful is not None
    assert bold.confidence < careful.confidence and bold.answered >= careful.answered
    assert bold.at_least >= 0.8 and careful.at_least >= 0.97 and careful.precision >= careful.at_least


def test_a_precision_that_nobody_can_promise_answers_nothing(calibration: Calibration, index: PlaceIndex) -> None:
    assert calibration.level(0.9999) is None
    found = index.search(replace(index.descriptors, names=index.names), RULE.depth)
    guess = consensus(index.positions.take(found.indices[0]), found.scores[0], RULE)
    assert guess is not None and not calibration.doubt(guess, 0.9999).answered
    assert "every answer is unknown" in str(calibration.shortfall(0.9999)) and calibration.shortfall(0.9) is None
    with pytest.raises(InputError, match="got 95"):
        calibration.level(95)
    assert "0.95" in precision_table(calibration)


def test_where_few_places_are_known_fewer_photos_are_answered(index: PlaceIndex) -> None:
    cases = cases_of_index(index, 25.0, RULE)
    rare, usual = (fit(index, cases, RULE, share).level(0.95) for share in (0.05, 0.5))
    assert usual is not None and (rare is None or rare.answered < usual.answered)


# --- the pieces, by eye


def judged(confidence: list[float], error_m: list[float], in_map: list[bool] | None = None) -> Judged:
    count = len(confidence)
    there = np.array([True] * count if in_map is None else in_map)
    cases = Cases(np.zeros((count, 1)), np.array(error_m, float), there, np.arange(count), True, 25.0)
    return Judged(cases, np.array(confidence), np.ones(count))


def test_a_level_counts_what_is_above_it() -> None:
    found = levels(judged([0.9, 0.8, 0.8, 0.1], [1, 1, 99, 99], [True, True, True, False]))
    assert [level.confidence for level in found] == [0.1, 0.8, 0.9]  # equal confidences are answered together
    assert [level.precision for level in found] == pytest.approx([0.5, 2 / 3, 1.0])
    assert [level.answered for level in found] == pytest.approx([1.0, 1.0, 1 / 3])
    assert [level.refused for level in found] == [0.0, 1.0, 1.0]
    assert found[-1].at_least == pytest.approx(0.1)  # one of one: with p = 0.1 that happens once in ten


def test_a_radius_holds_nine_of_ten_and_room_for_one_more() -> None:
    """Of n equal cases the ceiling of 0.9 (n + 1): at 40 that is another one than the ceiling of 0.9 n."""
    for count, place in ((19, 18), (20, 19), (29, 27), (30, 28), (39, 36), (40, 37)):
        assert rings(judged([0.5] * count, list(range(1, count + 1)))) == (Ring(0.5, float(place)),)


def test_a_weighted_radius_has_room_for_a_case_of_mean_weight() -> None:
    """Weights 2, 1, 1 ... by rising error; 0.9 x (21 + 1.05) is 19.845, reached with the nineteenth case."""
    cases = judged([0.5] * 20, list(range(1, 21)))
    assert rings(replace(cases, weight=np.array([2.0] + [1.0] * 19))) == (Ring(0.5, 19.0),)


def test_more_confidence_never_gets_a_larger_radius() -> None:
    rising = rings(judged([0.1] * 20 + [0.5] * 20 + [0.9] * 20, [50.0] * 20 + [10.0] * 20 + [20.0] * 20))
    assert [ring.confidence for ring in rising] == [0.1, 0.5]
    assert [ring.radius_m for ring in rising] == [50.0, 20.0]


def test_a_case_is_judged_by_what_other_ground_says() -> None:
    """Features are noise: whoever has seen a case can repeat its outcome, and nobody else can know it."""
    rng = np.random.default_rng(0)
    right = rng.random(100) < 0.5
    cases = Cases(rng.normal(size=(100, 60)), np.where(right, 1.0, 99.0), right, np.arange(100), True, 25.0)
    assert np.corrcoef(out_of_fold(cases, np.ones(100)), right)[0, 1] < 0.2


def test_case_weights_give_the_answerable_their_share() -> None:
    weight = case_weights(np.array([True, False, False, False]), 0.5)
    assert weight == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert case_weights(np.array([True, True]), 0.5) == pytest.approx([1, 1])


def test_logistic_regression_finds_the_odds() -> None:
    """Of ten cases at 0 two happened, of ten at 1 eight: the odds are 1 to 4 and 4 to 1, a little drawn together."""
    x = np.repeat([[0.0], [1.0]], 500, axis=0)
    happened = np.tile([True] * 2 + [False] * 8, 50).tolist() + np.tile([True] * 8 + [False] * 2, 50).tolist()
    model = Logistic.fit(x, np.array(happened), np.ones(1000))
    assert model(np.array([[0.0], [1.0]])) == pytest.approx([0.2, 0.8], abs=0.002)
    assert build(Logistic, json.loads(json.dumps(to_plain(model))), "model") == model


def test_more_of_a_feature_never_lowers_the_probability() -> None:
    """The second feature is high where nothing happened, by an accident of these cases."""
    x = np.array([[0.0, 1.0], [0.0, 0.8], [1.0, 0.0], [1.0, 0.2]] * 20)
    model = Logistic.fit(x, x[:, 0] > 0.5, np.ones(80))
    assert model.weights[0] > 1 and model.weights[1] == 0.0


def test_separable_and_constant_cases_stay_finite() -> None:
    x = np.array([[0.0, 5.0], [1.0, 5.0]] * 20)
    model = Logistic.fit(x, x[:, 0] > 0.5, np.ones(40))
    assert np.isfinite(model.weights).all() and model(x[:2])[0] < 0.2 < 0.8 < model(x[:2])[1]
    assert Logistic.fit(x, np.ones(40, bool), np.ones(40))(x[:1])[0] > 0.99


# --- the file


def test_a_calibration_survives_its_file(index: PlaceIndex, calibration: Calibration) -> None:
    path = calibration.save(index)
    assert path == index.path / CALIBRATION
    found = read_calibration(PlaceIndex.open(index.path))
    assert found.calibration == calibration and found.why_not is None
    index.verify()  # the index knows how to live with it


def test_an_index_that_was_never_calibrated_says_how(world: World, tmp_path: Path) -> None:
    found = read_calibration(world.index(tmp_path / "index", MAPPED))
    assert found.calibration is None and "cricavpr index calibrate" in str(found.why_not)


def test_a_calibration_lives_through_a_few_new_photos_and_not_through_many(
    world: World, calibration: Calibration, tmp_path: Path
) -> None:
    index = world.index(tmp_path / "index", np.repeat(MAPPED, 3))
    replace(calibration, sketch=sketched(index)).save(index)
    few, where = world.photos(PLACES[:20], "new")
    change = index.add(Photos(few, tmp_path, where)).index
    assert read_calibration(change).calibration is not None
    assert read_calibration(change.compact()).calibration is not None
    many, where = world.photos(np.repeat(PLACES, 2), "more")
    found = read_calibration(change.newest().add(Photos(many, tmp_path, where)).index)
    assert found.calibration is None and "of the photos and positions are the same in version" in str(found.why_not)


def sketched(index: PlaceIndex) -> tuple[int, ...]:
    return sketch_of([(index.facts.ids, index.positions.metres)])


def sketch_at(ids: np.ndarray) -> tuple[int, ...]:
    """All at one place."""
    return sketch_of([(ids, np.zeros((len(ids), 2)))])


def test_a_calibration_does_not_speak_of_photos_that_were_moved(
    world: World, calibration: Calibration, tmp_path: Path
) -> None:
    index = world.index(tmp_path / "index", MAPPED)
    replace(calibration, sketch=sketched(index)).save(index)
    ids = [one.tobytes() for one in index.facts.ids]
    for moved_m, speaks in ((0.0001, True), (500.0, False)):
        there = Positions(index.positions.metres + moved_m, index.positions.zones)
        moved = index.update(Photos(index.descriptors, tmp_path, there, ids=ids)).index
        assert (read_calibration(moved).calibration is not None) == speaks


def test_a_sketch_tells_how_much_two_sets_share() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (4000, 32)).astype(np.uint8)
    assert likeness(sketch_at(ids), sketch_at(ids[::-1])) == 1.0
    assert likeness(sketch_at(ids[:3000]), sketch_at(ids)) == pytest.approx(0.75, abs=0.08)
    assert likeness(sketch_at(ids[:2000]), sketch_at(ids[2000:])) < 0.02
    assert likeness((), ()) == 1.0


def test_a_sketch_is_the_same_however_photos_are_spread_over_segments() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (4000, 32)).astype(np.uint8)
    ids[1000:3000, 1:4] = 0  # most of these are alike in what stands for a photo
    whole = sketch_at(ids)
    assert len(whole) == 256 and [*whole] == sorted({int.from_bytes(one[:4], "little") for one in ids})[:256]
    for ends in ([0, 4000], [0, 1000, 4000], [0, 3, 1500, 1500, 4000]):
        parts = [(ids[a:b], np.zeros((b - a, 2))) for a, b in pairwise(ends)]
        assert sketch_of(parts) == whole


def test_a_wiped_sketch_still_tells_how_many_photos_went() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (4000, 32)).astype(np.uint8)
    for count in (100, 4000):  # fewer than a sketch holds, and more
        sketch, rest = sketch_at(ids[:count]), ids[count // 4 : count]
        left = left_of(sketch, [(rest, np.zeros((len(rest), 2)))])
        assert set(left) <= {int.from_bytes(one[:4].tobytes(), "little") for one in rest}
        assert likeness(left, sketch_at(rest), len(sketch) - len(left)) == pytest.approx(0.75, abs=0.08)


def test_after_compact_nothing_stands_for_a_removed_photo(
    world: World, calibration: Calibration, tmp_path: Path
) -> None:
    index = world.index(tmp_path / "index", MAPPED)
    replace(calibration, sketch=sketched(index)).save(index)
    gone = sketch_of([(index.facts.ids[:9], index.positions.metres[:9])])
    file = index.path / CALIBRATION
    assert all(str(number) in file.read_text() for number in gone)
    index.remove(ids=[one.tobytes() for one in index.facts.ids[:9]]).index.compact()
    assert not any(str(number) in file.read_text() for number in gone)
    found = read_calibration(PlaceIndex.open(index.path)).calibration
    assert found is not None and found.wiped == 9 and len(found.sketch) == len(index) - 9
    assert replace(found, wiped=0, sketch=()) == replace(calibration, sketch=())


def test_what_was_removed_while_calibrating_is_not_written_down(
    world: World, calibration: Calibration, tmp_path: Path
) -> None:
    index = world.index(tmp_path / "index", MAPPED)
    made = replace(calibration, sketch=sketched(index))
    index.remove(ids=[index.facts.ids[0].tobytes()]).index.compact()
    made.save(index)
    number = sketch_of([(index.facts.ids[:1], index.positions.metres[:1])])[0]
    assert str(number) not in (index.path / CALIBRATION).read_text()


def test_an_index_built_anew_wipes_what_stood_for_its_photos(
    world: World, calibration: Calibration, tmp_path: Path
) -> None:
    index = world.index(tmp_path / "index", MAPPED)
    replace(calibration, sketch=sketched(index)).save(index)
    other, where = world.photos(PLACES[:20], "other")
    anew = PlaceIndex.build(Photos(other, tmp_path, where), index.path)
    assert json.loads((index.path / CALIBRATION).read_text())["sketch"] == []
    assert "only 0 %" in str(read_calibration(anew).why_not)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": "cricavpr.calibration.9"}', b"[" * 99_999])
def test_a_damaged_file_is_said_and_not_used(world: World, tmp_path: Path, content: bytes) -> None:
    index = world.index(tmp_path / "index", MAPPED[:5])
    (index.path / CALIBRATION).write_bytes(content)
    found = read_calibration(index)
    assert found.calibration is None and "damaged or has another format version" in str(found.why_not)


def test_every_byte_that_changes_is_seen_or_changes_nothing(index: PlaceIndex, calibration: Calibration) -> None:
    """A digit of a threshold is as good JSON as the digit that was there."""
    path = calibration.save(index)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 300, replace=False).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read_calibration(index).calibration in (None, calibration)
    path.write_bytes(whole.replace(b"0.", b"0.0", 1))
    assert read_calibration(index).calibration is None
    (damage,) = damages(index.path)
    assert f"{path} does not match its checksum" in str(damage)
    assert str(damage).endswith(f"Calibrate again: cricavpr index calibrate {index.path}")


def test_a_number_that_is_none_is_damage(index: PlaceIndex, calibration: Calibration) -> None:
    values = calibration.to_dict()
    values["rings"] = [{"confidence": 0.0, "radius_m": 1e400}]
    with pytest.raises(InputError, match="radius_m must be float, got inf"):
        build(Calibration, values, "it")
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal(values)


def test_what_only_a_stranger_would_seal_is_not_used(index: PlaceIndex, calibration: Calibration) -> None:
    """Whoever writes a file can write its checksum too."""
    nested: list[object] = []
    for _ in range(600):
        nested = [nested]
    for value in ({"more": nested}, {"version": float("inf")}):
        values = {**calibration.to_dict(), **value}
        whole = json.dumps(
            {**values, "checksum": hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}
        )
        (index.path / CALIBRATION).write_text(whole)
        assert "has another format version" in str(read_calibration(index).why_not)


@pytest.mark.parametrize("content", [b"{", b'{"sketch": [1, 2]}', b"[" * 99_999])
def test_a_damaged_calibration_is_removed_with_the_photos_that_it_may_stand_for(
    world: World, tmp_path: Path, content: bytes
) -> None:
    index = world.index(tmp_path / "index", MAPPED[:5])
    (index.path / CALIBRATION).write_bytes(content)
    (damage,) = damages(index.path)
    assert f"{index.path / CALIBRATION} " in str(damage) and "and is not used." in str(damage)
    index.remove(ids=[index.facts.ids[0].tobytes()]).index.compact()
    assert not (index.path / CALIBRATION).exists()


def test_a_calibration_of_other_descriptors_is_not_used(index: PlaceIndex, calibration: Calibration) -> None:
    replace(calibration, made_by=replace(MADE, weights="other")).save(index)
    assert "made for descriptors of another method" in str(read_calibration(index).why_not)


def levelled(confidence: np.ndarray, right: np.ndarray) -> Calibration:
    """A calibration with the thresholds of some cases, each of its own ground."""
    cases = judged(confidence.tolist(), np.where(right, 1.0, 99.0).tolist())
    model = Logistic((0.0,), (1.0,), (1.0,), 0.0)
    rest = Source("labelled queries", len(right), 0, 0.5, 25.0), model, model, levels(cases), (Ring(0.0, 1.0),), ()
    return Calibration(MADE, 1, 1, (), RULE, *rest)


@pytest.mark.parametrize("count", [50, 100, 300])
@pytest.mark.parametrize("precision", [0.8, 0.9, 0.95])
def test_a_precision_is_promised_wrongly_in_one_run_of_ten_at_most(count: int, precision: float) -> None:
    """The worst case: every threshold has a precision just below the one that is asked for.

    The lowest threshold with a bound of its own that holds was wrong in up to 42 % of such runs.
    """
    rng = np.random.default_rng(count)
    runs = 800
    wrong = sum(
        levelled(rng.random(count), rng.random(count) < precision - 0.002).level(precision) is not None
        for _ in range(runs)
    )
    assert wrong / runs <= 0.12


@pytest.mark.parametrize("count", [50, 100, 300])
def test_a_promised_precision_holds_where_confidence_says_how_often_an_answer_is_right(count: int) -> None:
    """Half of the questions have an answer; a confidence of 0.7 is right in 70 % of cases."""
    rng = np.random.default_rng(count)

    def drawn(many: int) -> np.ndarray:
        return np.where(rng.random(many) < 0.5, rng.beta(8, 1, many), rng.beta(0.5, 4, many))

    true = np.sort(drawn(200_000))[::-1]
    precision_of = np.cumsum(true) / np.arange(1, len(true) + 1)  # of all answers as sure as the n-th or surer
    held = 0
    for _ in range(400):
        confidence = drawn(count)
        level = levelled(confidence, rng.random(count) < confidence).level(0.8)
        above = 0 if level is None else int(np.searchsorted(-true, -level.confidence, side="right"))
        held += level is None or precision_of[above - 1] >= 0.8
    assert held / 400 >= 0.88


def test_thresholds_are_tested_from_the_surest_downward_until_one_fails() -> None:
    surest, lucky = [True] * 60 + [False] * 8, [True] * 400
    calibration = levelled(np.linspace(0.99, 0.01, 468), np.array(surest + lucky))
    assert max(level.at_least for level in calibration.levels if level.confidence < 0.5) > 0.95
    level = calibration.level(0.95)
    assert level is not None and level.confidence > 0.85  # not the last one, whose own bound holds


def test_a_few_right_answers_are_no_promise() -> None:
    few = levelled(np.linspace(0.9, 0.5, 44), np.ones(44, bool))
    assert few.level(0.95) is None and few.level(0.9) is not None  # 0.95 to the 44th is more than a tenth
    enough = levelled(np.linspace(0.9, 0.5, 45), np.ones(45, bool)).level(0.95)
    assert enough is not None and enough.confidence == pytest.approx(0.5)


def test_cases_that_do_not_weigh_equally_promise_less() -> None:
    equal = judged(np.linspace(0.9, 0.5, 60).tolist(), [1.0] * 60)
    uneven = replace(equal, weight=np.array([5.0, *[0.2] * 5] * 10))
    assert levels(equal)[0].cases == 60 and levels(uneven)[0].cases == pytest.approx(60**2 / (10 * 25.2), rel=1e-6)
    assert levels(uneven)[0].at_least < levels(equal)[0].at_least
