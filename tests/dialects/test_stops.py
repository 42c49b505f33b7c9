"""Stop sequences for providers that have none."""

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.dialects.stops import StopFilter
from tidegate.wire import jsonio
from tidegate.wire.errors import UpstreamBroken
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    Laws,
    MessageEnd,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)


def text(events: list[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == choice)


def cut_at_first(whole: str, stops: list[str]) -> tuple[str, bool]:
    places = [(at + len(stop), at) for stop in stops if (at := whole.find(stop)) >= 0]
    return (whole[: min(places)[1]], True) if places else (whole, False)


@example(["a", "b", "X"], ["abX", "b"])
@example(["a终止"], ["止", "终止"])
@example(["abX"], ["abX", "b"])
@given(
    st.lists(st.text("abX终止", max_size=4), max_size=12),
    st.lists(st.text("abX终止", min_size=1, max_size=4), max_size=3),
)
def test_any_split_of_the_text_is_cut_at_the_same_place(pieces: list[str], stops: list[str]) -> None:
    stream = StopFilter(stops)
    out: list[Event] = [*stream.feed([Started()])]
    for piece in pieces:
        out += stream.feed([TextDelta(piece)])
    out += stream.feed([ChoiceEnd("stop"), Finished()])
    wanted, cut = cut_at_first("".join(pieces), stops)
    assert text(out) == wanted
    assert stream.cut is cut
    ends = [event for event in out if isinstance(event, ChoiceEnd)]
    assert len(ends) == 1
    assert bool(ends[0].stop_sequence) is cut


def test_only_what_may_begin_a_stop_sequence_waits() -> None:
    stream = StopFilter(["\n\nHuman:"])
    assert text(stream.feed([TextDelta("Hello")])) == "Hello"
    assert text(stream.feed([TextDelta(" there\n")])) == " there"
    assert text(stream.feed([TextDelta("\nfriend")])) == "\n\nfriend"


def test_the_answer_ends_by_the_laws_where_it_is_cut() -> None:
    stream = StopFilter(["END"])
    laws = Laws()
    events: list[Event] = [
        Started(),
        ToolCallStart(0, "call_1", "f"),
        ToolCallDelta(0, "{}"),
        TextDelta("one EN"),
        TextDelta("D two"),
    ]
    out = stream.feed(events)
    assert stream.cut
    for event in [*out, Finished()]:
        laws.check(event)
    assert laws.ended
    assert out[-3:] == [MessageEnd(), ToolCallEnd(0), ChoiceEnd("stop", 0, "END")]
    assert stream.feed([TextDelta("more"), Finished()]) == []


def test_each_choice_is_cut_by_itself_and_the_last_one_ends_the_answer() -> None:
    stream = StopFilter(["."], choices=2)
    first = stream.feed([Started(), TextDelta("a.b", 0), TextDelta("c", 1)])
    assert (text(first, 0), text(first, 1)) == ("a", "c")
    assert not stream.cut
    second = stream.feed([TextDelta("d", 0), TextDelta("e.f", 1)])
    assert (text(second, 0), text(second, 1)) == ("", "e")
    assert stream.cut


def test_text_before_a_call_is_not_held_back_behind_it() -> None:
    stream = StopFilter(["END"])
    out = stream.feed([Started(), TextDelta("about to E"), ToolCallStart(0, "call_1", "f")])
    assert out[1:] == [TextDelta("about to "), TextDelta("E"), ToolCallStart(0, "call_1", "f")]


def test_nothing_follows_of_a_call_whose_choice_is_cut() -> None:
    stream = StopFilter(["END"], choices=2)
    events: list[Event] = [
        Started(),
        ToolCallStart(0, "call_a", "f"),
        ToolCallDelta(0, "{"),
        TextDelta("aEND"),
        ToolCallDelta(0, "}"),
        ToolCallEnd(0),
        ToolCallStart(1, "call_b", "f"),
        ToolCallDelta(1, "{}"),
        ToolCallEnd(1),
        TextDelta("b", 1),
        ToolCallStart(2, "call_c", "f", choice=1),
        ToolCallDelta(2, "{}"),
        ToolCallEnd(2),
        ChoiceEnd("tool_calls", 1),
        Finished(),
    ]
    laws = Laws()
    out = [one for event in events for one in stream.feed([event])]
    for event in out:
        laws.check(event)
    assert [event.index for event in out if isinstance(event, ToolCallStart)] == [0, 2]
    assert [event.index for event in out if isinstance(event, ToolCallEnd)] == [0, 2]
    assert [event.index for event in out if isinstance(event, ToolCallDelta)] == [0, 2]


def test_a_source_between_the_pieces_of_a_stop_sequence_does_not_hide_it() -> None:
    stream = StopFilter(["END"])
    source = Annotation(jsonio.raw({"type": "url_citation", "url": "https://a.example"}))
    out = [one for event in (Started(), TextDelta("abE"), source, TextDelta("NDc")) for one in stream.feed([event])]
    assert text(out) == "ab"
    assert source in out
    assert stream.cut


def test_a_source_goes_on_where_no_stop_sequence_comes_of_it() -> None:
    stream = StopFilter(["END"])
    source = Annotation(jsonio.raw({"type": "url_citation", "url": "https://a.example"}))
    out = stream.feed([Started(), TextDelta("abE"), source, TextDelta("x"), ChoiceEnd("stop"), Finished()])
    assert text(out) == "abEx"
    assert source in out


def test_what_is_cut_off_is_counted_and_the_figures_of_the_provider_pass() -> None:
    stream = StopFilter(["END"])
    figures = UsageReport(Usage(1, 2))
    out = stream.feed([Started(), TextDelta("aENDb"), ReasoningDelta("cc"), figures, ChoiceEnd("stop"), Finished()])
    assert [event for event in out if isinstance(event, UsageReport)] == [figures]
    assert isinstance(out[-1], UsageReport)
    assert stream.unsaid() == "ENDbcc"
    assert stream.unsaid() == ""


def test_text_that_waited_is_told_before_a_failure() -> None:
    stream = StopFilter(["END"])
    failed = Failed(UpstreamBroken("gone"))
    assert stream.feed([Started(), TextDelta("aE"), failed])[1:] == [TextDelta("a"), TextDelta("E"), failed]


def test_log_probabilities_go_with_the_text_that_is_let_through() -> None:
    def entry(token: str) -> msgspec.Raw:
        return jsonio.raw({"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []})

    def tokens(events: list[Event]) -> list[tuple[str, list[str]]]:
        return [
            (event.text, [jsonio.anything(one)["token"] for one in event.logprobs or ()])
            for event in events
            if isinstance(event, TextDelta)
        ]

    def said(*pieces: str) -> TextDelta:
        return TextDelta("".join(pieces), 0, [entry(piece) for piece in pieces])

    stream = StopFilter(["终止符"])
    assert tokens(stream.feed([said("你好", " there")])) == [("你好 there", ["你好", " there"])]
    assert tokens(stream.feed([said("a", "b终")])) == [("ab", ["a"])], "a token that is half told waits"
    assert tokens(stream.feed([said("点")])) == [("终点", ["b终", "点"])]
    assert tokens(stream.feed([said("终")])) == []
    assert tokens(stream.feed([MessageEnd(0)])) == [("终", ["终"])]
    assert tokens(stream.feed([said("c", "终", "止符", "d")])) == [("c", ["c"])]
    assert stream.cut


def test_text_without_log_probabilities_has_none_wherever_it_is_cut() -> None:
    stream = StopFilter(["END"])
    entry = jsonio.raw({"token": "aE", "logprob": -1, "bytes": [97, 69], "top_logprobs": []})
    assert stream.feed([TextDelta("aE", 0, [entry])]) == [TextDelta("a")]
    assert stream.feed([TextDelta("x")]) == [TextDelta("Ex", 0, [entry])]
    assert stream.feed([TextDelta("E"), MessageEnd()]) == [TextDelta("E"), MessageEnd()]
    assert stream.feed([TextDelta("bEND")])[0] == TextDelta("b")


def test_the_parts_of_a_character_are_told_with_it() -> None:
    def half(*octets: int) -> msgspec.Raw:
        return jsonio.raw({"token": "\\x", "logprob": -1, "bytes": list(octets), "top_logprobs": []})

    first, second = half(0xE4, 0xBD), half(0xA0)
    stream = StopFilter(["END"])
    out = stream.feed([TextDelta("", 0, [first]), TextDelta("你E", 0, [second, half(0x45)])])
    assert out == [TextDelta("你", 0, [first, second])]


def test_an_answer_that_begins_with_a_stop_sequence_says_nothing() -> None:
    entry = jsonio.raw({"token": "END", "logprob": -1, "bytes": None, "top_logprobs": []})
    assert StopFilter(["END"]).feed([Started(), TextDelta("END", 0, [entry])]) == [
        Started(),
        MessageEnd(),
        ChoiceEnd("stop", 0, "END"),
    ]
