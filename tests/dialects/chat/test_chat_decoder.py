"""What chat servers answer, with all their habits, as canonical events."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.dialects.chat.playing import (
    DONE,
    OFFICIAL,
    UPSTREAM,
    answer,
    asked,
    check_laws,
    chunk,
    decoded,
    error_of,
    folded,
    items_of,
    joined,
    plain,
    provider,
    shown,
    stream,
)
from tests.dialects.common import bytewise, frame, names, split, vector
from tidegate.dialects.dialect import Quirks
from tidegate.wire import jsonio
from tidegate.wire.errors import (
    TidegateError,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRateLimited,
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
    Ping,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Seal,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import FunctionCall, Message, Reasoning, RefusalPart, TextPart, Tool

CUSTOM = Tool(name="apply_patch", custom=True)


def text_of(events: list[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == choice)


def thought_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def calls_of(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(item.call_id, item.name, item.arguments) for item in items_of(events) if isinstance(item, FunctionCall)]


def tool(
    index: int | None = None, call_id: str | None = None, name: str | None = None, args: Any = None
) -> dict[str, Any]:
    """An entry of `tool_calls`; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", args)) if value is not None}
    given = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in given.items() if value is not None}


def calls(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(entries)}


# -- streams of the simulator -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("chat"))
def test_any_split_gives_the_same_events(name: str) -> None:
    data = vector(name)
    whole = decoded(data)
    assert shown(decoded(bytewise(data))) == shown(whole)


@given(st.sampled_from(names("chat")), st.lists(st.integers(0, 100_000), max_size=8))
def test_random_splits_give_the_same_events(name: str, cuts: list[int]) -> None:
    data = vector(name)
    assert shown(decoded(split(data, cuts))) == shown(decoded(data))


@pytest.mark.parametrize("name", names("chat"))
def test_a_stream_without_a_real_ending_fails(name: str) -> None:
    events = decoded(vector(name))
    broken = any(word in name for word in ("error", "garbage", "no-finish", "not-utf8"))
    assert isinstance(events[-1], Failed if broken else Finished)


@pytest.mark.parametrize("at", range(0, 3000, 211))
def test_a_cut_stream_is_broken_and_never_finished(at: int) -> None:
    data = vector("chat-chinese")
    last = data.rindex(b'"finish_reason":"stop"')
    events = decoded(data[: min(at, last)])
    assert isinstance(error_of(events), UpstreamBroken)


def test_what_came_whole_before_a_failure_is_still_handed_out() -> None:
    events = decoded(chunk({"content": "潮"}) + b"data: {broken\n\n")
    assert events[:2] == [Started("tide-1"), TextDelta("潮")]
    assert isinstance(error_of(events), UpstreamBroken)


def test_nothing_at_all_is_a_failure() -> None:
    assert isinstance(error_of(decoded(b"")), UpstreamBroken)
    assert isinstance(error_of(decoded(DONE)), UpstreamBroken)


def test_comments_are_signs_of_life() -> None:
    events = decoded(b": OPENROUTER PROCESSING\n\n" + stream({"content": "x"}))
    assert events[:2] == [Ping(), Started("tide-1")]


# -- endings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "canonical"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("sensitive", "content_filter"),
        ("refusal", "refusal"),
        ("tool_calls", "stop"),
    ],
)
def test_finish_reasons_of_all_engines_are_understood(reason: str, canonical: str) -> None:
    assert decoded(stream({"content": "x"}, finish=reason))[-2] == ChoiceEnd(canonical)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call", "tool_use"])
def test_an_answer_with_calls_ends_for_its_calls(reason: str) -> None:
    """Bifrost #1821, and engines that say `stop`: agents loop or wait for ever."""
    events = decoded(stream(calls(tool(0, "call_1", "f", "{}")), finish=reason))
    assert events[-2] == ChoiceEnd("tool_calls")


@pytest.mark.parametrize("reason", ["error", "abort", "timeout", "insufficient_system_resource"])
def test_a_reason_that_reports_a_break_is_a_failure(reason: str) -> None:
    assert isinstance(error_of(decoded(stream({"content": "x"}, finish=reason))), UpstreamBroken)


def test_a_missing_done_after_a_real_finish_is_no_failure() -> None:
    data = chunk({"content": "x"}) + chunk({}, "stop")
    assert decoded(data)[-1] == Finished()
    assert decoded(data + b"data: [DONE]")[-1] == Finished()
    assert decoded(data + b"data: {half")[-1] == Finished()


def test_a_last_frame_without_its_blank_line_counts() -> None:
    assert decoded(chunk({"content": "x"}) + chunk({}, "stop").rstrip())[-1] == Finished()


def test_every_choice_needs_its_ending() -> None:
    one = chunk({"content": "a"}) + chunk({}, "stop")
    other = frame({"id": "c", "choices": [{"index": 1, "delta": {"content": "b"}}]})
    assert isinstance(error_of(decoded(one + other + DONE)), UpstreamBroken)


def test_choices_that_never_came_are_missed_when_the_stream_is_cut() -> None:
    one = chunk({"content": "a"}) + chunk({}, "stop")
    assert isinstance(error_of(decoded(one, request=asked(n=2))), UpstreamBroken)
    assert decoded(one + DONE, request=asked(n=2))[-1] == Finished()


