"""Pictures of the toy's towns, drawn once; curves, which take longer than a toy's steps, only where they matter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cricavpr.training.log import Monitor


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(autouse=True, scope="module")
def without_curves(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        if request.module.__name__.rpartition(".")[2] != "test_curves":
            patched.setattr(Monitor, "draw", lambda _: None)
        yield
