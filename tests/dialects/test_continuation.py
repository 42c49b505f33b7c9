"""Wherever a relayed stream breaks off, byte by byte: what follows fits behind what the client has, or nothing follows."""

import json
from typing import Any

import pytest

from tests.dialects import common
from tests.support.api import read_frames
from tests.support.grammar import check_stream
from tidegate.dialects.continuation import KEPT_LIMIT, TEXT_LIMIT, ContinuableBridge, ContinuableStream
from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiDialect
from tidegate.gateway.dialects import CLIENT_DIALECTS, UPSTREAM_DIALECTS
from tidegate.wire.errors import UpstreamBroken
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Finished,
    ReasoningDelta,
    ReasoningEnd,
    Started,
    TextDelta,
    Usage,
    UsageReport,
)

ENVELOPES = Envelopes(Sealer(bytes(KEY_BYTES)), "t")
REQUESTS: dict[Endpoint, dict[str, Any]] = {
    "responses": {"model": "m", "input": "?", "stream": True},
    "chat": {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": True},
    "messages": {"model": "m", "messages": [{"role": "user", "content": "?"}], "max_tokens": 999, "stream": True},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "?"}]}]},
}
PIECES = ["Ebb ", "und Flut, ", "潮汐 ", "🌊 come", " and go"]
SPOKEN = "".join(PIECES)
ENDING: list[Event] = [UsageReport(Usage(input_tokens=5, output_tokens=7)), ChoiceEnd("stop"), Finished()]
ANSWER: list[Event] = [Started("m"), *map(TextDelta, PIECES), *ENDING]
THOUGHT: list[Event] = [Started("m"), ReasoningDelta("Hm, "), ReasoningDelta("so."), ReasoningEnd(), *ANSWER[1:]]
REST: list[Event] = [Started("n"), ReasoningDelta("?"), ReasoningEnd(), TextDelta(" … END"), *ENDING]


def request_of(client: Endpoint) -> Any:
    body = json.dumps(REQUESTS[client]).encode()
    if client == "gemini":
        return GeminiDialect().parse(body, model="m", stream=True)
    return next(one for one in CLIENT_DIALECTS if one.name == client).parse(body)


def said_by(provider: Endpoint, events: list[Event], model: str) -> bytes:
    encoder = request_of(provider).encoder(common.call())
    encoder.attempt(Destination(provider="p", model=model, endpoint=provider))
    return bytes(encoder.encode(events))


def places(data: bytes) -> list[int]:
    """Every border of a frame and the bytes about it, and some between."""
    ends = [at + 2 for at in range(len(data)) if data.startswith(b"\n\n", at)]
    return sorted({*range(0, len(data), 61), *(end + by for end in ends for by in (-2, -1, 0, 1))})


class Broken:
    """A stream that has got so many bytes."""

    def __init__(self, client: Endpoint, data: bytes, *, provider: Endpoint | None = None, ended: bool = False) -> None:
        """`provider`: the dialect in which they come; the client's own without it."""
        request = request_of(client)
        self.client = client
        self.bridge = ContinuableBridge(request, common.call(), ENVELOPES, UPSTREAM_DIALECTS)
        self.stream: ContinuableStream = self.bridge.open(request.open(common.call()))
        destination = Destination(provider="p", model="m", endpoint=provider or client)
        if provider is None or provider == client:
            request.forward(destination)
            self.stream.attempt(destination)
        else:
            self.bridge.forward(UPSTREAM_DIALECTS[provider], destination)
            self.stream.attempt_bridged(destination)
        self.out = self.stream.feed(data)
        if ended and self.stream.outcome is None:
            self.out += self.stream.eof()
        self.committed = self.stream.committed

    def goes_on(self, provider: Endpoint = "chat") -> bool:
        if self.stream.breaks_off(UpstreamBroken("cut")) is not None:
            return False
        destination = Destination(provider="q", model="n", endpoint=provider)
        self.bridge.forward(UPSTREAM_DIALECTS[provider], destination)
        self.stream.attempt_bridged(destination)
        self.out += self.stream.feed(said_by(provider, REST, "n"))
        if self.stream.outcome is None:
            self.out += self.stream.eof()
        assert self.stream.outcome is not None
        assert (self.stream.outcome.status, self.stream.outcome.error) == ("completed", None)
        return True

    @property
    def text(self) -> str:
        found = []
        for frame in read_frames(self.out):
            if not frame.data or frame.data == b"[DONE]":
                continue
            event = frame.json
            match self.client:
                case "responses" if event["type"] == "response.output_text.delta":
                    found.append(event["delta"])
                case "chat":
                    found += [one["delta"].get("content") or "" for one in event["choices"]]
                case "messages" if event["type"] == "content_block_delta":
                    found.append(event["delta"].get("text", ""))
                case "gemini":
                    parts = [part for one in event["candidates"] for part in one["content"]["parts"]]
                    found += [part["text"] for part in parts if not part.get("thought")]
                case _:
                    pass
        return "".join(found)


