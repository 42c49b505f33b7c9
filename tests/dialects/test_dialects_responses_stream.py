"""The Responses stream: recorded and hand-made streams of upstreams in, the official grammar out."""

import json
import re
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.responses._responses import ResponseStreamState

from tests.dialects import common
from tests.dialects.common import (
    COMPLETED,
    CREATED,
    RESPONSE_ID,
    destination,
    events,
    frame,
    frames,
    numbered,
    plain,
    play,
)
from tidegate.dialects.dialect import Quirks, Stream
from tidegate.wire import errors, sse

NAMES = common.names("responses")
FAILED = {
    "responses-error-then-failed",
    "responses-error-flat",
    "responses-failed",
    "responses-no-end",
    "responses-garbage",
    "responses-not-utf8",
}
INCOMPLETE = {"responses-length": "max_output_tokens", "responses-filtered": "content_filter"}


def stream(profile: str = "openai", to: Any = None, **members: Any) -> Stream:
    return common.open_stream("responses", profile, to, **members)


MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
WHERE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
CREATED_EVENT: dict[str, Any] = {"type": "response.created", "response": {"id": "up_1", "status": "in_progress"}}
IN_PROGRESS_EVENT: dict[str, Any] = {
    "type": "response.in_progress",
    "response": {"id": "up_1", "status": "in_progress"},
}
BEGIN: tuple[dict[str, Any], ...] = (CREATED_EVENT, IN_PROGRESS_EVENT)
OPEN: tuple[dict[str, Any], ...] = (
    *BEGIN,
    {"type": "response.output_item.added", "output_index": 0, "item": MESSAGE},
    {"type": "response.content_part.added", **WHERE, "part": PART},
)


def delta(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", **WHERE, "delta": text, "logprobs": []}


def closed(text: str) -> tuple[dict[str, Any], ...]:
    part = {**PART, "text": text}
    return (
        {"type": "response.output_text.done", **WHERE, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **WHERE, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message(text)},
    )


def message(text: str, **members: Any) -> dict[str, Any]:
    return {**MESSAGE, "status": "completed", "content": [{**PART, "text": text}], **members}


def ended(kind: str = "response.completed", **response: Any) -> dict[str, Any]:
    usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    given = {"id": "up_1", "status": kind.removeprefix("response."), "output": [message("潮汐")], "usage": usage}
    return {"type": kind, "response": {**given, **response}}


WHOLE: tuple[dict[str, Any], ...] = (*OPEN, delta("潮"), delta("汐"), *closed("潮汐"))


def check(out: bytes, *, named: bool = True) -> list[dict[str, Any]]:
    """What every stream to a client keeps, whatever came from the upstream."""
    found = frames(out)
    told = [json.loads(one.data) for one in found if one.data != b"[DONE]"]
    if named:
        assert [one.event.decode() for one in found if one.data != b"[DONE]"] == [one["type"] for one in told]
    kept = [one for one in told if one["type"] != "keepalive"]
    assert [one["sequence_number"] for one in kept] == list(range(len(kept)))
    kinds = [one["type"] for one in kept]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    endings = [kind for kind in kinds if kind in ("response.completed", "response.incomplete", "response.failed")]
    assert endings == [kinds[-1]]
    for event in (kept[0], kept[1], kept[-1]):
        response = event["response"]
        assert response["created_at"] == CREATED
        assert response["object"] == "response"
        assert isinstance(response["output"], list)
        assert response["id"] == kept[0]["response"]["id"]
    end = kept[-1]["response"]
    assert end["status"] == kinds[-1].removeprefix("response.")
    assert (end["completed_at"] is not None) == (end["status"] == "completed")
    assert (end["error"] is not None) == (end["status"] == "failed")
    assert (end["incomplete_details"] is not None) == (end["status"] == "incomplete")
    usage = end["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert set(usage["input_tokens_details"]) >= {"cached_tokens", "cache_write_tokens"}
    assert set(usage["output_tokens_details"]) >= {"reasoning_tokens"}
    typed = [common.check_event(one) for one in told]
    accumulator: ResponseStreamState[Any] = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for event in typed:
        if event is not None:
            accumulator.handle_event(event)
    return kept


# -- recorded streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_comes_out_by_the_grammar(name: str) -> None:
    subject = stream()
    kept = check(play(subject, [common.vector(name)]))
    end = kept[-1]["response"]
    assert end["id"] == RESPONSE_ID
    assert end["store"] is False
    status = "failed" if name in FAILED else "incomplete" if name in INCOMPLETE else "completed"
    assert end["status"] == status
    if name in INCOMPLETE:
        assert end["incomplete_details"] == {"reason": INCOMPLETE[name]}
    assert subject.outcome is not None
    assert subject.outcome.status == status


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_byte_by_byte_is_the_same_stream(name: str) -> None:
    data = common.vector(name)
    assert plain(play(stream(), common.bytewise(data))) == plain(play(stream(), [data]))


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@pytest.mark.parametrize("profile", ["openai", "openresponses", "kkiai"])
@pytest.mark.parametrize(
    "name", ["responses-chinese", "responses-calls", "responses-crlf", "responses-error-then-failed"]
)
@given(cuts=st.lists(st.integers(0, 100_000), max_size=30))
@settings(max_examples=15, deadline=None)
def test_a_recorded_stream_in_any_split_is_the_same_stream(name: str, profile: str, cuts: list[int]) -> None:
    data = common.vector(name)
    assert plain(play(stream(profile), common.split(data, cuts))) == plain(play(stream(profile), [data]))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FAILED])