def test_content_in_the_frame_that_finishes_is_kept() -> None:
    """Bifrost #5604."""
    assert text_of(decoded(chunk({"content": "all"}, "stop") + DONE)) == "all"


def test_several_choices_are_told_apart() -> None:
    events = decoded(vector("chat-two"))
    assert text_of(events, 0) == text_of(events, 1) != ""
    assert len(folded(events).choices) == 2


# -- usage --------------------------------------------------------------------------------------------------------

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
COUNTED = Usage(input_tokens=9, output_tokens=5, cached_tokens=4, cache_write_tokens=1, reasoning_tokens=2)


@pytest.mark.parametrize(
    "data",
    [
        chunk({"content": "x"}, usage=USAGE) + chunk({}, "stop") + DONE,
        chunk({"content": "x"}) + chunk({}, "stop", usage=USAGE) + DONE,
        chunk({"content": "x"}) + chunk({}, "stop") + chunk(choices=[], usage=USAGE) + DONE,
        chunk({"content": "x"}) + chunk({}, "stop") + frame({"usage": USAGE}) + DONE,
    ],
    ids=["first", "finish", "last", "bare"],
)
def test_usage_counts_in_any_chunk(data: bytes) -> None:
    events = decoded(data)
    assert [event for event in events if isinstance(event, UsageReport)] == [UsageReport(COUNTED)]
    assert folded(events).usage == COUNTED


def test_usage_grows_and_is_not_added_up() -> None:
    early = {**USAGE, "completion_tokens": 1}
    events = decoded(chunk({"content": "x"}, usage=early) + chunk({}, "stop", usage=USAGE) + DONE)
    assert folded(events).usage == COUNTED


@pytest.mark.parametrize("usage", [{"prompt_tokens": 9.0, "completion_tokens": 5.0}, {"input_tokens": 9, "output_tokens": 5, "total_tokens": "14"}])  # fmt: skip
def test_usage_of_other_types_and_names_counts_too(usage: dict[str, Any]) -> None:
    events = decoded(chunk({"content": "x"}, "stop", usage=usage) + DONE)
    assert folded(events).usage == Usage(input_tokens=9, output_tokens=5)


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "slow down", "code": "rate_limit_exceeded"}, UpstreamRateLimited, 429),
        ({"message": "busy", "code": 503}, UpstreamFailed, 503),
        ({"message": "too long", "code": "context_length_exceeded"}, UpstreamFailed, 400),
        ({"message": "Overloaded", "type": "overloaded_error"}, UpstreamFailed, 503),
        ("it broke", UpstreamFailed, 502),
    ],
)
def test_an_error_in_the_stream_is_what_its_code_says(error: Any, kind: type, status: int) -> None:
    events = decoded(chunk({"content": "x"}) + frame({"error": error}) + DONE)
    assert isinstance(error_of(events), kind)
    assert error_of(events).http_status == status


@pytest.mark.parametrize(
    "bad",
    [
        frame({"message": "no", "type": "server_error"}),
        frame({"object": "error", "message": "no"}),
        frame({"detail": "no"}),
        frame({"error": {"message": "no"}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
        frame({"choices": [{"index": 0, "delta": {}, "error": {"code": 502, "message": "no"}, "finish_reason": "stop"}]}),
        b'event: error\ndata: {"message":"no"}\n\n',
    ],
)  # fmt: skip
def test_errors_in_every_wrapping_end_the_stream(bad: bytes) -> None:
    error = error_of(decoded(chunk({"content": "x"}) + bad + chunk({}, "stop") + DONE))
    assert error.http_status == 502
    assert "no" in error.message


def test_an_error_after_the_finish_reason_is_no_good_ending() -> None:
    events = decoded(chunk({"content": "x"}, "stop") + frame({"error": {"message": "late"}}) + DONE)
    assert isinstance(error_of(events), UpstreamFailed)


@pytest.mark.parametrize("error", [None, "", {}, False])
def test_an_error_that_says_nothing_is_none(error: Any) -> None:
    assert decoded(chunk({"content": "x"}, "stop", error=error) + DONE)[-1] == Finished()


def test_an_error_before_anything_else_needs_no_start() -> None:
    [only] = decoded(frame({"error": {"message": "no", "code": 429}}))
    assert isinstance(only, Failed)


@pytest.mark.fault("FAULT-UTF8")
def test_bytes_that_are_no_text_are_a_failure() -> None:
    bad = chunk({"content": "潮"}).replace("潮".encode(), b"\xe6\xbd")
    assert isinstance(error_of(decoded(bad)), UpstreamBroken)
    citation = {"type": "url_citation", "url": "潮"}
    bad = chunk({"annotations": [citation]}).replace("潮".encode(), b"\xe6\xbd")
    assert isinstance(error_of(decoded(bad)), UpstreamBroken)


# -- reasoning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names_and_closes_before_the_text(member: str) -> None:
    events = joined(decoded(stream({member: "let "}, {member: "me"}, {"content": "42"})))
    assert events[1:4] == [ReasoningDelta("let me"), ReasoningEnd(), TextDelta("42")]


def test_both_names_at_once_say_it_once() -> None:
    assert thought_of(decoded(stream({"reasoning": "a", "reasoning_content": "a"}, {"content": "x"}))) == "a"


def test_a_chunk_with_reasoning_and_text_loses_neither() -> None:
    """LiteLLM #36327."""
    events = decoded(stream({"reasoning_content": "why", "content": "because"}))
    assert events[1:4] == [ReasoningDelta("why"), ReasoningEnd(), TextDelta("because")]


def test_empty_deltas_say_nothing() -> None:
    events = decoded(stream({"role": "assistant", "content": "", "reasoning_content": ""}, {"content": "x"}))
    assert events == [Started("tide-1"), TextDelta("x"), ChoiceEnd("stop"), Finished()]


def test_reasoning_between_texts_is_an_item_of_its_own() -> None:
    found = items_of(decoded(stream({"content": "a"}, {"reasoning": "hm"}, {"content": "b"})))
    assert [type(item) for item in found] == [Message, Reasoning, Message]


def test_words_without_a_thought_between_them_stay_one_message_with_its_sources() -> None:
    details = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAA="}]}
    cited = {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}]}
    found = items_of(decoded(stream({"content": "a"}, details, {"content": "b"}, cited)))
    assert [type(item) for item in found] == [Message, Reasoning]
    assert isinstance(found[0], Message)
    (part,) = found[0].content
    assert isinstance(part, TextPart)
    assert (part.text, len(part.annotations)) == ("ab", 1)


