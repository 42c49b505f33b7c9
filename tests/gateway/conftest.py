"""A gateway with short clocks, aliases and fallbacks, shared by the tests of this folder that change nothing."""

from collections.abc import Iterator

import pytest

from tests.support.api import Api
from tests.support.running import Running

TOML = """
[server]
port = 0
[defaults]
model = "sim/echo"
[routing]
retries = 0
eject_after = 0
[providers.sim]
base_url = "{sim}"
timeouts = { first_event = "700ms", idle = "700ms" }
[providers.closed]
kind = "sim"
base_url = "http://127.0.0.1:9/v1"
models = ["m"]
"""


@pytest.fixture(scope="session")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="session")
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway) as client:
        assert client.get("/v1/models").status == 200
        yield client
