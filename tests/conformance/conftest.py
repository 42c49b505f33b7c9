"""The gateway and the official clients that talk to it."""

from collections.abc import Iterator

import openai
import pytest

from tests.support.running import Running

TOML = """
[server]
port = 0
[defaults]
model = "sim/echo"
[providers.sim]
base_url = "{sim}"
[models.fast]
target = "sim/zh"
"""


@pytest.fixture(scope="session")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="session")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as found:
        yield found
