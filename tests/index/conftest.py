"""What the tests of the index share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test loses power, so nothing needs to reach the disk; that it would is what test_durable asks."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