def test_the_deltas_together_are_the_text_of_the_end(name: str) -> None:
    kept = check(play(stream(), [common.vector(name)]))
    texts: dict[str, str] = {}
    for event in kept:
        if event["type"] == "response.output_text.delta":
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
    final = {
        item["id"]: "".join(part["text"] for part in item["content"] if part["type"] == "output_text")
        for item in kept[-1]["response"]["output"]
        if item["type"] == "message"
    }
    assert {name: text for name, text in texts.items() if text} == {name: text for name, text in final.items() if text}


@pytest.mark.parametrize(
    "name",
    [
        "responses-chinese",
        "responses-escaped",
        "responses-crlf",
        "responses-calls",
        "responses-reasoning-raw",
        "responses-floats",
    ],
)
def test_frames_that_are_not_ours_go_on_byte_for_byte(name: str) -> None:
    data = common.vector(name)
    given_frames = [one.raw for one in sse.FrameDecoder().feed(data)]
    told = [one.raw for one in sse.FrameDecoder().feed(play(stream(), [data]))]
    assert told[2:-1] == given_frames[2:-1]


@pytest.mark.fault("FAULT-DISORDER")
@pytest.mark.parametrize("name", ["responses-jump", "responses-stuck", "responses-in-progress-twice"])
def test_from_a_wrong_number_on_frames_are_written_anew_and_before_it_they_are_not(name: str) -> None:
    data = common.vector(name)
    given_events = [
        event for event in events(data) if event["type"] not in ("response.created", "response.in_progress")
    ]
    told = check(play(stream(), [data]))[2:]
    without = [{k: v for k, v in one.items() if k != "sequence_number"} for one in told[:-1]]
    assert without == [{k: v for k, v in one.items() if k != "sequence_number"} for one in given_events[:-1]]


@pytest.mark.parametrize("name", ["responses-no-event-lines", "responses-no-numbers"])
def test_missing_event_lines_and_numbers_are_supplied(name: str) -> None:
    told = check(play(stream(), [common.vector(name)]))
    assert "response.output_text.delta" in [one["type"] for one in told]


# -- odd streams --------------------------------------------------------------------------------------------------


def test_a_stream_of_our_making_is_complete() -> None:
    kept = check(play(stream(), [numbered(*WHOLE, ended())]))
    assert kept[-1]["response"]["output"] == [message("潮汐")]
    assert kept[-1]["response"]["usage"]["input_tokens"] == 5
    assert kept[-1]["response"]["completed_at"] == COMPLETED


@pytest.mark.parametrize("missing", [(), (CREATED_EVENT,), (IN_PROGRESS_EVENT,), BEGIN])
def test_what_must_come_first_comes_first(missing: tuple[dict[str, Any], ...]) -> None:
    upstream = [event for event in WHOLE if event not in missing]
    check(play(stream(), [numbered(*upstream, ended())]))


def test_a_queued_response_begins_like_any_other() -> None:
    queued = {"type": "response.queued", "response": {"id": "up_1", "status": "queued"}}
    kept = check(play(stream(), [numbered(queued, *WHOLE, ended())]))
    assert kept[0]["response"]["status"] == "in_progress"
    kept = check(play(stream(), [numbered(CREATED_EVENT, queued, *WHOLE[1:], ended())]))
    assert [one["type"] for one in kept].count("response.created") == 1


def test_a_repeated_in_progress_is_told_once() -> None:
    kept = check(play(stream(), [numbered(*BEGIN, IN_PROGRESS_EVENT, *WHOLE[2:], IN_PROGRESS_EVENT, ended())]))
    assert [one["type"] for one in kept].count("response.in_progress") == 1


def test_the_type_stands_over_another_event_name() -> None:
    wrong = frame({**delta("x"), "sequence_number": 4}, "message")
    kept = check(play(stream(), [numbered(*OPEN), wrong, numbered(*closed("x"), ended(), start=5)]))
    assert kept[4]["type"] == "response.output_text.delta"


def test_an_event_without_type_has_its_event_name() -> None:
    untyped = {name: value for name, value in delta("x").items() if name != "type"}
    data = numbered(*OPEN) + frame({**untyped, "sequence_number": 4}, "response.output_text.delta")
    kept = check(play(stream(), [data + numbered(*closed("x"), ended(), start=5)]))
    assert kept[4]["type"] == "response.output_text.delta"
    assert kept[4]["delta"] == "x"


