"""Google's streams as canonical events: any split, every ending, signatures, calls, candidates, errors."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.common import bytewise, split
from tests.dialects.gemini.samples import USAGE, asked, candidate, chunk, decode, deployment, end, frames, said
from tidegate.dialects.codec import Collector
from tidegate.dialects.gemini import GeminiUpstream
from tidegate.dialects.gemini.decoder import GeminiDecoder, decode_answer
from tidegate.wire import jsonio
from tidegate.wire.errors import (
    TidegateError,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimeout,
    WireError,
)
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    Ping,
    ReasoningDelta,
    ReasoningEnd,
    Seal,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import FunctionCall, HostedTool, Message, Output, Reasoning, TextPart, Tool

CALL = {"functionCall": {"name": "tide", "args": {"harbour": "青岛", "days": 2}}, "thoughtSignature": "c2lnbmF0dXJl"}
STREAMS: dict[str, bytes] = {
    "text": frames(said("潮"), said("汐表 🌊"), end("STOP", {"text": "。"})),
    "thoughts": frames(
        chunk(candidate({"text": "想一想", "thought": True})),
        chunk(candidate({"text": "再想", "thought": True})),
        said("好"),
        end("STOP", {"text": "", "thoughtSignature": "dGV4dA=="}),
    ),
    "calls": frames(
        chunk(candidate({"text": "查", "thought": True})),
        chunk(candidate(CALL, {"functionCall": {"id": "fc-2", "name": "wind", "args": {}}})),
        end("STOP", {"text": ""}),
    ),
    "choices": frames(
        chunk(candidate({"text": "一"}), candidate({"text": "二"}, index=1)),
        chunk(candidate({"text": "三"}, index=1, finishReason="MAX_TOKENS")),
        end("STOP"),
    ),
    "image": frames(
        chunk(candidate({"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}, "thoughtSignature": "aW1n"})),
        end(),
    ),
    "code": frames(
        chunk(candidate({"executableCode": {"language": "PYTHON", "code": "print(1)"}})),
        chunk(candidate({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}})),
        chunk(candidate({"toolCall": {"toolType": "GOOGLE_SEARCH"}})),
        end(),
    ),
    "blocked": frames(
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}}
    ),
    "comments": b": hello\n\n" + frames(said("潮")) + b":\r\n\r\n" + frames(end()),
    "cut": frames(said("潮汐")),
    "error": frames(said("潮")) + frames({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
    "garbage": frames(said("潮")) + b"data: {oops\n\n" + frames(end()),
    "not utf-8": frames(said("潮"))[:-1].replace(b"\xe6", b"\xff", 1) + b"\n" + frames(end()),
    "array": json.dumps([said("潮"), end("STOP", {"text": "汐"})], ensure_ascii=False, indent=2).encode(),
    "array error": json.dumps([{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}]).encode(),
}


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def reports(events: list[Event]) -> list[Usage]:
    return [event.usage for event in events if isinstance(event, UsageReport)]


def failure(events: list[Event]) -> TidegateError:
    last = events[-1]
    assert isinstance(last, Failed)
    return last.error


def comparable(events: list[Event]) -> list[object]:
    return [(type(event.error), event.error.message) if isinstance(event, Failed) else event for event in events]


def folded(events: list[Event]) -> Output:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.output()


@pytest.mark.parametrize("name", STREAMS)
def test_byte_by_byte_is_the_same_as_whole(name: str) -> None:
    whole = comparable(decode([STREAMS[name]]))
    assert comparable(decode(bytewise(STREAMS[name]))) == whole


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_is_the_same_as_whole(name: str, cuts: list[int]) -> None:
    data = STREAMS[name]
    assert comparable(decode(split(data, cuts))) == comparable(decode([data]))


def test_text_comes_as_it_was_sent_and_ends_with_usage() -> None:
    assert decode([STREAMS["text"]]) == [
        Started("gemini-3-flash"),
        TextDelta("潮"),
        TextDelta("汐表 🌊"),
        TextDelta("。"),
        UsageReport(Usage(input_tokens=7, output_tokens=5)),
        ChoiceEnd("stop"),
        Finished(),
    ]


def test_usage_counts_thoughts_as_output_and_tool_results_as_input() -> None:
    usage = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 3,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 20,
        "cachedContentTokenCount": 8.0,
        "totalTokenCount": 38,
    }
    last = chunk(candidate(finishReason="STOP"), usageMetadata=usage)
    told = Usage(input_tokens=13, output_tokens=25, cached_tokens=8, reasoning_tokens=20)
    assert reports(decode([frames(said("a", usageMetadata={"promptTokenCount": 10}), last)])) == [told]


def test_of_figures_with_every_chunk_the_last_are_reported_that_can_be_read() -> None:
    """They are cumulative."""
    counted = {"promptTokenCount": 10, "candidatesTokenCount": 1}
    unreadable: list[Any] = [
        {"promptTokenCount": "many"},
        {"promptTokenCount": -1},
        {"candidatesTokenCount": 0},
        [],
        None,
    ]
    chunks = [said("a", usageMetadata=counted), said("b", usageMetadata={**counted, "candidatesTokenCount": 2})]
    reported = [Usage(input_tokens=10, output_tokens=2)]
    for figures in unreadable:
        last = chunk(candidate({"text": "c"}, finishReason="STOP"), usageMetadata=figures)
        events = decode([frames(*chunks, last)])
        assert (text(events), reports(events)) == ("abc", reported)
    assert reports(decode([frames(*chunks, end())])) == [Usage(input_tokens=7, output_tokens=5)]


@pytest.mark.parametrize("again", [{}, {"usageMetadata": {"promptTokenCount": 10}}])
def test_figures_are_reported_before_more_is_said_that_they_do_not_count(again: dict[str, Any]) -> None:
    first = said("a", usageMetadata={"promptTokenCount": 10})
    assert decode([frames(first, said("b", **again), end())]) == [
        Started("gemini-3-flash"),
        TextDelta("a"),
        UsageReport(Usage(input_tokens=10)),
        TextDelta("b"),
        UsageReport(Usage(input_tokens=7, output_tokens=5)),
        ChoiceEnd("stop"),
        Finished(),
    ]


def test_figures_of_a_broken_stream_are_reported_before_the_failure_and_whenever_somebody_asks() -> None:
    decoder = GeminiDecoder(deployment(), asked())
    for number in range(1, 4):
        chunks = frames(said("a", usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": number}))
        assert decoder.feed(chunks)[-1] == TextDelta("a")
        told = [UsageReport(Usage(input_tokens=10, output_tokens=number))]
        assert decoder.unreported() == decoder.unreported() == told
    *events, last = decoder.eof()
    assert events == told
    assert isinstance(last, Failed)
    assert decoder.unreported() == []


def test_odd_usage_does_not_cost_the_answer() -> None:
    events = decode(
        [frames(said("a", usageMetadata={"promptTokenCount": "many"}), chunk(candidate(finishReason="STOP")))]
    )
    assert events == [Started("gemini-3-flash"), TextDelta("a"), ChoiceEnd("stop"), Finished()]


def test_a_signature_stands_right_before_the_call_that_had_it() -> None:
    events = decode([STREAMS["calls"]])
    start = next(event for event in events if isinstance(event, ToolCallStart))
    assert events == [
        Started("gemini-3-flash"),
        ReasoningDelta("查", kind="summary"),
        ReasoningEnd(seal=Seal(kind="thought_signature", data="c2lnbmF0dXJl", call_id=start.call_id)),
        ToolCallStart(0, start.call_id, "tide"),
        ToolCallDelta(0, '{"harbour": "青岛", "days": 2}'),
        ToolCallEnd(0),
        ToolCallStart(1, "fc-2", "wind"),
        ToolCallDelta(1, "{}"),
        ToolCallEnd(1),
        UsageReport(Usage(input_tokens=7, output_tokens=5)),
        ChoiceEnd("tool_calls"),
        Finished(),
    ]


def test_made_up_call_ids_are_stable_distinct_and_short() -> None:
    one = frames(chunk(candidate(CALL, CALL), responseId="one"), end())
    other = frames(chunk(candidate(CALL), responseId="other"), end())
    ids = [event.call_id for event in decode([one]) if isinstance(event, ToolCallStart)]
    more = [event.call_id for event in decode([other]) if isinstance(event, ToolCallStart)]
    assert len({*ids, *more}) == 3
    assert all(len(one) <= 64 and one.startswith("call_") for one in ids)
    assert ids == [event.call_id for event in decode([one]) if isinstance(event, ToolCallStart)]


def test_no_call_is_cut_when_parallel_calls_are_off() -> None:
    events = decode([STREAMS["calls"]], asked(parallel_tool_calls=False))
    assert events == decode([STREAMS["calls"]])
    assert len([event for event in events if isinstance(event, ToolCallStart)]) > 1


def test_the_input_of_a_custom_tool_is_unwrapped() -> None:
    call = {"functionCall": {"name": "apply_patch", "args": {"input": "*** Begin\n"}}}
    odd = {"functionCall": {"name": "apply_patch", "args": {"patch": 1}}}
    events = decode([frames(chunk(candidate(call, odd)), end())], asked(tools=[Tool(name="apply_patch", custom=True)]))
    assert [event.custom for event in events if isinstance(event, ToolCallStart)] == [True, True]
    assert [event.text for event in events if isinstance(event, ToolCallDelta)] == ["*** Begin\n", '{"patch": 1}']


def test_thoughts_are_closed_before_text_and_a_trailing_signature_is_kept() -> None:
    events = [event for event in decode([STREAMS["thoughts"]]) if not isinstance(event, UsageReport)]
    assert events[1:7] == [
        ReasoningDelta("想一想", kind="summary"),
        ReasoningDelta("再想", kind="summary"),
        ReasoningEnd(),
        TextDelta("好"),
        MessageEnd(),
        ReasoningEnd(seal=Seal(kind="thought_signature", data="dGV4dA==", anchor="behind")),
    ]


def test_thoughts_that_were_cut_are_closed_before_the_end() -> None:
    events = decode([frames(chunk(candidate({"text": "想", "thought": True})), end("MAX_TOKENS"))])
    kept = [event for event in events if not isinstance(event, Started | UsageReport)]
    assert kept == [ReasoningDelta("想", kind="summary"), ReasoningEnd(), ChoiceEnd("length"), Finished()]


def test_a_signature_on_the_first_text_stands_before_it_and_on_a_later_one_behind() -> None:
    first = decode([frames(end("STOP", {"text": "好", "thoughtSignature": "QQ=="}))])
    assert first[1:3] == [
        ReasoningEnd(seal=Seal(kind="thought_signature", data="QQ==", anchor="text")),
        TextDelta("好"),
    ]
    later = decode([frames(said("很"), end("STOP", {"text": "好", "thoughtSignature": "QQ=="}))])
    assert later[1:6] == [
        TextDelta("很"),
        TextDelta("好"),
        UsageReport(Usage(input_tokens=7, output_tokens=5)),
        MessageEnd(),
        ReasoningEnd(seal=Seal(kind="thought_signature", data="QQ==", anchor="behind")),
    ]
    assert len([item for item in folded(later).choices[0].items if isinstance(item, Message)]) == 1


def test_a_signature_on_a_thought_or_alone_or_on_an_image_is_kept() -> None:
    thought = decode([frames(chunk(candidate({"text": "t", "thought": True, "thoughtSignature": "QQ=="})), end())])
    assert ReasoningEnd(seal=Seal(kind="thought_signature", data="QQ==", text="t", anchor="thought")) in thought
    alone = decode([frames(end("STOP", {"thoughtSignature": "QQ=="}))])
    assert ReasoningEnd(seal=Seal(kind="thought_signature", data="QQ==", anchor="text")) in alone
    image = decode([STREAMS["image"]])
    assert image[1:3] == [
        ReasoningEnd(seal=Seal(kind="thought_signature", data="aW1n", anchor="media")),
        MediaDelta("image/png", "iVBORw0K"),
    ]


def test_a_sound_is_no_image() -> None:
    part = {"inlineData": {"mimeType": "audio/pcm", "data": "AAA="}, "thoughtSignature": "QQ=="}
    events = decode([frames(chunk(candidate(part)), end())])
    (kept,) = [event for event in events if isinstance(event, Opaque)]
    assert (kept.type, jsonio.anything(kept.item)["part"]) == ("google:inlineData", part)
    assert not [event for event in events if isinstance(event, MediaDelta)]


def test_candidates_are_choices_and_end_each_in_its_way() -> None:
    events = decode([STREAMS["choices"]], asked(n=2))
    assert [event for event in events if isinstance(event, ChoiceEnd)] == [ChoiceEnd("stop", 0), ChoiceEnd("length", 1)]
    output = folded(events)
    assert [choice.items for choice in output.choices] == [
        [Message(role="assistant", content=[TextPart(text="一")])],
        [Message(role="assistant", content=[TextPart(text="二三")])],
    ]


def test_a_missing_candidate_is_a_broken_answer() -> None:
    assert isinstance(failure(decode([frames(said("一"), end())], asked(n=2))), UpstreamBroken)


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        *((one, "content_filter") for one in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        *((one, "content_filter") for one in ("IMAGE_SAFETY", "IMAGE_OTHER", "MODEL_ARMOR", "LANGUAGE")),
    ],
)
def test_finish_reasons_that_are_endings(reason: str, meaning: Any) -> None:
    assert decode([frames(said("a"), end(reason))])[-2:] == [ChoiceEnd(meaning), Finished()]


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "OTHER",
        "NEW_ONE",
    ],
)
def test_finish_reasons_that_are_breaks(reason: str) -> None:
    events = decode([frames(said("a"), end(reason, finishMessage="no such function"))])
    error = failure(events)
    assert text(events) == "a"
    assert error.http_status == 502
    assert error.may_retry
    assert reason in error.message
    assert "no such function" in error.message


def test_a_missing_signature_is_the_callers_and_not_retried() -> None:
    error = failure(decode([frames(end("MISSING_THOUGHT_SIGNATURE"))]))
    assert isinstance(error, UpstreamFailed)
    assert (error.http_status, error.may_retry) == (400, False)


def test_an_unspecified_reason_ends_nothing() -> None:
    events = decode([frames(chunk(candidate({"text": "a"}, finishReason="FINISH_REASON_UNSPECIFIED")), said("b"))])
    assert isinstance(failure(events), UpstreamBroken)
    assert text(events) == "ab"


def test_what_comes_behind_the_finish_reason_is_not_lost() -> None:
    events = decode([frames(said("a"), chunk(candidate(finishReason="STOP")), said("b", usageMetadata=USAGE))])
    assert text(events) == "ab"
    assert events[-1] == Finished()


def test_feedback_that_blocks_nothing_filters_nothing() -> None:
    none = {"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}
    beside = said("a", promptFeedback={"blockReason": "OTHER"})
    for data in (frames(none, said("a"), end()), frames(beside, end())):
        assert decode([data])[-2] == ChoiceEnd("stop")


def test_a_blocked_prompt_is_a_filtered_answer() -> None:
    assert decode([STREAMS["blocked"]]) == [
        Started(""),
        UsageReport(Usage(input_tokens=4)),
        ChoiceEnd("content_filter"),
        Finished(),
    ]
    assert [one for one in decode([STREAMS["blocked"]], asked(n=2)) if isinstance(one, ChoiceEnd)] == [
        ChoiceEnd("content_filter"),
        ChoiceEnd("content_filter", 1),
    ]


@pytest.mark.parametrize("data", [b"", b"\n\n", b": ping\n\n", frames(said("a")), frames(chunk(usageMetadata=USAGE))])
def test_an_end_without_a_finish_reason_is_a_break(data: bytes) -> None:
    assert isinstance(failure(decode([data])), UpstreamBroken)


def test_a_last_frame_without_a_blank_line_counts_if_it_is_whole() -> None:
    whole = frames(said("a"), end())
    assert decode([whole[:-4]])[-1] == Finished()
    assert isinstance(failure(decode([whole[:-9]])), UpstreamBroken)


def test_comments_are_pings_and_done_is_passed_over() -> None:
    events = decode([b": a\n\n" + STREAMS["text"] + b"data: [DONE]\n\n"])
    assert events[0] == Ping()
    assert events[-1] == Finished()


def test_code_that_google_ran_is_an_item_and_unknown_parts_are_kept() -> None:
    events = [event for event in decode([STREAMS["code"]]) if isinstance(event, Opaque)]
    assert [event.type for event in events] == ["code_interpreter_call", "web_search_call"]
    item = jsonio.anything(events[0].item)
    assert item["code"] == "print(1)"
    assert item["outputs"] == [{"type": "logs", "logs": "1\n"}]
    assert jsonio.anything(events[1].item)["google_parts"] == [{"toolCall": {"toolType": "GOOGLE_SEARCH"}}]


CALL_PART = {
    "toolCall": {"id": "s1", "toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["tides", "潮汐"]}},
    "thoughtSignature": "QQ==",
}
RESPONSE_PART = {"toolResponse": {"id": "s1", "toolType": "GOOGLE_SEARCH_WEB", "response": {"x": "y"}}}


def searches(*chunks: dict[str, Any]) -> list[Any]:
    events = decode([frames(*chunks)], asked(tools=[HostedTool(type="web_search", value=jsonio.raw({}))]))
    return [jsonio.anything(event.item) for event in events if isinstance(event, Opaque)]


@pytest.mark.parametrize("together", [True, False])
def test_a_search_that_google_shows_is_one_item_with_its_parts(together: bool) -> None:
    parts = [candidate(CALL_PART, RESPONSE_PART)] if together else [candidate(CALL_PART), candidate(RESPONSE_PART)]
    metadata = {**GROUNDING, "webSearchQueries": ["tides"]}
    (item,) = searches(*map(chunk, parts), said("high"), end(groundingMetadata=metadata))
    assert item == {
        "type": "web_search_call",
        "id": "ws_s1",
        "status": "completed",
        "action": {"type": "search", "query": "tides", "queries": ["tides", "潮汐"]},
        "google_parts": [CALL_PART, RESPONSE_PART],
    }


def test_searches_that_google_only_tells_of_are_one_item() -> None:
    metadata = {**GROUNDING, "webSearchQueries": ["tides", "moon"]}
    (item,) = searches(said("high"), end(groundingMetadata=metadata))
    assert item["id"].startswith("ws_")
    assert item["action"] == {
        "type": "search",
        "query": "tides",
        "queries": ["tides", "moon"],
        "sources": [{"type": "url", "url": "https://tide.example"}],
    }
    assert searches(said("high"), end(groundingMetadata=GROUNDING)) == []


def test_code_without_a_result_is_not_lost() -> None:
    events = decode([frames(end("STOP", {"executableCode": {"language": "PYTHON", "code": "1"}}))])
    (item,) = [jsonio.anything(event.item) for event in events if isinstance(event, Opaque)]
    assert (item["code"], item["outputs"]) == ("1", None)


GROUNDING = {
    "groundingChunks": [{"web": {"uri": "https://tide.example", "title": "Tide"}}],
    "groundingSupports": [{"segment": {"startIndex": 3, "endIndex": 6}, "groundingChunkIndices": [0, 9]}],
}


def test_grounding_is_counted_in_characters() -> None:
    data = frames(said("潮汐表"), end(groundingMetadata=GROUNDING))
    events = decode([data], asked(tools=[HostedTool(type="googleSearch", value=jsonio.raw({}))]))
    (value,) = [jsonio.anything(event.value) for event in events if isinstance(event, Annotation)]
    assert value == {
        "type": "url_citation",
        "start_index": 1,
        "end_index": 2,
        "url": "https://tide.example",
        "title": "Tide",
    }
    (value,) = [jsonio.anything(event.value) for event in decode([data]) if isinstance(event, Annotation)]
    assert (value["start_index"], value["end_index"]) == (0, 3)  # the text was not kept: the whole message


CODE: list[dict[str, Any]] = [
    {"executableCode": {"language": "PYTHON", "code": "1"}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
]


def pointed_at(parts: list[list[dict[str, Any]]], segment: dict[str, Any], *, stream: bool) -> str:
    """The words of the last message that a source of this segment points at. `parts` are those of each chunk."""
    support = {"segment": segment, "groundingChunkIndices": [0]}
    grounding = {"groundingChunks": GROUNDING["groundingChunks"], "groundingSupports": [support]}
    if stream:
        chunks = [*(chunk(candidate(*one)) for one in parts), end(groundingMetadata=grounding)]
        events = decode([frames(*chunks)], asked(tools=[HostedTool(type="googleSearch", value=jsonio.raw({}))]))
    else:
        every = [part for one in parts for part in one]
        answer = chunk(candidate(*every, finishReason="STOP", groundingMetadata=grounding))
        events = decode_answer(jsonio.encode(answer), deployment(), asked())
    (value,) = [jsonio.anything(event.value) for event in events if isinstance(event, Annotation)]
    text = ""
    for event in events:
        if isinstance(event, MessageEnd | Opaque | ReasoningDelta):
            text = ""
        elif isinstance(event, TextDelta):
            text += event.text
    return text[value["start_index"] : value["end_index"]]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "before",
    [
        [{"text": "I look. "}],
        [{"text": "潮汐。"}, {"text": "潮"}],
        [{"text": "hm 潮", "thought": True}],
        [{"text": "hm", "thought": True}, {"text": "潮"}],
        [{"text": "潮"}, *CODE],
    ],
    ids=["a text", "texts", "a thought", "a thought and a text", "code"],
)
def test_a_source_points_into_the_part_that_it_names(before: list[dict[str, Any]], stream: bool) -> None:
    segment = {"partIndex": len(before), "startIndex": 9, "endIndex": 13}
    assert pointed_at([[*before, {"text": "水位 is high."}]], segment, stream=stream) == " hig"
    segment = {"partIndex": len(before), "startIndex": 3}
    assert pointed_at([[*before, {"text": "水位 is high."}, {"text": " Go."}]], segment, stream=stream) == "位 is high."
    segment = {"partIndex": len(before), "startIndex": 3, "endIndex": 99}
    assert pointed_at([[*before, {"text": "水位 is high."}, {"text": " Go."}]], segment, stream=stream) == "位 is high."


def test_the_parts_of_a_stream_are_those_of_the_whole_answer() -> None:
    """A chunk goes on with the last part of the chunk before, if both are words of one kind."""
    thoughts = [[{"text": "潮", "thought": True}], [{"text": "h", "thought": True}]]
    words = [[{"text": "水"}], [{"text": "位 is"}], [{"text": " high."}]]
    segment = {"partIndex": 1, "startIndex": 6, "endIndex": 11}
    assert pointed_at([*thoughts, *words], segment, stream=True) == " is h"
    segment = {"partIndex": 3, "startIndex": 6, "endIndex": 11}
    assert pointed_at([*words, CODE, *words], segment, stream=True) == " is h"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("part", [1, 7, -1])
def test_a_source_of_a_part_that_is_no_text_is_one_of_the_whole_message(part: int, stream: bool) -> None:
    parts = [{"text": "潮"}, *CODE, {"text": "It is high."}]
    segment = {"partIndex": part, "startIndex": 1, "endIndex": 3}
    assert pointed_at([parts], segment, stream=stream) == "It is high."


def test_a_support_that_cannot_be_read_costs_no_other() -> None:
    odd = {"segment": {"startIndex": None, "endIndex": 4}, "groundingChunkIndices": [0]}
    good = {"segment": {"startIndex": 3, "endIndex": 6}, "groundingChunkIndices": [0]}
    data = frames(said("潮汐表"), end(groundingMetadata={**GROUNDING, "groundingSupports": [odd, good]}))
    assert len([event for event in decode([data]) if isinstance(event, Annotation)]) == 1


def test_citations_of_ascii_text_are_exact() -> None:
    cited = {"citationSources": [{"startIndex": 1, "endIndex": 3, "uri": "https://a.example", "license": "mit"}]}
    events = decode([frames(said("tide"), end(citationMetadata=cited))])
    (value,) = [jsonio.anything(event.value) for event in events if isinstance(event, Annotation)]
    assert (value["start_index"], value["end_index"], value["url"]) == (1, 3, "https://a.example")


@pytest.mark.parametrize("odd", [[], {"groundingChunks": 1}, {"groundingSupports": [{"segment": "x"}]}, "x"])
def test_odd_grounding_does_not_cost_the_answer(odd: Any) -> None:
    assert decode([frames(said("a"), end(groundingMetadata=odd, citationMetadata=odd))])[-1] == Finished()


def test_logprobs_belong_to_the_text_of_their_chunk() -> None:
    result = {
        "chosenCandidates": [{"token": "潮", "tokenId": 5, "logProbability": -0.25}],
        "topCandidates": [{"candidates": [{"token": "潮", "logProbability": -0.25}, {"token": "t"}]}],
    }
    events = decode([frames(chunk(candidate({"text": "潮"}, logprobsResult=result)), said("汐"), end())])
    first, second = (event for event in events if isinstance(event, TextDelta))
    assert first.logprobs is not None
    assert [jsonio.anything(one) for one in first.logprobs] == [
        {
            "token": "潮",
            "logprob": -0.25,
            "bytes": [230, 189, 174],
            "top_logprobs": [
                {"token": "潮", "logprob": -0.25, "bytes": [230, 189, 174]},
                {"token": "t", "logprob": -9999.0, "bytes": [116]},
            ],
        }
    ]
    assert second.logprobs is None


def reported(status: int, name: str, *details: dict[str, Any]) -> bytes:
    return frames({"error": {"code": status, "message": "it says why", "status": name, "details": list(details)}})


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("data", "kind", "status", "retry"),
    [
        (reported(429, "RESOURCE_EXHAUSTED", RETRY), UpstreamRateLimited, 429, True),
        (reported(503, "UNAVAILABLE"), UpstreamFailed, 503, True),
        (reported(500, "INTERNAL"), UpstreamFailed, 502, True),
        (reported(400, "INVALID_ARGUMENT"), UpstreamFailed, 400, False),
        (reported(400, "FAILED_PRECONDITION"), UpstreamFailed, 400, False),
        (reported(400, "INVALID_ARGUMENT", KEY), UpstreamAuth, 502, False),
        (reported(401, "UNAUTHENTICATED"), UpstreamAuth, 502, False),
        (reported(403, "PERMISSION_DENIED"), UpstreamAuth, 502, False),
        (reported(404, "NOT_FOUND"), UpstreamFailed, 404, False),
        (reported(504, "DEADLINE_EXCEEDED"), UpstreamTimeout, 504, True),
        (frames({"error": {"message": "m", "status": "RESOURCE_EXHAUSTED"}}), UpstreamRateLimited, 429, True),
    ],
)
def test_errors_in_the_stream_keep_their_meaning(data: bytes, kind: type[Any], status: int, retry: bool) -> None:
    error = failure(decode([frames(said("a")) + data]))
    assert isinstance(error, kind)
    assert (error.http_status, error.may_retry) == (status, retry)


def test_the_wait_that_google_asks_for_is_told() -> None:
    assert failure(decode([reported(429, "RESOURCE_EXHAUSTED", RETRY)])).retry_after == 34.5


def test_a_context_that_is_too_long_has_the_code_that_clients_act_on() -> None:
    said_so = "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."
    error = failure(decode([frames({"error": {"code": 400, "message": said_so, "status": "INVALID_ARGUMENT"}})]))
    assert error.code == "context_length_exceeded"


def test_an_array_instead_of_frames_is_read_and_so_is_an_error_in_it() -> None:
    assert text(decode([STREAMS["array"]])) == "潮汐"
    assert isinstance(failure(decode([STREAMS["array error"]])), UpstreamRateLimited)
    assert isinstance(failure(decode([STREAMS["array"][:-3]])), UpstreamBroken)


# -- whole bodies -----------------------------------------------------------------------------------------------------


def whole(content: Any, **members: Any) -> list[Event]:
    return GeminiUpstream().decode_answer(
        json.dumps(content, ensure_ascii=False, indent=2).encode(), deployment(), asked(**members)
    )


def test_a_whole_body_says_what_its_stream_says() -> None:
    parts: list[dict[str, Any]] = [{"text": "想", "thought": True}, CALL, {"text": "好"}]
    streamed = decode([frames(*(chunk(candidate(part)) for part in parts), end())])
    assert folded(whole(chunk(candidate(*parts, finishReason="STOP"), usageMetadata=USAGE))) == Output(
        choices=[
            type(folded(streamed).choices[0])(
                items=[
                    Reasoning(
                        summary=["想"],
                        seal=Seal(
                            kind="thought_signature",
                            data="c2lnbmF0dXJl",
                            call_id=next(one.call_id for one in streamed if isinstance(one, ToolCallStart)),
                        ),
                    ),
                    FunctionCall(
                        call_id=next(one.call_id for one in streamed if isinstance(one, ToolCallStart)),
                        name="tide",
                        arguments='{"harbour":"青岛","days":2}',
                    ),
                    Message(role="assistant", content=[TextPart(text="好")]),
                ],
                reason="tool_calls",
            )
        ],
        usage=Usage(input_tokens=7, output_tokens=5),
        model="gemini-3-flash",
    )


def test_an_answer_without_a_finish_reason_is_called_what_it_is() -> None:
    body = json.dumps(chunk(candidate({"text": "潮"}))).encode()
    with pytest.raises(WireError, match="its answer has no finish reason"):
        GeminiUpstream().decode_answer(body, deployment(), asked())
    broken = decode([frames(said("潮"))])[-1]
    assert isinstance(broken, Failed)
    assert broken.error.message == "Provider 'google': the stream ended without a finish reason."


def test_grounding_of_a_whole_body_is_exact() -> None:
    events = whole(chunk(candidate({"text": "潮汐表"}, finishReason="STOP", groundingMetadata=GROUNDING)))
    (value,) = [jsonio.anything(event.value) for event in events if isinstance(event, Annotation)]
    assert (value["start_index"], value["end_index"]) == (1, 2)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b"<html>", b"[1]", b'{"candidates":[{"content":{}}]}', b"\xff\xfe"]
)
def test_a_body_that_is_no_answer_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        GeminiUpstream().decode_answer(body, deployment(), asked())


def test_an_error_with_status_200_keeps_its_meaning() -> None:
    with pytest.raises(UpstreamRateLimited):
        whole({"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}})


MUTATED = [
    *STREAMS.values(),
    json.dumps(chunk(candidate(CALL, {"text": "a"}, finishReason="STOP"), usageMetadata=USAGE)).encode(),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MUTATED), st.data())
def test_nothing_but_a_failure_comes_of_mutations(data: bytes, draw: st.DataObject) -> None:
    mutated = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        at = draw.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + draw.draw(st.integers(0, 3))] = draw.draw(st.binary(max_size=3))
        if not mutated:
            mutated = bytearray(b"x")
    decode([bytes(mutated)])
    with contextlib.suppress(WireError, TidegateError):
        assert isinstance(GeminiUpstream().decode_answer(bytes(mutated), deployment(), asked())[-1], Finished)


@pytest.mark.parametrize(
    "part",
    [
        {"thoughtSignature": None},
        {"executableCode": None},
        {"executableCode": "x"},
        {"codeExecutionResult": 5},
        {"text": None, "thought": None},
        {},
    ],
)
def test_parts_with_nothing_in_them_do_no_harm(part: Any) -> None:
    assert decode([frames(chunk(candidate(part)), end())])[-1] == Finished()


def test_what_is_nested_too_deeply_is_a_break() -> None:
    deep = b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%b}}]}}]}\n\n'
    for depth in (50, 900, 5000, 200_000):
        events = decode([deep % (b'{"a":' * depth + b"\n1" + b"}" * depth) + frames(end())])
        assert isinstance(events[-1], Finished | Failed)


@pytest.mark.parametrize(("reason", "known"), [("MAX_TOKENS", "length"), ("SAFETY", "content_filter")])
def test_a_cut_answer_is_not_made_whole_by_a_later_stop(reason: str, known: str) -> None:
    """Some models repeat `STOP` in every chunk."""
    events = decode([frames(said("a"), end(reason), end("STOP"))])
    assert [event.reason for event in events if isinstance(event, ChoiceEnd)] == [known]
    events = decode([frames(end("STOP", {"text": "a"}), end(reason))])
    assert [event.reason for event in events if isinstance(event, ChoiceEnd)] == [known]


def test_a_break_is_not_made_an_end_by_a_later_stop() -> None:
    assert isinstance(decode([frames(said("a"), end("MALFORMED_FUNCTION_CALL"), end("STOP"))])[-1], Failed)


def test_a_call_without_a_name_is_none() -> None:
    """Pieces of a call, as Google sends them to those who ask for them: no call that anybody could run."""
    events = decode([frames(chunk(candidate({"functionCall": {"name": "tide", "willContinue": True}})))])
    assert isinstance(events[-1], Failed)
    events = decode([frames(chunk(candidate({"functionCall": {"args": {}}})), end("STOP"))])
    assert isinstance(events[-1], Failed)
    assert "without a name" in events[-1].error.message
    assert not any(isinstance(event, ToolCallStart) for event in events)
