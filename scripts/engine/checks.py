"""What must hold when a real engine stands behind the gateway. Each function is one line of the report."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from scripts.engine.lines import CALL, CALLS, CHINESE, HELLO, LINES, THINK
from scripts.engine.servers import Server, connections
from scripts.engine.wire import Reply, Wire, grammar

MODEL: Final = "engine/byheart"
BABBLER: Final = "engine/tiny"
"""Random weights: it goes on until it is stopped."""

PARIS, SHANGHAI = '{"city": "Paris"}', '{"city": "上海"}'
SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION: Final[dict[str, Any]] = {"name": "get_weather", "description": "The weather", "parameters": SCHEMA}
TOOL: Final[dict[str, Any]] = {"type": "function", "strict": None, **FUNCTION}
CHAT_TOOL: Final[dict[str, Any]] = {"type": "function", "function": FUNCTION}

IDLE_CPU, BUSY_CPU = 0.1, 0.2
"""Processor seconds per second of an engine that does nothing, and of one that generates."""
LONG: Final = 4000
"""Tokens that take the engine much longer than looking at it."""
TRIES: Final = 4
"""The engine sometimes goes on although the connection is gone: seen behind the gateway with 2 departures in 30, with
every connection closed within 0.25 s. It presumably abandons its generator when the news comes while it sends a chunk.
The gateway's part, the closed connection, has to hold every time; the engine's once in so many tries."""

_events: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@dataclass(frozen=True)
class Setting:
    """Both servers."""

    engine: Server
    raw: Wire
    wire: Wire

    @property
    def sdk(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.wire.origin}/v1", api_key="unused", max_retries=0, timeout=120)


Check = Callable[[Setting], str | None]
CHECKS: Final[list[tuple[str, str, Check]]] = []
"""Group, title, function. What a function returns is shown behind its title."""


def check(group: str, title: str) -> Callable[[Check], Check]:
    """Enter a function in the report."""

    def enter(function: Check) -> Check:
        CHECKS.append((group, title, function))
        return function

    return enter


def ask(text: str, **more: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def same(found: object, wanted: object) -> None:
    """An assertion that shows both sides."""
    assert found == wanted, f"{found!r}, not {wanted!r}"


# -- models -----------------------------------------------------------------------------------------------------


@check("models", "the list answers although the engine's own may be empty or broken")
def models(setting: Setting) -> str:
    return f"{len(setting.sdk.models.list().data)} listed"


# -- chat -------------------------------------------------------------------------------------------------------


@check("chat", "whole answer, by the SDK's types")
def chat(setting: Setting) -> None:
    reply = setting.wire.post("chat", **ask(HELLO))
    answer = ChatCompletion.model_validate(reply.json)
    same(answer.choices[0].message.content, LINES[HELLO])
    same((answer.choices[0].finish_reason, answer.model), ("stop", "byheart"))
    assert answer.usage is not None
    same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
    same(setting.sdk.chat.completions.create(**ask(HELLO)).choices[0].message.content, LINES[HELLO])


@check("chat", "stream: chunks by the SDK's types, finish chunk, one [DONE], no usage unasked")
def chat_stream(setting: Setting) -> str:
    reply = setting.wire.post("chat", **ask(HELLO), stream=True)
    chunks = chat_chunks(reply)
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), LINES[HELLO])
    same(chunks[-1].choices[0].finish_reason, "stop")
    assert all("usage" not in event for event in reply.events), "usage that nobody asked for"
    return f"{len(chunks)} chunks"


@check("chat", "stream with include_usage: null on every chunk, then one frame of its own")
def chat_usage(setting: Setting) -> None:
    reply = setting.wire.post("chat", **ask(HELLO), stream=True, stream_options={"include_usage": True})
    *before, last = reply.events
    assert all(event["usage"] is None for event in before), "usage before its frame"
    same(last["choices"], [])
    same(last["usage"]["total_tokens"], last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"])
    same(last["usage"]["completion_tokens"], setting.wire.post("chat", **ask(HELLO)).json["usage"]["completion_tokens"])


@check("chat", "Chinese text, whole and streamed, sync and async SDK")
def chat_chinese(setting: Setting) -> None:
    same(setting.sdk.chat.completions.create(**ask(CHINESE)).choices[0].message.content, LINES[CHINESE])
    pieces = [
        one.choices[0].delta.content or "" for one in setting.sdk.chat.completions.create(**ask(CHINESE), stream=True)
    ]
    same("".join(pieces), LINES[CHINESE])

    async def streamed() -> str:
        async with openai.AsyncOpenAI(base_url=f"{setting.wire.origin}/v1", api_key="unused", max_retries=0) as sdk:
            return "".join(
                [
                    one.choices[0].delta.content or ""
                    async for one in await sdk.chat.completions.create(**ask(CHINESE), stream=True)
                ]
            )

    same(asyncio.run(streamed()), LINES[CHINESE])


@check("chat", "cut by max_tokens and max_completion_tokens: finish_reason length")
def chat_cut(setting: Setting) -> None:
    for limit in ("max_tokens", "max_completion_tokens"):
        same(setting.wire.post("chat", **ask(HELLO, **{limit: 3})).json["choices"][0]["finish_reason"], "length")
        chunks = chat_chunks(setting.wire.post("chat", **ask(HELLO, **{limit: 3}), stream=True))
        same(chunks[-1].choices[0].finish_reason, "length")


@check("chat", "two parallel tool calls, whole and streamed")
def chat_tools(setting: Setting) -> None:
    choice = setting.sdk.chat.completions.create(**ask(CALLS, tools=[CHAT_TOOL])).choices[0]
    same([call.function.arguments for call in choice.message.tool_calls or []], [PARIS, escaped(SHANGHAI)])
    same(choice.finish_reason, "tool_calls")
    with setting.sdk.chat.completions.stream(**ask(CALLS, tools=[CHAT_TOOL])) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    same([call.function.arguments for call in final.message.tool_calls or []], [PARIS, escaped(SHANGHAI)])
    same((final.finish_reason, final.message.content), ("tool_calls", "Let me look."))


@check("chat", "reasoning_content reaches the client")
def chat_reasoning(setting: Setting) -> None:
    events = setting.wire.post("chat", **ask(THINK), stream=True).events
    deltas = [event["choices"][0]["delta"] for event in events]
    same(
        "".join(delta.get("reasoning_content") or "" for delta in deltas).strip(),
        "The tide comes in, the tide goes out.",
    )
    same("".join(delta.get("content") or "" for delta in deltas).strip(), "Forty-two.")


@check("chat", "an error of the engine inside the stream: error frame, no [DONE]")
def chat_error(setting: Setting) -> None:
    reply = setting.wire.post("chat", **ask(HELLO), stream=True, frequency_penalty=-1)
    assert b"[DONE]" not in reply.content
    error = reply.frames[-1].json["error"] if reply.status == 200 else reply.json["error"]
    assert "strictly positive" in error["message"], error


# -- completions ------------------------------------------------------------------------------------------------


@check("completions", "whole answer, by the SDK's types")
def completions(setting: Setting) -> None:
    for text in (HELLO, CHINESE):
        answer = Completion.model_validate(setting.wire.post("completions", model=MODEL, prompt=text).json)
        same((answer.choices[0].text, answer.choices[0].finish_reason, answer.model), (LINES[text], "stop", "byheart"))
        same(setting.sdk.completions.create(model=MODEL, prompt=text).choices[0].text, LINES[text])


@check("completions", "stream: chunks by the SDK's types, finish chunk, one [DONE], no usage unasked")
def completions_stream(setting: Setting) -> str:
    reply = setting.wire.post("completions", model=MODEL, prompt=CHINESE, stream=True)
    events = finished(reply)
    for event in events:
        # The SDK's type has no null here, although OpenAI's own chunks do.
        choices = [{**one, "finish_reason": one["finish_reason"] or "stop"} for one in event["choices"]]
        Completion.model_validate({**event, "choices": choices})
    same("".join(event["choices"][0]["text"] for event in events), LINES[CHINESE])
    same(events[-1]["choices"][0]["finish_reason"], "stop")
    assert all("usage" not in event for event in events), "usage that nobody asked for"
    streamed = setting.sdk.completions.create(model=MODEL, prompt=HELLO, stream=True)
    same("".join(chunk.choices[0].text for chunk in streamed), LINES[HELLO])
    return f"{len(events)} chunks"


@check("completions", "stream with include_usage; cut by max_tokens: length")
def completions_usage(setting: Setting) -> None:
    reply = setting.wire.post(
        "completions", model=MODEL, prompt=HELLO, max_tokens=3, stream=True, stream_options={"include_usage": True}
    )
    *before, last = reply.events
    same((last["choices"], last["usage"]["completion_tokens"]), ([], 3))
    same(before[-1]["choices"][0]["finish_reason"], "length")
    cut = setting.wire.post("completions", model=MODEL, prompt=HELLO, max_tokens=3).json
    same(cut["choices"][0]["finish_reason"], "length")


# -- responses --------------------------------------------------------------------------------------------------


@check("responses", "whole answer, by the SDK's types, although the engine's default is a stream")
def responses(setting: Setting) -> None:
    for text in (HELLO, CHINESE):
        reply = setting.wire.post("responses", model=MODEL, input=text)
        answer = Response.model_validate(reply.json)
        same((answer.status, answer.output_text, answer.model), ("completed", LINES[text], "byheart"))
        assert re.fullmatch("resp_[0-9a-f]{48}", answer.id), answer.id
        assert type(reply.json["created_at"]) is int, "created_at is no integer"
        assert answer.usage is not None
        same(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)
    same(setting.sdk.responses.create(model=MODEL, input=HELLO).output_text, LINES[HELLO])


@check("responses", "stream: event lines, created, in_progress, no gaps, one terminal event")
def responses_stream(setting: Setting) -> str:
    events = grammar(setting.wire.post("responses", model=MODEL, input=HELLO, stream=True))
    same(events[0]["response"]["status"], "in_progress")
    same(events[-1]["type"], "response.completed")
    same(deltas(events), LINES[HELLO])
    for event in events:
        _events.validate_python(event)
    return f"{len(events)} events"


@check("responses", "stream, sync and async SDK: create(stream=True) and stream(), Chinese")
def responses_sdk(setting: Setting) -> None:
    seen = list(setting.sdk.responses.create(model=MODEL, input=CHINESE, stream=True))
    same("".join(event.delta for event in seen if event.type == "response.output_text.delta"), LINES[CHINESE])
    with setting.sdk.responses.stream(model=MODEL, input=CHINESE) as stream:
        for _ in stream:
            pass
        same(stream.get_final_response().output_text, LINES[CHINESE])

    async def streamed() -> str:
        async with (
            openai.AsyncOpenAI(base_url=f"{setting.wire.origin}/v1", api_key="unused", max_retries=0) as sdk,
            sdk.responses.stream(model=MODEL, input=CHINESE) as stream,
        ):
            async for _ in stream:
                pass
            return (await stream.get_final_response()).output_text

    same(asyncio.run(streamed()), LINES[CHINESE])


@check("responses", "cut by max_output_tokens: incomplete, item and response, whole and streamed")
def responses_cut(setting: Setting) -> None:
    whole = setting.wire.post("responses", model=MODEL, input=HELLO, max_output_tokens=3).json
    events = grammar(setting.wire.post("responses", model=MODEL, input=HELLO, max_output_tokens=3, stream=True))
    same(events[-1]["type"], "response.incomplete")
    for answer in (whole, events[-1]["response"]):
        same((answer["status"], answer["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
        same((answer["output"][-1]["status"], answer["max_output_tokens"]), ("incomplete", 3))
        same(answer["completed_at"], None)


@check("responses", "cut by the engine's own limit, which nobody asked for: incomplete")
def responses_own_limit(setting: Setting) -> str:
    events = grammar(setting.wire.post("responses", model=BABBLER, input=HELLO, stream=True))
    end = events[-1]["response"]
    same((end["status"], end["max_output_tokens"]), ("incomplete", None))
    return f"{end['usage']['output_tokens']} tokens, {len(events)} events"


@check("responses", "one tool call: announced empty, arguments, done; no empty message beside it")
def responses_call(setting: Setting) -> None:
    events = grammar(setting.wire.post("responses", model=MODEL, input=CALL, tools=[TOOL], stream=True))
    whole = setting.wire.post("responses", model=MODEL, input=CALL, tools=[TOOL]).json
    for answer in (whole, events[-1]["response"]):
        (item,) = answer["output"]
        same((item["type"], item["name"], item["arguments"]), ("function_call", "get_weather", PARIS))
        assert item["id"].startswith("fc_"), item["id"]
        assert item["id"] != item["call_id"]


@check("responses", "text and two tool calls: three items, and the SDK's accumulator agrees")
def responses_calls(setting: Setting) -> None:
    events = grammar(setting.wire.post("responses", model=MODEL, input=CALLS, tools=[TOOL], stream=True))
    for event in events:
        _events.validate_python(event)
    same([item["type"] for item in events[-1]["response"]["output"]], ["message", "function_call", "function_call"])
    with setting.sdk.responses.stream(model=MODEL, input=CALLS, tools=[TOOL]) as stream:  # type: ignore[list-item]
        for _ in stream:
            pass
        final = stream.get_final_response()
    calls = [item.arguments for item in final.output if item.type == "function_call"]
    same((final.output_text, calls), ("Let me look.", [PARIS, escaped(SHANGHAI)]))


@check("responses", "reasoning: item and part before its text, then the message")
def responses_reasoning(setting: Setting) -> None:
    events = grammar(setting.wire.post("responses", model=MODEL, input=THINK, stream=True))
    for event in events:
        _events.validate_python(event)
    whole = setting.wire.post("responses", model=MODEL, input=THINK).json
    for answer in (whole, events[-1]["response"]):
        thought, message = answer["output"]
        same(thought["content"][0]["text"].strip(), "The tide comes in, the tide goes out.")
        same(message["content"][0]["text"].strip(), "Forty-two.")


@check("responses", "the response repeats the request: tools, instructions, metadata, temperature")
def responses_echo(setting: Setting) -> None:
    asked = {"tools": [TOOL], "instructions": "Be brief", "metadata": {"a": "b"}, "temperature": 0.0, "top_p": 0.5}
    answer = setting.wire.post("responses", model=MODEL, input=HELLO, **asked).json
    same({name: answer[name] for name in asked}, asked)
    same(
        (answer["parallel_tool_calls"], answer["tool_choice"], answer["text"]),
        (True, "auto", {"format": {"type": "text"}}),
    )


@check("responses", "stop sequences, which the engine does not know, cut the answer, whole and streamed")
def responses_stop(setting: Setting) -> None:
    wanted, stop = LINES[HELLO][:6], LINES[HELLO][6:10]
    whole = setting.sdk.responses.create(model=MODEL, input=HELLO, extra_body={"stop": [stop]})
    same((whole.status, whole.output_text), ("completed", wanted))
    streamed = setting.wire.post("responses", model=MODEL, input=HELLO, stream=True, stop=stop)
    same(deltas(grammar(streamed)), wanted)


@check("responses", "what the engine lacks is refused by name: n, both penalties, tool_choice, text, …")
def responses_refused(setting: Setting) -> None:
    wrong: dict[str, Any] = {
        "n": 2,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "tool_choice": "none",
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "high"},
        "truncation": "auto",
    }
    for stream in (False, True):
        for name, value in wrong.items():
            refused(setting.wire.post("responses", model=MODEL, input=HELLO, stream=stream, **{name: value}), name)


@check("responses", "values that ask for what happens anyway pass: n=1, tool_choice auto, text format text, …")
def responses_neutral(setting: Setting) -> None:
    anyway: dict[str, Any] = {
        "n": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "stop": None,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "truncation": "disabled",
        "top_logprobs": 0,
        "store": True,
        "include": ["reasoning.encrypted_content"],
    }
    same(setting.wire.post("responses", model=MODEL, input=HELLO, **anyway).json.get("status"), "completed")


@check("errors", "a member the engine does not know, an empty input, a forgotten history: 400 by name")
def named_errors(setting: Setting) -> None:
    refused(setting.wire.post("responses", model=MODEL, input=HELLO, top_k=3), "top_k")
    refused(setting.wire.post("responses", model=MODEL, input=[]), "input")
    refused(
        setting.wire.post("responses", model=MODEL, input="x", previous_response_id="resp_1"), "previous_response_id"
    )


@check("errors", "chat and completions refuse by name what the engine ignores: n, logprobs, response_format, echo, …")
def choices_refused(setting: Setting) -> None:
    for name, value in {
        "n": 2,
        "logprobs": True,
        "presence_penalty": 1,
        "response_format": {"type": "json_object"},
    }.items():
        refused(setting.wire.post("chat", **ask(HELLO, **{name: value})), name)
    for name, value in {"n": 2, "echo": True, "logprobs": 2, "suffix": "."}.items():
        refused(setting.wire.post("completions", model=MODEL, prompt=HELLO, **{name: value}), name)


@check("errors", "a model the engine has not: an error in the envelope, never an empty answer")
def no_model(setting: Setting) -> str:
    reply = setting.wire.post("responses", model="engine/absent", input=HELLO, stream=True)
    assert reply.status >= 400, reply.status
    same(set(reply.json["error"]), {"message", "type", "param", "code"})
    return f"{reply.status}, {reply.json['error']['code']}"


# -- disconnect -------------------------------------------------------------------------------------------------


@check(
    "disconnect",
    "the client leaves a stream: the engine's connection is closed and it stops generating, on each endpoint",
)
def disconnect(setting: Setting) -> str:
    shown = []
    bodies: dict[str, dict[str, Any]] = {
        "responses": {"model": BABBLER, "input": HELLO, "max_output_tokens": LONG},
        "chat": {**ask(HELLO), "model": BABBLER, "max_tokens": LONG},
        "completions": {"model": BABBLER, "prompt": HELLO, "max_tokens": LONG},
    }
    misses = 0
    for endpoint, body in bodies.items():
        for _ in range(TRIES):
            busy, closed, idle = leave(setting, endpoint, body)
            assert busy > BUSY_CPU, f"{endpoint}: the engine was not generating ({busy:.0%} of a core)"
            assert closed is not None, f"{endpoint}: the connection to the engine was still open after a second"
            if idle < IDLE_CPU:
                break
            misses += 1
            until_idle(setting)
        else:
            raise AssertionError(f"{endpoint}: the engine went on each time ({idle:.0%} of a core)")
        shown.append(f"{busy:.0%}→{idle:.0%}")
    told = "" if connections(0) is not None else "connections cannot be counted on this system; "
    return (
        f"{told}engine's CPU "
        + ", ".join(shown)
        + (f"; the engine missed {misses} closed connections" if misses else "")
    )


def leave(setting: Setting, endpoint: str, body: dict[str, Any]) -> tuple[float, float | None, float]:
    """Leave a stream in its middle: the engine's CPU before, seconds until its connection was closed, its CPU after."""
    port = int(setting.raw.origin.rpartition(":")[2])
    until(lambda: not connections(port), 10)  # kept-alive ones
    began, used = time.monotonic(), setting.engine.cpu_seconds()
    setting.wire.leave(endpoint, 150, **body)
    left = time.monotonic()
    busy = (setting.engine.cpu_seconds() - used) / (left - began)
    closed = time.monotonic() - left if until(lambda: not connections(port), 1) else None
    time.sleep(max(0.0, left + 1 - time.monotonic()))
    began, used = time.monotonic(), setting.engine.cpu_seconds()
    time.sleep(1)
    return busy, closed, (setting.engine.cpu_seconds() - used) / (time.monotonic() - began)


