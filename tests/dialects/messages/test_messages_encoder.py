"""Canonical events as a stream, and as a whole answer, for a client of the Messages API."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.common import RESPONSE_ID, call
from tests.dialects.messages import streams
from tests.dialects.messages.streams import (
    CHINESE,
    REQUEST,
    VECTORS,
    anthropic_message,
    check_events,
    collected,
    decoded,
    destination,
    plain,
    whole,
)
from tidegate.dialects.messages.encoder import LATER_LIMIT, MessagesEncoder, encode_message
from tidegate.dialects.messages.failures import error_body
from tidegate.wire import jsonio
from tidegate.wire.errors import (
    Forbidden,
    InvalidKey,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    TidegateError,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    Laws,
    MediaDelta,
    MessageEnd,
    Opaque,
    Ping,
    Reason,
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

USAGE = Usage(input_tokens=131, output_tokens=7, cached_tokens=100, cache_write_tokens=20, reasoning_tokens=3)


def tail(reason: Reason = "stop", **members: Any) -> list[Event]:
    return [UsageReport(USAGE), ChoiceEnd(reason, **members), Finished()]


def in_order(events: list[Event]) -> list[Event]:
    """The events with the end of the message before a thought that follows it."""
    found: list[Event] = []
    thinking = False
    for event in events:
        if isinstance(event, ReasoningDelta | ReasoningEnd) and not thinking:
            found.append(MessageEnd())
        thinking = isinstance(event, ReasoningDelta) or (thinking and not isinstance(event, ReasoningEnd))
        found.append(event)
    return found


def encoded(events: list[Event], *, at_once: bool = True) -> bytes:
    events = in_order(events)
    laws = Laws()
    for event in events:
        laws.check(event)
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    if at_once:
        return encoder.encode(events)
    return b"".join(encoder.encode([event]) for event in events)


def content(events: list[Event]) -> list[dict[str, Any]]:
    """The blocks that the SDK accumulates, without what it leaves empty."""
    out = encoded(events)
    assert out == encoded(events, at_once=False)
    check_events(out)
    blocks = anthropic_message(out).to_dict()["content"]
    assert isinstance(blocks, list)
    kept = [
        {name: value for name, value in block.items() if value is not None and name != "parsed_output"}
        for block in blocks
    ]
    assert indexes_are_strict(out)
    return kept


def indexes_are_strict(out: bytes) -> bool:
    """Blocks stand one behind the other: each is over before the next one begins."""
    current, is_open = -1, False
    for event in check_events(out):
        if event["type"] == "content_block_start":
            assert not is_open
            current, is_open = current + 1, True
        if event["type"].startswith("content_block_"):
            assert is_open
            assert event["index"] == current
        if event["type"] == "content_block_stop":
            is_open = False
    return not is_open


def test_a_text() -> None:
    out = encoded([Started("up-1"), TextDelta("Hel"), TextDelta("lo"), *tail()])
    assert [event["type"] for event in check_events(out)] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    message = anthropic_message(out)
    assert message.id == "msg_" + RESPONSE_ID.removeprefix("resp_")
    assert (message.model, message.role, message.stop_reason) == ("up-1", "assistant", "end_turn")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (11, 100, 20)
    assert usage.output_tokens == 7
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 3


def test_each_piece_of_text_goes_out_at_once() -> None:
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    assert b"message_start" in encoder.encode([Started("m")])
    assert encoder.committed is False
    for piece in CHINESE:
        out = encoder.encode([TextDelta(piece)])
        assert check_events(out)[-1]["delta"]["text"] == piece


def test_it_commits_with_the_first_block() -> None:
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    encoder.encode([Started("m"), TextDelta("x")])
    assert encoder.committed


def test_another_attempt_begins_no_second_message() -> None:
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    first = encoder.encode([Started("a")])
    encoder.attempt(destination())
    out = first + encoder.encode([Started("b"), TextDelta("x"), *tail()])
    assert out.count(b"event: message_start") == 1
    assert anthropic_message(out).content[0].to_dict()["text"] == "x"


def test_what_an_attempt_that_failed_has_not_said_is_not_said_by_the_next() -> None:
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    opened = encoder.encode([Started(), ToolCallStart(0, "c", "patch", custom=True)])
    assert not encoder.committed
    encoder.attempt(destination())
    rest = encoder.encode([Started(), ReasoningEnd(encrypted="sealed"), TextDelta("so"), *tail()])
    assert [event["type"] for event in check_events(opened)] == ["message_start"]
    assert anthropic_message(opened + rest).to_dict()["content"] == [
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "text", "text": "so"},
    ]
    assert anthropic_message(opened + rest).stop_reason == "end_turn"


@pytest.mark.fault("FAULT-TOOL-CALLS")
def test_interleaved_calls_stand_one_behind_the_other() -> None:
    assert content(
        [
            Started("m"),
            TextDelta("I look."),
            ToolCallStart(0, "c0", "f"),
            ToolCallStart(1, "c1", "g"),
            ToolCallDelta(1, '{"b":'),
            ToolCallDelta(0, '{"a":'),
            ToolCallDelta(1, "2}"),
            ToolCallEnd(1),
            ToolCallDelta(0, "1}"),
            TextDelta("Now I wait."),
            ToolCallEnd(0),
            *tail("tool_calls"),
        ]
    ) == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c1", "name": "g", "input": {"b": 2}},
        {"type": "text", "text": "Now I wait."},
    ]


def test_the_first_open_call_streams() -> None:
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    encoder.encode([Started("m"), ToolCallStart(0, "c0", "f"), ToolCallStart(1, "c1", "g")])
    assert b"input_json_delta" in encoder.encode([ToolCallDelta(0, '{"a"')])
    assert encoder.encode([ToolCallDelta(1, "{}")]) == b""
    assert [event["type"] for event in check_events(encoder.encode([ToolCallEnd(0)]))] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]


@pytest.mark.fault("FAULT-TOOL-CALLS")
def test_a_call_without_arguments() -> None:
    blocks = content([Started("m"), ToolCallStart(0, "c0", "f"), ToolCallEnd(0), *tail("tool_calls")])
    assert blocks == [{"type": "tool_use", "id": "c0", "name": "f", "input": {}}]


SEAL = ReasoningEnd(encrypted="tgr1_z")
TEXT, REDACTED = {"type": "text", "text": "42"}, {"type": "redacted_thinking", "data": "tgr1_z"}
THINKING = {"type": "thinking", "thinking": "hm", "signature": "tgr1_z"}
TOOL = {"type": "tool_use", "id": "c0", "name": "f", "input": {}}
CALL: list[Event] = [ToolCallStart(0, "c0", "f"), ToolCallEnd(0)]
THOUGHT: list[Event] = [ReasoningDelta("hm"), SEAL]


def test_a_thought_has_its_parts_and_its_signature() -> None:
    assert content(
        [
            Started("m"),
            ReasoningDelta("let me ", "summary"),
            ReasoningDelta("see", "summary"),
            ReasoningDelta("", "summary", part=1),
            ReasoningDelta("again", "summary", part=1),
            ReasoningDelta("!", "text", part=1),
            ReasoningEnd(encrypted="tgr1_x"),
            ReasoningEnd(encrypted="tgr1_y"),
            TextDelta("42"),
            *tail(),
        ]
    ) == [
        {"type": "thinking", "thinking": "let me see\n\nagain\n\n!", "signature": "tgr1_x"},
        {"type": "redacted_thinking", "data": "tgr1_y"},
        TEXT,
    ]


def test_each_piece_of_a_thought_goes_out_at_once_and_the_signature_at_its_end() -> None:
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    encoder.encode([Started("m")])
    for piece in CHINESE:
        out = encoder.encode([ReasoningDelta(piece)])
        assert check_events(out)[-1]["delta"] == {"type": "thinking_delta", "thinking": piece}
    assert encoder.committed
    signature, stop = check_events(encoder.encode([SEAL]))
    assert signature["delta"] == {"type": "signature_delta", "signature": "tgr1_z"}
    assert stop["type"] == "content_block_stop"


def test_thoughts_stand_before_what_they_belong_to() -> None:
    start: list[Event] = [Started("m"), *THOUGHT, *THOUGHT, TextDelta("42")]
    assert content([*start, *THOUGHT, *CALL, *tail("tool_calls")]) == [THINKING, THINKING, TEXT, THINKING, TOOL]
    more: list[Event] = [*THOUGHT, SEAL, TextDelta("!"), *tail()]
    assert content([*start, *more]) == [THINKING, THINKING, TEXT, THINKING, REDACTED, {"type": "text", "text": "!"}]


def test_no_complete_answer_ends_with_thinking() -> None:
    """Claude Code takes the last block of an answer for its result."""
    for last in (THOUGHT, [SEAL], [SEAL, *THOUGHT]):
        events: list[Event] = [Started("m"), *THOUGHT, TextDelta("42"), *last, *tail()]
        assert content(events) == [THINKING, TEXT]
        assert json.loads(encode_message(collected(events), call(), destination()))["content"] == [THINKING, TEXT]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_thought_that_was_cut_is_told(reason: Reason) -> None:
    events: list[Event] = [Started("m"), TextDelta("42"), *THOUGHT, *tail(reason)]
    assert content(events) == [TEXT, THINKING]
    assert json.loads(encode_message(collected(events), call(), destination()))["content"] == [TEXT, THINKING]
    assert content([Started("m"), *THOUGHT, *tail(reason)]) == [THINKING]


def test_a_signature_behind_a_call_is_kept() -> None:
    """Its provider may ask for it with the call's result."""
    said: list[Event] = [Started("m"), TextDelta("42"), *CALL]
    assert content([*said, SEAL, *tail("tool_calls")]) == [TEXT, TOOL, REDACTED]
    assert content([*said, *THOUGHT, *tail("tool_calls")]) == [TEXT, TOOL, THINKING]


