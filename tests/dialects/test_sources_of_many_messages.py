"""Sources of an answer with more than one message: each points at its own words, however its API counts."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.dialects import common
from tests.dialects.chat import playing
from tests.dialects.gemini import samples
from tests.dialects.responses.client import final, lawful
from tests.dialects.test_text_thought_text import collected
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.gemini import GeminiDialect
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.decoder import ResponsesDecoder
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import HostedTool
from tidegate.wire.jsonio import raw

FIRST, SECOND = "I look. ", "It is high."
PLACE = SECOND.index("high"), SECOND.index("high") + 4
CALL: list[Event] = [ToolCallStart(0, "call_1", "f"), ToolCallDelta(0, "{}"), ToolCallEnd(0)]
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "tide"}}
CODE = {
    "type": "code_interpreter_call",
    "id": "ci_1",
    "status": "completed",
    "code": "1",
    "container_id": "cntr_1",
    "outputs": None,
}
BETWEEN: dict[str, list[Event]] = {
    "a message": [MessageEnd()],
    "a search": [MessageEnd(), Opaque("web_search_call", raw(SEARCH))],
    "code": [Opaque("code_interpreter_call", raw(CODE))],
    "a call": CALL,
    "an image": [MediaDelta("image/png", "aGk=")],
    "a thought": [MessageEnd(), ReasoningDelta("hm"), ReasoningEnd()],
}


def source(start: int, end: int) -> Annotation:
    return Annotation(
        raw({"type": "url_citation", "start_index": start, "end_index": end, "url": "https://a.example", "title": "A"})
    )


def events(between: list[Event], *, late: bool = False) -> list[Event]:
    """`late`: the source of the first text comes when that is over; else one of the second text, in its place."""
    said: list[Event] = [Started("m"), TextDelta(FIRST[:3]), TextDelta(FIRST[3:]), *between]
    said += [source(2, 6)] if late else [TextDelta(SECOND), source(*PLACE)]
    return lawful([*said, ChoiceEnd("stop"), UsageReport(Usage(1, 1)), Finished()])


def chat(answer: list[Event], *, stream: bool) -> list[str]:
    """The words that the sources of a chat client point at."""
    to = common.destination(endpoint="messages")
    body = raw({"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": stream})
    request: Any = ChatDialect().parse(bytes(body))
    if stream:
        encoder = request.encoder(common.call())
        encoder.attempt(to)
        deltas = [event["choices"][0]["delta"] for event in common.events(encoder.encode(answer))]
    else:
        deltas = [json.loads(request.encode_answer(collected(answer), common.call(), to))["choices"][0]["message"]]
    text = "".join(delta.get("content") or "" for delta in deltas)
    cited = [one["url_citation"] for delta in deltas for one in delta.get("annotations", ())]
    return [text[one["start_index"] : one["end_index"]] for one in cited]


def gemini(answer: list[Event], *, stream: bool) -> list[str]:
    to = common.destination(endpoint="messages")
    request: Any = GeminiDialect().parse(b'{"contents":[{"parts":[{"text":"?"}]}]}', model="tide", stream=stream)
    if stream:
        encoder = request.encoder(common.call())
        encoder.attempt(to)
        chunks = common.events(encoder.encode(answer))
    else:
        chunks = [json.loads(request.encode_answer(collected(answer), common.call(), to))]
    candidates = [chunk["candidates"][0] for chunk in chunks]
    text = "".join(part.get("text", "") for one in candidates for part in one["content"]["parts"]).encode()
    supports = candidates[-1]["groundingMetadata"]["groundingSupports"]
    segments = [support["segment"] for support in supports]
    return [text[one["startIndex"] : one["endIndex"]].decode() for one in segments]


def responses(answer: list[Event], *, stream: bool) -> list[str]:
    to = common.destination(endpoint="chat")
    request: Any = ResponsesDialect().parse(common.body("responses", stream=stream))
    if stream:
        encoder = request.encoder(common.call())
        encoder.attempt(to)
        output = final(encoder.encode(answer))["output"]
    else:
        output = json.loads(request.encode_answer(collected(answer), common.call(), to))["output"]
    return [
        part["text"][one["start_index"] : one["end_index"]]
        for item in output
        if item["type"] == "message"
        for part in item["content"]
        for one in part.get("annotations", ())
    ]


CLIENTS: dict[str, Callable[..., list[str]]] = {"chat": chat, "gemini": gemini, "responses": responses}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_source_of_the_second_message_points_at_its_words(client: str, between: list[Event], stream: bool) -> None:
    assert CLIENTS[client](events(between), stream=stream) == ["high"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("between", [BETWEEN["a call"], BETWEEN["a message"]])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_source_that_is_named_late_points_into_the_message_that_is_over(
    client: str, between: list[Event], stream: bool
) -> None:
    assert CLIENTS[client](events(between, late=True), stream=stream) == ["look"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_is_text_for_gemini_and_none_for_chat(stream: bool) -> None:
    answer: list[Event] = [Started("m"), RefusalDelta("No. "), MessageEnd(), TextDelta(SECOND), source(*PLACE)]
    answer += [ChoiceEnd("stop"), UsageReport(Usage(1, 1)), Finished()]
    assert chat(answer, stream=stream) == ["high"]
    assert gemini(answer, stream=stream) == ["high"]


@pytest.mark.parametrize("client", ["chat", "gemini"])
def test_a_whole_text_beyond_ascii_is_counted_as_its_api_counts(client: str) -> None:
    answer: list[Event] = [Started("m"), TextDelta("潮汐。"), *CALL, TextDelta("水位 high."), source(3, 7)]
    answer += [ChoiceEnd("stop"), UsageReport(Usage(1, 1)), Finished()]
    assert CLIENTS[client](answer, stream=False) == ["high"]


# -- what providers count ---------------------------------------------------------------------------------------


def of_chat() -> list[Event]:
    """Chat counts in all of the content."""
    start = len(FIRST) + PLACE[0]
    cited = {"start_index": start, "end_index": start + 4, "url": "https://a.example", "title": "A"}
    called = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    annotations = [{"type": "url_citation", "url_citation": cited}]
    deltas: list[dict[str, Any]] = [{"content": FIRST}, called, {"content": SECOND}, {"annotations": annotations}]
    return playing.decoded(playing.stream(*deltas, finish="tool_calls"))


def of_gemini(*, hosted: bool = False) -> list[Event]:
    """Google counts in all of the candidate."""
    start = len(FIRST) + PLACE[0]
    support = {"segment": {"startIndex": start, "endIndex": start + 4}, "groundingChunkIndices": [0]}
    found = {"groundingChunks": [{"web": {"uri": "https://a.example"}}], "groundingSupports": [support]}
    parts: list[dict[str, Any]] = [{"text": FIRST}, {"functionCall": {"name": "f", "args": {}}}, {"text": SECOND}]
    if hosted:
        parts[1:2] = [
            {"executableCode": {"language": "PYTHON", "code": "1"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        ]
    chunks = [samples.chunk(samples.candidate(part)) for part in parts]
    request = samples.asked(tools=[HostedTool(type="google_search", value=raw({"type": "google_search"}))])
    data = samples.frames(*chunks, samples.end(groundingMetadata=found))
    return samples.decode([data], request if hosted else None)


def of_responses() -> list[Event]:
    """Responses counts in the part of the message."""
    start, end = PLACE
    cited = {"type": "url_citation", "start_index": start, "end_index": end, "url": "https://a.example", "title": "A"}
    content = [
        {"type": "output_text", "text": FIRST, "annotations": []},
        {"type": "output_text", "text": SECOND, "annotations": [cited]},
    ]
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    decoder = ResponsesDecoder(common.destination(endpoint="responses"))
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    members = {"model": "m", "output": [message], "status": "completed", "usage": usage}
    return decoder.whole({name: raw(value) for name, value in members.items()}, "completed")


ANSWERS: dict[str, Callable[[], list[Event]]] = {
    "chat": of_chat,
    "gemini": of_gemini,
    "gemini with code": lambda: of_gemini(hosted=True),
    "two parts": of_responses,
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_words_that_a_provider_means_are_those_that_the_client_finds(
    answer: str, client: str, stream: bool
) -> None:
    assert CLIENTS[client](_counted(ANSWERS[answer]()), stream=stream) == ["high"]


def _counted(answer: list[Event]) -> list[Event]:
    """With the figures that the bridge puts before the end."""
    return [*answer[:-1], UsageReport(Usage(1, 1)), answer[-1]]