def test_reasoning_alone_is_closed_at_the_end() -> None:
    events = decoded(stream({"reasoning": "hm"}, finish="length"))
    assert events[1:] == [ReasoningDelta("hm"), ReasoningEnd(), ChoiceEnd("length"), Finished()]


def test_reasoning_that_the_provider_wants_back_is_sealed() -> None:
    to = provider(quirks=Quirks(reasoning_back="reasoning_content"))
    events = decoded(stream({"reasoning_content": "潮 "}, {"reasoning_content": "汐"}, {"content": "x"}), to)
    assert ReasoningEnd(Seal(kind="reasoning_content", data="潮 汐")) in events


def test_reasoning_details_are_read_and_sealed_as_whole_entries() -> None:
    events = decoded(
        stream(
            {"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}]},
            {"reasoning": "b", "reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.text", "signature": "sig", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAA=", "index": 1, "id": "rs_1"}]},
            {"content": "42"},
        )
    )
    assert thought_of(events) == "ab"
    [end] = [event for event in events if isinstance(event, ReasoningEnd)]
    assert end.seal is not None
    assert end.seal.kind == "reasoning_details"
    assert jsonio.anything(end.seal.data.encode()) == [
        {"type": "reasoning.text", "text": "ab", "index": 0, "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "AAA=", "index": 1, "id": "rs_1"},
    ]


def test_reasoning_details_alone_are_reasoning() -> None:
    details = [{"type": "reasoning.summary", "summary": "thought"}]
    assert thought_of(decoded(stream({"reasoning_details": details}, {"content": "x"}))) == "thought"


def test_encrypted_reasoning_beside_a_call_comes_before_it() -> None:
    details = [{"type": "reasoning.encrypted", "data": "AAA=", "id": "call_1"}]
    events = decoded(stream({"content": "ok"}, {"reasoning_details": details, **calls(tool(0, "call_1", "f", "{}"))}))
    assert [type(event).__name__ for event in events[1:5]] == [
        "TextDelta",
        "MessageEnd",
        "ReasoningEnd",
        "ToolCallStart",
    ]


# -- <think> ------------------------------------------------------------------------------------------------------

THOUGHTS = [
    ("<think>\nwhy\n</think>\n\n42", "why", "42"),
    ("\n<think>why</think>42", "why", "42"),
    ("<think></think>42", "", "42"),
    ("<think>\n\n</think>\n\n42", "", "42"),
    ("<think>a < b </thinking> c</think> 42 ", "a < b </thinking> c", "42 "),
    ("<think>潮汐 🌊\n\n为什么</think>因为 <think>no</think>", "潮汐 🌊\n\n为什么", "因为 <think>no</think>"),
    ("<think>never closed </thi", "never closed </thi", ""),
    ("<thinking>text", "", "<thinking>text"),
    (" <th", "", " <th"),
    ("  ", "", "  "),
    ("  plain", "", "  plain"),
    ("text <think>no</think>", "", "text <think>no</think>"),
]


@pytest.mark.parametrize(("content", "thought", "text"), THOUGHTS)
def test_reasoning_between_tags_at_the_start_is_found(content: str, thought: str, text: str) -> None:
    for size in (1, 2, 3, 7, 1000):
        pieces = [{"content": content[at : at + size]} for at in range(0, len(content), size)]
        events = decoded(stream(*pieces))
        assert (thought_of(events), text_of(events)) == (thought, text)


@given(st.sampled_from(THOUGHTS), st.lists(st.integers(0, 100), max_size=6))
@example(THOUGHTS[0], [])
def test_tags_may_be_cut_anywhere(case: tuple[str, str, str], cuts: list[int]) -> None:
    content, thought, text = case
    places = sorted({cut % (len(content) + 1) for cut in cuts})
    pieces = [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]
    events = decoded(stream(*({"content": piece} for piece in pieces)))
    assert (thought_of(events), text_of(events)) == (thought, text)


def test_text_is_not_held_back_when_no_tag_can_come() -> None:
    decoder = UPSTREAM.decoder(provider(), asked())
    assert TextDelta("x") in decoder.feed(chunk({"content": "x"}))
    assert decoder.feed(chunk({"content": "<thi"})) == [TextDelta("<thi")]


def test_openai_writes_tags_because_they_are_meant() -> None:
    events = decoded(stream({"content": "<think>"}, {"content": "x</think>"}), provider(quirks=OFFICIAL))
    assert text_of(events) == "<think>x</think>"


def test_tags_are_text_where_reasoning_has_a_member() -> None:
    events = decoded(stream({"reasoning": "r"}, {"content": "<think>x</think>"}))
    assert (thought_of(events), text_of(events)) == ("r", "<think>x</think>")


def test_calls_behind_tags_and_white_space() -> None:
    events = decoded(stream({"content": "<think>r</think>"}, {"content": "\n\n"}, calls(tool(0, "call_1", "f", "{}"))))
    assert [type(item) for item in items_of(events)] == [Reasoning, FunctionCall]


# -- calls --------------------------------------------------------------------------------------------------------

TWO = [("call_a", "f", '{"x":1}'), ("call_b", "g", '{"y":2}')]


@pytest.mark.fault("FAULT-TOOL-CALLS")
@pytest.mark.parametrize(
    "deltas",
    [
        # OpenAI
        [calls(tool(0, "call_a", "f", "")), calls(tool(0, args='{"x"')), calls(tool(0, args=":1}")),
         calls(tool(1, "call_b", "g", "")), calls(tool(1, args='{"y":2}'))],
        # pieces that take turns
        [calls(tool(0, "call_a", "f", ""), tool(1, "call_b", "g", "")), calls(tool(0, args='{"x"'), tool(1, args='{"y"')),
         calls(tool(1, args=":2}")), calls(tool(0, args=":1}"))],
        # whole calls in one chunk, without indexes
        [calls(tool(call_id="call_a", name="f", args='{"x":1}'), tool(call_id="call_b", name="g", args='{"y":2}'))],
        # without indexes, in pieces
        [calls(tool(call_id="call_a", name="f", args='{"x"')), calls(tool(args=":1}")),
         calls(tool(call_id="call_b", name="g", args="")), calls(tool(args='{"y":2}'))],
        # every index 0 (Bifrost #1961)
        [calls(tool(0, "call_a", "f", '{"x"')), calls(tool(0, args=":1}")), calls(tool(0, "call_b", "g", '{"y":2}'))],
        # id and name in every chunk
        [calls(tool(0, "call_a", "f", '{"x"')), calls(tool(0, "call_a", "f", ":1}")),
         calls(tool(1, "call_b", "g", '{"y"')), calls(tool(1, "call_b", "g", ":2}"))],
        # an empty name and id in later chunks (LM Studio #649)
        [calls(tool(0, "call_a", "f", "")), calls(tool(0, "", "", '{"x":1}')),
         calls(tool(1, "call_b", "g", "")), calls(tool(1, "", "", '{"y":2}'))],
        # another id in every chunk, the name only once
        [calls(tool(0, "call_a", "f", '{"x"')), calls(tool(0, "call_c", None, ":1}")),
         calls(tool(1, "call_b", "g", '{"y":2}'))],
        # the name behind the id
        [calls(tool(0, "call_a")), calls(tool(0, None, "f")), calls(tool(0, args='{"x":1}')),
         calls(tool(1, "call_b", None, '{"y"')), calls(tool(1, None, "g", ":2}"))],
        # indexes that start anywhere, as floats; arguments as objects
        [calls({"index": 3.0, "id": "call_a", "function": {"name": "f", "arguments": {"x": 1}}}),
         calls({"index": 4.0, "id": "call_b", "function": {"name": "g", "arguments": {"y": 2}}})],
        # indexes that begin at 1 and pieces that say 0
        [calls(tool(1, "call_a", "f", "")), calls(tool(0, args='{"x":1}')), calls(tool(2, "call_b", "g", '{"y":2}'))],
        # nulls
        [{"content": None, "tool_calls": None}, calls({"index": 0, "id": "call_a", "function": {"name": "f", "arguments": None}}),
         calls({"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": '{"x":1}'}}),
         calls(tool(1, "call_b", "g", '{"y":2}'))],
    ],
)  # fmt: skip
def test_calls_are_put_together_however_they_come(deltas: list[dict[str, Any]]) -> None:
    assert calls_of(decoded(stream(*deltas, finish="tool_calls"))) == TWO


@pytest.mark.fault("FAULT-TOOL-CALLS")
def test_calls_without_ids_get_their_own_and_keep_them() -> None:
    data = stream(calls(tool(0, None, "f", "{}")), calls(tool(1, None, "f", "{}")), finish="tool_calls")
    (first, *_), (second, *_) = calls_of(decoded(data))
    assert first != second
    assert first.startswith("call_")
    assert [one for one, *_ in calls_of(decoded(data))] == [first, second]
    later = asked(*asked().items, *asked().items)
    assert first not in [one for one, *_ in calls_of(decoded(data, request=later))]


@pytest.mark.fault("FAULT-TOOL-CALLS")
@pytest.mark.parametrize(
    "deltas",
    [
        [calls(tool(name="f", args="{}")), calls(tool(name="f", args="{}"))],
        [calls(tool(name="f", args="{}"), tool(name="f", args="{}"))],
        [calls(tool(name="f"), tool(name="f"))],
        [calls(tool(0, "same", "f", "{}"), tool(1, "same", "f", "{}"))],
        [calls(tool(0, None, "f", "{}")), calls(tool(0, None, "f", "{}"))],
    ],
)
def test_two_calls_of_one_name_stay_two(deltas: list[dict[str, Any]]) -> None:
    found = calls_of(decoded(stream(*deltas)))
    assert [call[1:] for call in found] == [("f", "{}"), ("f", "{}")]
    assert found[0][0] != found[1][0]


def test_a_name_that_is_repeated_while_the_arguments_come_is_one_call() -> None:
    found = calls_of(decoded(stream(calls(tool(name="f", args='{"a"')), calls(tool(name="f", args=":1}")))))
    assert [call[1:] for call in found] == [("f", '{"a":1}')]


@pytest.mark.parametrize("args", [None, "", "  "])
def test_empty_arguments_are_an_empty_object(args: str | None) -> None:
    [(_, _, found)] = calls_of(decoded(stream(calls(tool(0, "call_1", "f", args)))))
    assert jsonio.anything(found.encode()) == {}


def test_a_call_ends_when_the_next_begins() -> None:
    events = decoded(stream(calls(tool(0, "a", "f", "{}")), calls(tool(1, "b", "g", "{}"))))
    assert [type(event).__name__ for event in events[1:7]] == [
        "ToolCallStart", "ToolCallDelta", "ToolCallEnd", "ToolCallStart", "ToolCallDelta", "ToolCallEnd",
    ]  # fmt: skip


def test_text_may_follow_calls() -> None:
    events = decoded(stream(calls(tool(0, "a", "f", "{}")), {"content": "done"}))
    assert [type(item) for item in items_of(events)] == [FunctionCall, Message]


def test_a_call_cut_by_the_limit_keeps_what_came() -> None:
    events = decoded(stream(calls(tool(0, "a", "f", '{"x":')), finish="length"))
    assert calls_of(events) == [("a", "f", '{"x":')]
    assert ChoiceEnd("length") in events


def test_a_call_without_a_name_is_broken() -> None:
    events = decoded(stream(calls(tool(0, "a", None, "{}"))))
    assert isinstance(error_of(events), UpstreamBroken)


def test_the_function_call_of_2023_is_a_call() -> None:
    events = decoded(
        stream(
            {"function_call": {"name": "f", "arguments": ""}},
            {"function_call": {"arguments": '{"x":'}},
            {"function_call": {"arguments": "1}"}},
            finish="function_call",
        )
    )
    [(call_id, *rest)] = calls_of(events)
    assert call_id.startswith("call_")
    assert rest == ["f", '{"x":1}']
    assert events[-2] == ChoiceEnd("tool_calls")


def test_custom_calls_are_custom() -> None:
    events = decoded(
        stream(
            calls({"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "p", "input": ""}}),
            calls({"index": 0, "custom": {"input": "*** Begin"}}),
            calls({"index": 0, "custom": {"input": " Patch"}}),
        ),
        provider(quirks=OFFICIAL),
    )
    [call] = items_of(events)
    assert call == FunctionCall(call_id="call_1", name="p", arguments="*** Begin Patch", custom=True)


def test_choices_have_calls_of_their_own() -> None:
    data = b"".join(
        frame({"id": "c", "choices": [{"index": index, "delta": calls(tool(0, f"call_{index}", "f", "{}")), "finish_reason": "stop"}]})
        for index in (0, 1)
    )  # fmt: skip
    events = decoded(data + DONE)
    assert [event.index for event in events if isinstance(event, ToolCallStart)] == [0, 1]
    assert [len(choice.items) for choice in folded(events).choices] == [1, 1]


# -- functions that stand for custom tools ------------------------------------------------------------------------

PATCH = '*** Begin Patch\n+ "潮汐" 🌊 \\ tab\t\n*** End Patch'


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("size", [1, 2, 5, 13, 1000])
def test_a_wrapped_call_is_unwrapped_as_it_comes(size: int, ascii_only: bool) -> None:
    arguments = json.dumps({"input": PATCH}, ensure_ascii=ascii_only)
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    data = stream(calls(tool(0, "call_1", "apply_patch", "")), *(calls(tool(0, args=piece)) for piece in pieces))
    events = decoded(data, request=asked(tools=[CUSTOM]))
    [call] = items_of(events)
    assert call == FunctionCall(call_id="call_1", name="apply_patch", arguments=PATCH, custom=True)
    if size == 1:
        assert sum(isinstance(event, ToolCallDelta) for event in events) > 20


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": ""}', ""),
        ("{}", ""),
        ('{ "input" : "a" , "more": 1 }', "a"),
        ('{ "more": "b", "input" : "a" }', "a"),
        ('{"patch": "a"}', "a"),
        ('"a"', "a"),
        ("*** Begin", "*** Begin"),
        ('{"input": "cut \\u6', "cut "),
        ('{"input": "line\nend"}', "line\nend"),
        ('{"a": "1", "b": "2"}', '{"a": "1", "b": "2"}'),
    ],
)
def test_arguments_of_another_shape_are_made_the_best_of(arguments: str, text: str) -> None:
    for size in (1, 1000):
        pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
        data = stream(calls(tool(0, "c", "apply_patch")), *(calls(tool(0, args=piece)) for piece in pieces))
        assert calls_of(decoded(data, request=asked(tools=[CUSTOM]))) == [("c", "apply_patch", text)]


# -- the rest of a message ----------------------------------------------------------------------------------------


def test_a_refusal_is_a_refusal() -> None:
    found = items_of(decoded(stream({"refusal": "I "}, {"refusal": "won't"})))
    assert found == [Message(role="assistant", content=[RefusalPart(refusal="I won't")])]


def test_citations_take_the_form_of_responses() -> None:
    nested = {
        "type": "url_citation",
        "url_citation": {"url": "https://a", "title": "A", "start_index": 1, "end_index": 3.0},
    }
    bare = {"type": "url_citation", "url": "https://b"}
    events = decoded(stream({"content": "see"}, {"annotations": [nested, bare, {"type": "file"}, None]}))
    assert [plain(event.value) for event in events if isinstance(event, Annotation)] == [
        {"type": "url_citation", "start_index": 1, "end_index": 3, "url": "https://a", "title": "A"},
        {"type": "url_citation", "start_index": 0, "end_index": 0, "url": "https://b", "title": ""},
    ]


def test_addresses_beside_the_choices_are_citations_once() -> None:
    citations = ["https://a", "https://b", 7]
    own = {"type": "url_citation", "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 1}}
    data = (
        chunk({"content": "x"}, citations=citations[:1])
        + chunk({"annotations": [own]}, "stop", citations=citations)
        + chunk(choices=[], citations=citations)
        + DONE
    )
    found = [plain(event.value)["url"] for event in decoded(data) if isinstance(event, Annotation)]
    assert found == ["https://a", "https://b"]
    assert decoded(chunk({"content": "x"}, "stop", citations=None) + DONE)[-1] == Finished()


@pytest.mark.parametrize("member", ["stop_reason", "matched_stop"])
def test_the_stop_sequence_that_matched_is_told(member: str) -> None:
    def ended(value: Any) -> Event:
        choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop", member: value}
        return decoded(frame({"id": "c", "choices": [choice]}) + DONE, request=asked(stop=("END",)))[-2]

    assert ended("END") == ChoiceEnd("stop", 0, "END")
    assert ended(151643) == ended(None) == ended("other") == ChoiceEnd("stop")


def test_logprobs_go_with_their_text() -> None:
    entry = {"token": "潮", "logprob": -0.1, "bytes": [1], "top_logprobs": []}
    choice = {"index": 0, "delta": {"content": "潮"}, "logprobs": {"content": [entry]}, "finish_reason": "stop"}
    [message] = items_of(decoded(frame({"id": "c", "choices": [choice]}) + DONE))
    assert isinstance(message, Message)
    [part] = message.content
    assert isinstance(part, TextPart)
    assert [plain(one) for one in part.logprobs] == [entry]


def test_logprobs_of_a_token_without_text_are_kept() -> None:
    entry = {"token": "", "logprob": -0.1}
    choices = [{"index": 0, "delta": {"content": ""}, "logprobs": {"content": [entry]}}]
    data = frame({"id": "c", "choices": choices}) + stream({"content": "x"})
    [text] = [event for event in decoded(data) if isinstance(event, TextDelta)]
    assert text.text == "x"
    assert text.logprobs is not None
    assert len(text.logprobs) == 1


def with_logprobs(delta: dict[str, Any], *tokens: str) -> bytes:
    entries: list[dict[str, Any]] = [
        {"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": []} for token in tokens
    ]
    return frame({"id": "c", "choices": [{"index": 0, "delta": delta, "logprobs": {"content": entries}}]})


def tokens_of(events: list[Event]) -> list[tuple[str, list[str]]]:
    """The texts, and the tokens whose log probabilities go with them."""
    found = [event for event in events if isinstance(event, TextDelta)]
    return [(event.text, [plain(one)["token"] for one in event.logprobs or ()]) for event in found]


def test_logprobs_of_a_last_token_without_text_are_told_at_the_end() -> None:
    data = with_logprobs({"content": "x"}, "x") + with_logprobs({"content": ""}, "<eos>") + stream({})
    assert tokens_of(decoded(data)) == [("x", ["x"]), ("", ["<eos>"])]
    [message] = items_of(decoded(data))
    assert isinstance(message, Message)
    [part] = message.content
    assert isinstance(part, TextPart)
    assert (part.text, len(part.logprobs)) == ("x", 2)


def test_logprobs_of_calls_and_thoughts_belong_to_no_text() -> None:
    call = with_logprobs(calls(tool(0, "a", "f", "{}")), "{}")
    assert tokens_of(decoded(call + stream({}, finish="tool_calls"))) == []
    thought = with_logprobs({"reasoning_content": "hm"}, "hm")
    said = with_logprobs({"content": "x"}, "x")
    assert tokens_of(decoded(thought + said + call + said + stream({}))) == [("x", ["x"]), ("x", ["x"])]


@pytest.mark.parametrize("before", [[], [{"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAA="}]}]])
def test_what_only_looks_like_a_tag_is_said_before_the_call_that_follows(before: list[dict[str, Any]]) -> None:
    events = decoded(stream(*before, {"content": " <thi"}, calls(tool(0, "a", "f", "{}")), finish="tool_calls"))
    assert text_of(events) == " <thi"
    assert events.index(TextDelta(" <thi")) < events.index(ToolCallStart(0, "a", "f"))


def test_white_space_waits_for_its_text_beyond_what_stands_between() -> None:
    cited = {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}]}
    assert text_of(decoded(stream({"content": "\n"}, cited, {"content": "x"}))) == "\nx"
    assert text_of(decoded(stream({"content": "\n"}, calls(tool(0, "a", "f", "{}")), finish="tool_calls"))) == ""


