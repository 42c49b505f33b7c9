"""A conversation that goes from one provider to the next: every thought is shown, each provider gets its own back, and none
a signature of another's or of ours. The simulator answers 400 to those, as the providers do (protocol §5.4)."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.conformance.clients import CLIENTS, NAMES, Client
from tests.conformance.providers import SPEAKS, TOML, calls_of
from tests.support.running import Running
from tidegate.sim.scripts import CONCLUSION, THOUGHT
from tidegate.sim.thought import encrypt, sign

MORE = """
[providers.deep]                     # a chat server that wants its reasoning back
kind = "deepseek"
base_url = "{sim}"
speaks = ["chat"]
credentials = ["sk-0123456789abcdef"]
[providers.plain]                    # a Responses server that reads its reasoning in plain words
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["responses"]
"""
ROUTE = {
    "lab": "lab/reasoning",
    "anthropic": "anthropic/reasoning",
    "google": "google/reasoning",
    "openai": "openai/reasoning",
    "deep": "deep/reasoning",
    "plain": "plain/reasoning:raw=1",
    "openai-chat": "openai-chat/reasoning",
}
SEALS = {"responses": ("openai", "plain")}
"""Providers that seal for a client: the simulator does for who asks, and this client's words go on as they are."""
DIALECT = {**SPEAKS, "deep": "chat", "plain": "responses"}

streamed_and_whole = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML + MORE) as running:
        yield running


@pytest.fixture(scope="module")
def clients(gateway: Running) -> Iterator[dict[str, Client]]:
    made: dict[str, Client] = {kind.name: kind(gateway) for kind in CLIENTS}
    yield made
    for one in made.values():
        one.close()


def came_back(provider: str, body: Any) -> list[Any]:
    """Reasoning in what a provider was sent, as it has it."""
    match DIALECT[provider]:
        case "messages":
            blocks = [block for message in body["messages"] for block in message["content"] if isinstance(block, dict)]
            return [block for block in blocks if "thinking" in block["type"]]
        case "responses":
            return [item for item in body["input"] if item.get("type") == "reasoning"]
        case "chat":
            return [message["reasoning_content"] for message in body["messages"] if "reasoning_content" in message]
        case _:
            parts = [part for content in body["contents"] for part in content["parts"]]
            return [part for part in parts if part.get("thoughtSignature") or part.get("thought_signature")]


def check_own(provider: str, found: list[Any]) -> None:
    """What the provider said in the first round has come back byte for byte, and nothing that it could not read."""
    match provider:
        case "anthropic":
            assert found == [{"type": "thinking", "thinking": THOUGHT, "signature": sign(THOUGHT)}]
        case "openai":
            (item,) = found
            sealed = item.pop("encrypted_content")
            assert item == {"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]}
            item_id = base64.urlsafe_b64decode(sealed.removeprefix("gAAAAAB")).decode().partition(":")[0]
            assert sealed == encrypt(item_id, THOUGHT)
        case "deep":
            assert set(found) == {THOUGHT}
        case "plain":
            own = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": THOUGHT}]}
            sealed = [item.pop("encrypted_content") for item in found if "encrypted_content" in item]
            assert len(sealed) < 2
            assert own in found
        case "openai-chat":
            assert found == []


@streamed_and_whole
@pytest.mark.parametrize("name", NAMES)
def test_every_thought_is_shown_and_goes_back_only_to_its_provider(
    gateway: Running, clients: dict[str, Client], name: str, stream: bool
) -> None:
    client = clients[name]
    turns = client.user("What is it?")
    for again in (False, True):
        for provider, model in ROUTE.items():
            answer = client.ask(model, turns, stream=stream, think=True)
            assert (answer.text, answer.thoughts) == (CONCLUSION, THOUGHT), provider
            turns = [*turns, *answer.history, *client.user("Are you sure?")]
            request = calls_of(gateway)[-1]
            text = request.body.decode()
            assert "tgr1_" not in text
            assert base64.b64encode(b"tgr1_").decode()[:6] not in text
            assert ("gAAAAAB" in text) == (again and provider in SEALS.get(name, ("openai",)))
            assert (sign(THOUGHT) in text) == (again and provider == "anthropic")
            if again:
                check_own(provider, came_back(provider, request.json))


@streamed_and_whole
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("lab/reasoning:field=reasoning", (CONCLUSION, THOUGHT)),
        (f"lab/echo:text={quote('<think>Let me see</think>42')}", ("42", "Let me see")),
    ],
)
@pytest.mark.parametrize("name", ["responses", "messages", "gemini"])
def test_a_thought_is_shown_by_whatever_name_it_comes(
    clients: dict[str, Client], name: str, model: str, said: tuple[str, str], stream: bool
) -> None:
    client = clients[name]
    answer = client.ask(model, client.user("?"), stream=stream, think=True)
    assert (answer.text, answer.thoughts) == said