@pytest.mark.parametrize("ended", [False, True], ids=["cut", "ended"])
@pytest.mark.parametrize("answer", [ANSWER, THOUGHT], ids=["text", "thought"])
@pytest.mark.parametrize("client", REQUESTS)
def test_at_every_byte_the_words_join_or_nothing_follows(client: Endpoint, answer: list[Event], ended: bool) -> None:
    data = said_by(client, answer, "m")
    continued = 0
    for size in places(data):
        broken = Broken(client, data[:size], ended=ended)
        if not broken.committed or (broken.stream.outcome is not None and broken.stream.outcome.error is None):
            continue
        before = broken.text
        assert SPOKEN.startswith(before)
        if not broken.goes_on():
            assert broken.text == before
            continue
        continued += 1
        assert before
        assert broken.text == before + " … END", size
        if client == "responses":
            response = check_stream([frame for frame in read_frames(broken.out) if frame.data])
            assert response["output"][-1]["content"][0]["text"] == broken.text
            assert len(response["output"]) == (1 if answer is ANSWER else 2)
    assert continued > len(PIECES)


@pytest.mark.parametrize("provider", UPSTREAM_DIALECTS)
@pytest.mark.parametrize("client", REQUESTS)
def test_each_goes_on_with_each(client: Endpoint, provider: Endpoint) -> None:
    data = said_by(client, ANSWER[:4], "m")
    broken = Broken(client, data)
    assert broken.goes_on(provider)
    assert broken.text == "".join(PIECES[:3]) + " … END"


def typed(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **members}).encode())


def delta(**members: Any) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps({**chunk, "choices": [{"index": 0, "delta": members}]}).encode()


def candidate(*parts: Any, **members: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"candidates": [{"content": {"parts": parts}, **members}]}).encode()


CITATION = {"type": "char_location", "cited_text": "a", "document_index": 0, "start_char_index": 0, "end_char_index": 1}


@pytest.mark.fault("FAULT-CUT")
@pytest.mark.parametrize("client", REQUESTS)
@pytest.mark.parametrize(
    ("provider", "begun"),
    [
        ("chat", delta(tool_calls=[{"index": 0, "id": "call_1", "type": "function"}])),
        ("chat", delta(tool_calls=[{"index": 0, "function": {"name": "", "arguments": "{"}}])),
        ("chat", delta(function_call={"name": ""})),
        ("chat", delta(audio={"id": "audio_1"})),
        (
            "responses",
            typed("response.output_item.added", output_index=1, item={"type": "function_call", "id": "fc_1"}),
        ),
        (
            "responses",
            typed("response.output_item.added", output_index=1, item={"type": "web_search_call", "id": "ws_1"}),
        ),
        ("responses", typed("response.output_item.added", output_index=1, item={"type": {}, "id": "x_1"})),
        ("responses", typed("response.function_call_arguments.delta", output_index=1, item_id="fc_1", delta="{")),
        ("responses", typed("response.web_search_call.searching", output_index=1, item_id="ws_1")),
        (
            "responses",
            typed(
                "response.content_part.added", output_index=0, content_index=1, part={"type": "refusal", "refusal": ""}
            ),
        ),
        ("messages", typed("content_block_delta", index=0, delta={"type": "citations_delta", "citation": CITATION})),
        ("gemini", candidate({"functionCall": {"partialArgs": [{"jsonPath": "$.a"}], "willContinue": True}})),
        ("gemini", candidate({"executableCode": {"language": "PYTHON", "code": "1"}})),
        ("gemini", candidate(groundingMetadata={"webSearchQueries": ["tide"]})),
    ],
)
def test_what_has_begun_beside_the_text_is_not_gone_on_with(client: Endpoint, provider: Endpoint, begun: bytes) -> None:
    """Also where no decoder tells of it yet, nor ever."""
    said = said_by(provider, ANSWER[:4], "m")
    assert Broken(client, said, provider=provider).stream.breaks_off(UpstreamBroken("cut")) is None
    broken = Broken(client, said + begun, provider=provider)
    assert broken.stream.breaks_off(UpstreamBroken("cut")) == "not_plain_text"


@pytest.mark.parametrize("client", REQUESTS)
def test_what_holds_nothing_is_no_reason_to_stop(client: Endpoint) -> None:
    said = said_by("chat", ANSWER[:4], "m")
    more = delta(tool_calls=[], audio=None, function_call=None, images=[]) + b": ping\n\n" + b'data: {"x":\n\n'
    assert Broken(client, said + more, provider="chat").stream.breaks_off(UpstreamBroken("cut")) is None


def test_what_is_kept_has_a_limit() -> None:
    frame = said_by("chat", [Started("m"), TextDelta("x" * 100)], "m")
    broken = Broken("chat", frame)
    for _ in range(KEPT_LIMIT // len(frame) + 1):
        broken.stream.feed(frame)
    assert broken.stream.breaks_off(UpstreamBroken("cut")) == "too_long"
    long = Broken("chat", said_by("chat", [Started("m"), TextDelta("x" * (TEXT_LIMIT + 1))], "m"))
    assert long.stream.breaks_off(UpstreamBroken("cut")) == "too_long"
