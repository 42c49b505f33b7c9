"""The official OpenAI SDK as the client, synchronous and not, and its types as the judge of everything it is sent."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import openai
import pydantic
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tests.support.api import ENDPOINTS, Api
from tests.support.running import Running
from tests.support.strict import check, check_event

T = TypeVar("T")

SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "hour": {"type": "integer"}},
    "required": ["place", "hour"],
    "additionalProperties": False,
}
FUNCTION: Any = {"type": "function", "name": "tide", "description": "d", "parameters": SCHEMA, "strict": True}
CHAT_FUNCTION: Any = {"type": "function", "function": {"name": "tide", "parameters": SCHEMA, "strict": True}}
WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}

RESPONSES: dict[str, dict[str, Any]] = {
    "demo": {"model": "sim/demo?gap=0"},
    "echo": {"model": "sim/echo"},
    "reasoning": {"model": "sim/reasoning"},
    "raw reasoning": {"model": "sim/reasoning?raw=1"},
    "one tool": {"model": "sim/tools", "tools": [FUNCTION]},
    "parallel tools": {"model": "sim/tools?parallel=4", "tools": [FUNCTION, WEATHER]},
    "custom tool": {"model": "sim/tools", "tools": [{"type": "custom", "name": "write"}]},
    "refusal": {"model": "sim/refusal"},
    "zh": {"model": "sim/zh?split=1"},
    "n": {"model": "sim/echo", "extra_body": {"n": 3}},
    "incomplete": {"model": "sim/lorem", "max_output_tokens": 3},
    "filtered": {"model": "sim/lorem?finish=content_filter"},
    "all parameters": {
        "model": "sim/echo",
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "metadata": {"a": "b"},
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "tool_choice": "auto",
        "tools": [FUNCTION],
        "user": "u",
        "truncation": "auto",
        "store": False,
        "include": ["reasoning.encrypted_content"],
    },
}
CHATS: dict[str, dict[str, Any]] = {
    "demo": {"model": "sim/demo?gap=0"},
    "echo": {"model": "sim/echo"},
    "reasoning": {"model": "sim/reasoning"},
    "one tool": {"model": "sim/tools", "tools": [CHAT_FUNCTION]},
    "parallel tools": {"model": "sim/tools?parallel=4", "tools": [CHAT_FUNCTION]},
    "refusal": {"model": "sim/refusal"},
    "zh": {"model": "sim/zh?split=1"},
    "n": {"model": "sim/echo", "n": 3},
    "incomplete": {"model": "sim/lorem", "max_tokens": 3},
    "logprobs": {"model": "sim/echo", "logprobs": True, "top_logprobs": 2},
    "usage": {"model": "sim/echo"},
}
SAID = "Hello there, you"
MESSAGES: Any = [{"role": "user", "content": SAID}]

STATUS = {"incomplete": "incomplete", "filtered": "incomplete"}


def run(gateway: Running, use: Callable[[openai.AsyncOpenAI], Awaitable[T]]) -> T:
    """`use` with an asynchronous client."""

    async def main() -> T:
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as client:
            return await use(client)

    return asyncio.run(main())


# -- responses ------------------------------------------------------------------------------------------------------


@pytest.mark.row("S1", "S43", "S45", "S48", "S50")
@pytest.mark.parametrize("case", RESPONSES)
def test_responses_create(client: openai.OpenAI, gateway: Running, case: str) -> None:
    response = client.responses.create(input=SAID, **RESPONSES[case])
    again = run(gateway, lambda other: other.responses.create(input=SAID, **RESPONSES[case]))
    for one in (response, again):
        check(Response, one)
        assert one.status == STATUS.get(case, "completed")
        assert one.object == "response"
    assert response.output_text == again.output_text
    check_answer(case, response)


@pytest.mark.row("S60", "S61", "S62")
@pytest.mark.parametrize("case", RESPONSES)
def test_responses_create_streaming_every_event_is_typed(client: openai.OpenAI, gateway: Running, case: str) -> None:
    events = list(client.responses.create(input=SAID, stream=True, **RESPONSES[case]))

    async def use(other: openai.AsyncOpenAI) -> list[Any]:
        return [event async for event in await other.responses.create(input=SAID, stream=True, **RESPONSES[case])]

    for seen in (events, run(gateway, use)):
        for event in seen:
            check_event(event)
        assert seen[0].type == "response.created"
        assert seen[-1].type == f"response.{STATUS.get(case, 'completed')}"
        check_answer(case, seen[-1].response)


@pytest.mark.row("S60", "S61", "S62")
@pytest.mark.parametrize("case", RESPONSES)
def test_the_accumulator_of_the_sdk_agrees_with_the_end(client: openai.OpenAI, gateway: Running, case: str) -> None:
    with client.responses.stream(input=SAID, **RESPONSES[case]) as stream:
        events = list(stream)
        final: Any = stream.get_final_response() if STATUS.get(case) is None else events[-1].response  # type: ignore[union-attr]
    check_answer(case, final)
    shown = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert shown == "".join(
        part.text
        for item in final.output
        if item.type == "message"
        for part in item.content
        if part.type == "output_text"
    )

    async def use(other: openai.AsyncOpenAI) -> Any:
        async with other.responses.stream(input=SAID, **RESPONSES[case]) as stream:
            return [event async for event in stream]

    check_answer(case, run(gateway, use)[-1].response)


def check_answer(case: str, response: Any) -> None:
    kinds = [item.type for item in response.output]
    if case == "echo":
        assert response.output_text == SAID
    elif case in ("reasoning", "raw reasoning"):
        assert kinds == ["reasoning", "message"]
        texts = response.output[0].summary if case == "reasoning" else response.output[0].content
        assert texts[0].text.startswith("The question is simple")
        assert response.usage.output_tokens_details.reasoning_tokens > 0
    elif case == "one tool":
        assert kinds == ["function_call"]
        assert response.output[0].name == "tide"
    elif case == "parallel tools":
        assert [item.name for item in response.output] == ["tide", "weather", "tide", "weather"]
        assert len({item.call_id for item in response.output}) == 4
    elif case == "custom tool":
        assert [item.input for item in response.output] == ["input 0 for write"]
    elif case == "refusal":
        assert response.output[0].content[0].type == "refusal"
        assert response.output_text == ""
    elif case == "zh":
        assert response.output_text.startswith("潮汐之门")
        assert "👩‍👩‍👧‍👦 𠮷" in response.output_text
    elif case == "n":
        assert [item.content[0].text for item in response.output] == [SAID] * 3
    elif case == "incomplete":
        assert response.incomplete_details.reason == "max_output_tokens"
    elif case == "filtered":
        assert response.incomplete_details.reason == "content_filter"


class Tide(pydantic.BaseModel):
    place: str
    hour: int


@pytest.mark.row("S33")
def test_responses_parse(client: openai.OpenAI, gateway: Running) -> None:
    said = '{"place": "Emden", "hour": 7}'
    parsed = client.responses.parse(model="sim/echo", input=said, text_format=Tide)
    assert parsed.output_parsed == Tide(place="Emden", hour=7)

    async def use(other: openai.AsyncOpenAI) -> Any:
        return (await other.responses.parse(model="sim/echo", input=said, text_format=Tide)).output_parsed

    assert run(gateway, use) == Tide(place="Emden", hour=7)
    with client.responses.stream(model="sim/echo", input=said, text_format=Tide) as stream:
        stream.until_done()
        assert stream.get_final_response().output_parsed == Tide(place="Emden", hour=7)


def test_a_tool_loop_comes_to_its_end(client: openai.OpenAI) -> None:
    first = client.responses.create(model="sim/tools", input="what tide?", tools=[FUNCTION])
    call = first.output[0]
    assert call.type == "function_call"
    history: Any = [
        {"role": "user", "content": "what tide?"},
        call.model_dump(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "high"},
    ]
    second = client.responses.create(model="sim/tools", input=history, tools=[FUNCTION])
    assert second.output_text == "The tool said: high"


# -- chat -----------------------------------------------------------------------------------------------------------


@pytest.mark.row("S3", "S71")
@pytest.mark.parametrize("case", CHATS)
def test_chat_create(client: openai.OpenAI, gateway: Running, case: str) -> None:
    first = client.chat.completions.create(messages=MESSAGES, **CHATS[case])
    second = run(gateway, lambda other: other.chat.completions.create(messages=MESSAGES, **CHATS[case]))
    for completion in (first, second):
        check(ChatCompletion, completion)
        assert completion.usage is not None
        choice = completion.choices[0]
        assert choice.finish_reason == {"incomplete": "length"}.get(case, "tool_calls" if "tool" in case else "stop")
        if case == "echo":
            assert choice.message.content == SAID
        elif case == "parallel tools":
            assert choice.message.tool_calls is not None
            assert len({call.id for call in choice.message.tool_calls}) == 4
        elif case == "refusal":
            assert choice.message.refusal is not None
        elif case == "n":
            assert [one.message.content for one in completion.choices] == [SAID] * 3
        elif case == "logprobs":
            assert choice.logprobs is not None
            assert choice.logprobs.content


@pytest.mark.row("S3", "S72")
@pytest.mark.parametrize("case", CHATS)
def test_chat_create_streaming_every_chunk_is_typed(client: openai.OpenAI, gateway: Running, case: str) -> None:
    options: Any = {**CHATS[case], "stream_options": {"include_usage": True}} if case == "usage" else CHATS[case]
    chunks = list(client.chat.completions.create(messages=MESSAGES, stream=True, **options))

    async def use(other: openai.AsyncOpenAI) -> list[Any]:
        return [chunk async for chunk in await other.chat.completions.create(messages=MESSAGES, stream=True, **options)]

    for seen in (chunks, run(gateway, use)):
        for chunk in seen:
            check(ChatCompletionChunk, chunk)
        assert (seen[-1].usage is not None) == (case == "usage")
        reasons = [choice.finish_reason for chunk in seen for choice in chunk.choices if choice.finish_reason]
        assert len(reasons) == (3 if case == "n" else 1)


@pytest.mark.row("S3", "S72")
@pytest.mark.parametrize("case", CHATS)
def test_the_chat_accumulator_of_the_sdk_reaches_the_end(client: openai.OpenAI, gateway: Running, case: str) -> None:
    with client.chat.completions.stream(messages=MESSAGES, **CHATS[case]) as stream:
        stream.until_done()
        final = stream.current_completion_snapshot
    plain = client.chat.completions.create(messages=MESSAGES, **CHATS[case])
    assert [one.message.content or None for one in final.choices] == [one.message.content for one in plain.choices]

    async def use(other: openai.AsyncOpenAI) -> Any:
        async with other.chat.completions.stream(messages=MESSAGES, **CHATS[case]) as stream:
            await stream.until_done()
            return stream.current_completion_snapshot

    assert (run(gateway, use).choices[0].message.content or None) == plain.choices[0].message.content


@pytest.mark.row("S3")
def test_chat_parse(client: openai.OpenAI, gateway: Running) -> None:
    said: Any = [{"role": "user", "content": '{"place": "Emden", "hour": 7}'}]
    parsed = client.chat.completions.parse(model="sim/echo", messages=said, response_format=Tide)
    assert parsed.choices[0].message.parsed == Tide(place="Emden", hour=7)

    async def use(other: openai.AsyncOpenAI) -> Any:
        found = await other.chat.completions.parse(model="sim/echo", messages=said, response_format=Tide)
        return found.choices[0].message.parsed

    assert run(gateway, use) == Tide(place="Emden", hour=7)


# -- completions ----------------------------------------------------------------------------------------------------


@pytest.mark.row("S2", "S68", "S69")
@pytest.mark.parametrize(
    "model", ["sim/demo?gap=0", "sim/echo", "sim/zh?split=1", "sim/refusal", "sim/lorem?finish=length"]
)
@pytest.mark.parametrize("n", [1, 3])
def test_completions_create(client: openai.OpenAI, gateway: Running, model: str, n: int) -> None:
    whole = client.completions.create(model=model, prompt=SAID, n=n)
    check(Completion, whole)
    assert len(whole.choices) == n

    async def use(other: openai.AsyncOpenAI) -> list[Any]:
        return [chunk async for chunk in await other.completions.create(model=model, prompt=SAID, n=n, stream=True)]

    for chunks in (list(client.completions.create(model=model, prompt=SAID, n=n, stream=True)), run(gateway, use)):
        for chunk in chunks:
            check(Completion, _with_reasons(chunk))
        for choice in whole.choices:
            pieces = [one.text for chunk in chunks for one in chunk.choices if one.index == choice.index]
            assert "".join(pieces) == choice.text


def _with_reasons(chunk: Any) -> Any:
    """The SDK's type says that every choice has a finish reason; in a stream only the last chunk has (OpenAI's too)."""
    plain = chunk.model_dump(exclude_unset=True)
    for choice in plain["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    return plain


# -- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.row("S16")
def test_models_list_and_retrieve_and_every_listed_id_is_usable(client: openai.OpenAI, gateway: Running) -> None:
    listed = client.models.list().data
    for model in listed:
        check(Model, model)
    names = [model.id for model in listed]
    assert {"fast", "sim/echo", "sim/zh", "sim/demo"} <= set(names)
    assert {model.owned_by for model in listed if model.id.startswith("sim/")} == {"sim"}

    async def use(other: openai.AsyncOpenAI) -> list[str]:
        return [model.id async for model in other.models.list()]

    assert run(gateway, use) == names
    for name in names:
        assert client.models.retrieve(name).id == name
        if "demo" not in name:
            assert client.responses.create(model=name, input="x").status == "completed"
    assert client.models.retrieve("echo").owned_by == "sim"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("sim/nothing")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


# -- errors ---------------------------------------------------------------------------------------------------------


def call(client: openai.OpenAI, endpoint: str, model: str, **members: Any) -> Any:
    if endpoint == "responses":
        return client.responses.create(model=model, input=SAID, **members)
    if endpoint == "chat":
        return client.chat.completions.create(model=model, messages=MESSAGES, **members)
    return client.completions.create(model=model, prompt=SAID, **members)


@pytest.mark.row("S42")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "members", "kind", "code", "param"),
    [
        ("sim/echo", {"temperature": 9}, openai.BadRequestError, "invalid_value", "temperature"),
        ("sim/echo", {"top_p": "x"}, openai.BadRequestError, "invalid_type", "top_p"),
        ("sim/no-such", {}, openai.NotFoundError, "model_not_found", "model"),
        ("no-such", {}, openai.NotFoundError, "model_not_found", "model"),
        ("sim/echo?status=400&code=bad_thing", {}, openai.BadRequestError, "bad_thing", None),
        ("sim/echo?status=422", {}, openai.BadRequestError, None, None),
        ("sim/echo?status=401", {}, openai.InternalServerError, "upstream_auth", None),
        ("sim/echo?status=403", {}, openai.InternalServerError, "upstream_auth", None),
        ("sim/echo?status=429&retry_after=7", {}, openai.RateLimitError, "rate_limit_exceeded", None),
        ("sim/echo?status=500", {}, openai.InternalServerError, "server_error", None),
        ("sim/echo?status=503", {}, openai.InternalServerError, "server_is_overloaded", None),
        ("sim/echo?fault=html200", {}, openai.InternalServerError, "upstream_broken", None),
    ],
)
def test_errors_are_the_exceptions_that_programs_catch(
    client: openai.OpenAI,
    endpoint: str,
    stream: bool,
    model: str,
    members: Any,
    kind: type[openai.APIStatusError],
    code: Any,
    param: Any,
) -> None:
    with pytest.raises(kind) as caught:
        call(client, endpoint, model, stream=stream, **members)
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.param) == (code, param)
    assert error.request_id
    assert error.message
    if kind is openai.RateLimitError:
        assert error.response.headers["retry-after"] == "7"


def test_a_wrong_key_is_an_authentication_error() -> None:
    toml = '[server]\nport = 0\n[providers.sim]\nbase_url = "{sim}"\n[[keys]]\nname = "k"\nsecret = "key-0123456789abcdef0123456789abcd"\n'
    with Running(toml) as gateway:
        with openai.OpenAI(base_url=gateway.url, api_key="wrong", max_retries=0) as client:
            for use in (lambda: call(client, "responses", "sim/echo"), lambda: client.models.list()):
                with pytest.raises(openai.AuthenticationError) as caught:
                    use()
                assert caught.value.code == "invalid_api_key"
        with openai.OpenAI(base_url=gateway.url, api_key="key-0123456789abcdef0123456789abcd") as client:
            assert call(client, "responses", "sim/echo").output_text == SAID


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_error_after_the_first_event_reaches_the_program(client: openai.OpenAI, endpoint: str) -> None:
    with pytest.raises(openai.APIError) as caught:
        for _ in call(client, endpoint, "sim/lorem?fault=reset", stream=True):
            pass
    assert "closed the connection" in caught.value.message


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        ("status=500", 3),
        ("status=503", 3),
        ("status=429&retry_after_ms=5", 3),
        ("fault=empty200", 3),
        ("status=400", 1),
        ("status=401", 1),
        ("status=403", 1),
        ("status=404", 1),
        ("status=422", 1),
        ("status=429&code=insufficient_quota&type=insufficient_quota", 1),
    ],
)
def test_the_sdk_repeats_what_can_get_better_and_nothing_else(
    gateway: Running, endpoint: str, fault: str, calls: int
) -> None:
    model = f"sim/echo?{fault}"
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=2) as client, Api(gateway) as api:
        client._calculate_retry_timeout = lambda *_: 0.01  # type: ignore[method-assign]
        before = api.calls
        with pytest.raises(openai.APIStatusError):
            call(client, endpoint, model)
        assert api.calls - before == calls


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_failure_that_passes_is_overcome_by_the_sdk_alone(gateway: Running, endpoint: str) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=2) as client:
        client._calculate_retry_timeout = lambda *_: 0.01  # type: ignore[method-assign]
        assert call(client, endpoint, f"sim/echo?status=503&times=2&message={endpoint}").model.startswith("echo")


def test_requests_on_one_connection_are_each_answered_by_their_own(gateway: Running) -> None:
    """Their heads are the same but for the length, and head and body come in two writes."""
    texts = ["", "x", "é" * 40, "long " * 400, "x", "10 characters" * 10_000]
    open_before = gateway.call(lambda: set(gateway.server.server_state.connections))
    with openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0, timeout=20) as client:
        for text in texts:
            said: Any = [{"role": "user", "content": text}]
            answer = client.chat.completions.create(model="sim/echo", messages=said)
            assert answer.choices[0].message.content == text
            streamed = client.chat.completions.create(model="sim/echo", messages=said, stream=True)
            assert "".join(one.choices[0].delta.content or "" for one in streamed if one.choices) == text
        answers = [client.responses.create(model="sim/echo", input=text or "y").output_text for text in texts]
        assert answers == [text or "y" for text in texts]
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="sim/echo", messages=[])
        open_now = gateway.call(lambda: set(gateway.server.server_state.connections))
    assert len(open_now - open_before) == 1
