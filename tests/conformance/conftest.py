"""The gateway and the official clients that talk to it."""

from collections.abc import Iterator

import openai
import pytest

from tests.conformance.clients import CLIENTS, Client
from tests.conformance.providers import TOML as PROVIDERS_TOML
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


@pytest.fixture(scope="module")
def bridging() -> Iterator[Running]:
    """A gateway with a provider of each dialect."""
    with Running(PROVIDERS_TOML) as running:
        yield running


@pytest.fixture(scope="module")
def every_client(bridging: Running) -> Iterator[dict[str, Client]]:
    made: dict[str, Client] = {kind.name: kind(bridging) for kind in CLIENTS}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def any_client(every_client: dict[str, Client], request: pytest.FixtureRequest) -> Client:
    """The client whose name is the parameter."""
    return every_client[request.param]
