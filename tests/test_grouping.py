"""Groups divide a set; batches only pack groups."""

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.grouping import ALONE, Grouping, pack


@pytest.mark.parametrize("text", ["alone", "in_order:16", "shuffled:16:3", "by_key"])
def test_a_grouping_is_printed_as_it_is_written(text: str) -> None:
    assert str(Grouping.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "in_order", "in_order:0", "in_order:x", "shuffled:16", "alone:3", "together", "in_order:-4"]
)
def test_a_grouping_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Grouping.parse(text)


def test_alone_is_every_image_by_itself() -> None:
    assert [group.tolist() for group in ALONE.groups(3)] == [[0], [1], [2]]


def test_the_last_group_in_order_is_shorter() -> None:
    assert [group.tolist() for group in Grouping.parse("in_order:2").groups(5)] == [[0, 1], [2, 3], [4]]


def test_shuffled_holds_every_image_once_and_repeats_with_its_seed() -> None:
    first, again, other = (np.concatenate(Grouping.parse(f"shuffled:4:{seed}").groups(50)) for seed in (0, 0, 1))
    assert sorted(first) == list(range(50))
    assert (first == again).all()
    assert (first != other).any()


def test_database_and_queries_are_not_shuffled_alike() -> None:
    database, queries = (Grouping.parse("shuffled:4:0").groups(400, draw=draw) for draw in (0, 1))
    together = {frozenset(group.tolist()) for group in database}
    shared = [max(len(group & set(other.tolist())) for group in together) for other in queries]
    assert np.mean(shared) < 1.5  # of four; one order for both would give four


def test_by_key_joins_what_shares_a_key_wherever_it_stands() -> None:
    assert [group.tolist() for group in Grouping.parse("by_key").groups(4, ["a", "b", "a", "c"])] == [[0, 2], [1], [3]]


def test_by_key_without_keys_is_refused() -> None:
    with pytest.raises(InputError, match="needs a key"):
        Grouping.parse("by_key").groups(4)


def test_batches_hold_whole_groups_in_order() -> None:
    groups = Grouping.parse("in_order:3").groups(10)
    batches = [[group.tolist() for group in batch] for batch in pack(groups, 6)]
    assert batches == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9]]]


def test_a_group_larger_than_a_batch_travels_by_itself() -> None:
    assert [len(batch) for batch in pack(Grouping.parse("in_order:5").groups(10), 2)] == [1, 1]