@pytest.mark.parametrize("number", [3.0, "3", None, -1, 2**80, True, [1]])
def test_a_number_of_any_kind_is_replaced(number: Any) -> None:
    odd = frame({**WHOLE[3], "sequence_number": number}, WHOLE[3]["type"])
    check(play(stream(), [numbered(*WHOLE[:3]), odd, numbered(*WHOLE[4:], ended(), start=4)]))


def test_unknown_events_go_on_and_end_nothing() -> None:
    unknown = {"type": "response.tidal_wave.rising", "height": 3}
    data = numbered(*OPEN, unknown, delta("x"), *closed("x"), ended())
    out = play(stream(), [data])
    check(out)
    assert list(sse.FrameDecoder().feed(data))[4].raw in out


def test_deltas_that_are_no_text_go_on_untouched() -> None:
    shell = {"type": "response.shell_call_output_content.delta", "output_index": 0, "command_index": 0,
             "delta": {"stdout": "潮\n"}, "item_id": "msg_1"}  # fmt: skip
    data = numbered(*OPEN, shell, *closed("x"), ended())
    out = play(stream(), [data])
    assert [one.raw for one in frames(data)][4] in out
    check(out)


def test_comments_go_on_once_the_stream_has_begun_and_not_before() -> None:
    data = b": OPENROUTER PROCESSING\n\n" + numbered(*OPEN) + b": ping\n\n" + numbered(*closed("x"), ended(), start=4)
    out = play(stream(), [data])
    assert b"OPENROUTER" not in out
    assert b": ping\n\n" in out
    check(out)


def test_a_keepalive_repeats_the_last_number() -> None:
    data = numbered(*OPEN) + frame({"type": "keepalive", "sequence_number": 4}, "keepalive")
    out = play(stream(), [data + numbered(*closed("x"), ended(), start=5)])
    check(out)
    (keepalive,) = [one for one in events(out) if one["type"] == "keepalive"]
    assert keepalive["sequence_number"] == 3


def test_a_ping_never_tells_a_number_that_was_not_sent() -> None:
    subject = stream()
    assert subject.ping() == b": keepalive\n\n"
    assert subject.feed(numbered(*BEGIN, {"type": "error", "code": "server_error", "message": "no"})) == b""
    assert subject.ping() == b": keepalive\n\n"
    assert b'"sequence_number":3' in stream_after(numbered(*OPEN)).ping()
    assert stream("openresponses").ping() == b": keepalive\n\n"


def stream_after(data: bytes) -> Stream:
    subject = stream()
    subject.feed(data)
    return subject


@pytest.mark.fault("FAULT-DISORDER")
@pytest.mark.parametrize("name", ["responses-end-twice", "responses-after-the-end", "responses-done"])
def test_nothing_follows_the_end(name: str) -> None:
    out = play(stream(), [common.vector(name)])
    assert frames(out)[-1].event == b"response.completed"
    assert b"[DONE]" not in out


@pytest.mark.fault("FAULT-MALFORMED-SSE")
def test_a_tail_without_blank_line_counts_if_it_is_whole() -> None:
    data = numbered(*WHOLE, ended())
    check(play(stream(), [data[:-1]]))
    assert play(stream(), [data[:-2]]) == play(stream(), [data])
    kept = check(play(stream(), [data[:-3]]))
    assert kept[-1]["response"]["status"] == "failed"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_other_line_ends_change_nothing(line_end: bytes) -> None:
    check(play(stream(), [numbered(*WHOLE, ended()).replace(b"\n", line_end)]))


def test_json_over_several_lines_is_one_event() -> None:
    spread = json.dumps({**ended(), "sequence_number": 9}, indent=1, ensure_ascii=False).encode()
    check(play(stream(), [numbered(*WHOLE), sse.encode(spread, b"response.completed")]))


