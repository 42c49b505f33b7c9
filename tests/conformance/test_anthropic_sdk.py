"""The official Anthropic SDK as the client of every kind of provider, and Anthropic's API as the provider of OpenAI's SDK."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai.types.responses import Response

from tests.support.running import Running
from tests.support.strict import check_event

TOML = """
[server]
port = 0
[providers.claude]
kind = "sim"
base_url = "{sim}"
speaks = ["messages"]
[providers.chatty]
kind = "sim"
base_url = "{sim}"
speaks = ["chat"]
[providers.anthropic]
base_url = "{sim}"
credentials = ["sk-ant-canary-0123456789"]
[providers.answers]
kind = "sim"
base_url = "{sim}"
speaks = ["responses"]
[models.backed]
targets = [{ model = "claude/echo?status=529" }]
fallback = ["chatty/echo"]
"""
PROVIDERS = ["claude", "chatty", "answers"]
SCHEMA: Any = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
TOOL: Any = {"name": "tide", "input_schema": SCHEMA}
FUNCTION: Any = {"type": "function", "name": "tide", "parameters": SCHEMA, "strict": False}
CHAT_FUNCTION: Any = {"type": "function", "function": {"name": "tide", "parameters": SCHEMA}}
SAID = "Say it back: tide 🌊 潮汐"
ASKED: Any = {"max_tokens": 1000, "messages": [{"role": "user", "content": SAID}]}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with Running(TOML) as found:
        yield found


@pytest.fixture(scope="module")
def claude(running: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.origin, api_key="unused", max_retries=0, timeout=20) as found:
        yield found


@pytest.fixture(scope="module")
def gpt(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url, api_key="unused", max_retries=0, timeout=20) as found:
        yield found


def last_step(running: Running) -> list[dict[str, Any]]:
    """The assistant's message in what the provider got last, as blocks."""
    content = json.loads(running.sim.requests[-1].body)["messages"][1]["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# -- Anthropic's client, any provider ---------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_text(claude: anthropic.Anthropic, provider: str) -> None:
    whole = claude.messages.create(model=f"{provider}/echo", stream=False, **ASKED)
    assert [block.to_dict() for block in whole.content] == [{"type": "text", "text": SAID}]
    assert whole.stop_reason == "end_turn"
    assert whole.usage.input_tokens > 0
    assert whole.usage.output_tokens > 0
    with claude.messages.stream(model=f"{provider}/echo", **ASKED) as stream:
        assert "".join(stream.text_stream) == SAID
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert final.id.startswith("msg_")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_loop(claude: anthropic.Anthropic, provider: str, stream: bool) -> None:
    asked: Any = {**ASKED, "model": f"{provider}/tools?parallel=2", "tools": [TOOL]}
    if stream:
        with claude.messages.stream(**asked) as events:
            first = events.get_final_message()
    else:
        first = claude.messages.create(**asked)
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["tide", "tide"]
    assert [call.input for call in calls] == [{"place": "sim 0"}, {"place": "sim 1"}]
    results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "high"} for call in calls]
    history: Any = [
        *ASKED["messages"],
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {"role": "user", "content": results},
    ]
    again = claude.messages.create(model=f"{provider}/tools", max_tokens=100, messages=history, tools=[TOOL])
    assert [block.to_dict()["text"] for block in again.content] == ["The tool said: high"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_limits_and_stops(claude: anthropic.Anthropic, provider: str) -> None:
    cut = claude.messages.create(model=f"{provider}/echo", stream=False, **{**ASKED, "max_tokens": 2})
    assert cut.stop_reason == "max_tokens"
    stopped = claude.messages.create(model=f"{provider}/echo", stop_sequences=["tide"], stream=False, **ASKED)
    assert stopped.content[0].to_dict()["text"] == "Say it back: "


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_refusal(claude: anthropic.Anthropic, provider: str) -> None:
    with claude.messages.stream(model=f"{provider}/refusal", **ASKED) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "refusal"
    assert "can't help" in final.content[0].to_dict()["text"]  # type: ignore[operator]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("fault", ["eof", "cut", "error", "garbage"])
def test_a_broken_answer_raises(claude: anthropic.Anthropic, provider: str, fault: str) -> None:
    with (
        pytest.raises(anthropic.APIError),
        claude.messages.stream(model=f"{provider}/lorem?fault={fault}", **ASKED) as stream,
    ):
        stream.get_final_message()


def test_errors_are_the_sdks(claude: anthropic.Anthropic, running: Running) -> None:
    with pytest.raises(anthropic.RateLimitError):
        claude.messages.create(model="claude/echo?status=429", stream=False, **ASKED)
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="nobody/echo", stream=False, **ASKED)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.messages.create(model="claude/echo", stream=False, **{**ASKED, "max_tokens": -1})
    answer = httpx.post(f"{running.url}/messages", json={"model": "claude/echo"})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("provider", ["chatty", "answers"])
def test_thoughts_of_other_providers_do_not_disturb_anthropics(
    claude: anthropic.Anthropic, running: Running, provider: str
) -> None:
    first = claude.messages.create(model=f"{provider}/reasoning", stream=False, **ASKED)
    history: Any = [*ASKED["messages"], {"role": "assistant", "content": [block.to_dict() for block in first.content]}]
    history.append({"role": "user", "content": "?"})
    for model in (f"{provider}/echo", "claude/echo"):
        again = claude.messages.create(model=model, max_tokens=100, messages=history)
        assert again.stop_reason == "end_turn"
    assert [block["type"] for block in last_step(running)] == ["text"]


