"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest

from tests.support.running import Running


@pytest.fixture(scope="session")
def gateway() -> Iterator[Running]:
    """A gateway with the simulator behind it, shared by tests that change nothing."""
    with Running() as running:
        yield running