@pytest.mark.parametrize(
    "delta", [{"content": "b"}, {"refusal": "no"}, {"images": [{"image_url": {"url": "data:image/png;base64,AA=="}}]}]
)
def test_a_complete_call_ends_before_the_words_that_follow_it(delta: dict[str, Any]) -> None:
    events = decoded(
        stream(calls(tool(0, "a", "f", '{"x":1}')), calls(tool(1, "b", "g", "{")), delta, calls(tool(1, args="}")))
    )
    said = next(place for place, event in enumerate(events) if isinstance(event, TextDelta | RefusalDelta | MediaDelta))
    assert events.index(ToolCallEnd(0)) < said < events.index(ToolCallEnd(1))


def test_images_are_media() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    linked = {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}
    events = decoded(stream({"content": "here: "}, {"images": [image, linked, {}]}))
    assert MediaDelta("image/png", "AAAA") in events
    assert text_of(events) == "here: ![image](https://pictures.example/1.png)"


def test_a_complete_call_ends_before_the_picture_that_follows_it() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    events = decoded(stream(calls(tool(0, "a", "f", "{}")), {"images": [image]}, finish="tool_calls"))
    assert events.index(ToolCallEnd(0)) < events.index(MediaDelta("image/png", "AAAA"))


def test_calls_end_in_the_order_in_which_they_began() -> None:
    """A client that gets whole calls gets them in that order, although the first goes on behind the second."""
    deltas = [
        calls(tool(0, "a", "f", '{"x":')),
        calls(tool(1, "b", "g", "{}")),
        {"content": "so"},
        calls(tool(0, args="1}")),
    ]
    events = decoded(stream(*deltas, calls(tool(2, "c", "h", "{}")), finish="tool_calls"))
    assert [event.index for event in events if isinstance(event, ToolCallEnd)] == [0, 1, 2]
    assert [call[2] for call in calls_of(events)] == ['{"x":1}', "{}", "{}"]


