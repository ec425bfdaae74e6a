"""Figures: which queries they show, what they count, and that nothing leaves the dataset's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.benchmarks import open_split
from cricavpr.datasets.places import PhotoPlaces, Place
from cricavpr.describing import describe_one
from cricavpr.errors import InputError
from cricavpr.evaluation.report import embedding_map, figures, regions
from cricavpr.evaluation.report.evaluations import Evaluation
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.grouping import ALONE
from cricavpr.methods import load_method
from cricavpr.pages import picture
from cricavpr.town import Town
from tests.evaluation.report.made import answer, card, match, run
from tests.mean_colour import MeanColour, colours, photos
from tests.miniatures import amstertime

pytest.importorskip("matplotlib")

WRONG = match(300.0, 0.1)


def method(name: str, hits: str, conditions: str = "") -> Evaluation:
    """`x` for a wrong answer and `o` for a right one; `n` for a query at night."""
    night = conditions or "d" * len(hits)
    answers = [
        answer(
            n,
            [match()] if hit == "o" else [WRONG],
            None if hit == "o" else 7,
            condition="night" if night[n] == "n" else "day",
        )
        for n, hit in enumerate(hits)
    ]
    return run(answers, name, card(method=name))


def test_queries_are_chosen_by_the_rule_alone() -> None:
    runs = [method("ours", "ooxxo", "dnndd"), method("a", "oxxox", "dnndd"), method("b", "xxxox", "dnndd")]
    assert figures.candidates(runs, "ours_right") == [1, 4]
    assert figures.candidates(runs, "all_wrong") == [2]
    assert figures.candidates(runs, "night") == [1, 2]


def test_ours_under_another_grouping_is_no_other_method() -> None:
    ours = method("ours", "ox")
    again = Evaluation("ours, in_order:16", ours.card, ours.answers)
    assert figures.candidates([ours, again, method("a", "xx")], "ours_right") == [0]
    assert figures.candidates([ours, again], "ours_right") == []


def test_the_draw_depends_on_the_seed_and_on_nothing_else() -> None:
    first = figures.draw(50, 5, 0)
    assert first == figures.draw(50, 5, 0) != figures.draw(50, 5, 1)
    assert first == figures.draw(50, 9, 0)[:5]
    assert len(set(first)) == 5


def test_a_row_has_a_tick_or_a_cross_and_the_distance_beside_the_frame(tmp_path: Path) -> None:
    photos(tmp_path / "queries", colours(2))
    photos(tmp_path / "database", colours(2))
    at = [replace(answer(0, [replace(match(4.2), name="0000.png")]), query="0000.png")]
    other = [replace(answer(0, [replace(WRONG, name="0001.png")], 3), query="0000.png")]
    figure = figures.rows([run(at), run(other, "a")], [0], Pictures.below(tmp_path))
    query, right, wrong = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["query 1", "4.2 m", "300 m"]
    assert [text.get_text() for axes in (right, wrong) for text in axes.texts] == ["✓", "✗"]
    assert right.spines["left"].get_edgecolor() != wrong.spines["left"].get_edgecolor()
    assert [len(axes.images) for axes in (query, right, wrong)] == [1, 1, 1]


def test_recall_curves_count_ranks_beyond_the_matches_that_are_kept() -> None:
    of = run([answer(0, [match()]), answer(1, [WRONG], 3), answer(2, [WRONG], 50), answer(3, [WRONG], None)])
    assert [figures.recall(of, n) for n in (1, 2, 3, 49, 50, 100)] == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    (line,) = figures.recall_curves([of]).axes[0].lines
    assert np.asarray(line.get_ydata())[[0, 2, 49]].tolist() == [25.0, 50.0, 75.0]


def test_queries_without_positives_are_left_out_where_the_protocol_skips_them() -> None:
    answers = [answer(0, [match()]), answer(1, [WRONG], None, positives=0)]
    counted = run(answers)
    skipped = Evaluation(
        "s", replace(counted.card, protocol=replace(counted.card.protocol, unanswered="skip")), counted.answers
    )
    assert (figures.recall(counted, 1), figures.recall(skipped, 1)) == (0.5, 1.0)


def test_recall_by_distance_counts_the_first_match_and_the_border() -> None:
    of = run([answer(0, [match(10.0)]), answer(1, [match(60.0)], 2), answer(2, [match(None)], 2), answer(3, [])])
    assert [figures.within(of, m) for m in (9.9, 10.0, 59.9, 60.0)] == [0.0, 0.25, 0.25, 0.5]
    assert figures.by_distance([run([answer(0, [match(None)])])]) is None


def test_a_card_without_answers_has_its_own_points_in_the_curves() -> None:
    (line,) = figures.recall_curves([run((), of=card())]).axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [1, 5, 10]


def test_lines_differ_without_colour() -> None:
    lines = figures.recall_curves([method(name, "ox") for name in "abcdefgh"]).axes[0].lines
    assert len({(str(line.get_marker()), str(line._unscaled_dash_pattern)) for line in lines}) == 8


def test_the_map_shows_every_query_once_by_shape() -> None:
    figure = figures.hits_and_misses(method("a", "ooxo"))
    assert figure is not None
    right, wrong = figure.axes[0].collections
    assert (len(right.get_offsets()), len(wrong.get_offsets())) == (3, 1)
    assert figures.hits_and_misses(run([replace(answer(0, [match()]), position=None)])) is None


def test_no_name_of_a_card_leads_out_of_the_folder(tmp_path: Path) -> None:
    photos(tmp_path, colours(1))
    for side in ("database", "queries"):
        photos(tmp_path / side, colours(1))
        (tmp_path / side / "a").mkdir()
    found = Pictures.below(tmp_path)
    assert found.query("0000.png") is not None and found.match("0000.png") is not None
    for name in ("../0000.png", "a/../../0000.png", str(tmp_path / "0000.png"), "gone.png"):
        assert found.query(name) is None and found.match(name) is None


def test_pictures_of_a_split_are_found_where_its_reader_finds_them(tmp_path: Path) -> None:
    """AmsterTime keeps its sides in new/ and old/; the same name is another picture in each."""
    amstertime.write_raw(tmp_path, Town(3, 4))
    found = Pictures.below(tmp_path, "amstertime")
    assert (found.database.name, found.queries.name) == ("new", "old") or found.holds("old/0000.jpg")
    name = open_split("amstertime", tmp_path).queries.names[0]
    assert found.holds(name) and found.query(name) is not None
    assert not Pictures.below(tmp_path).holds(name)


def test_a_thumbnail_is_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    assert len(picture(noise)) < 20_000


# --- regions


def test_contributions_add_up_to_the_cosine() -> None:
    method = load_method("cricavpr-tiny", "random:0")
    a, b = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    looked = regions.look(method, a, b)
    assert looked.contributions.shape == (14,)
    assert looked.cosine == pytest.approx(float(describe_one(method, a) @ describe_one(method, b)), abs=1e-6)
    same = regions.look(method, a, a)
    assert same.cosine == pytest.approx(1.0, abs=1e-5) and (same.contributions > 0).all()


def test_boxes_are_the_networks_own_regions() -> None:
    boxes = regions.boxes(load_method("cricavpr-tiny", "random:0"))  # 8 x 8 patches: 3, 2, 3 of a side
    assert boxes[0] == (0.0, 0.0, 1.0, 1.0)
    assert boxes[1:5] == ((0.0, 0.0, 0.5, 0.5), (0.0, 0.5, 0.5, 0.5), (0.5, 0.0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5))
    assert boxes[9] == (0.375, 0.375, 0.25, 0.25)


def test_numbers_of_regions_are_in_the_drawing() -> None:
    looked = regions.Looked((1, 2), ((0, 0, 1, 1), *[(0, 0, 0.5, 0.5)] * 4), np.array([0.1, 0.2, 0.05, 0.1, 0.05]))
    picture = np.zeros((8, 8, 3), np.uint8)
    figure = regions.draw([regions.Pair(picture, picture, looked, True)])
    assert [text.get_text() for text in figure.axes[0].texts] == ["40", "10", "20", "10"]
    assert figure.axes[0].get_xlabel() == "✓ cosine 0.500; class token 20 %"


def test_a_method_without_regions_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="pixels has no pyramid"):
        regions.boxes(load_method("pixels"))


# --- places in two dimensions


def of_places(root: Path, places: int = 6, images: int = 5) -> PhotoPlaces:
    of = np.repeat(colours(places), images, axis=0)
    names = photos(root, of).names
    return PhotoPlaces(
        "toy",
        tuple(Place(n, "toy", names[n * images : (n + 1) * images]) for n in range(places)),
        root,
    )


def test_places_and_images_are_drawn_by_seed(tmp_path: Path) -> None:
    drawn = embedding_map.drawn_places(of_places(tmp_path), 4, 3)
    assert len(drawn) == 12 and drawn.keys is not None
    assert sorted(drawn.keys.count(key) for key in set(drawn.keys)) == [3] * 4
    assert drawn.names == embedding_map.drawn_places(of_places(tmp_path), 4, 3).names
    assert drawn.names != embedding_map.drawn_places(of_places(tmp_path), 4, 3, seed=1).names
    with pytest.raises(InputError, match="expected at least 7 places with 5 images each, got 6"):
        embedding_map.drawn_places(of_places(tmp_path), 7, 5)


def test_places_that_a_method_tells_apart_are_apart_on_the_map(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    drawn = embedding_map.drawn_places(of_places(tmp_path), 5, 4)
    panel = embedding_map.embed(MeanColour(), drawn, ALONE, "colours", workers=0)
    assert panel.apart == 1.0 and panel.points.shape == (20, 2)
    assert panel.places.tolist() == np.repeat(np.arange(5), 4).tolist()
    assert len(embedding_map.draw([panel, panel]).axes) == 2


def test_neighbours_are_counted_without_the_photo_itself() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    assert embedding_map.neighbours(vectors, np.array([0, 0, 0])) == 1.0
    assert embedding_map.neighbours(vectors, np.array([0, 1, 2])) == 0.0
    assert embedding_map.neighbours(vectors, np.array([0, 0, 1])) == pytest.approx(2 / 3)
