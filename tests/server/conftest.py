"""Gateways that the tests of the server share."""

from collections.abc import Iterator

import pytest

from tests.support.running import SIM_ONLY, Running

KEY = "sk-test-0123456789abcdef0123456789abcdef"

TIGHT = SIM_ONLY.replace(
    "[server]",
    """[server]
header_timeout = "300ms"
body_timeout = "300ms"
keep_alive = "500ms"
max_header_bytes = "8KiB"
max_body = "64KiB"
""",
)


@pytest.fixture(scope="package")
def tight() -> Iterator[Running]:
    """A gateway with small limits."""
    with Running(TIGHT) as running:
        yield running


@pytest.fixture(scope="package")
def keyed() -> Iterator[Running]:
    """A gateway with one key, `KEY`."""
    with Running(f'{SIM_ONLY}\n[[keys]]\nname = "app"\nsecret = "{KEY}"\n') as running:
        yield running