def test_a_thought_behind_a_refusal_is_an_item_behind_it() -> None:
    kinds = [type(one) for one in items_of(decoded(stream({"refusal": "no"}, {"reasoning": "hm"}, {"content": "x"})))]
    assert kinds == [Message, Reasoning, Message]


def test_a_source_ends_the_thought_before_it() -> None:
    cited = {"annotations": [{"type": "url_citation", "url": "https://a"}]}
    events = decoded(stream({"reasoning": "hm"}, cited, {"reasoning": "more"}, {"content": "x"}))
    at = next(place for place, event in enumerate(events) if isinstance(event, Annotation))
    assert [type(event) for event in events[at - 1 : at + 2]] == [ReasoningEnd, Annotation, MessageEnd]


def test_addresses_beside_the_choices_are_told_before_the_seal_behind_the_text() -> None:
    details = [{"type": "reasoning.encrypted", "data": "e"}]
    first = chunk({"content": "x"}, citations=["https://a", "https://a"])
    events = decoded(first + chunk({"reasoning_details": details}, "stop") + DONE)
    kinds = [type(event) for event in events[1:-2]]
    assert kinds == [TextDelta, Annotation, MessageEnd, ReasoningEnd], "an address that comes twice is one source"


def test_a_whole_message_behind_its_call_is_not_told_again() -> None:
    head = {"id": "c", "object": "chat.completion.chunk"}
    call = tool(0, "a", "f", "{}")
    whole = frame({**head, "choices": [{"index": 0, "message": calls(call), "finish_reason": "tool_calls"}]})
    assert calls_of(decoded(chunk(calls(call)) + whole + DONE)) == [("a", "f", "{}")]


