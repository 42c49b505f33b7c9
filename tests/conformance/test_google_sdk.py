"""Google's own SDK at every kind of provider."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types

from tests.support.providers import FOUR, PATHS, PROVIDERS, asked_path
from tests.support.running import Running

TIDE = types.FunctionDeclaration(
    name="tide",
    description="The tide in a harbour.",
    parameters_json_schema={
        "type": "object",
        "properties": {"harbour": {"type": "string"}},
        "required": ["harbour"],
    },
)
TOOLS: Any = [types.Tool(function_declarations=[TIDE])]
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(FOUR) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[genai.Client]:
    made = genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=gateway.origin))
    yield made
    made.close()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_text(client: genai.Client, gateway: Running, provider: str) -> None:
    config = types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=100)
    whole = client.models.generate_content(model=f"{provider}/echo", contents="tide 🌊 潮汐", config=config)
    assert whole.text == "tide 🌊 潮汐"
    assert whole.candidates is not None
    assert whole.candidates[0].finish_reason == types.FinishReason.STOP
    assert whole.usage_metadata is not None
    assert (whole.usage_metadata.prompt_token_count or 0) > 0
    assert PATHS[provider] in asked_path(gateway.sim.requests[-1])
    assert b"Be brief." in gateway.sim.requests[-1].body


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream(client: genai.Client, provider: str) -> None:
    chunks = list(client.models.generate_content_stream(model=f"{provider}/zh", contents="?"))
    assert "".join(chunk.text or "" for chunk in chunks).startswith("潮汐之门")
    assert len(chunks) > 3
    assert chunks[-1].candidates is not None
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata is not None
    assert (chunks[-1].usage_metadata.candidates_token_count or 0) > 0


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_read_asynchronously(gateway: Running, provider: str) -> None:
    async def read() -> str:
        options = types.HttpOptions(base_url=gateway.origin)
        async with genai.Client(api_key="unused", http_options=options).aio as client:
            stream = await client.models.generate_content_stream(model=f"{provider}/echo", contents="潮汐")
            return "".join([chunk.text or "" async for chunk in stream])

    assert asyncio.run(read()) == "潮汐"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_loop_by_hand(client: genai.Client, provider: str, stream: bool) -> None:
    config = types.GenerateContentConfig(tools=TOOLS, automatic_function_calling=BY_HAND)
    model = f"{provider}/tools:parallel=2"
    contents: list[Any] = [types.Content(role="user", parts=[types.Part(text="How is it?")])]
    if stream:
        chunks = list(client.models.generate_content_stream(model=model, contents=contents, config=config))
    else:
        chunks = [client.models.generate_content(model=model, contents=contents, config=config)]
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or ()
        for part in (candidate.content.parts if candidate.content and candidate.content.parts else ())
    ]
    calls = [part.function_call for part in parts if part.function_call is not None]
    assert [(call.name, call.args) for call in calls] == [
        ("tide", {"harbour": "sim 0"}),
        ("tide", {"harbour": "sim 1"}),
    ]
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": "high"}))
        for call in calls
    ]
    contents += [types.Content(role="model", parts=parts), types.Content(role="user", parts=results)]
    again = client.models.generate_content(model=model, contents=contents, config=config)
    assert again.text is not None
    assert again.text.startswith("The tool said:")
    assert "high" in again.text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_loop_that_the_sdk_runs(client: genai.Client, provider: str) -> None:
    asked: list[str] = []

    def tide(harbour: str) -> str:
        """The tide in a harbour."""
        asked.append(harbour)
        return "high 🌊"

    config = types.GenerateContentConfig(tools=[tide])
    answer = client.models.generate_content(model=f"{provider}/tools", contents="How is it?", config=config)
    assert asked == ["sim 0"]
    assert answer.text is not None
    assert "high 🌊" in answer.text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_chat(client: genai.Client, gateway: Running, provider: str) -> None:
    chat = client.chats.create(model=f"{provider}/echo")
    assert chat.send_message("one").text == "one"
    assert "".join(chunk.text or "" for chunk in chat.send_message_stream("two")) == "two"
    assert chat.send_message("three").text == "three"
    assert all(content.parts for content in chat.get_history())
    sent = gateway.sim.requests[-1].body
    assert all(word in sent for word in (b"one", b"two", b"three"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_thoughts_and_what_is_asked_after_them(
    client: genai.Client, gateway: Running, provider: str, stream: bool
) -> None:
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2048)
    )
    chat = client.chats.create(model=f"{provider}/reasoning", config=config)
    if stream:
        parts = [
            part
            for chunk in chat.send_message_stream("?")
            for candidate in chunk.candidates or ()
            for part in (candidate.content.parts if candidate.content and candidate.content.parts else ())
        ]
    else:
        answer = chat.send_message("?")
        assert answer.candidates is not None
        assert answer.candidates[0].content is not None
        parts = answer.candidates[0].content.parts or []
    assert "".join(part.text or "" for part in parts if part.thought).startswith("The question")
    assert "".join(part.text or "" for part in parts if not part.thought) == "The answer is 42."
    for other in PROVIDERS:
        more = client.chats.create(model=f"{other}/echo", history=[*chat.get_history()])
        assert more.send_message("And now?").text == "And now?"
        sent = gateway.sim.requests[-1].body
        assert b"tgr1_" not in sent
        assert b"dGdyMV" not in sent, "an envelope of ours reached a provider"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_json_by_schema(client: genai.Client, gateway: Running, provider: str) -> None:
    schema = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=schema)
    model = f"{provider}/lorem:text=%7B%22place%22%3A%22Bo%22%7D"
    assert client.models.generate_content(model=model, contents="?", config=config).parsed == {"place": "Bo"}
    assert b'"place"' in gateway.sim.requests[-1].body


@pytest.mark.parametrize("provider", PROVIDERS)
def test_limits(client: genai.Client, provider: str) -> None:
    config = types.GenerateContentConfig(max_output_tokens=2)
    answer = client.models.generate_content(model=f"{provider}/lorem", contents="?", config=config)
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS


@pytest.mark.parametrize(
    ("status", "told"), [(429, "RESOURCE_EXHAUSTED"), (400, "INVALID_ARGUMENT"), (503, "UNAVAILABLE")]
)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_errors(client: genai.Client, provider: str, status: int, told: str) -> None:
    with pytest.raises(errors.APIError) as caught:
        client.models.generate_content(model=f"{provider}/echo:status={status}", contents="?")
    assert (caught.value.code, caught.value.status) == (status, told)


@pytest.mark.parametrize("fault", ["cut", "error", "garbage"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_broken_stream_raises(client: genai.Client, provider: str, fault: str) -> None:
    seen: list[types.GenerateContentResponse] = []
    chunks = client.models.generate_content_stream(model=f"{provider}/lorem:fault={fault}", contents="?")
    with pytest.raises((errors.APIError, errors.UnknownApiResponseError)):
        seen.extend(chunks)
    assert not any(one.candidates and one.candidates[0].finish_reason for one in seen)


# -- counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_count(client: genai.Client, gateway: Running, provider: str) -> None:
    calls = len(gateway.sim.requests)
    counted = client.models.count_tokens(model=f"{provider}/echo", contents="tide " * 1000)
    assert 1200 < (counted.total_tokens or 0) < 1400
    if provider == "gemini":
        assert gateway.sim.requests[-1].path.endswith("/models/echo:countTokens")
    else:
        assert len(gateway.sim.requests) == calls, "a provider of another API was asked"


def count(gateway: Running, provider: str, body: dict[str, Any]) -> httpx.Response:
    path = f"/v1beta/models/{provider}/echo:countTokens"
    return httpx.post(gateway.origin + path, json=body, timeout=20, trust_env=False)


def test_a_provider_of_google_counts_a_whole_request_by_its_own_name_of_the_model(gateway: Running) -> None:
    whole = {
        "model": "models/gemini/echo",
        "contents": [{"parts": [{"text": "tide " * 100}]}],
        "system_instruction": {"parts": [{"text": "Be brief."}]},
    }
    answer = count(gateway, "gemini", {"generate_content_request": whole})
    assert answer.status_code == 200, answer.text
    assert answer.json()["totalTokens"] > 100
    assert answer.json()["promptTokensDetails"], "the provider's own answer"
    assert "tidegate-usage" not in answer.headers
    assert gateway.sim.requests[-1].json == {"generate_content_request": {**whole, "model": "models/echo"}}
    entry = gateway.usage(answer.headers["x-request-id"])
    assert (entry["endpoint"], entry["attempts"], entry["input_tokens"]) == ("gemini:countTokens", 1, 0)


def test_an_estimate_counts_files_by_what_they_stand_for(gateway: Running) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "A" * 400_000}}
    pdf = {"inline_data": {"mime_type": "application/pdf", "data": "A" * 400_000}}
    body = {
        "contents": [{"parts": [image, pdf, {"text": "潮汐"}]}],
        "systemInstruction": {"parts": [{"text": "x" * 4000}]},
    }
    answer = count(gateway, "compatible", body)
    assert answer.headers["tidegate-usage"] == "estimated"
    assert 258 + 1000 + 1000 < answer.json()["totalTokens"] < 2400
    whole = count(gateway, "compatible", {"generateContentRequest": {"model": "models/x", **body}})
    assert whole.json() == answer.json()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": 3}, "contents"),
        ({"contents": [{"parts": []}], "generate_content_request": {"contents": []}}, "generate_content_request"),
    ],
)
@pytest.mark.parametrize("provider", ["gemini", "compatible"])
def test_a_count_of_nothing_is_an_error(gateway: Running, provider: str, body: dict[str, Any], told: str) -> None:
    answer = count(gateway, provider, body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert f"'{told}'" in answer.json()["error"]["message"]
