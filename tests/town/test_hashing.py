"""Randomness from integers: the scalar and the array form are one function, and its values are for ever."""

import numpy as np
import pytest

from cricavpr.town.hashing import between, hash_array, hash_cells, hash_int, unit, unit_float


@pytest.mark.parametrize("keys", [(), (0,), (1, 2, 3), (-1, 5), (2**40 + 7, 3)])
def test_the_array_form_gives_the_bits_of_the_scalar_form(keys):
    last = np.array([0, 1, -1, 2**31 - 1, -(2**31)])
    assert hash_array(*keys, last).tolist() == [hash_int(*keys, int(k)) for k in last]
    assert hash_array(last, *keys).tolist() == [hash_int(int(k), *keys) for k in last]


def test_values_never_change():
    assert [hash_int(), hash_int(1), hash_int(1, 2), hash_int(2, 1)] == [0, 1020716019, 1267468116, 3589681347]


def test_fractions_fill_the_unit_interval_evenly():
    draws = unit(hash_array(3, np.arange(20_000)))
    assert draws.dtype == np.float32 and draws.min() >= 0 and draws.max() < 1
    counts = np.bincount((draws * 10).astype(int), minlength=10)
    assert abs(counts - 2000).max() < 200
    assert 2 <= between(2, 5, 1, 2, 3) < 5 and 0 <= unit_float(-7) < 1


def test_neighbouring_cells_have_nothing_in_common():
    column, row = (a.reshape(-1).astype(np.int32) for a in np.mgrid[-50:50, -50:50])
    draws = unit(hash_cells(column, row, 9)).reshape(100, 100)
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.05