def test_a_long_thought_does_not_wait_for_ever() -> None:
    encoder = MessagesEncoder(call())
    encoder.attempt(destination())
    long = "x" * LATER_LIMIT
    assert b"thinking_delta" not in encoder.encode([Started("m"), TextDelta("42"), ReasoningDelta(long)])
    out = encoder.encode([ReasoningDelta("!")])
    assert [event["delta"]["thinking"] for event in check_events(out) if "delta" in event] == [long, "!"]


def test_a_signature_alone_is_kept() -> None:
    events: list[Event] = [Started("m"), ReasoningEnd(encrypted="tgr1_z"), *tail()]
    assert content(events) == [{"type": "redacted_thinking", "data": "tgr1_z"}]


@pytest.mark.parametrize(
    ("reason", "stop_reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("refusal", "refusal"),
    ],
)
def test_stop_reasons(reason: Reason, stop_reason: str) -> None:
    events: list[Event] = [Started("m"), TextDelta("x"), *tail(reason)]
    message = anthropic_message(encoded(events))
    assert message.stop_reason == stop_reason
    body = json.loads(encode_message(collected(events), call(), destination()))
    assert body["stop_reason"] == stop_reason


def test_the_stop_sequence_that_matched() -> None:
    message = anthropic_message(encoded([Started("m"), TextDelta("x"), *tail(stop_sequence="END")]))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_an_answer_with_calls_stops_for_them_whatever_the_provider_says() -> None:
    events: list[Event] = [Started("m"), ToolCallStart(0, "c", "f"), ToolCallEnd(0), *tail("stop")]
    assert anthropic_message(encoded(events)).stop_reason == "tool_use"
    assert json.loads(encode_message(collected(events), call(), destination()))["stop_reason"] == "tool_use"