def test_a_thought_that_a_call_cuts_off_is_told_to_its_last_letter() -> None:
    events = decoded(stream({"content": "<think>a <"}, calls(tool(0, "a", "f", "{}"))))
    assert (thought_of(events), text_of(events)) == ("a <", "")


def test_logprobs_of_a_thought_between_tags_are_not_those_of_the_text_behind() -> None:
    data = with_logprobs({"content": "<think>hm</think>"}, "hm") + with_logprobs({"content": "x"}, "x") + stream({})
    assert tokens_of(decoded(data)) == [("x", ["x"])]


def test_logprobs_behind_a_thought_alone_are_told_when_it_is_over() -> None:
    data = chunk({"reasoning": "hm"}) + with_logprobs({"content": ""}, "<eos>") + stream({})
    assert [type(event) for event in decoded(data)[1:4]] == [ReasoningDelta, ReasoningEnd, TextDelta]


def test_content_in_parts_is_read() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    events = decoded(stream({"content": [thinking]}, {"content": [{"type": "text", "text": "潮"}, "汐"]}))
    assert (thought_of(events), text_of(events)) == ("hm", "潮汐")


def test_members_of_odd_types_cost_nothing() -> None:
    odd = {
        "id": 7,
        "model": None,
        "choices": [
            {"index": "0", "delta": {"content": "x", "refusal": 0, "tool_calls": "none"}, "finish_reason": "stop"}
        ],
    }
    assert text_of(decoded(frame(odd) + DONE)) == "x"
    assert (
        text_of(decoded(frame({"id": "c", "choices": [{"delta": {"content": 42}, "finish_reason": "stop"}]}) + DONE))
        == "42"
    )