def test_other_names_of_reasoning_become_the_official_ones() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    where = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    part = {"type": "reasoning_text", "text": ""}
    data = numbered(
        *BEGIN,
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.reasoning_part.added", **where, "part": part},
        {"type": "response.reasoning.delta", **where, "delta": "想"},
        {"type": "response.reasoning.done", **where, "text": "想"},
        {"type": "response.reasoning_part.done", **where, "part": {**part, "text": "想"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        ended(output=[item]),
    )
    kinds = [one["type"].removeprefix("response.") for one in check(play(stream(), [data]))]
    assert kinds[3:7] == ["content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done"]
    kinds = [one["type"].removeprefix("response.") for one in events(play(stream("openresponses"), [data]))]
    assert kinds[3:7] == ["content_part.added", "reasoning.delta", "reasoning.done", "content_part.done"]


# -- the truth about the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (ended(), "completed", None),
        (ended(status=None), "completed", None),
        (ended(status="in_progress"), "completed", None),
        (ended(error={}, incomplete_details={}), "completed", None),
        (ended(status="incomplete"), "incomplete", "max_output_tokens"),
        (ended(incomplete_details={"reason": "content_filter"}), "incomplete", "content_filter"),
        (ended(output=[message("潮", status="incomplete")]), "incomplete", "max_output_tokens"),
        (ended("response.incomplete"), "incomplete", "max_output_tokens"),
        (ended("response.incomplete", status="completed"), "incomplete", "max_output_tokens"),
        (ended("response.incomplete", incomplete_details={"reason": None}), "incomplete", "max_output_tokens"),
        (ended("response.incomplete", incomplete_details="cut"), "incomplete", "max_output_tokens"),
        (ended("response.incomplete", incomplete_details={"reason": "content_filter"}), "incomplete", "content_filter"),
        (ended(status="failed"), "failed", None),
        (ended(status="cancelled"), "failed", None),
        (ended(error={"code": "server_error", "message": "no"}), "failed", None),
        (ended("response.failed", status="completed", error=None), "failed", None),
    ],
)
def test_the_end_tells_the_worst_that_the_upstream_says(end: dict[str, Any], status: str, reason: str | None) -> None:
    kept = check(play(stream(), [numbered(*WHOLE, end)]))
    response = kept[-1]["response"]
    assert response["status"] == status
    assert (response["incomplete_details"] or {}).get("reason") == reason


@pytest.mark.parametrize(
    ("limit", "tokens", "status"), [(7, 7, "incomplete"), (8, 7, "completed"), (None, 7, "completed")]
)
def test_a_cut_that_an_engine_does_not_tell_is_told(limit: int | None, tokens: int, status: str) -> None:
    members: dict[str, Any] = {} if limit is None else {"max_output_tokens": limit}
    usage = {"input_tokens": 1, "output_tokens": tokens}
    data = numbered(*WHOLE, ended(usage=usage))
    kept = check(play(stream(to=destination(cut_reported_as_completed=True), **members), [data]))
    assert kept[-1]["response"]["status"] == status
    kept = check(play(stream(**members), [data]))
    assert kept[-1]["response"]["status"] == "completed"


@pytest.mark.fault("FAULT-USAGE")
@pytest.mark.parametrize(
    "usage", [None, {}, "n/a", [], {"input_tokens": None, "output_tokens": None}, {"input_tokens": "5"}]
)
def test_usage_is_estimated_where_there_is_none(usage: Any) -> None:
    subject = stream()
    kept = check(play(subject, [numbered(*WHOLE, ended(usage=usage))]))
    assert kept[-1]["response"]["usage"]["input_tokens"] == 100  # 400 bytes
    assert kept[-1]["response"]["usage"]["output_tokens"] == 2  # two characters, six bytes
    assert subject.usage().estimated


def test_usage_is_estimated_from_the_output_where_nothing_was_streamed() -> None:
    kept = check(play(stream(), [numbered(*BEGIN, ended(usage=None, output=[message("潮汐" * 10)]))]))
    assert kept[-1]["response"]["usage"]["output_tokens"] == 15
    kept = check(play(stream(), [numbered(*BEGIN, ended(usage=None, output=[]))]))
    assert kept[-1]["response"]["usage"]["output_tokens"] == 0


def test_usage_keeps_what_the_provider_adds_and_gets_what_it_lacks() -> None:
    usage = {
        "input_tokens": 10.0,
        "input_tokens_details": {"cached_tokens": 4, "audio_tokens": 1},
        "output_tokens": 5,
        "total_tokens": 99,
        "cost": 0.00012,
    }
    found = check(play(stream(), [numbered(*WHOLE, ended(usage=usage))]))[-1]["response"]["usage"]
    assert found == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0, "audio_tokens": 1},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
        "cost": 0.00012,
    }


@pytest.mark.parametrize("output", [None, [], "absent"])
def test_the_end_has_the_items_that_were_sent_where_the_upstream_forgets_them(output: Any) -> None:
    end = ended(output=output)
    if output == "absent":
        del end["response"]["output"]
    kept = check(play(stream(), [numbered(*WHOLE, end)]))
    assert kept[-1]["response"]["output"] == [message("潮汐")]


def test_the_end_calls_items_by_the_ids_that_were_sent() -> None:
    kept = check(play(stream(), [numbered(*WHOLE, ended(output=[message("潮汐", id="msg_other")]))]))
    assert [item["id"] for item in kept[-1]["response"]["output"]] == ["msg_1"]


def test_the_end_has_items_that_were_only_told_there() -> None:
    call = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    }
    kept = check(play(stream(), [numbered(*WHOLE, ended(output=[message("潮汐"), call]))]))
    assert [item["id"] for item in kept[-1]["response"]["output"]] == ["msg_1", "fc_1"]


