"""Fixtures of the examination's tests."""

import pytest

from tests.upstream.stage import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and what it signs."""
    return Certificates(tmp_path_factory.mktemp("authority"))
