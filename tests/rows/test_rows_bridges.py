"""Rows whose promise crosses from one dialect to another: images, penalties, stop, effort, and Responses-only models."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.running import Running

TOML = """
[server]
port = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-upstream-0123456789abcdef0123456789"]
[providers.lab]                      # chat only
kind = "openai-compatible"
base_url = "{sim}"
[providers.only]                     # Responses only
kind = "sim"
base_url = "{sim}"
speaks = ["responses"]
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789abcdef"]
"""
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with Running(TOML) as gateway, Api(gateway) as client:
        assert client.get("/v1/models").status == 200
        yield client


@pytest.mark.row("S23")
@pytest.mark.parametrize("url", ["https://example.com/tide.png", PIXEL])
@pytest.mark.parametrize("stream", [False, True])
def test_an_image_goes_along_by_url_and_as_data_also_across_dialects(api: Api, url: str, stream: bool) -> None:
    asked = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": url}],
        }
    ]
    for model in ("openai/echo", "lab/echo", "claude/echo"):
        reply = api.ask("responses", model, input=asked, stream=stream)
        assert (reply.status, reply.text) == (200, "What?")
        sent: Any = api.sent
        match model.partition("/")[0]:
            case "openai":
                assert sent["input"][0]["content"][1]["image_url"] == url
            case "lab":
                assert sent["messages"][0]["content"][1]["image_url"]["url"] == url
            case _:
                source = sent["messages"][0]["content"][1]["source"]
                data = {"type": "base64", "media_type": "image/png", "data": PIXEL.partition(",")[2]}
                assert source == (data if url == PIXEL else {"type": "url", "url": url})


@pytest.mark.row("S67")
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_client_reaches_a_model_that_only_responses_has(api: Api, stream: bool) -> None:
    reply = api.ask("chat", "only/echo", stream=stream)
    assert (reply.status, reply.text) == (200, "Hello there, you")
    assert api.upstream.path == "/v1/responses"
    if stream:
        assert reply.content.endswith(b"data: [DONE]\n\n")
        assert reply.events[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        assert reply.json["object"] == "chat.completion"


@pytest.mark.row("S67")
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_client_calls_tools_of_a_model_that_only_responses_has(api: Api, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}
    reply = api.ask("chat", "only/tools", tools=[tool], stream=stream)
    assert reply.status == 200
    assert [one["name"] for one in api.sent["tools"]] == ["tide"]
    said = (
        [event["choices"][0]["delta"] for event in reply.events if event["choices"]]
        if stream
        else [reply.json["choices"][0]["message"]]
    )
    called = [
        call["function"]["name"] for one in said for call in one.get("tool_calls") or () if "name" in call["function"]
    ]
    assert called == ["tide"]


@pytest.mark.row("S67")
@pytest.mark.parametrize("model", ["o3-pro", "codex-mini-latest"])
def test_openais_responses_only_models_are_known(api: Api, model: str) -> None:
    api.ask("chat", f"openai/{model}")  # the simulator does not have it, and says so
    assert (api.upstream.path, api.sent["model"]) == ("/v1/responses", model)
    api.ask("chat", "openai/echo")
    assert api.upstream.path == "/v1/chat/completions"


@pytest.mark.row("S28", "S29", "S32")
def test_penalties_and_n_reach_a_chat_provider_from_a_responses_client(api: Api) -> None:
    reply = api.ask("responses", "lab/echo", frequency_penalty=0.5, presence_penalty=-0.5, n=2)
    assert reply.status == 200
    assert (api.sent["frequency_penalty"], api.sent["presence_penalty"], api.sent["n"]) == (0.5, -0.5, 2)
    assert (reply.json["frequency_penalty"], reply.json["presence_penalty"]) == (0.5, -0.5)
    assert [item["content"][0]["text"] for item in reply.json["output"]] == ["Hello there, you"] * 2


@pytest.mark.row("S31")
@pytest.mark.parametrize("stream", [False, True])
def test_stop_is_made_up_for_where_the_provider_lacks_it(api: Api, stream: bool) -> None:
    for endpoint in ("responses", "chat"):
        reply = api.ask(
            endpoint, "only/echo" if endpoint == "chat" else "openai/echo", say="one END two", stop="END", stream=stream
        )
        assert (reply.status, reply.text) == (200, "one ")
        assert "stop" not in api.sent


@pytest.mark.row("S35")
def test_the_effort_reaches_providers_of_other_dialects(api: Api) -> None:
    assert api.ask("responses", "lab/echo", reasoning={"effort": "low"}).status == 200
    assert api.sent["reasoning_effort"] == "low"
    assert api.ask("responses", "claude/echo:message=claude-opus-4-8", reasoning={"effort": "low"}).status == 200
    assert api.sent["output_config"]["effort"] == "low"