def test_a_refusal_is_text_with_its_stop_reason() -> None:
    events: list[Event] = [Started("m"), RefusalDelta("I'd rather "), RefusalDelta("not."), *tail("refusal")]
    assert content(events) == [{"type": "text", "text": "I'd rather not."}]
    message = anthropic_message(encoded(events))
    assert message.stop_reason == "refusal"
    assert message.stop_details is not None


def test_an_image_is_a_text_that_markdown_shows() -> None:
    events: list[Event] = [Started("m"), TextDelta("a"), MediaDelta("image/png", "aGk="), TextDelta("b"), *tail()]
    shown = ["a", "![image](data:image/png;base64,aGk=)", "b"]
    assert [block["text"] for block in content(events)] == shown
    whole_ = json.loads(encode_message(collected(events), call(), destination()))["content"]
    assert [block["text"] for block in whole_] == shown


def test_a_citation_behind_the_last_text_opens_no_empty_block() -> None:
    annotation = jsonio.raw(
        {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 1}
    )
    called: list[Event] = [ToolCallStart(0, "c", "f"), ToolCallDelta(0, "{}"), ToolCallEnd(0)]
    events: list[Event] = [
        Started("m"),
        TextDelta("x"),
        MessageEnd(),
        *called,
        Annotation(annotation),
        *tail("tool_calls"),
    ]
    assert [block["type"] for block in content(events)] == ["text", "tool_use"]
    said, used = json.loads(encode_message(collected(events), call(), destination()))["content"]
    assert [said["text"], said["citations"][0]["url"], used["type"]] == ["x", "https://a", "tool_use"]
    alone = content([Started("m"), *called, Annotation(annotation), *tail("tool_calls")])
    assert [block["type"] for block in alone] == ["tool_use"]


