"""A call between two texts: every client gets the three in the order in which the provider said them."""

import base64
import json
from typing import Any

import pytest

from tests.dialects import common
from tests.dialects.chat import playing
from tests.dialects.chat.test_chat_decoder import calls, tool
from tests.dialects.gemini import samples
from tests.dialects.responses.client import final
from tests.dialects.test_text_thought_text import collected
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.messages.encoder import MessagesEncoder, encode_message
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.stops import StopFilter
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    Opaque,
    ReasoningEnd,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import FunctionCall, ImagePart, Item, Message, OpaqueItem, TextPart
from tidegate.wire.jsonio import raw

CHAT = common.destination(endpoint="chat")
USAGE = UsageReport(Usage(1, 1))
GEMINI = b'{"contents":[{"parts":[{"text":"?"}]}]}'


def of_chat(*pieces: str) -> list[Event]:
    """The call's arguments come in `pieces`; one that begins with `+` is a text between them."""
    deltas: list[dict[str, Any]] = [{"content": "A"}, calls(tool(0, "c", "f", ""))]
    deltas += [{"content": piece[1:]} if piece[0] == "+" else calls(tool(0, args=piece)) for piece in pieces]
    events = playing.decoded(playing.stream(*deltas, {"content": "B"}, {"content": "C"}, finish="tool_calls"))
    return [*events[:-2], USAGE, *events[-2:]]


def of_gemini() -> list[Event]:
    call = {"functionCall": {"id": "c", "name": "f", "args": {"x": 1}}}
    parts: list[dict[str, Any]] = [{"text": "A"}, call, {"text": "B"}, {"text": "C"}]
    return samples.decode([samples.frames(*(samples.chunk(samples.candidate(part)) for part in parts), samples.end())])


ANSWERS = {"chat": of_chat('{"x":', "1}"), "gemini": of_gemini()}


def kinds(items: list[Item]) -> list[Any]:
    def told(part: Any) -> str:
        return part.text if isinstance(part, TextPart) else type(part).__name__

    return [[told(part) for part in item.content] if isinstance(item, Message) else type(item) for item in items]


