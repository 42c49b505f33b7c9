"""Providers that say with every chunk what was used so far: only the last figures count, wherever the answer ends."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.dialects import common
from tests.dialects.crossing import PAIRS, Crossing
from tests.dialects.gemini.samples import candidate, chunk, frames, said
from tidegate.dialects.bridge import BridgedStream
from tidegate.dialects.codec import StreamDecoder
from tidegate.dialects.dialect import Endpoint
from tidegate.gateway.dialects import UPSTREAM_DIALECTS
from tidegate.wire.errors import ClientGone
from tidegate.wire.events import TextDelta, Usage

COUNTING = [(client, provider) for client, provider in PAIRS if provider in ("chat", "gemini")]
GIVEN = 700
CHUNKS = 4


def chunks_of(provider: str, *, reason: str | None = None) -> Iterator[bytes]:
    """Four pieces of text with what was used up to each of them; the last one ends the answer if there is a `reason`."""
    for place in range(1, CHUNKS + 1):
        last = place == CHUNKS and reason is not None
        if provider == "gemini":
            usage: dict[str, Any] = {"promptTokenCount": GIVEN, "candidatesTokenCount": place}
            end = chunk(candidate({"text": "潮 "}, finishReason=(reason or "").upper()))
            yield frames({**(end if last else said("潮 ")), "usageMetadata": usage})
        else:
            choice = {"index": 0, "delta": {"content": "潮 "}, "finish_reason": reason if last else None}
            usage = {"prompt_tokens": GIVEN, "completion_tokens": place, "total_tokens": GIVEN + place}
            yield b"data: " + json.dumps({"id": "c", "choices": [choice], "usage": usage}).encode() + b"\n\n"
    if provider == "chat" and reason is not None:
        yield b"data: [DONE]\n\n"


def opened(client: str, provider: Endpoint, **members: Any) -> BridgedStream:
    crossing = Crossing(client, provider, stream=True, **members)
    stream = crossing.bridge.open(crossing.request.open(common.call()))
    stream.attempt_bridged(crossing.to)
    return stream


@pytest.mark.parametrize(("client", "provider"), COUNTING)
@pytest.mark.parametrize("ending", ["told", "torn", "closed"])
def test_a_broken_stream_has_used_what_the_last_chunk_counts(client: str, provider: Endpoint, ending: str) -> None:
    for count, _ in enumerate(chunks_of(provider), 1):
        stream = opened(client, provider)
        for piece in list(chunks_of(provider))[:count]:
            stream.feed(piece)
        if ending == "torn":
            assert stream.finish() == b""
        elif ending == "closed":
            stream.eof()
        out = stream.fail(ClientGone("gone")) if ending != "closed" else b""
        assert stream.usage() == Usage(input_tokens=GIVEN, output_tokens=count)
        if client == "responses" and out:
            assert b'"input_tokens":%d,' % GIVEN in out
            assert b'"output_tokens":%d,' % count in out


@pytest.mark.parametrize(("client", "provider"), COUNTING)
def test_who_asks_on_the_way_changes_nothing_of_what_the_client_gets(client: str, provider: Endpoint) -> None:
    whole = b"".join(chunks_of(provider, reason="stop"))
    plain = opened(client, provider)
    expected = common.play(plain, [whole])
    asked = opened(client, provider)
    out = b""
    for byte in common.bytewise(whole):
        out += asked.feed(byte)
        assert asked.usage().output_tokens <= CHUNKS
    assert out + asked.eof() == expected
    assert asked.usage() == plain.usage() == Usage(input_tokens=GIVEN, output_tokens=CHUNKS)


def test_an_answer_that_is_cut_at_a_stop_sequence_tells_the_figures_that_came_with_it() -> None:
    crossing = Crossing("messages", "chat", stream=True, stop_sequences=["潮 潮 潮"])
    to = msgspec.structs.replace(crossing.to, refuses=frozenset({"stop"}))
    crossing.bridge.forward(UPSTREAM_DIALECTS["chat"], to)
    stream = crossing.bridge.open(crossing.request.open(common.call()))
    stream.attempt_bridged(to)
    out = b"".join(stream.feed(piece) for piece in list(chunks_of("chat"))[:3])
    assert stream.cut
    assert stream.usage() == Usage(input_tokens=GIVEN, output_tokens=3)
    assert b'"input_tokens":%d,' % GIVEN in out
    assert b'"output_tokens":3' in out


@pytest.mark.parametrize("provider", ["chat", "gemini"])
def test_a_chunk_with_figures_is_the_text_alone(provider: Endpoint) -> None:
    crossing = Crossing("responses", provider, stream=True)
    decoder: StreamDecoder = crossing.bridge.decoder(crossing.to)
    first, *others = chunks_of(provider)
    decoder.feed(first)
    for piece in others:
        assert decoder.feed(piece) == [TextDelta("潮 ")]
