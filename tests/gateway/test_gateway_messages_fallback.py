"""Clients of Anthropic's API whose stream begins at one provider and goes on at another."""

from collections.abc import Iterator
from itertools import permutations

import anthropic
import pytest

from tests.conformance.providers import TOML
from tests.support.running import Running

ALIAS = """
[models."{name}"]
targets = [{{ model = "{first}" }}]
fallback = ["{second}"]
"""
PROVIDERS = ("openai", "lab", "anthropic", "google")
FAULTS = ("reset", "eof", "error", "garbage")
PAIRS = [
    (f"{first}-{second}-{fault}-{after}", f"{first}/lorem:fault={fault},after={after}", f"{second}/lorem:text=one+two")
    for first, second in permutations(PROVIDERS, 2)
    for fault in FAULTS
    for after in (0, 1, 2)
]

HELD = "a-start-that-was-held"
"""The first attempt fails in the read that begins it, the second one before it says anything."""
THREE = f"""
[models.{HELD}]
targets = [{{ model = "openai/lorem:fault=error,after=2,burst=1" }}]
fallback = ["anthropic/lorem:status=500", "lab/lorem:text=one+two"]
[models.{HELD}-then-relayed]
targets = [{{ model = "openai/lorem:fault=error,after=2,burst=1" }}]
fallback = ["lab/lorem:status=500", "anthropic/lorem:text=one+two"]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    aliases = (ALIAS.format(name=name, first=first, second=second) for name, first, second in PAIRS)
    with Running(TOML + "".join(aliases) + THREE) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.origin, api_key="k", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("name", [*(name for name, _, _ in PAIRS), HELD, f"{HELD}-then-relayed"])
def test_a_message_starts_once_whoever_goes_on_with_it(client: anthropic.Anthropic, name: str) -> None:
    kinds: list[str] = []
    try:
        with client.messages.create(
            model=name, max_tokens=99, messages=[{"role": "user", "content": "x"}], stream=True
        ) as stream:
            for event in stream:
                kinds.append(event.type)
    except anthropic.APIError:
        assert not name.startswith("openai-")  # the others have said something by then
    else:
        assert kinds[-1] == "message_stop"
    assert kinds[0] == "message_start"
    assert kinds.count("message_start") == 1