@pytest.mark.parametrize("output", ["text", {"a": 1}, [1], ["x"], 5])
def test_an_output_that_is_none_breaks_the_answer(output: Any) -> None:
    kept = check(play(stream(), [numbered(*WHOLE, ended(output=output))]))
    assert kept[-1]["response"]["status"] == "failed"


# -- the envelope -----------------------------------------------------------------------------------------------


WRONG_TYPES: dict[str, Any] = {
    "tools": None,
    "metadata": None,
    "text": None,
    "reasoning": None,
    "temperature": "1",
    "top_p": None,
    "parallel_tool_calls": "yes",
    "tool_choice": None,
    "model": None,
    "created_at": "now",
    "object": "chat.completion",
    "truncation": False,
    "service_tier": None,
    "background": "no",
    "instructions": 5,
    "top_logprobs": None,
}


def test_members_of_wrong_types_do_not_replace_ours() -> None:
    first = {**CREATED_EVENT, "response": {**CREATED_EVENT["response"], **WRONG_TYPES}}
    kept = check(play(stream(), [numbered(first, *WHOLE[1:], ended(**WRONG_TYPES))]))
    for event in (kept[0], kept[-1]):
        assert event["response"]["tools"] == []
        assert event["response"]["metadata"] == {}
        assert event["response"]["text"] == {"format": {"type": "text"}}
        assert event["response"]["model"] == "tide-1"
        assert event["response"]["temperature"] == 1.0