@pytest.mark.parametrize("data", [b"[]", b"7", b'"x"', b'{"choices":[7]}', b'{"choices":{}}', b"{}"])
def test_what_is_no_chunk_is_broken(data: bytes) -> None:
    assert isinstance(error_of(decoded(frame(data))), UpstreamBroken)


def test_a_whole_message_in_a_stream_counts_where_it_is_all() -> None:
    head = {"id": "c", "object": "chat.completion"}
    whole = frame({**head, "choices": [{"index": 0, "message": {"content": "all"}, "finish_reason": "stop"}]})
    assert text_of(decoded(whole + DONE)) == "all"
    assert text_of(decoded(chunk({"content": "all"}) + whole + DONE)) == "all"


def test_the_revision_behind_the_model_is_taken_off() -> None:
    to = provider(quirks=Quirks(model_suffix="@main"))
    assert decoded(chunk({"content": "x"}, "stop", model="tide-1@main") + DONE, to)[0] == Started("tide-1")


def test_too_many_choices_are_broken() -> None:
    data = frame({"id": "c", "choices": [{"index": index, "delta": {}} for index in range(5000)]})
    assert isinstance(error_of(decoded(data)), UpstreamBroken)


# -- one body -----------------------------------------------------------------------------------------------------


def whole(body: bytes, **members: Any) -> list[Event]:
    request = asked(**members)
    events = UPSTREAM.decode_answer(body, provider(), request)
    check_laws(events)
    return events