def test_an_overloaded_provider_is_replaced_by_one_of_another_dialect(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="backed", **ASKED) as stream:
        assert "".join(stream.text_stream) == SAID


def test_the_providers_own_header_goes_on_and_others_do_not(claude: anthropic.Anthropic, running: Running) -> None:
    headers = {"anthropic-beta": "a-2026,b-2026", "x-secret": "canary"}
    for model, passed in (("anthropic/echo", "a-2026,b-2026"), ("chatty/echo", None), ("claude/echo", "a-2026,b-2026")):
        claude.messages.create(model=model, extra_headers=headers, extra_query={"beta": "true"}, stream=False, **ASKED)
        sent = running.sim.requests[-1].headers
        assert sent.get("anthropic-beta") == passed
        assert "x-secret" not in sent
        assert sent.get("x-api-key") == ("sk-ant-canary-0123456789" if model.startswith("anthropic") else None)


# -- OpenAI's client, Anthropic's API ---------------------------------------------------------------------------


def responses(gpt: openai.OpenAI, **members: Any) -> Any:
    """The final response of a stream, whose events are all of the SDK's types."""
    events = [event.to_dict() for event in gpt.responses.create(stream=True, store=False, **members)]
    for event in events:
        check_event(event)
    return Response.model_validate(events[-1]["response"])


def whole_response(gpt: openai.OpenAI, **members: Any) -> Any:
    return gpt.responses.create(stream=False, store=False, **members)


def test_a_response_from_a_message(gpt: openai.OpenAI) -> None:
    streamed = responses(gpt, model="claude/echo", input=SAID)
    whole = whole_response(gpt, model="claude/echo", input=SAID)
    assert streamed.output_text == whole.output_text == SAID
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0


@pytest.mark.parametrize("model", ["claude/reasoning", "claude/reasoning?redacted=1"])
def test_thoughts_come_back_to_the_provider_that_signed_them(gpt: openai.OpenAI, running: Running, model: str) -> None:
    """The simulator refuses a signature that is not its own, so a second turn proves the way there and back."""
    for first in (
        responses(gpt, model=model, input=SAID),
        whole_response(gpt, model=model, input=SAID),
    ):
        thought = first.output[0]
        assert thought.type == "reasoning"
        assert thought.encrypted_content
        history = [{"role": "user", "content": SAID}, *(item.to_dict() for item in first.output)]
        again = whole_response(gpt, model=model, input=[*history, {"role": "user", "content": "?"}])
        assert again.status == "completed"
        assert [block["type"].endswith("thinking") for block in last_step(running)] == [True, False]
        tampered = json.loads(json.dumps(history).replace(thought.encrypted_content, "tgr1_forged"))
        other = whole_response(gpt, model=model, input=[*tampered, {"role": "user", "content": "?"}])
        assert other.status == "completed"
        assert [block["type"] for block in last_step(running)] == ["text"]


@pytest.mark.parametrize("tool", [FUNCTION, {"type": "custom", "name": "tide"}])
def test_calls_and_their_results(gpt: openai.OpenAI, tool: Any) -> None:
    first = responses(gpt, model="claude/tools?parallel=2", input=SAID, tools=[tool])
    calls = [item for item in first.output if item.type.endswith("_call")]
    assert len(calls) == 2
    if tool["type"] == "custom":
        assert [call.input for call in calls] == ["sim 0", "sim 1"]
    else:
        assert [json.loads(call.arguments) for call in calls] == [{"place": "sim 0"}, {"place": "sim 1"}]
    kind = "custom_tool_call_output" if tool["type"] == "custom" else "function_call_output"
    results: Any = [{"type": kind, "call_id": call.call_id, "output": "high"} for call in calls]
    history: Any = [{"role": "user", "content": SAID}, *(call.to_dict() for call in calls), *results]
    again = whole_response(gpt, model="claude/tools", input=history, tools=[tool])
    assert again.output_text == "The tool said: high"


def test_a_chat_with_anthropics_api(gpt: openai.OpenAI) -> None:
    asked: Any = {"model": "claude/tools", "tools": [CHAT_FUNCTION]}
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAID}]
    with gpt.chat.completions.stream(messages=messages, **asked) as stream:
        first = stream.get_final_completion().choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.tool_calls
    call = first.message.tool_calls[0]
    messages += [
        {"role": "assistant", "tool_calls": [{**call.to_dict(), "function": {"name": "tide", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": call.id, "content": "high"},
    ]
    again = gpt.chat.completions.create(messages=messages, **asked)
    assert again.choices[0].message.content == "The tool said: high"


def test_what_cannot_be_carried_is_a_400_that_names_it(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as found:
        gpt.chat.completions.create(model="claude/echo", messages=ASKED["messages"], seed=1)
    assert found.value.param == "seed"


def test_a_cut_answer_is_incomplete_and_a_broken_one_failed(gpt: openai.OpenAI) -> None:
    assert whole_response(gpt, model="claude/lorem", input=SAID, max_output_tokens=3).status == "incomplete"
    assert responses(gpt, model="claude/lorem", input=SAID, max_output_tokens=3).status == "incomplete"
    with pytest.raises(openai.APIError, match="message_stop"):
        responses(gpt, model="claude/lorem?fault=eof", input=SAID)