def test_a_url_citation() -> None:
    annotation = jsonio.raw(
        {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 1}
    )
    file = jsonio.raw({"type": "file_citation", "file_id": "f", "filename": "x", "index": 0})
    events: list[Event] = [
        Started("m"),
        TextDelta("x"),
        Annotation(annotation),
        Annotation(file),
        MessageEnd(),
        *tail(),
    ]
    (block,) = content(events)
    assert [(one["url"], one["title"]) for one in block["citations"]] == [("https://a", "A")]
    (block,) = json.loads(encode_message(collected(events), call(), destination()))["content"]
    assert [one["url"] for one in block["citations"]] == ["https://a"]


def test_items_of_other_apis_are_left_out() -> None:
    item = jsonio.raw({"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": []})
    events: list[Event] = [
        Started("m"),
        Opaque("file_search_call", item),
        TextDelta("x"),
        TextDelta("other", choice=1),
        Ping(),
        UsageReport(USAGE),
        ChoiceEnd("stop", choice=1),
        ChoiceEnd("stop"),
        Finished(),
    ]
    assert content(events) == [{"type": "text", "text": "x"}]


def test_a_custom_call_is_wrapped() -> None:
    events: list[Event] = [
        Started("m"),
        ToolCallStart(0, "c", "p", custom=True),
        ToolCallDelta(0, "*** Be"),
        ToolCallDelta(0, 'gin "潮"\n'),
        ToolCallEnd(0),
        *tail("tool_calls"),
    ]
    assert content(events) == [{"type": "tool_use", "id": "c", "name": "p", "input": {"input": '*** Begin "潮"\n'}}]


def test_an_empty_answer() -> None:
    assert content([Started("m"), *tail()]) == []


def test_a_failure_ends_the_stream_with_one_error_event() -> None:
    encoder = MessagesEncoder(call(request_id=b"req_7"))
    encoder.attempt(destination())
    encoder.encode([Started("m"), TextDelta("x")])
    (event,) = check_events(encoder.fail(UpstreamBroken("it was cut")))
    assert event == {"type": "error", "error": {"type": "api_error", "message": "it was cut"}, "request_id": "req_7"}


def test_a_ping() -> None:
    (event,) = check_events(MessagesEncoder(call()).ping())
    assert event == {"type": "ping"}


def failed(status: int) -> UpstreamFailed:
    return UpstreamFailed("x", status=status, type="server_error", retryable=False)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (InvalidKey("x"), "authentication_error"),
        (Forbidden("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (UpstreamRateLimited("x"), "rate_limit_error"),
        (UpstreamTimeout("x", "idle"), "timeout_error"),
        (UpstreamBroken("x"), "api_error"),
        (Overloaded("x"), "overloaded_error"),
        (failed(400), "invalid_request_error"),
        (failed(404), "not_found_error"),
        (failed(413), "request_too_large"),
        (failed(429), "rate_limit_error"),
        (failed(502), "api_error"),
        (failed(503), "overloaded_error"),
    ],
)
def test_errors_in_anthropics_words(error: TidegateError, kind: str) -> None:
    assert json.loads(error_body(error, "req_1")) == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_1",
    }


# -- round trips ------------------------------------------------------------------------------------------------


def unsealed(events: list[Event]) -> list[Event]:
    """What the hub does with seals, without a key: the signature is its own envelope."""
    return [
        ReasoningEnd(encrypted=event.seal.data) if isinstance(event, ReasoningEnd) and event.seal else event
        for event in events
    ]


