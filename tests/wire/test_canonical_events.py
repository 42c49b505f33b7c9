"""The laws of canonical events, and answers folded from them."""

import pytest

from tidegate.dialects.codec import Collector
from tidegate.wire.errors import UpstreamBroken
from tidegate.wire.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    Laws,
    MessageEnd,
    Ping,
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
from tidegate.wire.items import FunctionCall, Message, Reasoning, RefusalPart, TextPart, data_url, parse_data_url

WHOLE: list[Event] = [
    Started("m"),
    ReasoningDelta("think", kind="summary"),
    ReasoningDelta("more", kind="summary", part=1),
    ReasoningEnd(encrypted="sealed"),
    TextDelta("he"),
    Ping(),
    TextDelta("llo"),
    MessageEnd(),
    ToolCallStart(0, "call_1", "f"),
    ToolCallStart(1, "call_2", "g"),
    ToolCallDelta(1, "{}"),
    ToolCallDelta(0, "{"),
    ToolCallDelta(0, "}"),
    ToolCallEnd(0),
    ToolCallEnd(1),
    TextDelta("bye"),
    RefusalDelta("no"),
    ChoiceEnd("tool_calls"),
    UsageReport(Usage(input_tokens=1, output_tokens=2)),
    Finished(),
]

BROKEN: dict[str, list[Event]] = {
    "comes before Started": [TextDelta("x")],
    "Started comes twice": [Started(), Started()],
    "belongs to no open call": [Started(), ToolCallDelta(0, "x")],
    "starts twice": [Started(), ToolCallStart(0, "a", "f"), ToolCallStart(0, "a", "f")],
    "are still open at the end": [Started(), ToolCallStart(0, "a", "f"), ChoiceEnd("stop"), Finished()],
    "choices \\[0\\] are still open": [Started(), TextDelta("x"), Finished()],
    "without the end of any choice": [Started(), Finished()],
    "while a message of its choice is open": [Started(), TextDelta("x"), ReasoningDelta("y")],
    "begins reasoning while": [Started(), TextDelta("x"), ReasoningEnd()],
    "has ended": [Started(), ChoiceEnd("stop"), TextDelta("x")],
    "ends twice": [Started(), ChoiceEnd("stop"), ChoiceEnd("stop")],
    "comes after the ending": [Started(), ChoiceEnd("stop"), Finished(), Ping()],
    "comes after": [Failed(UpstreamBroken("x")), Started()],
}


def check(events: list[Event]) -> Laws:
    laws = Laws()
    for event in events:
        laws.check(event)
    return laws


def test_a_whole_answer_keeps_the_laws() -> None:
    assert check(WHOLE).ended


@pytest.mark.parametrize("law", BROKEN)
def test_each_law_is_checked(law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check(BROKEN[law])


def test_an_answer_is_folded_in_the_order_in_which_its_items_began() -> None:
    collector = Collector()
    for event in WHOLE:
        collector.add(event)
    output = collector.output()
    assert output.model == "m"
    assert output.usage == Usage(input_tokens=1, output_tokens=2)
    (choice,) = output.choices
    assert choice.reason == "tool_calls"
    assert choice.items == [
        Reasoning(summary=["think", "more"], content=[], encrypted="sealed"),
        Message(role="assistant", content=[TextPart(text="hello")]),
        FunctionCall(call_id="call_1", name="f", arguments="{}"),
        FunctionCall(call_id="call_2", name="g", arguments="{}"),
        Message(role="assistant", content=[TextPart(text="bye"), RefusalPart(refusal="no")]),
    ]


def test_choices_are_kept_apart() -> None:
    collector = Collector()
    for event in (Started(), TextDelta("b", 1), TextDelta("a", 0), ChoiceEnd("length", 1), ChoiceEnd("stop", 0)):
        collector.add(event)
    first, second = collector.output().choices
    assert first.items == [Message(role="assistant", content=[TextPart(text="a")])]
    assert (first.reason, second.reason) == ("stop", "length")


def test_reasoning_that_cannot_be_read_is_an_item_too() -> None:
    collector = Collector()
    for event in (Started(), ReasoningEnd(encrypted="sealed"), TextDelta("x"), ChoiceEnd("stop")):
        collector.add(event)
    assert collector.output().choices[0].items[0] == Reasoning(summary=[], content=[], encrypted="sealed")


def test_a_data_url_is_taken_apart_and_put_together() -> None:
    assert parse_data_url(data_url("image/png", "QUJD")) == ("image/png", "QUJD")
    assert parse_data_url("data:image/png;charset=x;base64,QUJD") == ("image/png", "QUJD")
    assert parse_data_url("https://example.com/a,b") is None
    assert parse_data_url("data:text/plain,hello") is None
