"""Events folded into a whole answer, where they come in an order that nobody expects."""

from tests.dialects.test_text_thought_text import collected
from tidegate.wire import jsonio
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Finished,
    MessageEnd,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Started,
    TextDelta,
)
from tidegate.wire.items import Message, Reasoning, RefusalPart, TextPart

CITATION = jsonio.raw({"type": "url_citation", "url": "https://a", "title": "", "start_index": 0, "end_index": 0})


def test_choices_stand_in_their_order_whichever_speaks_first() -> None:
    output = collected(
        [Started(), TextDelta("b", 1), TextDelta("a", 0), ChoiceEnd("length", 1), ChoiceEnd("stop", 0), Finished()]
    )
    said = [
        [
            part.text
            for item in one.items
            if isinstance(item, Message)
            for part in item.content
            if isinstance(part, TextPart)
        ]
        for one in output.choices
    ]
    assert said == [["a"], ["b"]]
    assert [one.reason for one in output.choices] == ["stop", "length"]


def test_a_source_behind_a_refusal_is_none_of_the_refusal() -> None:
    output = collected(
        [Started(), RefusalDelta("no"), MessageEnd(), Annotation(CITATION), ChoiceEnd("stop"), Finished()]
    )
    first, second = output.choices[0].items
    assert first == Message(role="assistant", content=[RefusalPart(refusal="no")])
    assert second == Message(role="assistant", content=[TextPart(text="", annotations=[CITATION])])


def test_parts_of_a_thought_keep_their_places_although_some_say_nothing() -> None:
    thoughts: list[Event] = [ReasoningDelta("c", "summary", 2), ReasoningDelta("a", "summary", 0), ReasoningEnd()]
    [item] = collected([Started(), *thoughts, ChoiceEnd("stop"), Finished()]).choices[0].items
    assert item == Reasoning(summary=["a", "", "c"])
