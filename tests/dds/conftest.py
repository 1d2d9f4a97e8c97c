from __future__ import annotations

import os

import pytest

pytest.importorskip("cyclonedds", reason="needs the dds extra")


@pytest.fixture
def domain() -> int:
    """A domain of this test run's own: two runs on one machine must not meet."""
    return 20 + os.getpid() % 80
