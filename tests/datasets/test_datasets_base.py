"""ImageSet and EvalDataset: what fits together, what is refused, what changes the split hash."""

import os
from datetime import datetime

import numpy as np
import pytest

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.errors import InputError
from cricavpr.geo import Positions


def images(*easts, root="/photos", names=None, zone=None):
    metres = np.array([(east, 0.0) for east in easts])
    zones = None if zone is None else (zone,) * len(easts)
    return ImageSet(root, names or tuple(f"{i}.jpg" for i in range(len(easts))), Positions(metres, zones))


def test_take_moves_every_field_along(tmp_path):
    frames = np.array([5, 6, 7])
    times = np.array(["2020-01-01", "NaT", "2022-01-01T12:00"], "datetime64[s]")
    three = ImageSet(tmp_path, ("a", "b", "c"), Positions(np.eye(3, 2)), ("x", "x", "y"), frames, times=times)
    two = three.take([2, 0])
    assert two.times.tolist() == [datetime(2022, 1, 1, 12), datetime(2020, 1, 1)] and two.times.dtype == "<M8[ms]"
    assert two.names == ("c", "a") and two.keys == ("y", "x") and two.frames.tolist() == [7, 5]
    assert two.positions.metres.tolist() == [[0, 0], [1, 0]]
    assert two.path(0) == tmp_path / "c" and len(two) == 2
    assert three.take(np.array([False, True, False])).names == ("b",)
    assert three.take([]).names == ()


def test_a_name_that_is_not_utf_8_leads_to_its_file(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(raw, "wb"):  # noqa: PTH123  # a path of bytes
        pass
    assert ImageSet(tmp_path, (os.fsdecode(b"caf\xe9.jpg"),)).path(0).exists()


@pytest.mark.parametrize("names", [("a", "a"), ("/etc/passwd",), ("../a",), ("b/../../a",), ("",)])
def test_names_twice_or_outside_the_folder_are_refused(names):
    with pytest.raises(InputError):
        ImageSet("/photos", names)


def test_two_dots_inside_a_name_are_only_dots():
    assert ImageSet("/photos", ("a..b.jpg",)).names == ("a..b.jpg",)


@pytest.mark.parametrize(
    "field",
    [
        {"keys": ("x",)},
        {"frames": np.zeros(3)},
        {"positions": Positions(np.zeros((1, 2)))},
        {"times": np.zeros(1, "M8[ms]")},
    ],
)
def test_fields_of_other_lengths_are_refused(field):
    with pytest.raises(InputError, match=r"must have one entry per image \(2\)"):
        ImageSet("/photos", ("a", "b"), **field)


def test_times_that_are_numbers_are_refused():
    with pytest.raises(InputError, match="datetime64"):
        ImageSet("/photos", ("a", "b"), times=np.array([1, 2]))


def test_positives_within_a_radius_include_its_border():
    dataset = EvalDataset.within_radius("street", images(0, 25, 25.01, 500), images(0, 1000))
    assert [indices.tolist() for indices in dataset.positives] == [[0, 1], []]
    assert dataset.rule == "within 25 m"
    assert EvalDataset.within_radius("street", images(0), images(0), 12.5).rule == "within 12.5 m"


def test_a_side_without_positions_cannot_have_positives():
    with pytest.raises(InputError, match="queries of street"):
        EvalDataset.within_radius("street", images(0), ImageSet("/photos", ("a",)))


@pytest.mark.parametrize("positives", [[], [[1, 0]], [[0, 0]], [[-1]], [[2]]])
def test_positives_that_do_not_fit_are_refused(positives):
    with pytest.raises(InputError, match="positives"):
        EvalDataset("street", images(0, 1), images(0), tuple(np.array(row) for row in positives), "by hand")


def test_the_split_hash_is_the_same_wherever_the_folder_lies():
    one = EvalDataset.within_radius("street", images(0, 9), images(1))
    two = EvalDataset.within_radius("renamed", images(0, 9, root="/else"), images(1.0002, root="/else"))
    assert one.split_hash() == two.split_hash()
    # Kept for ever: a table row of last year must still name its split.
    assert one.split_hash() == "bca1aed572fd37383e52bbda6eba027233369ca93c40e9a26ed7c3338aa74960"


def test_the_split_hash_changes_with_names_positions_zones_order_and_positives():
    def split(database=None, queries=None, radius_m=25):
        sides = database or images(0, 9, zone="33N"), queries or images(1, zone="33N")
        return EvalDataset.within_radius("street", *sides, radius_m).split_hash()

    others = [
        split(database=images(0, 9, zone="33N", names=("0.jpg", "1.png"))),
        split(database=images(0, 9, zone="33N", names=("1.jpg", "0.jpg"))),
        split(database=images(0, 9.002, zone="33N")),
        split(database=images(0, 9, zone="33S"), queries=images(1, zone="33S")),
        split(database=images(0, zone="33N"), queries=images(9, 1, zone="33N")),
        split(radius_m=2),
    ]
    assert len({split(), *others}) == 7


def test_the_split_hash_takes_names_that_are_not_utf_8():
    strange = images(0, names=(os.fsdecode(b"caf\xe9.jpg"),))
    assert len(EvalDataset.within_radius("street", strange, images(0)).split_hash()) == 64
