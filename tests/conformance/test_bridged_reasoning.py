"""What only a provider can read of its reasoning comes back to it byte for byte, and to nobody else (protocol §5.4)."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.clients import NAMES, Client
from tests.conformance.providers import SPEAKS, TOML, calls_of
from tests.support.running import Running
from tidegate.sim.scripts import THOUGHT
from tidegate.sim.thought import sign

HERE, THERE = "key-here-0123456789abcdef0123456789abcdef", "key-there-0123456789abcdef0123456789abcde"
KEYS = f"""
[[keys]]
name = "here"
secret = "{HERE}"
project = "here"
[[keys]]
name = "also-here"
secret = "key-also-0123456789abcdef0123456789abcdef"
project = "here"
[[keys]]
name = "there"
secret = "{THERE}"
project = "there"
[providers.anthropic-two]
kind = "anthropic"
base_url = "{{sim}}"
credentials = ["sk-ant-second-0123456789"]
"""
SEALING = ["openai", "anthropic"]
"""Providers whose answers to `reasoning` come with something sealed."""
SCHEMA: Any = {"type": "object", "properties": {"harbour": {"type": "string"}}}
LOST = {
    "responses": "reasoning.encrypted_content",
    "chat": "reasoning_details",
    "messages": "thinking",
    "gemini": "thoughtSignature",
}
"""What each client is told when its provider cannot use what it sent."""

streamed_and_whole = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML + KEYS) as running:
        yield running


@pytest.fixture(params=NAMES)
def client(clients: dict[str, Client], request: pytest.FixtureRequest) -> Client:
    return clients[request.param]


def sealed(gateway: Running, provider: str) -> list[str]:
    """What the provider got back of its own in the last request: encrypted content, or signatures."""
    body = calls_of(gateway)[-1].json
    match SPEAKS.get(provider, "messages"):
        case "responses":
            return [item["encrypted_content"] for item in body["input"] if item.get("encrypted_content")]
        case "messages":
            blocks = [block for message in body["messages"] for block in message["content"] if isinstance(block, dict)]
            for block in blocks:
                if block["type"] == "thinking":
                    assert block["thinking"] == THOUGHT
            return [block["signature"] for block in blocks if block["type"] == "thinking"]
        case _:
            parts = [part for content in body["contents"] for part in content["parts"]]
            return [one for part in parts if (one := part.get("thoughtSignature", part.get("thought_signature")))]


def conversation(client: Client, model: str, *, stream: bool, key: str = HERE) -> list[Any]:
    """A question, the answer with its reasoning, and the next question."""
    question = client.user("What is it?")
    answer = client.ask(model, question, stream=stream, think=True, key=key)
    assert answer.text == "The answer is 42."
    return [*question, *answer.history, *client.user("Are you sure?")]


@streamed_and_whole
@pytest.mark.parametrize("provider", SEALING)
def test_it_comes_back_to_the_provider_that_made_it(
    gateway: Running, client: Client, provider: str, stream: bool
) -> None:
    turns = conversation(client, f"{provider}/reasoning", stream=stream)
    client.ask(f"{provider}/echo", turns, stream=stream, think=True, key=HERE)
    (back,) = sealed(gateway, provider)
    if provider == "anthropic":
        assert back == sign(THOUGHT)
    else:
        assert back.startswith("gAAAAAB")
        assert THOUGHT.encode() in base64.urlsafe_b64decode(back.removeprefix("gAAAAAB"))
    assert LOST[client.name] not in client.wire.dropped


@streamed_and_whole
def test_thinking_that_nobody_may_read_comes_back_too(gateway: Running, client: Client, stream: bool) -> None:
    turns = conversation(client, "anthropic/reasoning:redacted=1", stream=stream)
    client.ask("anthropic/echo", turns, stream=stream, think=True, key=HERE)
    content = calls_of(gateway)[-1].json["messages"][1]["content"]
    first, *rest = [block["type"] for block in content]
    assert (first, set(rest)) == ("redacted_thinking", {"text"})


@streamed_and_whole
def test_the_signatures_of_calls_come_back_on_the_calls(gateway: Running, client: Client, stream: bool) -> None:
    """The simulator refuses a first call that comes back without exactly its signature."""
    question = client.user("?")
    asked: Any = {"stream": stream, "tools": {"tide": SCHEMA, "wind": SCHEMA}, "key": HERE}
    first = client.ask("google/tools:parallel=2", question, **asked)
    turns = [*question, *first.history, *client.results(first.calls, "high")]
    assert client.ask("google/tools", turns, **asked).text == "The tool said: high"
    (signature,) = sealed(gateway, "google")
    assert signature != "skip_thought_signature_validator"


@pytest.mark.parametrize("first", SEALING)
@pytest.mark.parametrize("second", ["openai", "openai-chat", "lab", "anthropic", "google", "anthropic-two"])
def test_another_provider_never_sees_it(gateway: Running, client: Client, first: str, second: str) -> None:
    if first == second:
        second = "anthropic-two" if first == "anthropic" else "google"
    if _native(client.name, first) and _native(client.name, second):
        pytest.skip("Anthropic's signatures are good with every account")
    turns = conversation(client, f"{first}/reasoning", stream=True)
    client.ask(f"{second}/echo", turns, stream=False, key=HERE)
    body = calls_of(gateway)[-1].body
    assert b"tgr1_" not in body
    assert base64.b64encode(b"tgr1_")[:6] not in body
    assert b"gAAAAAB" not in body
    assert sign(THOUGHT).encode() not in body
    if not _native(client.name, first) and not _native(client.name, second):
        assert LOST[client.name] in client.wire.dropped


@pytest.mark.parametrize("provider", SEALING)
def test_another_projects_key_cannot_send_it_back(gateway: Running, client: Client, provider: str) -> None:
    if _native(client.name, provider):
        pytest.skip("between two that speak one dialect, bytes go on as they come")
    turns = conversation(client, f"{provider}/reasoning", stream=True)
    client.ask(f"{provider}/echo", turns, stream=False, key=THERE)
    assert sealed(gateway, provider) == []
    assert LOST[client.name] in client.wire.dropped
    assert b"tgr1_" not in calls_of(gateway)[-1].body


@pytest.mark.parametrize("provider", SEALING)
def test_another_key_of_the_same_project_can(gateway: Running, client: Client, provider: str) -> None:
    turns = conversation(client, f"{provider}/reasoning", stream=True)
    client.ask(f"{provider}/echo", turns, stream=False, key="key-also-0123456789abcdef0123456789abcdef")
    assert len(sealed(gateway, provider)) == 1


@pytest.mark.parametrize("provider", SEALING)
def test_what_was_changed_on_the_way_is_left_out(gateway: Running, client: Client, provider: str) -> None:
    if _native(client.name, provider):
        pytest.skip("between two that speak one dialect, bytes go on as they come")
    turns = conversation(client, f"{provider}/reasoning", stream=True)
    text = json.dumps(turns, default=lambda value: value.decode())
    place = text.index("tgr1_") + 40
    changed = json.loads(f"{text[:place]}{'A' if text[place] != 'A' else 'B'}{text[place + 1 :]}")
    answer = client.ask(f"{provider}/echo", _as_bytes(changed), stream=False, key=HERE)
    assert answer.text == "Are you sure?"
    assert sealed(gateway, provider) == []
    assert LOST[client.name] in client.wire.dropped


def test_calls_of_another_provider_are_taken_by_google(gateway: Running, clients: dict[str, Client]) -> None:
    """Its own client sends them as they were, without the signature that Google demands of calls."""
    client = clients["gemini"]
    question = client.user("?")
    asked: Any = {"stream": True, "tools": {"tide": SCHEMA, "wind": SCHEMA}, "key": HERE}
    for provider in ("lab", "anthropic"):
        first = client.ask(f"{provider}/tools:parallel=2", question, **asked)
        turns = [*question, *first.history, *client.results(first.calls, "high")]
        assert client.ask("google/tools", turns, **asked).text == "The tool said: high"
        assert sealed(gateway, "google")[0] == "skip_thought_signature_validator"


@streamed_and_whole
def test_a_client_of_responses_gets_the_providers_own_where_only_stops_are_made_up_for(
    gateway: Running, clients: dict[str, Client], stream: bool
) -> None:
    """What came through the bridge goes back without it, and the other way round."""
    client = clients["responses"]
    question = client.user("?")
    stop: Any = {"extra_body": {"stop": ["nothing of the kind"]}}
    for first, second in ((stop, {}), ({}, stop), (stop, stop)):
        answer = client.ask("openai/reasoning", question, stream=stream, think=True, key=HERE, **first)
        turns = [*question, *answer.history, *client.user("Are you sure?")]
        client.ask("openai/echo", turns, stream=stream, think=True, key=HERE, **second)
        (back,) = sealed(gateway, "openai")
        assert back.startswith("gAAAAAB")
        assert client.wire.dropped == []


def _native(name: str, provider: str) -> bool:
    return name == SPEAKS.get(provider, "messages")


def _as_bytes(value: Any) -> Any:
    """Signatures are bytes for Google's client."""
    if isinstance(value, list):
        return [_as_bytes(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: inner.encode() if name == "thoughtSignature" else _as_bytes(inner) for name, inner in value.items()}
