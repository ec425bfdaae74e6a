"""One small town for all tests of this folder."""

import pytest

from cricavpr.town import Town


@pytest.fixture(scope="session")
def town() -> Town:
    return Town(seed=1, places=60)
