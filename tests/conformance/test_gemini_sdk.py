"""Google's official client at the gateway: at a provider of its own API, and at those of others."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types

from tests.support.running import Running

TOML = """
[server]
port = 0
[providers.google]
kind = "gemini"
base_url = "{sim}"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
[providers.sim]
base_url = "{sim}"
[providers.chat]
kind = "sim"
base_url = "{sim}"
speaks = ["chat"]
[models.fast]
target = "google/echo"
"""
PROVIDERS = ["google", "sim", "chat"]
TOOL = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name=name, parameters_json_schema={"type": "object", "properties": {"harbour": {"type": "string"}}}
        )
        for name in ("tide", "wind")
    ]
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module", params=["v1", "v1beta"])
def client(gateway: Running, request: pytest.FixtureRequest) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=gateway.origin, api_version=request.param)
    with genai.Client(api_key="k", http_options=options) as made:
        yield made


def last(chunks: list[types.GenerateContentResponse]) -> types.Candidate:
    assert chunks[-1].candidates
    return chunks[-1].candidates[0]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_text_streamed_and_whole(client: genai.Client, provider: str) -> None:
    chunks = list(client.models.generate_content_stream(model=f"{provider}/echo", contents="潮汐 🌊"))
    assert "".join(chunk.text or "" for chunk in chunks) == "潮汐 🌊"
    assert last(chunks).finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata.total_token_count
    whole = client.models.generate_content(model=f"{provider}/echo", contents="潮汐 🌊")
    assert whole.text == "潮汐 🌊"
    assert whole.response_id


def test_an_alias_leads_to_its_target(client: genai.Client) -> None:
    assert client.models.generate_content(model="fast", contents="a").text == "a"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_loop_with_tools(client: genai.Client, provider: str, stream: bool) -> None:
    config = types.GenerateContentConfig(
        tools=[TOOL], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    chat = client.chats.create(model=f"{provider}/tools:parallel=2", config=config)
    answers = list(chat.send_message_stream("?")) if stream else [chat.send_message("?")]
    calls = [call for answer in answers for call in answer.function_calls or []]
    assert [(call.name, call.args) for call in calls] == [
        ("tide", {"harbour": "sim 0"}),
        ("wind", {"harbour": "sim 1"}),
    ]
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": "high"}))
        for call in calls
    ]
    assert chat.send_message(results).text == "The tool said: high"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_thoughts(client: genai.Client, provider: str) -> None:
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    chunks = list(client.models.generate_content_stream(model=f"{provider}/reasoning", contents="?", config=config))
    parts = [part for chunk in chunks for part in chunk.parts or []]
    assert "".join(part.text or "" for part in parts if part.thought).startswith("The question is simple.")
    assert "".join(part.text or "" for part in parts if not part.thought) == "The answer is 42."
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata.thoughts_token_count


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_limit_and_an_image(client: genai.Client, provider: str) -> None:
    config = types.GenerateContentConfig(max_output_tokens=16)
    contents: Any = [types.Part.from_bytes(data=b"\xff\xfe\xfb", mime_type="image/png"), "look"]
    chunks = list(
        client.models.generate_content_stream(model=f"{provider}/lorem:chunks=40", contents=contents, config=config)
    )
    assert last(chunks).finish_reason == types.FinishReason.MAX_TOKENS


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("fault", ["cut", "error", "eof", "garbage"])
def test_a_broken_stream_raises(client: genai.Client, provider: str, fault: str) -> None:
    said: list[str | None] = []

    def listen() -> None:
        for chunk in client.models.generate_content_stream(
            model=f"{provider}/lorem:fault={fault},after=8", contents="a"
        ):
            said.append(chunk.text)

    with pytest.raises(errors.APIError):
        listen()
    assert said


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "name"), [(429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE"), (400, "INVALID_ARGUMENT")]
)
def test_errors_have_googles_form(client: genai.Client, provider: str, status: int, name: str) -> None:
    with pytest.raises(errors.APIError) as caught:
        client.models.generate_content(model=f"{provider}/echo:status={status}", contents="a")
    assert (caught.value.code, caught.value.status) == (status, name)


def test_unknown_models_and_bad_members(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="nobody/nothing", contents="a")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(
            model="chat/echo", contents="a", config=types.GenerateContentConfig(temperature=9)
        )
    assert "generationConfig.temperature" in str(caught.value.message)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_alt_a_stream_is_one_json_array(gateway: Running, provider: str) -> None:
    answer = httpx.post(
        f"{gateway.origin}/v1beta/models/{provider}/echo:streamGenerateContent",
        json={"contents": [{"parts": [{"text": "潮汐 表"}]}]},
    )
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    chunks = answer.json()
    assert isinstance(chunks, list)
    text = "".join(part.get("text", "") for one in chunks for part in one["candidates"][0]["content"]["parts"])
    assert text == "潮汐 表"