def until_idle(setting: Setting) -> None:
    """Wait for the end of an answer that nobody reads."""
    used = -1.0
    deadline = time.monotonic() + 60
    while setting.engine.cpu_seconds() - used > IDLE_CPU and time.monotonic() < deadline:
        used = setting.engine.cpu_seconds()
        time.sleep(1)


def until(look: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# -- helpers ----------------------------------------------------------------------------------------------------


def finished(reply: Reply) -> list[Any]:
    """The chunks of a stream that ends with exactly one `[DONE]`, each with the members that clients read."""
    assert reply.status == 200, reply.content[:300]
    frames = reply.frames
    same(frames[-1].data, "[DONE]")
    same(reply.content.count(b"[DONE]"), 1)
    for event in reply.events:
        same(event["model"], "byheart")
        assert type(event["created"]) is int, "created is no integer"
        assert all({"index", "finish_reason"} <= one.keys() for one in event["choices"]), event
    return reply.events


def chat_chunks(reply: Reply) -> list[ChatCompletionChunk]:
    """The chunks of a whole chat stream, validated by the SDK's types."""
    return [ChatCompletionChunk.model_validate(event) for event in finished(reply)]


def deltas(events: list[Any]) -> str:
    """The text of a Responses stream."""
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def refused(reply: Reply, name: str) -> None:
    """A 400 that names the member."""
    assert reply.status == 400, f"{name}: status {reply.status}"
    same(reply.json["error"]["param"], name)


def escaped(text: str) -> str:
    """JSON as the engine writes it: in ASCII."""
    return text.encode("ascii", "backslashreplace").decode("ascii")