MESSAGES: dict[str, dict[str, Any]] = {
    "text": {"content": "潮汐 🌊"},
    "refusal": {"content": None, "refusal": "no"},
    "reasoning": {"reasoning_content": "hm", "content": "42"},
    "tags": {"content": "<think>\nhm\n</think>\n\n42"},
    "details": {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "content": "42"},
    "calls": {"content": None, **calls(tool(None, "a", "f", "{}"), tool(None, "b", "g", '{"x":1}'))},
    "function": {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
    "custom": {"tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "p", "input": "x"}}]},
    "citations": {"content": "x", "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}]},
    "images": {"content": "x", "images": [{"image_url": {"url": "data:image/png;base64,AA=="}}]},
    "nothing": {"content": ""},
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_an_answer_in_one_body_has_the_events_of_its_stream(name: str) -> None:
    message = MESSAGES[name]
    assert joined(whole(answer(message))) == joined(decoded(chunk(message, "stop") + DONE))


def test_a_whole_answer_has_its_usage() -> None:
    assert UsageReport(COUNTED) in whole(answer({"content": "x"}, usage=USAGE))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"index":0,"finish_reason":"stop"}]}',
        answer({"content": "x"}, finish=""),
        answer({"content": "x"}).replace(b'"x"', b'"\xff"'),
        answer(calls(tool(None, "a", None, "{}"))),
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        whole(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"busy","code":503}}',
        b'{"object":"error","message":"busy","code":503}',
        answer({"content": "x"}, finish="error"),
    ],
)
def test_an_error_with_status_200_is_an_error(body: bytes) -> None:
    with pytest.raises(TidegateError):
        whole(body)


def test_refusals_and_ends_are_told_apart() -> None:
    events = whole(answer({"content": None, "refusal": "no"}, finish="refusal"))
    assert RefusalDelta("no") in events
    assert ChoiceEnd("refusal") in events
    assert ToolCallEnd(0) not in events


def test_the_first_finish_reason_of_a_choice_stands() -> None:
    data = b"".join([chunk({"content": "a"}), chunk({}, "length"), chunk({}, "stop"), DONE])
    assert [event.reason for event in decoded(data) if isinstance(event, ChoiceEnd)] == ["length"]