@pytest.mark.parametrize("provider", ["lab", "google", "openai-chat"])
def test_what_was_only_shown_is_no_loss(gateway: Running, clients: dict[str, Client], provider: str) -> None:
    """Claude Code sends its thoughts back with every step: a header that names them each time would say nothing."""
    client = clients["messages"]
    question = client.user("?")
    answer = client.ask(ROUTE[provider], question, stream=True, think=True)
    (thinking, *_) = answer.history[0]["content"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", THOUGHT)
    assert thinking["signature"].startswith("tgr1_")
    assert len(thinking["signature"]) < 200
    turns = [*question, *answer.history, *client.user("Are you sure?")]
    for other in ROUTE:
        client.ask(f"{other}/echo", turns, stream=False)
        assert "thinking" not in client.wire.dropped, other
        assert THOUGHT.encode() not in calls_of(gateway)[-1].body or other in ("deep", "plain")


@streamed_and_whole
def test_thoughts_of_a_bridged_provider_are_no_hindrance_in_the_middle_of_a_step(
    gateway: Running, clients: dict[str, Client], stream: bool
) -> None:
    """With a budget, Anthropic goes on with a step only from its own thoughts."""
    client = clients["messages"]
    question = client.user("?")
    first = client.ask("lab/tools", question, stream=stream, tools={"tide": {"type": "object"}})
    shown = client.ask("lab/reasoning", question, stream=stream, think=True).history[0]["content"][0]
    step = {"role": "assistant", "content": [shown, *first.history[0]["content"]]}
    turns = [*question, step, *client.results(first.calls, "high")]
    asked: Any = {"stream": stream, "tools": {"tide": {"type": "object"}}}
    for thinking in ({"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}):
        answer = client.ask("anthropic/tools", turns, thinking=thinking, **asked)
        assert answer.text == "The tool said: high"
        sent = json.loads(calls_of(gateway)[-1].body)
        assert [block["type"] for block in sent["messages"][1]["content"]] == ["tool_use"]
        lost = thinking["type"] == "enabled"
        assert ("thinking" not in sent) == ("thinking" in client.wire.dropped) == lost


@pytest.mark.parametrize("name", ["chat", "responses", "gemini"])
def test_a_client_that_cannot_ask_for_thoughts_is_told_them(
    gateway: Running, clients: dict[str, Client], name: str
) -> None:
    """Google tells thoughts only to who asks. Chat has no member for that; the others have one, and did not use it."""
    client = clients[name]
    answer = client.ask("google/reasoning", client.user("?"), stream=True)
    sent = json.loads(calls_of(gateway)[-1].body).get("generationConfig", {}).get("thinkingConfig", {})
    asked = name == "chat"
    assert answer.text == CONCLUSION
    assert answer.thoughts == (THOUGHT if asked else "")
    assert sent == ({"includeThoughts": True} if asked else {})


@streamed_and_whole
@pytest.mark.parametrize("provider", ["lab", "anthropic", "openai"])
def test_a_client_of_gemini_is_told_thoughts_only_if_it_asks(
    gateway: Running, clients: dict[str, Client], provider: str, stream: bool
) -> None:
    client = clients["gemini"]
    question = client.user("?")
    answer = client.ask(ROUTE[provider], question, stream=stream)
    assert (answer.text, answer.thoughts) == (CONCLUSION, "")
    client.ask(f"{provider}/echo", [*question, *answer.history, *client.user("Are you sure?")], stream=stream)
    if provider == "anthropic":  # its thought goes back all the same
        check_own(provider, came_back(provider, calls_of(gateway)[-1].json))
