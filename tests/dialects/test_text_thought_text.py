"""A thought between two texts: two messages with the thought between them, for every client, and again for the provider."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.dialects import common
from tests.dialects.chat import playing
from tests.dialects.gemini import samples
from tests.dialects.responses.client import final
from tidegate.dialects.codec import Collector, Losses
from tidegate.dialects.gemini.contents import Contents
from tidegate.dialects.gemini.model import GeminiModel
from tidegate.dialects.messages.encoder import MessagesEncoder, encode_message
from tidegate.dialects.responses import ResponsesDialect
from tidegate.wire.events import Event
from tidegate.wire.items import Item, Output


def of_gemini() -> list[Event]:
    thought = {"text": "hm", "thought": True}
    parts: list[dict[str, Any]] = [
        {"text": "A", "thoughtSignature": "c2lnQQ=="},
        thought,
        {"text": "B", "thoughtSignature": "c2lnQg=="},
    ]
    return samples.decode([samples.frames(*(samples.chunk(samples.candidate(part)) for part in parts), samples.end())])


def of_chat() -> list[Event]:
    return playing.decoded(playing.stream({"content": "A"}, {"reasoning_content": "hm"}, {"content": "B"}))


def collected(events: list[Event]) -> Output:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.output()


def told(items: list[dict[str, Any]]) -> list[str]:
    """The words of each item, but for items that only seal."""
    words = [
        "".join(part["text"] for part in (*item.get("summary", ()), *item.get("content", ())))
        for item in items
        if item["type"] in ("message", "reasoning")
    ]
    return list(filter(None, words))


@pytest.mark.parametrize("events", [of_gemini, of_chat])
def test_a_responses_client_gets_two_messages(events: Callable[[], list[Event]]) -> None:
    request = ResponsesDialect().parse(common.body("responses", stream=True))
    encoder = request.encoder(common.call())
    to = common.destination(endpoint="chat")
    encoder.attempt(to)
    streamed = final(encoder.encode(events()))["output"]  # the grammar lets no delta come to a closed item
    whole = json.loads(request.encode_answer(collected(events()), common.call(), to))["output"]
    assert told(streamed) == told(whole) == ["A", "hm", "B"]


@pytest.mark.parametrize("events", [of_gemini, of_chat])
def test_an_anthropic_client_gets_two_texts(events: Callable[[], list[Event]]) -> None:
    encoder = MessagesEncoder(common.call())
    encoder.attempt(common.destination())
    streamed = [
        event["content_block"]["type"]
        for event in common.events(encoder.encode(events()))
        if event["type"] == "content_block_start"
    ]
    whole = json.loads(encode_message(collected(events()), common.call(), common.destination()))["content"]
    assert streamed == [block["type"] for block in whole] == ["text", "thinking", "text"]
    assert [block.get("text") for block in whole] == ["A", None, "B"]


def back(items: list[Item]) -> list[dict[str, Any]]:
    """The parts of the model's content as the same provider gets them again."""
    request = samples.asked(*samples.asked().items, *items)
    to = samples.deployment()
    contents = Contents(request, GeminiModel(to.model), Losses(request, to, allowed=False)).build()
    parts = contents[-1]["parts"]
    assert isinstance(parts, list)
    return parts


def test_every_signature_goes_back_on_its_own_part() -> None:
    assert back(collected(of_gemini()).choices[0].items) == [
        {"text": "A", "thoughtSignature": "c2lnQQ=="},
        {"text": "B", "thoughtSignature": "c2lnQg=="},
    ]
    said = [samples.said("A"), samples.chunk(samples.candidate({"text": "", "thoughtSignature": "QQ=="}))]
    events = samples.decode([samples.frames(*said, samples.said("B"), samples.end())])
    assert back(collected(events).choices[0].items) == [
        {"text": "A"},
        {"text": "", "thoughtSignature": "QQ=="},
        {"text": "B"},
    ]


def test_places_of_sources_behind_an_image_are_those_in_the_text_behind_it() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a", "title": "a"}}],
        "groundingSupports": [{"segment": {"startIndex": 1, "endIndex": 3}, "groundingChunkIndices": [0]}],
    }
    image = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    chunks = [samples.chunk(samples.candidate(part)) for part in ({"text": "A"}, image, {"text": "BC"})]
    events = samples.decode([samples.frames(*chunks, samples.end(groundingMetadata=grounding))])
    request = ResponsesDialect().parse(common.body("responses", stream=True))
    encoder = request.encoder(common.call())
    encoder.attempt(common.destination(endpoint="chat"))
    first, _, last = final(encoder.encode(events))["output"]
    assert first["content"][0]["annotations"] == []
    (cited,) = last["content"][0]["annotations"]
    assert (last["content"][0]["text"], cited["start_index"], cited["end_index"]) == ("BC", 0, 2)


def test_sources_stay_with_the_last_text_although_a_signature_follows_it() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a", "title": "a"}}],
        "groundingSupports": [{"segment": {"startIndex": 1, "endIndex": 3}, "groundingChunkIndices": [0]}],
    }
    parts: list[dict[str, Any]] = [
        {"text": "A"},
        {"text": "hm", "thought": True},
        {"text": "BC"},
        {"text": "", "thoughtSignature": "QQ=="},
    ]
    chunks = [samples.chunk(samples.candidate(part)) for part in parts]
    events = samples.decode([samples.frames(*chunks, samples.end(groundingMetadata=grounding))])
    request = ResponsesDialect().parse(common.body("responses", stream=True))
    encoder = request.encoder(common.call())
    encoder.attempt(common.destination(endpoint="chat"))
    output = final(encoder.encode(events))["output"]
    assert told(output) == ["A", "hm", "BC"]
    (cited,) = [one for item in output if item["type"] == "message" for one in item["content"][0]["annotations"]]
    assert (cited["start_index"], cited["end_index"]) == (0, 2)