@pytest.mark.parametrize("events", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_in_one_body_keeps_the_order(events: list[Event]) -> None:
    assert kinds(collected(events).choices[0].items) == [["A"], FunctionCall, ["BC"]]


def test_items_and_images_keep_their_places_in_one_body() -> None:
    item = raw({"type": "web_search_call", "id": "ws_1"})
    events: list[Event] = [
        TextDelta("A"),
        Opaque("web_search_call", item),
        TextDelta("B"),
        MediaDelta("image/png", "aGk="),
        TextDelta("C"),
    ]
    found = kinds(collected([Started(), *events, ChoiceEnd("stop"), Finished()]).choices[0].items)
    assert found == [["A"], OpaqueItem, ["B", ImagePart.__name__], ["C"]]


@pytest.mark.parametrize("events", ANSWERS.values(), ids=ANSWERS)
def test_a_responses_client_gets_three_items(events: list[Event]) -> None:
    request = ResponsesDialect().parse(common.body("responses", stream=True))
    encoder = request.encoder(common.call())
    encoder.attempt(CHAT)
    streamed = final(encoder.encode(events))["output"]
    whole = json.loads(request.encode_answer(collected(events), common.call(), CHAT))["output"]
    assert streamed == whole
    assert [item["type"] for item in whole] == ["message", "function_call", "message"]


@pytest.mark.parametrize("events", ANSWERS.values(), ids=ANSWERS)
def test_an_anthropic_client_gets_three_blocks_and_the_second_text_as_it_comes(events: list[Event]) -> None:
    encoder = MessagesEncoder(common.call())
    encoder.attempt(CHAT)
    at = next(place for place, event in enumerate(events) if event == TextDelta("B"))
    before = encoder.encode(events[: at + 1])
    streamed = [event["content_block"]["type"] for event in common.events(before) if "content_block" in event]
    assert b'"text":"B"' in before, "text behind a complete call does not wait for the end"
    whole = json.loads(encode_message(collected(events), common.call(), CHAT))["content"]
    assert streamed == [block["type"] for block in whole] == ["text", "tool_use", "text"]


def parts(events: list[Event]) -> list[str]:
    """What a stream tells a Gemini client, by the kinds of its parts."""
    encoder = GeminiDialect().parse(GEMINI, model="tide", stream=True).encoder(common.call())
    encoder.attempt(CHAT)
    told = [
        part for chunk in common.events(encoder.encode(events)) for part in chunk["candidates"][0]["content"]["parts"]
    ]
    return [part.get("text") or "call" for part in told[:-1]]


@pytest.mark.parametrize("events", ANSWERS.values(), ids=ANSWERS)
def test_a_gemini_client_gets_the_call_whole_and_in_its_place(events: list[Event]) -> None:
    request = GeminiDialect().parse(GEMINI, model="tide", stream=False)
    whole = json.loads(request.encode_answer(collected(events), common.call(), CHAT))
    assert [part.get("text", "call") for part in whole["candidates"][0]["content"]["parts"]] == ["A", "call", "BC"]
    assert parts(events) == ["A", "call", "B", "C"]


def test_a_call_of_which_a_part_comes_behind_the_text_can_only_follow_it() -> None:
    """A call of Gemini's API is whole, and no text waits (docs: translation, "Towards clients")."""
    assert parts(of_chat('{"x":', "+B", "1}")) == ["A", "B", "call", "B", "C"]


def test_words_before_a_call_are_cut_at_stop_sequences_in_their_order_too() -> None:
    events = StopFilter(["BC"]).feed(ANSWERS["chat"])
    assert kinds(collected(events).choices[0].items) == [["A"], FunctionCall]
    assert [type(event) for event in events if isinstance(event, ToolCallStart | ToolCallDelta | ToolCallEnd)][
        -1
    ] is ToolCallEnd


def test_thoughts_between_calls_keep_their_places_and_their_seals() -> None:
    def thought(text: str, place: int) -> dict[str, Any]:
        detail = {"type": "reasoning.text", "text": text, "signature": f"sig-{text}", "index": place}
        return {"reasoning": text, "reasoning_details": [detail]}

    deltas = [
        thought("a", 0),
        calls(tool(0, "call_a", "f", "{}")),
        thought("b", 1),
        calls(tool(1, "call_b", "g", "{}")),
    ]
    events = playing.decoded(playing.stream(*deltas, finish="tool_calls"))
    request = b'{"contents":[{"parts":[{"text":"?"}]}],"generationConfig":{"thinkingConfig":{"includeThoughts":true}}}'
    encoder = GeminiDialect().parse(request, model="tide", stream=True).encoder(common.call())
    encoder.attempt(CHAT)
    sealed = [
        ReasoningEnd(encrypted=event.seal.data) if isinstance(event, ReasoningEnd) and event.seal else event
        for event in events
    ]
    told = [
        part for chunk in common.events(encoder.encode(sealed)) for part in chunk["candidates"][0]["content"]["parts"]
    ]
    names = [part["functionCall"]["name"] if "functionCall" in part else part["text"] for part in told]
    assert names == ["a", "f", "b", "g", ""]
    seals = [base64.b64decode(part["thoughtSignature"]).decode() for part in told if "thoughtSignature" in part]
    assert [seal for seal in seals if "sig-a" in seal] == seals[:1]
    assert [seal for seal in seals if "sig-b" in seal] == seals[1:]
    assert ["thoughtSignature" in part for part in told] == [False, True, False, True, False]


def test_a_seal_without_words_ends_the_call_before_it_too() -> None:
    detail = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}
    deltas = [calls(tool(0, "call_a", "f", "{}")), detail, calls(tool(1, "call_b", "g", "{}"))]
    kinds = [type(event) for event in playing.decoded(playing.stream(*deltas, finish="tool_calls"))]
    assert kinds.index(ToolCallEnd) < kinds.index(ReasoningEnd)
