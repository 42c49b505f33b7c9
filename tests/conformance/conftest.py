"""The gateway and the official clients that talk to it."""

from collections.abc import Iterator

import openai
import pytest

from tests.conformance.clients import Client, every_client
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
def clients(gateway: Running) -> Iterator[dict[str, Client]]:
    """A client of each kind, by name, of the module's gateway."""
    with every_client(gateway) as made:
        yield made


@pytest.fixture(scope="module")
def bridged_clients(bridging: Running) -> Iterator[dict[str, Client]]:
    with every_client(bridging) as made:
        yield made


@pytest.fixture
def any_client(bridged_clients: dict[str, Client], request: pytest.FixtureRequest) -> Client:
    """The client whose name is the parameter."""
    return bridged_clients[request.param]
