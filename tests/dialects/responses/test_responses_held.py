"""What an answer has said when it breaks off, in the middle of its items."""

import json
from typing import Any

import pytest

from tests.dialects.common import RESPONSE_ID, events, numbered, open_stream, play
from tidegate.dialects.responses.interrupted import Remains
from tidegate.wire import sse

Event = dict[str, Any]

BEGUN: Event = {"type": "response.created", "response": {"id": "up_1", "status": "in_progress"}}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
SOURCE = {"type": "url_citation", "url": "https://tides.example", "title": "潮", "start_index": 0, "end_index": 1}


def text(said: str, *annotations: Event) -> Event:
    return {"type": "output_text", "text": said, "annotations": list(annotations), "logprobs": []}


def added(at: int, item: Event) -> Event:
    return {"type": "response.output_item.added", "output_index": at, "item": item}


def delta(stem: str, piece: str, at: int | None = 0, **members: Any) -> Event:
    where = {} if at is None else {"output_index": at}
    return {"type": f"response.{stem}.delta", "item_id": "i", **where, **members, "delta": piece}


def broken(*given: Event, profile: str = "openai") -> list[Event]:
    """The items of an answer that has come so far when its provider breaks."""
    last = events(play(open_stream("responses", profile), [numbered(BEGUN, *given)]))[-1]
    assert last["type"] == "response.failed"
    output: list[Event] = last["response"]["output"]
    return output


def test_a_text_has_all_of_its_pieces_and_the_sources_that_were_named() -> None:
    source = {
        "type": "response.output_text.annotation.added",
        "output_index": 0,
        "content_index": 0,
        "annotation_index": 0,
        "annotation": SOURCE,
    }
    said = [delta("output_text", "潮"), source, delta("output_text", '"\n'), delta("output_text", "\U0001f30a")]
    part = text('潮"\n\U0001f30a', SOURCE)
    assert broken(added(0, MESSAGE), *said) == [{**MESSAGE, "status": "incomplete", "content": [part]}]


def test_parts_that_were_closed_stand_before_the_one_that_was_not() -> None:
    closed = {"type": "response.content_part.done", "output_index": 0, "content_index": 0, "part": text("潮汐", SOURCE)}
    found = broken(added(0, MESSAGE), delta("output_text", "潮"), closed, delta("refusal", "No"), delta("refusal", "."))
    assert found[0]["content"] == [text("潮汐", SOURCE), {"type": "refusal", "refusal": "No."}]


def test_a_part_that_nobody_closes_before_the_next_one_is_kept() -> None:
    found = broken(added(0, MESSAGE), delta("output_text", "潮"), delta("refusal", "No"))
    assert found[0]["content"] == [text("潮"), {"type": "refusal", "refusal": "No"}]


@pytest.mark.parametrize(
    ("kind", "stem", "member"),
    [
        ("function_call", "function_call_arguments", "arguments"),
        ("mcp_call", "mcp_call_arguments", "arguments"),
        ("custom_tool_call", "custom_tool_call_input", "input"),
        ("code_interpreter_call", "code_interpreter_call_code", "code"),
    ],
)
def test_calls_that_are_told_by_turns_have_each_its_own(kind: str, stem: str, member: str) -> None:
    calls = [{"id": f"c_{at}", "type": kind, "status": "in_progress", "name": "f", member: ""} for at in (0, 1)]
    given = [delta(stem, piece, at) for piece, at in (('{"a', 0), ('{"b', 1), ('":1', 0), ('":2', 1))]
    assert broken(*map(added, (0, 1), calls), *given) == [
        {**calls[0], "status": "incomplete", member: '{"a":1'},
        {**calls[1], "status": "incomplete", member: '{"b":2'},
    ]


def test_what_was_closed_stays_as_it_was_closed() -> None:
    """The end of an item is the provider's word, whatever came before it."""
    done = {**MESSAGE, "status": "completed", "content": [text("其他")]}
    given = [
        added(0, MESSAGE),
        delta("output_text", "潮"),
        {"type": "response.output_item.done", "output_index": 0, "item": done},
    ]
    assert broken(*given, delta("output_text", "late")) == [done]


def test_thoughts_are_kept_in_their_summary_and_their_words_in_the_content() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    given = [delta("reasoning_summary_text", "想"), delta("reasoning", "深"), delta("reasoning_text", "思")]
    assert broken(added(0, item), *given) == [
        {
            **item,
            "summary": [{"type": "summary_text", "text": "想"}],
            "content": [{"type": "reasoning_text", "text": "深思"}],
        }
    ]


def test_words_whose_item_was_never_announced_stand_in_one_of_ours() -> None:
    """Some engines send deltas and nothing else."""
    (message,) = broken(delta("output_text", "潮", None), delta("output_text", "汐", None))
    assert message.pop("id").startswith("msg_")
    assert message == {"type": "message", "role": "assistant", "status": "incomplete", "content": [text("潮汐")]}
    (thought,) = broken(delta("reasoning_summary_text", "想"))
    assert thought.pop("id").startswith("rs_")
    assert thought == {"type": "reasoning", "summary": [{"type": "summary_text", "text": "想"}]}
    assert broken(delta("function_call_arguments", '{"a')) == []  # nobody knows whose


