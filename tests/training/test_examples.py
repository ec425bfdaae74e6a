"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["learning", "losses", "recipe", "train"])
def test_examples_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"cricavpr.training.{name}"))
    assert tried > 0 and failed == 0
