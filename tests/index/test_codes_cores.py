"""Work shared among cores: the answers of a loop, in its order."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from cricavpr.index.codes import fast_scan as cores
from cricavpr.index.codes.fast_scan import share


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cores._threads.cache_clear()
    monkeypatch.setattr(cores, "_cores", lambda: 3)
    yield
    cores._threads.cache_clear()


def test_answers_stand_in_the_order_of_the_items() -> None:
    assert share(lambda number: number * number, range(100)) == [number * number for number in range(100)]
    assert share(str, []) == []


def test_three_cores_work_at_a_time() -> None:
    together = threading.Barrier(3, timeout=30)
    share(lambda _: together.wait(), range(3))  # which nobody passes alone


@pytest.mark.parametrize("bad", range(4))
def test_an_error_of_any_item_is_raised(bad: int) -> None:
    with pytest.raises(ZeroDivisionError):
        share(lambda number: 1 // (number - bad), range(4))
    assert share(abs, [-1]) == [1]


def test_a_process_that_was_forked_has_threads_of_its_own() -> None:
    share(abs, range(10))
    child = os.fork()
    if not child:
        os._exit(0 if share(abs, [-1, -2, -3, -4]) == [1, 2, 3, 4] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_thread_that_outlives_the_main_one_still_gets_its_answer() -> None:
    program = """
import threading, time
from cricavpr.index.codes.fast_scan import share
def late():
    threading.main_thread().join()
    print(share(abs, [-1, -2, -3]))
threading.Thread(target=late).start()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("[1, 2, 3]\n", "")
