"""Reasoning that only a provider can read goes to clients in envelopes, and comes back to that provider alone."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api, Reply
from tests.support.running import Running
from tidegate.dialects.envelope import PREFIX

KEYS = {"A_KEY": "sk-one-0123456789abcdef0123456789abcdef", "B_KEY": "sk-two-fedcba9876543210fedcba9876543210"}
TOML = """
[server]
port = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-test"]
[providers.mirror]                   # another provider of the same API
kind = "openai"
base_url = "{sim}"
credentials = ["sk-test"]
[providers.talker]
kind = "openai-compatible"
base_url = "{sim}"
[providers.google]
kind = "gemini"
base_url = "{sim}"
credentials = ["AIza-test"]
[providers.anthropic]
base_url = "{sim}"
credentials = ["sk-ant-test"]
[[keys]]
name = "a"
secret = "${A_KEY}"
project = "acme"
[[keys]]
name = "b"
secret = "${B_KEY}"
project = "other"
"""
ASKED: dict[str, Any] = {"reasoning": {"effort": "low"}, "say": "Think."}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML, environment=KEYS) as running:
        yield running


@pytest.fixture
def api(gateway: Running) -> Iterator[Api]:
    with Api(gateway, authorization=f"Bearer {KEYS['A_KEY']}") as client:
        yield client


@pytest.fixture
def other(gateway: Running) -> Iterator[Api]:
    with Api(gateway, authorization=f"Bearer {KEYS['B_KEY']}") as client:
        yield client


def thought(reply: Reply) -> dict[str, Any]:
    """The reasoning item of an answer, which is the same wherever it stands."""
    assert reply.status == 200, reply.content
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return next(item for item in reply.json["output"] if item["type"] == "reasoning")
    done = next(
        event["item"]
        for event in reply.events
        if event["type"] == "response.output_item.done" and event["item"]["type"] == "reasoning"
    )
    assert done in reply.events[-1]["response"]["output"]
    return dict(done)


def again(api: Api, model: str, item: dict[str, Any]) -> Reply:
    said = {"role": "assistant", "content": "42."}
    history = [{"role": "user", "content": "Think."}, item, said, {"role": "user", "content": "Go on."}]
    return api.ask("responses", model, input=history, reasoning={"effort": "low"})


@pytest.mark.parametrize("stream", [False, True])
def test_it_comes_back_byte_for_byte_to_the_provider_that_made_it(api: Api, stream: bool) -> None:
    item = thought(api.ask("responses", "openai/reasoning", stream=stream, **ASKED))
    assert item["encrypted_content"].startswith(PREFIX)
    reply = again(api, "openai/echo", item)
    assert reply.status == 200
    assert "tidegate-dropped" not in reply.headers
    sent = next(one for one in api.sent["input"] if one.get("type") == "reasoning")
    assert sent["encrypted_content"].startswith("gAAAAAB")
    assert sent["summary"] == item["summary"]


@pytest.mark.security("SEC-API1-ENVELOPE")
@pytest.mark.parametrize("model", ["mirror/echo", "talker/echo", "anthropic/echo"])
def test_another_provider_never_gets_it_and_the_client_is_told(api: Api, model: str) -> None:
    item = thought(api.ask("responses", "openai/reasoning", **ASKED))
    reply = again(api, model, item)
    assert reply.status == 200, reply.content
    assert "reasoning" in reply.headers["tidegate-dropped"]
    assert PREFIX not in api.upstream.body.decode()
    assert "gAAAAAB" not in api.upstream.body.decode()


@pytest.mark.security("SEC-API1-ENVELOPE")
def test_another_project_cannot_use_it(api: Api, other: Api) -> None:
    item = thought(api.ask("responses", "openai/reasoning", **ASKED))
    reply = again(other, "openai/echo", item)
    assert reply.status == 200
    assert reply.headers["tidegate-dropped"] == "reasoning.encrypted_content"
    assert not [one for one in other.sent["input"] if one.get("type") == "reasoning"]


def test_ciphertext_that_a_client_has_from_elsewhere_goes_on_as_it_is(api: Api) -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAABfrom-elsewhere"}
    assert again(api, "openai/echo", item).status == 200
    assert item in api.sent["input"]


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_signature_survives_a_responses_client(api: Api, stream: bool) -> None:
    item = thought(api.ask("responses", "anthropic/reasoning", stream=stream, **ASKED))
    assert item["encrypted_content"].startswith(PREFIX)
    reply = again(api, "anthropic/echo", item)
    assert reply.status == 200, reply.content
    blocks = [
        block for message in api.sent["messages"] if message["role"] == "assistant" for block in message["content"]
    ]
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert blocks[0]["signature"]


def test_a_chat_client_does_not_carry_one_providers_thoughts_to_another(api: Api) -> None:
    message = api.ask("chat", "anthropic/reasoning", reasoning_effort="low").json["choices"][0]["message"]
    assert message["reasoning_details"][0]["data"].startswith(PREFIX)
    history = [{"role": "user", "content": "Think."}, message, {"role": "user", "content": "Go on."}]
    reply = api.ask("chat", "talker/echo", messages=history)
    assert reply.status == 200
    assert reply.headers["tidegate-dropped"] == "reasoning_details"
    assert PREFIX not in api.upstream.body.decode()


def test_a_gemini_client_does_not_carry_them_to_google(api: Api) -> None:
    ask: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "Think."}]}]}
    ask["generationConfig"] = {"thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True}}
    answer = api.post("/v1beta/models/anthropic/reasoning:generateContent", ask).json
    said = answer["candidates"][0]["content"]
    signatures = [base64.b64decode(part["thoughtSignature"]) for part in said["parts"] if "thoughtSignature" in part]
    assert [signature.startswith(PREFIX.encode()) for signature in signatures] == [True]
    history = [*ask["contents"], said, {"role": "user", "parts": [{"text": "Go on."}]}]
    reply = api.post("/v1beta/models/google/echo:generateContent", {"contents": history})
    assert reply.status == 200, reply.content
    assert reply.headers["tidegate-dropped"] == "thoughtSignature"
    assert "thoughtSignature" not in api.upstream.body.decode()
