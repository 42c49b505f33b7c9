"""One gateway for all rows that need no configuration of their own."""

from collections.abc import Iterator

import pytest

from tests.support.api import Api
from tests.support.running import Running

TOML = """
[server]
port = 0
[defaults]
model = "openai/echo"
[providers.sim]
base_url = "{sim}"
[providers.openai]                     # OpenAI's record: it takes no n, stop or penalties on Responses
base_url = "{sim}"
credentials = ["sk-upstream-0123456789abcdef0123456789"]
[providers.narrow]                     # an engine that takes few parameters
kind = "sim"
base_url = "{sim}"
[providers.narrow.refuses]
responses = ["user", "text", "reasoning", "temperature", "max_output_tokens"]
chat = ["n", "stop"]
completions = ["stop"]
[providers.hasty]
kind = "sim"
base_url = "{sim}"
timeouts = { first_event = "600ms", idle = "600ms" }
[providers.patient]
kind = "sim"
base_url = "{sim}"
timeouts = { first_event = "20s", idle = "20s" }
"""


@pytest.fixture(scope="session")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="session")
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway) as client:
        assert client.get("/v1/models").status == 200  # from here on the gateway knows what its providers have
        yield client
