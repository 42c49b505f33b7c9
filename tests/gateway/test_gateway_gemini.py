"""Clients of OpenAI's APIs at a provider that speaks Google's: over sockets, through the official SDK."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.support.running import Running

TOML = """
[server]
port = 0
[providers.google]
kind = "gemini"
base_url = "{sim}"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
"""
TOOLS: Any = [
    {
        "type": "function",
        "name": name,
        "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}, "additionalProperties": False},
        "strict": True,
    }
    for name in ("tide", "wind")
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="k", max_retries=0) as made:
        yield made


def last_body(gateway: Running) -> Any:
    return json.loads(gateway.sim.requests[-1].body)


def test_the_call_is_googles(gateway: Running, client: openai.OpenAI) -> None:
    response = client.responses.create(model="google/echo:gap=1", input="潮汐", max_output_tokens=50, user="me")
    assert response.output_text == "潮汐"
    seen = gateway.sim.requests[-1]
    assert seen.path == "/v1/models/echo%3Agap%3D1:generateContent"
    assert seen.headers["x-goog-api-key"].startswith("AIza")
    assert "authorization" not in seen.headers
    assert last_body(gateway) == {
        "contents": [{"role": "user", "parts": [{"text": "潮汐"}]}],
        "generationConfig": {"maxOutputTokens": 50},
    }


def test_a_responses_stream_with_thoughts(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="google/reasoning", input="?", reasoning={"effort": "low", "summary": "auto"}
    ) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    assert "response.reasoning_summary_text.delta" in types
    assert final.output_text == "The answer is 42."
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("stream", [True, False])
def test_signatures_survive_a_client_that_stores_nothing(client: openai.OpenAI, stream: bool) -> None:
    """The simulator refuses a call that comes back without exactly its signature."""
    asked: dict[str, Any] = {"model": "google/tools:parallel=2", "tools": TOOLS, "store": False}
    if stream:
        with client.responses.stream(input="?", **asked) as events:
            for _ in events:
                pass
            response = events.get_final_response()
    else:
        response = client.responses.create(input="?", **asked)
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("tide", {"harbour": "sim 0"}),
        ("wind", {"harbour": "sim 1"}),
    ]
    history: list[Any] = [{"role": "user", "content": "?"}]
    history += [item.model_dump(exclude_none=True) for item in response.output]
    history += [{"type": "function_call_output", "call_id": call.call_id, "output": "high"} for call in calls]
    assert client.responses.create(input=history, **asked).output_text == "The tool said: high"


def test_calls_of_another_model_are_taken(client: openai.OpenAI, gateway: Running) -> None:
    messages: list[Any] = [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_x", "type": "function", "function": {"name": "tide", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_x", "content": "high"},
    ]
    answer = client.chat.completions.create(model="google/tools", messages=messages)
    assert answer.choices[0].message.content == "The tool said: high"
    assert last_body(gateway)["contents"][1]["parts"][0]["thoughtSignature"] == "skip_thought_signature_validator"


def test_chat_streams(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="google/zh",
            messages=[{"role": "user", "content": "?"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("潮汐之门")
    assert chunks[-1].usage is not None
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


@pytest.mark.parametrize(
    ("fault", "status"), [("status=429", 429), ("status=503", 503), ("status=400", 400), ("fault=json200", 502)]
)
def test_googles_errors_keep_their_meaning(client: openai.OpenAI, fault: str, status: int) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model=f"google/echo:{fault}", input="?")
    assert caught.value.status_code == status


@pytest.mark.parametrize("fault", ["cut", "eof", "error", "failed", "garbage", "badutf8", "reset"])
def test_a_broken_stream_is_never_a_finished_one(gateway: Running, fault: str) -> None:
    body = {
        "model": f"google/lorem:fault={fault},after=3",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
    }
    text = httpx.post(f"{gateway.url}/chat/completions", json=body).text
    assert "[DONE]" not in text
    assert '"error"' in text


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_cut_answers_are_incomplete(client: openai.OpenAI, finish: str) -> None:
    response = client.responses.create(model=f"google/lorem:finish={finish}", input="?")
    assert response.status == "incomplete"


def test_what_google_cannot_have_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="google/echo", messages=[{"role": "user", "content": "?"}], logit_bias={"1": 5}
        )
    assert caught.value.param == "logit_bias"
    answer = client.responses.with_raw_response.create(model="google/echo", input="?", reasoning={"effort": "none"})
    assert answer.headers["tidegate-dropped"] == "reasoning.effort"


def test_an_image_that_cannot_be_fetched_is_told(client: openai.OpenAI) -> None:
    content: Any = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="google/echo", messages=[{"role": "user", "content": content}])
    assert caught.value.param == "messages"