def test_places_that_no_schema_has_cost_nothing_but_the_words_at_them() -> None:
    odd = {**delta("output_text", "汐"), "output_index": "first"}
    given = [BEGUN, added(0, MESSAGE), delta("output_text", "潮"), odd]
    told = events(play(open_stream("responses"), [numbered(*given)]))
    assert [event["delta"] for event in told if event["type"] == "response.output_text.delta"] == ["潮", "汐"]
    assert told[-1]["response"]["output"][0]["content"] == [text("潮")]


def test_a_provider_that_cuts_its_answer_and_closes_nothing_has_it_told_whole() -> None:
    end = {"type": "response.incomplete", "response": {"status": "incomplete", "output": []}}
    given = numbered(BEGUN, added(0, MESSAGE), delta("output_text", "潮"), end)
    last = events(play(open_stream("responses"), [given]))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["output"] == [{**MESSAGE, "status": "incomplete", "content": [text("潮")]}]


def test_more_words_than_memory_allows_end_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.dialects.responses.held.HELD_LIMIT", 5000)
    subject = open_stream("responses")
    subject.feed(numbered(BEGUN, added(0, MESSAGE)))
    for number in range(50):
        subject.feed(numbered(delta("output_text", "x" * 500), start=number + 3))
    assert subject.outcome is not None
    error = subject.outcome.error
    assert error is not None
    assert "longer than 5000 bytes" in error.message
    said = events(subject.fail(error))[-1]["response"]["output"][0]["content"][0]["text"]
    assert 4000 < len(said) < 5000


def test_words_that_were_closed_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.dialects.responses.held.HELD_LIMIT", 5000)
    subject = open_stream("responses")
    subject.feed(numbered(BEGUN, added(0, MESSAGE)))
    for _ in range(50):
        subject.feed(numbered(delta("function_call_arguments", "x" * 200)))
        done = {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": ""}
        subject.feed(numbered(done))
    assert subject.outcome is None


RICH: tuple[Event, ...] = (
    added(0, {"id": "rs_1", "type": "reasoning", "summary": []}),
    delta("reasoning_summary_text", "想"),
    delta("reasoning_summary_text", "想"),
    {
        "type": "response.reasoning_summary_part.done",
        "output_index": 0,
        "summary_index": 0,
        "part": {"type": "summary_text", "text": "想想"},
    },
    delta("reasoning_text", "深", content_index=0),
    {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": {"id": "rs_1", "type": "reasoning", "summary": []},
    },
    added(1, MESSAGE),
    delta("output_text", "潮", 1),
    delta("output_text", "汐", 1),
    {"type": "response.content_part.done", "output_index": 1, "content_index": 0, "part": text("潮汐")},
    delta("refusal", "No", 1),
    added(
        2,
        {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "", "status": "in_progress"},
    ),
    delta("function_call_arguments", '{"a', 2),
    {"type": "response.tidal_wave.rising", "output_index": "high", "delta": {"height": 3}},
    delta("function_call_arguments", '":1}', 2),
    {"type": "response.function_call_arguments.done", "output_index": 2, "arguments": '{"a":1}'},
)


@pytest.mark.parametrize("profile", ["openai", "openresponses", "kkiai"])
def test_the_journal_of_a_dead_process_tells_at_every_place_what_the_provider_s_break_would(profile: str) -> None:
    begun = json.dumps({"id": RESPONSE_ID, "status": "in_progress", "output": [], "error": None}).encode()
    for count in range(len(RICH) + 1):
        out = play(open_stream("responses", profile), [numbered(BEGUN, *RICH[:count])])
        told = [frame.raw for frame in sse.FrameDecoder().feed(out)]
        remains = Remains()
        for piece in told[:-2]:  # without `error` and the ending
            remains.feed(piece)
        assert remains.last == len(told) - 3
        found = json.loads(remains.response(begun))
        assert found["output"] == events(out)[-1]["response"]["output"]
        assert (found["status"], len(found["output"])) == (
            "failed",
            sum("added" in one["type"] for one in RICH[:count]),
        )


def test_what_an_answer_that_goes_on_has_said_stands_in_items_that_are_open() -> None:
    whole = {**MESSAGE, "status": "completed", "content": [text("ebb")]}
    call = {"id": "fc_1", "type": "function_call", "name": "tide", "call_id": "call_1", "arguments": ""}
    done = {"type": "response.output_item.done", "output_index": 0, "item": whole}
    arguments = delta("function_call_arguments", '{"at"', 1)
    remains = Remains()
    remains.feed(numbered(BEGUN, added(0, MESSAGE), done, added(1, call), arguments))
    queued = {"id": "resp_1", "status": "in_progress", "output": []}
    found = json.loads(remains.so_far(json.dumps(queued).encode()))
    assert found == {**queued, "output": [whole, {**call, "status": "in_progress", "arguments": '{"at"'}]}
    again = {**call, "arguments": '{"at":1}', "status": "completed"}
    ended = {"id": "resp_1", "status": "completed", "output": [whole, again]}
    remains.feed(numbered({"type": "response.completed", "response": ended}, start=5))
    assert json.loads(remains.so_far(json.dumps(queued).encode())) == ended
