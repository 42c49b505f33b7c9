"""A gateway that keeps what it answers, with a provider of each dialect."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.conformance.providers import TOML
from tests.support.running import Running

KEPT = (
    TOML.replace("port = 0\n", 'port = 0\ndata_dir = "{data}"\n')
    + """
[providers.plain]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["responses"]
"""
)
MODELS = {"responses": "openai", "chat": "lab", "messages": "anthropic", "gemini": "google"}
"""A provider of each dialect."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `keeping` keeps things."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def keeping(data: Path) -> Iterator[Running]:
    with Running(KEPT.replace("{data}", str(data))) as running:
        yield running


@pytest.fixture(scope="session")
def client(keeping: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=keeping.url, api_key="unused", max_retries=0, timeout=20) as found:
        yield found
