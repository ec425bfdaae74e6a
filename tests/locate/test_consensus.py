"""One position from many matches, on scores and places that can be checked by eye."""

from __future__ import annotations

import numpy as np
import pytest

from cricavpr.geo import Positions
from cricavpr.locate.consensus import FEATURES, Consensus, Rule, consensus

RULE = Rule(depth=20, reach_m=25.0, sharpness=1.0)
NAN = float("nan")


def asked(metres: list[list[float]], scores: list[float], rule: Rule = RULE) -> Consensus | None:
    return consensus(Positions(np.array(metres)), np.array(scores), rule)


def found(metres: list[list[float]], scores: list[float], rule: Rule = RULE) -> Consensus:
    one = asked(metres, scores, rule)
    assert one is not None
    return one


def test_two_photos_of_one_place_outvote_one_false_friend() -> None:
    one = found([[5000, 5000], [0, 0], [0, 4], [900, 0]], [0.90, 0.88, 0.88, 0.50])
    assert one.members.tolist() == [1, 2]
    assert one.metres == pytest.approx([0, 2])


def test_a_false_friend_that_is_far_better_wins_against_weak_company() -> None:
    one = found([[5000, 5000], [0, 0], [0, 4], [900, 0]], [0.90, 0.60, 0.60, 0.50])
    assert one.members.tolist() == [0]


def test_members_count_by_their_weight() -> None:
    one = found([[0, 0], [10, 0], [3000, 0]], [1.0, 0.75, 0.5])  # weights 1, 0.5 and 0
    assert one.metres == pytest.approx([10 / 3, 0])


def test_sharpness_listens_more_to_the_best() -> None:
    one = found([[0, 0], [10, 0], [3000, 0]], [1.0, 0.75, 0.5], Rule(sharpness=2.0))  # weights 1, 0.25 and 0
    assert one.metres == pytest.approx([2, 0])


def test_neither_the_scale_of_scores_nor_matches_beyond_the_depth_move_a_place() -> None:
    metres, scores = [[0.0, 0.0], [10.0, 0.0], [3000.0, 0.0]], [1.0, 0.75, 0.5]
    assert found(metres, [s / 10 - 7 for s in scores]).metres == pytest.approx(found(metres, scores).metres)
    deeper = found([*metres, [10.0, 0.0]], [*scores, 0.1], Rule(depth=3, sharpness=1.0))
    assert deeper.metres == pytest.approx(found(metres, scores).metres)


def test_one_match_and_equal_matches_have_a_place() -> None:
    assert found([[7, 8]], [0.3]).metres == pytest.approx([7, 8])
    assert found([[0, 0], [4, 0], [900, 0]], [0.5, 0.5, 0.5]).metres == pytest.approx([2, 0])


def test_nothing_has_no_place() -> None:
    assert consensus(Positions(np.empty((0, 2))), np.empty(0), RULE) is None
    assert asked([[NAN, NAN], [NAN, NAN]], [0.9, 0.8]) is None


def test_a_best_match_without_position_is_not_answered_by_a_worse_one() -> None:
    assert asked([[NAN, NAN], [0, 0], [900, 0]], [0.9, 0.6, 0.5]) is None
    one = found([[NAN, NAN], [0, 0], [0, 4], [900, 0]], [0.90, 0.88, 0.88, 0.50])
    assert one.members.tolist() == [1, 2] and np.isfinite(one.features).all()


def test_neighbours_across_a_zone_border_support_each_other() -> None:
    """Two photos 10 m apart on both sides of 6 degrees east, and a false friend with a score as good."""
    edge = Positions.from_latlon([[55.0, 5.9999219]])
    other = Positions.from_latlon([[55.0, 6.0000781]])
    far = Positions.from_latlon([[56.0, 8.0]])
    assert (edge.zones, other.zones) == (("31N",), ("32N",))
    positions = Positions.concatenate([far, edge, other, far])
    one = consensus(positions, np.array([0.90, 0.89, 0.89, 0.5]), RULE)
    assert one is not None and one.zone == "31N"
    assert one.metres == pytest.approx(edge.metres[0])  # metres of another zone are not mixed in


def test_features_say_what_tells_a_sure_answer() -> None:
    one = found([[0, 0], [0, 4], [900, 0], [0, 700]], [0.9, 0.8, 0.5, 0.4])
    values = dict(zip(FEATURES, one.features.tolist(), strict=True))
    assert values["score"] == pytest.approx(0.9)
    assert values["gap"] == pytest.approx(0.4)  # to the first match elsewhere
    assert values["agreement"] == pytest.approx(1.8 / 2.0)  # weights 1, 0.8, 0.2, 0
    assert values["contrast"] == pytest.approx((0.9 - 0.45) / 0.01)
    alone = found([[0, 0], [0, 4]], [0.9, 0.8])
    assert alone.features[1] == pytest.approx(0.1)  # nothing elsewhere scores higher than the last match
    nearby = found([[0, 0], [40, 0], [900, 0]], [0.9, 0.8, 0.5])
    assert nearby.features[1] == pytest.approx(0.4)  # 40 m away is the same street, and no rival
