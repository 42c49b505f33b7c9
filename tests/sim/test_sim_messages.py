"""The sim as a provider of Anthropic's Messages API, with the official SDK as its client and judge."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from tests.dialects.messages.streams import WITH_PATCH, decoded
from tidegate.sim import FAULTS, SimServer
from tidegate.wire.events import Failed, Finished

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "weather", "input_schema": SCHEMA}
MODELS = [
    "demo?gap=0",
    "echo",
    "lorem",
    "zh",
    "reasoning",
    "reasoning?redacted=1",
    "tools?parallel=2",
    "refusal",
    "bench",
]
ASKED: Any = {"max_tokens": 100_000, "messages": [{"role": "user", "content": "潮汐?"}], "tools": [TOOL]}


def run(scenario: Callable[[anthropic.AsyncAnthropic], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), SimServer() as sim:
            base_url = sim.base_url.removesuffix("/v1")
            async with anthropic.AsyncAnthropic(base_url=base_url, api_key="none", max_retries=0) as client:
                await scenario(client)

    asyncio.run(main())


def comparable(message: Message) -> Any:
    found = message.to_dict()
    found.pop("id")
    for block in found["content"]:  # type: ignore[attr-defined]
        block.pop("parsed_output", None)
        block.pop("id", None)
    usage = found["usage"]
    assert isinstance(usage, dict)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_every_event_is_one_of_the_sdks_types(tools: Any, model: str) -> None:
    seen = tools.once("messages", model, stream=True, tools=[TOOL])
    for event in seen.data:
        if event["type"] != "ping":
            EVENT.validate_python(event, strict=True)
    assert seen.types[0] == "message_start"
    assert seen.types[-1] == "message_stop"
    assert isinstance(decoded([seen.body])[-1], Finished)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_is_the_same_message_as_the_body(model: str) -> None:
    async def scenario(client: anthropic.AsyncAnthropic) -> None:
        whole = await client.messages.create(model=model, stream=False, **{**ASKED, "max_tokens": 20_000})
        async with client.messages.stream(model=model, **{**ASKED, "max_tokens": 20_000}) as stream:
            assert comparable(await stream.get_final_message()) == comparable(whole)

    run(scenario)


def test_an_agents_loop() -> None:
    async def scenario(client: anthropic.AsyncAnthropic) -> None:
        first = await client.messages.create(model="tools?parallel=2", stream=False, **{**ASKED, "max_tokens": 1000})
        assert first.stop_reason == "tool_use"
        calls = [block for block in first.content if block.type == "tool_use"]
        assert len(calls) == 2
        results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
        history: Any = [*ASKED["messages"], {"role": "assistant", "content": first.content}]
        again = await client.messages.create(
            model="tools",
            max_tokens=1000,
            messages=[*history, {"role": "user", "content": results}],
            tools=[TOOL],
        )
        assert again.content[0].to_dict()["text"] == "The tool said: sunny"

    run(scenario)


@pytest.mark.parametrize("model", ["reasoning", "reasoning?redacted=1"])
def test_genuine_thoughts_come_back_and_others_are_refused(model: str) -> None:
    async def scenario(client: anthropic.AsyncAnthropic) -> None:
        first = await client.messages.create(model=model, stream=False, **{**ASKED, "max_tokens": 1000})
        history: Any = [*ASKED["messages"], {"role": "assistant", "content": first.content}]
        more: Any = [*history, {"role": "user", "content": "sure?"}]
        await client.messages.create(model=model, max_tokens=100, messages=more)
        forged: Any = first.content[0].to_dict()
        forged["signature" if forged["type"] == "thinking" else "data"] = "Zm9yZ2Vk"
        more[1] = {"role": "assistant", "content": [forged, *first.content[1:]]}
        with pytest.raises(anthropic.BadRequestError, match=r"in `(redacted_)?thinking` block"):
            await client.messages.create(model=model, max_tokens=100, messages=more)

    run(scenario)


USER: Any = {"role": "user", "content": "?"}
CALL: Any = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}
RESULT: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]}
ENABLED: Any = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": [USER, CALL]}, "without `tool_result` blocks immediately after: a"),
        ({"messages": [USER, CALL, USER]}, "without `tool_result` blocks immediately after: a"),
        ({"messages": [RESULT]}, "unexpected `tool_use_id`"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "non-whitespace"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"stop_sequences": ["\n"]}, "non-whitespace"),
        ({"thinking": {"type": "adaptive"}, "temperature": 0.5}, "temperature"),
        ({"thinking": {"type": "adaptive"}, "tool_choice": {"type": "any"}}, "forces tool use"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "1024"),
        ({"thinking": ENABLED, "max_tokens": 1000}, "must be greater than"),
        ({"thinking": ENABLED, "messages": [USER, CALL, RESULT]}, "Expected `thinking`"),
    ],
)
def test_what_the_api_refuses_is_refused_in_its_words(tools: Any, members: dict[str, Any], said: str) -> None:
    seen = tools.once("messages", "echo", **members)
    assert seen.status == 400
    (error,) = [_json(seen.body)]
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert said in error["error"]["message"]


def _json(body: bytes) -> Any:
    import json

    return json.loads(body)


def test_limits_stops_and_the_cache_are_reported(tools: Any) -> None:
    cut = _json(tools.once("messages", "echo", max_tokens=1).body)
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 1)
    stopped = _json(tools.once("messages", "echo", stop_sequences=["tide"]).body)
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "tide")
    marked = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    usage = _json(tools.once("messages", "echo", system=marked).body)["usage"]
    assert usage["cache_read_input_tokens"] > usage["cache_creation_input_tokens"] > 0
    assert usage["input_tokens"] > 0


def test_one_call_at_a_time(tools: Any) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    found = _json(tools.once("messages", "tools?parallel=3", tools=[TOOL], tool_choice=choice).body)
    assert [block["type"] for block in found["content"]] == ["tool_use"]


def test_tokens_are_counted() -> None:
    async def scenario(client: anthropic.AsyncAnthropic) -> None:
        counted = await client.messages.count_tokens(model="echo", messages=[{"role": "user", "content": "x" * 40}])
        assert counted.input_tokens == 10
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.count_tokens(model="echo", messages=[])

    run(scenario)


@pytest.mark.parametrize(
    ("status", "class_"),
    [(401, anthropic.AuthenticationError), (429, anthropic.RateLimitError), (529, anthropic.InternalServerError)],
)
def test_errors_are_the_sdks(status: int, class_: type[Exception]) -> None:
    async def scenario(client: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(class_) as found:
            await client.messages.create(model=f"echo?status={status}", max_tokens=5, messages=ASKED["messages"])
        assert getattr(found.value, "status_code", None) == status

    run(scenario)


WHOLE = ["unknown", "keepalive", "seq_jump", "seq_stuck", "headless", "dup_role", "dup_finish", "extra_after_end"]
CUT = ["eof", "cut", "close", "error", "failed", "garbage", "badutf8", "json200", "html200", "empty200"]


@pytest.mark.parametrize("fault", WHOLE)
def test_oddities_do_not_cost_the_answer(tools: Any, fault: str) -> None:
    assert fault in FAULTS
    seen = tools.once("messages", f"lorem?fault={fault}", stream=True)
    assert isinstance(decoded([seen.body], WITH_PATCH)[-1], Finished)


@pytest.mark.parametrize("fault", CUT)
def test_a_broken_answer_is_never_a_whole_one(tools: Any, fault: str) -> None:
    assert fault in FAULTS
    seen = tools.once("messages", f"lorem?fault={fault}", stream=True)
    assert isinstance(decoded([seen.body], WITH_PATCH)[-1], Failed)