@pytest.mark.parametrize("name", sorted(set(VECTORS) - {"unknown", "custom", "crlf"}))
def test_through_the_canonical_form_and_back_nothing_is_lost(name: str) -> None:
    events = decoded([VECTORS[name]], REQUEST)
    out = encoded(unsealed(events))
    again = unsealed(decoded([out], REQUEST))
    expected = plain(collected(unsealed(events)))
    found = plain(collected(again))
    if name == "search":  # what is cited and where in it is only known to the provider
        for one in (expected, found):
            one["choices"][0]["items"][-1]["content"] = [
                {"text": "".join(part["text"] for part in one["choices"][0]["items"][-1]["content"])}
            ]
    assert found == expected
    body = json.loads(encode_message(collected(unsealed(events)), call(), destination()))
    assert plain(collected(unsealed(whole(body, REQUEST))))["choices"] == expected["choices"] or name == "search"
    assert streams.message(out)["stop_reason"] == body["stop_reason"]


deltas = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(max_size=5)),
        st.builds(ReasoningDelta, st.text(max_size=5), st.just("summary"), st.integers(0, 2)),
        st.just(SEAL),
        st.just(MessageEnd()),
        st.just(Ping()),
        st.integers(0, 3),
    ),
    max_size=25,
)


@pytest.mark.fault("FAULT-DISORDER")
@settings(max_examples=150, deadline=None)
@given(deltas, st.sampled_from(["stop", "length"]))
def test_any_order_of_events_is_a_message_to_the_sdk(parts: list[Any], reason: Reason) -> None:
    """A number is a turn of that call: it begins, goes on, or ends."""
    events: list[Event] = [Started("m")]
    turns = dict.fromkeys(range(4), 0)
    thinking = False
    for part in parts:
        if thinking and isinstance(part, TextDelta | int):
            events.append(SEAL)
            thinking = False
        if not isinstance(part, int):
            thinking = isinstance(part, ReasoningDelta) or (thinking and part is not SEAL)
            events.append(part)
            continue
        turns[part] += 1
        match turns[part]:
            case 1:
                events.append(ToolCallStart(part, f"c{part}", "f"))
            case 2 | 3:
                events.append(ToolCallDelta(part, '{"a":' if turns[part] == 2 else "1}"))
            case 4:
                events.append(ToolCallEnd(part))
    events += [SEAL] * thinking
    events += [ToolCallEnd(index) for index, turn in turns.items() if 0 < turn < 4]
    events += tail(reason)
    blocks = content(events)
    kinds = [block["type"] for block in blocks]
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "".join(block["text"] for block in blocks if block["type"] == "text") == said
    assert kinds.count("tool_use") == sum(turn > 0 for turn in turns.values())
    assert all(block["signature"] == "tgr1_z" for block in blocks if block["type"] == "thinking")
    thoughts = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    told = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    if reason == "length" or "tool_use" in kinds or "text" not in kinds:
        assert told.replace("\n\n", "") == thoughts.replace("\n\n", "")
    else:
        assert kinds[-1] == "text"
        assert thoughts.replace("\n\n", "").startswith(told.replace("\n\n", ""))


def test_a_call_counts_more_than_a_refusal_where_the_provider_merely_stops() -> None:
    called: list[Event] = [ToolCallStart(0, "toolu_1", "f"), ToolCallDelta(0, "{}"), ToolCallEnd(0)]
    events: list[Event] = [Started("m"), RefusalDelta("no"), *called, *tail("stop")]
    assert anthropic_message(encoded(events)).stop_reason == "tool_use"
    assert json.loads(encode_message(collected(events), call(), destination()))["stop_reason"] == "tool_use"


@pytest.mark.parametrize(("written", "reason"), [('{"x":', "tool_calls"), ('{"x":"a', "length"), ("[1]", "tool_calls")])
def test_arguments_that_are_no_object_are_told_as_the_model_wrote_them(written: str, reason: Reason) -> None:
    """In pieces in a stream, as Anthropic's own; in one body, where an object is needed, under `_raw` (docs: translation)."""
    pieces: list[Event] = [ToolCallDelta(0, piece) for piece in written]
    events: list[Event] = [Started("m"), ToolCallStart(0, "toolu_1", "f"), *pieces, ToolCallEnd(0), *tail(reason)]
    deltas = [event["delta"] for event in check_events(encoded(events)) if event["type"] == "content_block_delta"]
    assert "".join(delta["partial_json"] for delta in deltas) == written
    assert json.loads(encode_message(collected(events), call(), destination()))["content"][0]["input"] == {
        "_raw": written
    }
