"""What is booked of an answer that came from another dialect and has no regular end."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import read_frames
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}
SAID = [{"role": "user", "content": "?"}]
BODIES: dict[str, dict[str, Any]] = {
    "responses": {"input": "?"},
    "chat": {"messages": SAID},
    "messages": {"messages": SAID, "max_tokens": 1000},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "?"}]}]},
}
STOPS: dict[str, dict[str, Any]] = {
    "responses": {"stop": ["END"]},
    "chat": {"stop": "END"},
    "messages": {"stop_sequences": ["END"]},
    "gemini": {"generationConfig": {"stopSequences": ["END"]}},
}
KINDS = {"anthropic": "anthropic", "openai": "openai", "lab": "openai-compatible", "google": "gemini"}
SECRET = 'credentials = ["k-0123456789abcdef0123456789"]'
MORE = {"openai": SECRET + '\nspeaks = ["responses"]', "lab": 'speaks = ["chat"]'}
SPOKEN = "A" * 400
"""100 tokens, by estimate."""


class Bench:
    """A gateway in front of one canned provider per kind."""

    def __init__(self, gateway: Running, provider: Canned) -> None:
        self._gateway = gateway
        self._provider = provider
        self.answer = httpx.Response(500)

    def ask(self, client: str, kind: str, *answers: bytes, stream: bool, **more: Any) -> dict[str, Any]:
        """The usage entry of a request that the provider of `kind` gives `answers` to."""
        self._provider.say(*answers)
        path, body = PATHS.get(client), {**BODIES[client], **more}
        if path is None:
            path = f"/v1beta/models/{kind}/m:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"
        else:
            body |= {"model": f"{kind}/m", "stream": stream}
        self.answer = httpx.post(self._gateway.origin + path, json=body, timeout=20, trust_env=False)
        return self._gateway.usage(self.answer.headers["x-request-id"])


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Canned(b"") as provider:
        tables = "".join(provider.toml(name, kind, MORE.get(name, SECRET)) for name, kind in KINDS.items())
        with Running("[server]\nport = 0\n" + tables) as gateway:
            yield Bench(gateway, provider)


# -- a prompt that nobody counted -------------------------------------------------------------------------------

UNCOUNTED: dict[str, Any] = {
    "anthropic": {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": SPOKEN}],
        "stop_reason": "end_turn",
        "usage": {"output_tokens": 5},
    },
    "lab": {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": SPOKEN}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 5},
    },
    "google": {
        "candidates": [{"content": {"parts": [{"text": SPOKEN}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"candidatesTokenCount": 5},
    },
}


@pytest.mark.parametrize(
    ("client", "kind"),
    [
        (client, kind)
        for client in BODIES
        for kind in UNCOUNTED
        if (client, kind) not in (("chat", "lab"), ("gemini", "google"))  # there the provider's own words go on
    ],
)
def test_a_prompt_of_a_whole_answer_that_was_not_counted_is_estimated(bench: Bench, client: str, kind: str) -> None:
    entry = bench.ask(client, kind, json_answer(UNCOUNTED[kind]), stream=False)
    assert (entry["output_tokens"], entry["estimated"], entry["ending"]) == (5, True, "completed")
    assert 0 < entry["input_tokens"] < 1000
    assert bench.answer.headers["tidegate-usage"] == "estimated"
    usage = bench.answer.json().get("usage") or bench.answer.json()["usageMetadata"]
    told = next(usage[name] for name in ("input_tokens", "prompt_tokens", "promptTokenCount") if name in usage)
    assert told == entry["input_tokens"]


@pytest.mark.parametrize("client", ["responses", "chat", "gemini"])
def test_a_prompt_of_a_stream_that_was_not_counted_is_estimated(bench: Bench, client: str) -> None:
    message = {"type": "message", "role": "assistant", "model": "m", "content": []}
    stream = sse_answer(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SPOKEN}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
        named=True,
    )
    entry = bench.ask(client, "anthropic", stream, stream=True)
    assert (entry["output_tokens"], entry["estimated"], entry["ending"]) == (5, True, "completed")
    assert 0 < entry["input_tokens"] < 1000


# -- an answer that breaks --------------------------------------------------------------------------------------

PROMPT = {
    "input_tokens": 100,
    "output_tokens": 1,
    "cache_read_input_tokens": 90000,
    "cache_creation_input_tokens": 2000,
}
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def claude(*more: dict[str, Any]) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": PROMPT}
    return sse_answer(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SPOKEN}},
        *more,
        named=True,
    )


@pytest.mark.parametrize("end", [(), (ERROR,)])
@pytest.mark.parametrize("client", BODIES)
def test_a_broken_answer_of_claude_is_booked_with_the_prompt_that_it_was_begun_with(
    bench: Bench, client: str, end: tuple[dict[str, Any], ...]
) -> None:
    entry = bench.ask(client, "anthropic", claude(*end), stream=True)
    assert entry["ending"] == "failed"
    assert entry["input_tokens"] == 92100
    assert (entry["cached_tokens"], entry["cache_write_tokens"]) == (90000, 2000)
    assert (entry["output_tokens"], entry["estimated"]) == (100, True)
    if client == "responses":
        frames = [frame.json for frame in read_frames(bench.answer.content) if frame.data]
        assert frames[-1]["type"] == "response.failed"
        usage = frames[-1]["response"]["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (92100, 100)
        assert usage["input_tokens_details"] == {"cached_tokens": 90000, "cache_write_tokens": 2000}


def test_an_answer_whose_end_counts_nothing_is_booked_with_the_prompt_that_it_was_begun_with(bench: Bench) -> None:
    end = ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"})
    entry = bench.ask("chat", "anthropic", claude(*end), stream=True, stream_options={"include_usage": True})
    assert (entry["ending"], entry["input_tokens"], entry["output_tokens"]) == ("completed", 92100, 100)
    assert entry["estimated"] is True
    last = [frame.json for frame in read_frames(bench.answer.content) if frame.data.startswith(b"{")][-1]
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (92100, 100)


def test_a_broken_answer_of_gemini_is_booked_with_what_was_counted_and_said_since(bench: Bench) -> None:
    chunk = {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": SPOKEN}]}}]}
    counted = {"promptTokenCount": 5000, "thoughtsTokenCount": 30, "totalTokenCount": 5030}
    answer = sse_answer({**chunk, "usageMetadata": counted}, {**chunk, "usageMetadata": counted})
    entry = bench.ask("chat", "google", answer, stream=True)
    assert (entry["ending"], entry["input_tokens"], entry["reasoning_tokens"]) == ("failed", 5000, 30)
    assert (entry["output_tokens"], entry["estimated"]) == (130, True)


def test_a_broken_answer_of_chat_is_booked_with_what_every_chunk_counts(bench: Bench) -> None:
    chunks = [
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": None}],
            "usage": {"prompt_tokens": 700, "completion_tokens": place, "total_tokens": 700 + place},
        }
        for place in (1, 2)
    ]
    entry = bench.ask("responses", "lab", sse_answer(*chunks), stream=True)
    assert (entry["ending"], entry["input_tokens"], entry["output_tokens"]) == ("failed", 700, 2)


# -- a stop sequence where the provider has none ----------------------------------------------------------------

THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "B" * 80}]}
USAGE = {
    "input_tokens": 300,
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 350,
}


def response(*texts: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {"id": "resp_1", "status": "completed", "model": "m", "output": [THOUGHT, message], "usage": USAGE}


def streamed(*deltas: str, whole: bool) -> bytes:
    """Thoughts and a text, and the end of the answer, if it is `whole`."""
    frames: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "resp_1", "model": "m", "output": []}},
        {"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "summary_index": 0, "delta": "B" * 80},
    ]
    frames += [{"type": "response.output_text.delta", "item_id": "msg_1", "delta": delta} for delta in deltas]
    if whole:
        frames.append({"type": "response.completed", "response": response("".join(deltas))})
    return sse_answer(*frames, named=True)


@pytest.mark.parametrize("client", BODIES)
def test_a_whole_answer_that_is_cut_here_keeps_the_figures_of_its_provider(bench: Bench, client: str) -> None:
    entry = bench.ask(client, "openai", json_answer(response("abcENDxyz")), stream=False, **STOPS[client])
    assert "xyz" not in bench.answer.text
    assert "tidegate-usage" not in bench.answer.headers
    figures = (entry["input_tokens"], entry["output_tokens"], entry["reasoning_tokens"], entry["estimated"])
    assert figures == (300, 50, 20, False)


@pytest.mark.parametrize("client", BODIES)
def test_a_stream_that_is_cut_here_takes_the_figures_that_have_come(bench: Bench, client: str) -> None:
    entry = bench.ask(client, "openai", streamed("abEN", "Dxyz", whole=True), stream=True, **STOPS[client])
    assert "xyz" not in bench.answer.text
    assert (entry["ending"], entry["input_tokens"], entry["output_tokens"]) == ("completed", 300, 50)
    assert entry["estimated"] is False


@pytest.mark.parametrize("client", BODIES)
def test_a_stream_that_is_cut_before_its_figures_come_is_charged_for_all_that_was_said(
    bench: Bench, client: str
) -> None:
    answer = streamed("A" * 40, "END", "C" * 40, whole=False)
    entry = bench.ask(client, "openai", answer, stream=True, **STOPS[client])
    assert "CCC" not in bench.answer.text
    assert (entry["ending"], entry["estimated"]) == ("completed", True)
    assert entry["output_tokens"] == (80 + 40 + 3 + 40 + 3) // 4