def test_halves_of_text_and_reasoning_are_filled_in() -> None:
    kept = check(play(stream(), [numbered(*WHOLE, ended(text={"verbosity": "low"}, reasoning={"effort": "low"}))]))
    assert kept[-1]["response"]["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert kept[-1]["response"]["reasoning"] == {"effort": "low", "summary": None}


def test_the_response_repeats_what_was_asked_where_the_upstream_does_not() -> None:
    asked: dict[str, Any] = {
        "instructions": "用中文回答",
        "temperature": 0.25,
        "max_output_tokens": 77,
        "metadata": {"潮": "汐"},
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low"},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
        "tool_choice": "required",
        "truncation": "auto",
        "user": "u-1",
        "store": True,
    }
    kept = check(play(stream(**asked), [numbered(*WHOLE, ended())]))
    for event in (kept[0], kept[1], kept[-1]):
        response = event["response"]
        for name in ("instructions", "temperature", "max_output_tokens", "metadata", "tools", "tool_choice", "user"):
            assert response[name] == asked[name], name
        assert response["reasoning"] == {"effort": "low", "summary": None}
        assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
        assert response["store"] is False


def test_numbers_keep_their_spelling() -> None:
    request = common.DIALECTS["responses"].parse(
        b'{"input": "x", "stream": true, "temperature": 0.70, "seed": 12345678901234567890}'
    )
    subject = common.opened(request)
    subject.attempt(destination())
    out = play(subject, [numbered(*WHOLE, ended())])
    assert out.count(b'"temperature":0.70,') == 3


def test_the_upstream_keeps_its_identity_where_it_holds_the_state() -> None:
    to = destination(gateway_state=False)
    identity: dict[str, Any] = {"id": "up_1", "created_at": 1_700_000_000.7, "store": True}
    first = {"type": "response.created", "response": {**identity, "status": "in_progress"}}
    for upstream in (
        (first, *WHOLE[1:], ended(**identity)),  # in order
        (first, *WHOLE[2:], ended(**identity)),  # no in_progress
        (first, *WHOLE[1:], ended(id=None)),  # an end without id
        (first, *WHOLE[1:]),  # no end at all
    ):
        out = play(stream(to=to), [numbered(*upstream)])
        responses = [one["response"] for one in events(out) if "response" in one]
        assert {one["id"] for one in responses} == {"up_1"}
        assert {one["created_at"] for one in responses} == {1_700_000_000}
        assert {one["store"] for one in responses} == {True}


# -- breaks -------------------------------------------------------------------------------------------------------


def failure(out: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    kept = check(out)
    assert [one["type"] for one in kept[-2:]] == ["error", "response.failed"]
    return kept[-2], kept[-1]["response"]


def test_a_stream_that_ends_without_an_end_has_failed() -> None:
    error, response = failure(play(stream(), [numbered(*WHOLE)]))
    assert error["message"] == "Provider 'lab': the stream ended without a terminal event."
    assert response["error"] == {"code": "server_error", "message": f"upstream_broken: {error['message']}"}
    assert response["output"] == [message("潮汐")]


def test_done_is_no_end() -> None:
    failure(play(stream(), [numbered(*WHOLE) + b"data: [DONE]\n\n"]))


def test_an_item_that_was_open_at_the_break_is_incomplete() -> None:
    call = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": "",
        "status": "in_progress",
    }
    image = {"id": "ig_1", "type": "image_generation_call", "status": "generating", "result": None}
    thought = {"id": "rs_1", "type": "reasoning", "summary": []}
    part = {"type": "summary_text", "text": "想"}
    where = {"item_id": "rs_1", "output_index": 4, "summary_index": 0}
    second = {**WHERE, "item_id": "msg_2", "output_index": 1}
    data = numbered(
        *WHOLE,
        {"type": "response.output_item.added", "output_index": 1, "item": {**MESSAGE, "id": "msg_2"}},
        {"type": "response.content_part.added", **second, "part": PART},
        {"type": "response.content_part.done", **second, "part": {**PART, "text": "完"}},
        {"type": "response.content_part.added", **second, "content_index": 1, "part": PART},
        {"type": "response.output_item.added", "output_index": 2, "item": call},
        {
            "type": "response.function_call_arguments.done",
            "item_id": "fc_1",
            "output_index": 2,
            "arguments": "{}",
            "name": "f",
        },
        {"type": "response.output_item.added", "output_index": 3, "item": image},
        {"type": "response.output_item.added", "output_index": 4, "item": thought},
        {"type": "response.reasoning_summary_part.added", **where, "part": {**part, "text": ""}},
        {"type": "response.reasoning_summary_part.done", **where, "part": part},
    )
    _, response = failure(play(stream(), [data]))
    assert response["output"] == [
        message("潮汐"),
        {**MESSAGE, "id": "msg_2", "status": "incomplete", "content": [{**PART, "text": "完"}]},
        {**call, "arguments": "{}", "status": "incomplete"},
        {**image, "status": "failed"},
        {**thought, "summary": [part]},
    ]


ERRORS: dict[str, bytes] = {
    "nested": frame(
        {"type": "error", "error": {"type": "server_error", "code": "rate_limit_exceeded", "message": "慢"}}, "error"
    ),
    "flat": frame({"type": "error", "code": "rate_limit_exceeded", "message": "慢", "param": None}, "error"),
    "superset": frame(
        {
            "type": "error",
            "code": "rate_limit_exceeded",
            "message": "慢",
            "error": {"code": "rate_limit_exceeded", "message": "慢"},
        }
    ),
    "without type": frame({"error": {"code": 429, "message": "慢"}}),
    "under another type": frame({"type": "rate_limit_error", "message": "慢"}, "error"),
    "without type, named": frame({"code": "rate_limit_exceeded", "message": "慢"}, "error"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("followed", [False, True])
def test_an_error_in_the_stream_is_told_in_every_shape_that_clients_read(error: bytes, followed: bool) -> None:
    subject = stream()
    data = numbered(*OPEN, delta("x")) + error
    if followed:
        data += frame(ended("response.failed", error={"code": "server_error", "message": "later"}), "response.failed")
    out = play(subject, [data])
    event, response = failure(out)
    assert event["code"] == event["error"]["code"] == "rate_limit_exceeded"
    assert event["message"] == event["error"]["message"] == "Provider 'lab' reported an error: 慢"
    assert set(event["error"]) == {"type", "code", "message", "param"}
    assert response["error"] == {"code": "rate_limit_exceeded", "message": event["message"]}
    assert subject.outcome is not None
    assert isinstance(subject.outcome.error, errors.UpstreamRateLimited)
    if not followed:
        assert play(stream(), common.bytewise(data)) == out


def test_the_usage_of_a_failed_answer_is_not_lost() -> None:
    subject = stream()
    play(subject, [numbered(*OPEN, ended("response.failed", error={"code": "server_error", "message": "no"}))])
    assert (subject.usage().output_tokens, subject.usage().estimated) == (7, False)


def test_codes_that_clients_do_not_know_go_into_the_message() -> None:
    subject = stream()
    out = subject.feed(numbered(*OPEN)) + subject.fail(errors.UpstreamTimeout("idle for 30 s", "idle"))
    event, response = failure(out)
    assert event["code"] == "upstream_timeout"
    assert response["error"] == {"code": "server_error", "message": "upstream_timeout: idle for 30 s"}


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {oops}\n\n",
        b'data: {"type":"response.output_text.delta","delta":"\xff"}\n\n',
        b'event: x\ndata: {"type":"x","text":"\xff"}\n\n',
        b"data: []\n\n",
        b'data: "text"\n\n',
        b'data: {"type":5}\n\n',
        b'data: {"choices":[]}\n\n',
        b'data: {"type":"response.output_item.done","item":5}\n\n',
        b'data: {"type":"response.completed","response":[]}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: {" + b" " * sse.FRAME_LIMIT + b"}\n\n",
    ],
)
def test_what_cannot_be_read_ends_the_stream_and_costs_nothing_that_came_before(bad: bytes) -> None:
    data = numbered(*OPEN, delta("潮")) + bad + numbered(delta("汐"), start=5)
    out = play(stream(), [data])
    event, _ = failure(out)
    assert event["message"].startswith("Provider 'lab': ")
    assert numbered(delta("潮"), start=4) in out
    assert play(stream(), [data[: 1 << 10], *common.split(data[1 << 10 :], range(0, len(data), 1 << 20))]) == out


def test_more_items_than_memory_allows_end_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.dialects.responses.held.HELD_LIMIT", 5000)
    subject = stream()
    subject.feed(numbered(*OPEN))
    for _ in range(50):
        subject.feed(frame({"type": "response.output_item.done", "output_index": 0, "item": message("x" * 500)}))
    assert subject.outcome is not None
    assert "longer than 5000 bytes" in str(subject.outcome.error)


# -- attempts -----------------------------------------------------------------------------------------------------


def error_frame(start: int) -> bytes:
    return numbered({"type": "error", "code": "server_is_overloaded", "message": "busy"}, start=start)


@pytest.mark.parametrize(
    "reads",
    [
        [numbered(*BEGIN) + error_frame(2)],
        [numbered(*BEGIN), error_frame(2)],
        [numbered(CREATED_EVENT), error_frame(1)],
    ],
)
def test_another_attempt_goes_on_in_the_same_stream(reads: list[bytes]) -> None:
    subject = stream()
    out = b"".join(subject.feed(read) for read in reads)
    assert subject.outcome is not None
    assert subject.outcome.error is not None
    assert subject.outcome.error.may_retry
    assert not subject.committed
    subject.outcome = None
    subject.attempt(destination(provider="spare", model="tide-2"))
    out += subject.feed(numbered(*WHOLE, ended(model="tide-2")))
    kept = check(out)
    assert [one["type"] for one in kept].count("response.created") == 1
    assert kept[-1]["response"]["model"] == "tide-2"


def test_what_fails_in_the_first_read_can_still_be_told_by_a_status() -> None:
    subject = stream()
    assert subject.feed(numbered(*BEGIN) + error_frame(2)) == b""
    assert not subject.committed


def test_when_all_attempts_fail_the_stream_that_began_ends_with_the_last_reason() -> None:
    subject = stream()
    out = subject.feed(numbered(*BEGIN))
    out += subject.feed(error_frame(2))
    subject.outcome = None
    subject.attempt(destination(provider="spare"))
    out += subject.feed(numbered(*BEGIN) + error_frame(2))
    found = common.outcome(subject)
    assert found is not None
    assert found.error is not None
    out += subject.fail(found.error)
    event, _ = failure(out)
    assert event["message"] == "Provider 'spare' reported an error: busy"


def test_the_first_content_commits() -> None:
    subject = stream()
    subject.feed(numbered(*BEGIN))
    assert not subject.committed
    subject.feed(numbered(WHOLE[2], start=2))
    assert subject.committed


# -- profiles -----------------------------------------------------------------------------------------------------


def test_done_only_after_a_real_finish_and_only_where_asked() -> None:
    for profile in ("openai", "anyfast", "deepintshield"):
        assert b"[DONE]" not in play(stream(profile), [numbered(*WHOLE, ended())])
    for profile in ("openresponses", "kkiai"):
        assert play(stream(profile), [numbered(*WHOLE, ended())]).endswith(b"\n\ndata: [DONE]\n\n")
        assert play(stream(profile), [numbered(*WHOLE, ended("response.incomplete"))]).endswith(b"data: [DONE]\n\n")
        assert b"[DONE]" not in play(stream(profile), [numbered(*WHOLE)])
        assert b"[DONE]" not in play(stream(profile), [numbered(*OPEN) + error_frame(4)])


@pytest.mark.parametrize("name", NAMES)
def test_data_only_streams_have_no_event_lines(name: str) -> None:
    out = play(stream("kkiai"), [common.vector(name)])
    assert b"event:" not in out.replace(b'"event:', b"")
    check(out, named=False)


def test_the_openai_likes_are_openai() -> None:
    expected = play(stream(), [numbered(*WHOLE, ended())])
    assert play(stream("anyfast"), [numbered(*WHOLE, ended())]) == expected
    assert play(stream("deepintshield"), [numbered(*WHOLE, ended())]) == expected


def test_open_responses_has_no_nulls_where_its_schema_has_none_and_nothing_else_is_touched() -> None:
    schema = {"type": "object", "properties": {"content": {"default": None, "content": None}}, "logprobs": None}
    tools = [{"type": "function", "name": "f", "parameters": schema}]
    item = {**message("x"), "phase": None}
    item["content"] = [{**PART, "text": "x", "logprobs": None}]
    thought: dict[str, Any] = {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [],
        "content": None,
        "encrypted_content": None,
    }
    data = numbered(
        *OPEN,
        {**delta("x"), "logprobs": None},
        {**closed("x")[2], "item": item},
        {"type": "response.output_item.added", "output_index": 1, "item": thought},
        {"type": "response.output_item.done", "output_index": 1, "item": thought},
        ended(
            output=[item, thought],
            text={"format": {"type": "text"}, "verbosity": None},
            tools=tools,
            metadata={"content": None},
        ),
    )
    out = play(stream("openresponses", tools=tools), [data])
    found = events(out)
    assert "logprobs" not in found[4]
    assert "phase" not in found[5]["item"]
    assert "logprobs" not in found[5]["item"]["content"][0]
    assert found[6]["item"] == {"id": "rs_1", "type": "reasoning", "summary": []}
    end = found[-1]["response"]
    assert end["output"][1] == {"id": "rs_1", "type": "reasoning", "summary": []}
    assert "verbosity" not in end["text"]
    assert end["tools"] == [{**tools[0], "description": None, "strict": None}]
    assert end["metadata"] == {"content": None}
    assert found[0]["response"]["error"] is None
    assert len(frames(out)) == len(found) + 1


def test_open_responses_knows_no_keepalive() -> None:
    data = numbered(*OPEN) + frame({"type": "keepalive", "sequence_number": 4}, "keepalive")
    out = play(stream("openresponses"), [data + numbered(*closed("x"), ended(), start=5)])
    assert "keepalive" not in [one["type"] for one in events(out)]
    assert b": keepalive\n\n" in out


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize("end", [b"\n\n", b"\n"])
def test_frames_of_ours_that_a_broken_frame_would_have_brought_take_no_numbers(loose: bool, end: bytes) -> None:
    broken = b'event: x\ndata: {"type":"x","sequence_number":0,"text":"\xff"}' + end
    to = destination(quirks=Quirks(loose_items=loose))
    for reads in ([broken], [numbered(CREATED_EVENT), broken], common.bytewise(broken)):
        subject = stream(to=to)
        assert events(play(subject, reads))[0]["type"] == "response.created"
        check(play(stream(to=to), reads))


# -- what follows a delta ------------------------------------------------------------------------------------------------


def named(event: dict[str, Any], line: str = "") -> bytes:
    return b"event: %b\ndata: %b\n\n" % ((line or event["type"]).encode(), json.dumps(event).encode())


AFTER_A_DELTA: dict[str, Any] = {
    "the next": lambda n: named({**delta("more"), "sequence_number": n}),
    "the next but one": lambda n: named({**delta("more"), "sequence_number": n + 1}),
    "one again": lambda n: named({**delta("more"), "sequence_number": 0}),
    "without a number": lambda n: named(delta("more")),
    "without a line": lambda n: frame({**delta("more"), "sequence_number": n}),
    "under another name": lambda n: named({**delta("more"), "sequence_number": n}, "response.refusal.delta"),
    "without a type": lambda n: named({**WHERE, "delta": "x", "sequence_number": n}, "response.output_text.delta"),
    "without text": lambda n: named({"type": "response.output_text.delta", **WHERE, "sequence_number": n}),
    "of another item": lambda n: named({**delta("more"), "output_index": 1, "sequence_number": n}),
    "a refusal": lambda n: named({**delta("no"), "type": "response.refusal.delta", "sequence_number": n}),
    "a call": lambda n: named({**delta("{}"), "type": "response.function_call_arguments.delta", "sequence_number": n}),
    "an unknown event": lambda n: named({**WHERE, "type": "response.odd", "sequence_number": n}),
    "an error and more": lambda n: (
        named({"type": "error", "code": "x", "message": "no", "sequence_number": n})
        + named({**delta("more"), "sequence_number": n})
    ),
    "a comment": lambda n: b": ping\n\n",
    "no JSON": lambda n: b"event: response.output_text.delta\ndata: {\n\n",
}


@pytest.mark.parametrize("then", AFTER_A_DELTA.values(), ids=AFTER_A_DELTA)
@pytest.mark.parametrize("profile", ["openai", "openresponses", "kkiai"])
def test_an_event_is_taken_for_what_it_is_after_a_delta_as_after_anything_else(then: Any, profile: str) -> None:
    first, later = stream(profile), stream(profile)
    opening = b"".join(named({**event, "sequence_number": n}) for n, event in enumerate(OPEN))
    n = len(OPEN)
    first.feed(opening)
    later.feed(opening)
    later.feed(named({**delta("four"), "sequence_number": n}))
    follows = lambda n: named({**delta("z"), "sequence_number": n})  # noqa: E731
    for at, frames_of_one_read in enumerate((then, follows)):
        told = []
        for one, shift in ((first, 0), (later, 1)):
            out = one.feed(frames_of_one_read(n + at + shift))
            number = lambda found, shift=shift: b"%b%d" % (found[1], int(found[2]) - shift)  # noqa: E731
            told.append(re.sub(rb'("sequence_number": ?)(\d+)', number, out))
        assert told[0] == told[1]
        ended_as = [one.outcome and (one.outcome.status, str(one.outcome.error)) for one in (first, later)]
        assert ended_as[0] == ended_as[1]


def test_a_first_event_that_says_nothing_of_what_it_is_is_no_delta() -> None:
    subject = stream()
    out = play(subject, [b'data: {"delta":"x","sequence_number":0}\n\n'])
    assert b'"delta":"x"' not in out
    assert subject.outcome is not None
    assert subject.outcome.status == "failed"
