"""A provider's Responses answer, streamed or whole, as canonical events."""

import json
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.common import bytewise, destination, frame, numbered, split, vector
from tests.dialects.responses.client import USAGE, answer, encoder
from tests.dialects.responses.test_responses_encoder import answers
from tests.support.api import read_frames
from tests.support.grammar import check_stream
from tidegate.dialects.codec import Collector, StreamDecoder
from tidegate.dialects.dialect import Quirks
from tidegate.dialects.responses.decoder import ResponsesDecoder, decode_answer
from tidegate.wire import errors
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    Laws,
    MediaDelta,
    MessageEnd,
    Opaque,
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
from tidegate.wire.items import FunctionCall, ImagePart, Message, OpaqueItem, Output, Reasoning, RefusalPart, TextPart

NAMES = common.names("responses") + [f"transformers/{name}" for name in ("responses-call", "responses-text")]
NAMES += [f"transformers/{name}" for name in ("responses-cut", "responses-reasoning", "responses-text-and-calls")]
TRANSFORMERS = destination(
    quirks=Quirks(model_suffix="@main", loose_items=True, echoes_request=False, output_limit=1024),
    cut_reported_as_completed=True,
)
WHERE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
CREATED: dict[str, Any] = {
    "type": "response.created",
    "response": {"id": "up_1", "status": "in_progress", "model": "tide-1"},
}
CITATION = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://tide.example", "title": "Tide"}


def decode(reads: list[bytes], to: Any = None) -> list[Event]:
    """What a decoder says to `reads`, and to their end; by the laws."""
    decoder: StreamDecoder = ResponsesDecoder(to or destination())
    events = [event for read in reads for event in decoder.feed(read)]
    events += decoder.eof()
    assert decoder.feed(b"data: {}\n\n") == decoder.eof() == []
    laws = Laws()
    for event in events:
        laws.check(event)
    assert laws.ended
    return events


def stream(*events: dict[str, Any], to: Any = None) -> list[Event]:
    return decode([numbered(CREATED, *events)], to)


def ended(*items: dict[str, Any], kind: str = "completed", **members: Any) -> dict[str, Any]:
    usage = {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 2}}
    response = {"id": "up_1", "status": kind, "output": list(items), "usage": usage, **members}
    return {"type": f"response.{kind}", "response": response}


def added(item: dict[str, Any], at: int = 0) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": at, "item": item}


def done(item: dict[str, Any], at: int = 0) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": at, "item": item}


def delta(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", **WHERE, "delta": text, **members}


def said(text: str, **members: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], **members}
    return {**MESSAGE, "status": "completed", "content": [part]}


def call(name: str = "f", arguments: str = '{"a":1}', at: int = 0, **members: Any) -> dict[str, Any]:
    head = {"id": f"fc_{at}", "type": "function_call", "call_id": f"call_{at}", "name": name}
    return {**head, "arguments": arguments, "status": "completed", **members}


def output(events: list[Event]) -> Output:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.output()


def words(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def plain(events: list[Event]) -> list[Any]:
    return [msgspec.to_builtins(event, enc_hook=repr, builtin_types=()) for event in map(_shown, events)]


def _shown(event: Event) -> Any:
    shown: dict[str, Any] = {"event": type(event).__name__}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, msgspec.Raw):
            value = json.loads(bytes(value))
        elif isinstance(value, errors.TidegateError):
            value = (type(value).__name__, value.message, value.code, value.http_status)
        elif isinstance(value, list):
            value = [json.loads(bytes(one)) for one in value]
        elif isinstance(value, Usage | Seal):
            value = repr(value)
        shown[name] = value
    return shown


class TestVectors:
    @pytest.mark.parametrize("name", NAMES)
    def test_any_split_gives_the_same_events(self, name: str) -> None:
        data = vector(name)
        to = TRANSFORMERS if "transformers" in name else destination()
        whole = [one for one in plain(decode([data], to)) if one["event"] != "Ping"]
        byte_by_byte = [one for one in plain(decode(bytewise(data), to)) if one["event"] != "Ping"]
        assert byte_by_byte == whole
        tail = data.rstrip(b"\r\n") if whole[-1]["event"] == "Finished" else data
        assert [one for one in plain(decode([tail], to)) if one["event"] != "Ping"] == whole

    @settings(max_examples=40, deadline=None)
    @given(name=st.sampled_from(NAMES), cuts=st.lists(st.integers(0, 20000), max_size=8))
    def test_random_splits(self, name: str, cuts: list[int]) -> None:
        data = vector(name)
        assert plain(decode(split(data, cuts))) == plain(decode([data]))

    @pytest.mark.parametrize("name", NAMES)
    def test_the_events_say_what_the_last_snapshot_says(self, name: str) -> None:
        data = vector(name)
        events = decode([data], TRANSFORMERS if "transformers" in name else None)
        if isinstance(events[-1], Failed):
            assert name.removeprefix("responses-") in (
                "error-then-failed", "error-flat", "failed", "no-end", "garbage", "not-utf8",
            )  # fmt: skip
            return
        last = next(
            one["response"]
            for one in reversed(common.events(data))
            if one.get("type") in ("response.completed", "response.incomplete")
        )
        shown = "".join(
            part.get("text", "")
            for item in last["output"] or ()
            if item["type"] == "message"
            for part in item["content"]
        )
        if last["output"]:
            assert words(events) == shown
        assert sum(isinstance(event, ToolCallStart) for event in events) == sum(
            item["type"] in ("function_call", "custom_tool_call") for item in last["output"] or ()
        )

    def test_a_cut_that_transformers_calls_complete(self) -> None:
        to = destination(cut_reported_as_completed=True, quirks=Quirks(output_limit=7))
        events = stream(delta("a"), ended(said("a")), to=to)
        assert ChoiceEnd("length") in events
        honest = destination(quirks=Quirks(output_limit=7))
        assert ChoiceEnd("stop") in stream(delta("a"), ended(said("a")), to=honest)


class TestText:
    def test_a_stream_by_the_book(self) -> None:
        assert stream(
            {"type": "response.in_progress", "response": {}},
            added(MESSAGE),
            {"type": "response.content_part.added", **WHERE, "part": {"type": "output_text", "text": ""}},
            delta("潮"),
            delta("汐"),
            {"type": "response.output_text.done", **WHERE, "text": "潮汐"},
            {"type": "response.content_part.done", **WHERE, "part": {"type": "output_text", "text": "潮汐"}},
            done(said("潮汐")),
            ended(said("潮汐")),
        ) == [
            Started("tide-1"),
            TextDelta("潮"),
            TextDelta("汐"),
            MessageEnd(),
            UsageReport(Usage(5, 7, cached_tokens=2)),
            ChoiceEnd("stop"),
            Finished(),
        ]

    @pytest.mark.parametrize(
        "events",
        [
            [delta("潮"), delta("汐"), ended()],
            [delta("潮汐"), {"type": "response.completed", "response": {"output": None}}],
            [{"type": "response.output_text.done", **WHERE, "text": "潮汐"}, ended(said("潮汐"))],
            [{"type": "response.content_part.done", **WHERE, "part": said("潮汐")["content"][0]}, ended()],
            [added(MESSAGE), done(said("潮汐")), ended(said("潮汐"))],
            [done(said("潮汐")), ended()],
            [ended(said("潮汐"))],
            [delta("潮"), ended(said("潮汐"))],
            [delta("潮"), done(said("潮汐")), ended(said("潮汐"))],
            [added(MESSAGE), done(said("")), ended(said("潮汐"))],
            [delta("潮汐"), ended({**said("潮汐"), "id": "msg_another"})],
            [added(MESSAGE), delta("潮汐"), done({**said("潮汐"), "id": "other"}), ended(said("潮汐"))],
            [{"type": "response.output_text.delta", "delta": "潮"}] * 1 + [delta("汐"), ended()],
        ],
    )
    def test_text_is_neither_lost_nor_doubled(self, events: list[dict[str, Any]]) -> None:
        found = stream(*events)
        assert words(found) == "潮汐"
        assert isinstance(found[-1], Finished)

    def test_a_stream_of_nothing_but_deltas(self) -> None:
        bare = [{"type": "response.output_text.delta", "delta": word} for word in "潮汐"]
        found = decode([b"".join(map(frame, [*bare, {"type": "response.completed", "response": {"id": "x"}}]))])
        assert [type(event) for event in found] == [Started, TextDelta, TextDelta, ChoiceEnd, Finished]

    def test_new_ids_at_every_event(self) -> None:
        found = stream(
            added({**MESSAGE, "id": "a"}),
            *({**delta(word), "item_id": f"id_{word}"} for word in ("x", "y", "z")),
            done({**said("xyz"), "id": "b"}),
            ended({**said("xyz"), "id": "c"}),
        )
        assert words(found) == "xyz"
        assert found.count(MessageEnd()) == 1

    def test_two_messages(self) -> None:
        second = {**WHERE, "item_id": "msg_2", "output_index": 1}
        two = {**said("b"), "id": "msg_2"}
        found = stream(
            added(MESSAGE),
            delta("a"),
            done(said("a")),
            added({**MESSAGE, "id": "msg_2"}, 1),
            {"type": "response.output_text.delta", **second, "delta": "b"},
            done(two, 1),
            ended(said("a"), two),
        )
        assert [len(one.items) for one in output(found).choices] == [2]

    def test_two_messages_that_the_snapshot_makes_one(self) -> None:
        found = stream(
            added(MESSAGE),
            delta("a"),
            added({**MESSAGE, "id": "msg_2"}, 1),
            {**delta("b"), "item_id": "msg_2", "output_index": 1},
            ended(said("ab")),
        )
        assert words(found) == "ab"

    def test_a_trimmed_snapshot_adds_nothing(self) -> None:
        assert words(stream(delta("\n\nHi"), ended(said("Hi")))) == "\n\nHi"
        assert words(stream(delta("Hi"), ended(said("Something else")))) == "Hi"

    def test_parts_of_one_message(self) -> None:
        content = [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
        item = {**MESSAGE, "content": content}
        for found in (
            stream(ended(item)),
            stream(
                added(MESSAGE),
                delta("a"),
                {"type": "response.refusal.delta", **WHERE, "content_index": 1, "delta": "n"},
                {"type": "response.refusal.done", **WHERE, "content_index": 1, "refusal": "no"},
                done(item),
                ended(item),
            ),
        ):
            (message,) = output(found).choices[0].items
            assert isinstance(message, Message)
            assert message.content == [TextPart(text="a"), RefusalPart(refusal="no")]
        assert RefusalDelta("n") in found

    def test_logprobs_from_deltas_or_from_the_end(self) -> None:
        entry = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}
        for found in (
            stream(delta("a", logprobs=[entry]), ended(said("a", logprobs=[entry]))),
            stream(delta("a"), delta("", logprobs=[entry]), ended(said("a", logprobs=[entry]))),
            stream(ended(said("a", logprobs=[entry]))),
            stream(delta("a", logprobs=None), ended(said("a", logprobs=[entry]))),
        ):
            given = [one for event in found if isinstance(event, TextDelta) for one in event.logprobs or ()]
            assert [json.loads(bytes(one)) for one in given] == [entry]
            assert words(found) == "a"

    def test_annotations_from_events_or_from_the_end(self) -> None:
        event = {
            "type": "response.output_text.annotation.added",
            **WHERE,
            "annotation_index": 0,
            "annotation": CITATION,
        }
        for found in (
            stream(delta("潮汐"), event, ended(said("潮汐", annotations=[CITATION]))),
            stream(delta("潮汐"), ended(said("潮汐", annotations=[CITATION]))),
            stream(ended(said("潮汐", annotations=[CITATION]))),
        ):
            given = [one.value for one in found if isinstance(one, Annotation)]
            assert [json.loads(bytes(one)) for one in given] == [CITATION]


class TestReasoning:
    ITEM: ClassVar[dict[str, Any]] = {"id": "rs_1", "type": "reasoning", "summary": []}

    def test_summary_parts_and_the_seal(self) -> None:
        where = {"item_id": "rs_1", "output_index": 0}
        whole = {
            **self.ITEM,
            "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
            "encrypted_content": "gAAA",
        }
        deltas = [
            {"type": "response.reasoning_summary_text.delta", **where, "summary_index": at, "delta": word}
            for at, word in enumerate(("one", "two"))
        ]
        words = json.dumps({"summary": whole["summary"]}, separators=(",", ":"))
        expected = [
            ReasoningDelta("one", "summary", 0),
            ReasoningDelta("two", "summary", 1),
            ReasoningEnd(Seal(kind="encrypted", data="gAAA", text=words)),
        ]
        assert stream(added(self.ITEM), *deltas, done(whole), ended(whole))[1:4] == expected
        assert stream(done(whole), ended())[1:4] == expected
        assert stream(ended(whole))[1:4] == expected
        assert stream(added(self.ITEM), *deltas, ended(whole))[1:4] == expected

    @pytest.mark.parametrize("name", ["reasoning_text", "reasoning"])
    def test_raw_thoughts_by_any_name(self, name: str) -> None:
        where = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
        whole = {**self.ITEM, "content": [{"type": "reasoning_text", "text": "hm!"}]}
        found = stream(
            added(self.ITEM),
            {"type": "response.reasoning_part.added", **where, "part": {"type": "reasoning_text", "text": ""}},
            {"type": f"response.{name}.delta", **where, "delta": "hm"},
            {"type": f"response.{name}.done", **where, "text": "hm!"},
            {"type": "response.reasoning_part.done", **where, "part": {"type": "reasoning_text", "text": "hm!"}},
            done(whole),
            delta("a", item_id="msg_1", output_index=1),
            ended(whole, said("a")),
        )
        words = '{"summary":[],"content":[{"type":"reasoning_text","text":"hm!"}]}'
        sealed = ReasoningEnd(Seal(kind="reasoning_item", data=words))
        assert found[1:5] == [ReasoningDelta("hm"), ReasoningDelta("!"), sealed, TextDelta("a")]

    def test_words_without_a_seal_of_a_provider_that_seals_are_not_asked_back(self) -> None:
        whole = {**self.ITEM, "summary": [{"type": "summary_text", "text": "hm"}]}
        found = stream(done(whole), ended(whole), to=destination(encrypted_reasoning=True))
        assert found[1:3] == [ReasoningDelta("hm", "summary"), ReasoningEnd()]

    @pytest.mark.parametrize("late", [delta("a", item_id="msg_1", output_index=1), added(call(at=1), 1)])
    def test_reasoning_ends_with_what_follows_it(self, late: dict[str, Any]) -> None:
        piece = {"type": "response.reasoning_text.delta", "item_id": "rs_1", "output_index": 0, "content_index": 0}
        found = stream(added(self.ITEM), {**piece, "delta": "hm"}, late, done(self.ITEM), ended(self.ITEM))
        assert found[1:3] == [ReasoningDelta("hm"), ReasoningEnd()]

    def test_reasoning_with_nothing_in_it_is_not_told(self) -> None:
        assert ReasoningEnd() not in stream(added(self.ITEM), done(self.ITEM), delta("a"), ended(self.ITEM, said("a")))

    def test_a_seal_that_comes_only_at_the_end(self) -> None:
        whole = {**self.ITEM, "encrypted_content": "gAAA"}
        found = stream(added(self.ITEM), done(self.ITEM), ended(whole))
        assert found.count(ReasoningEnd(Seal(kind="encrypted", data="gAAA", text='{"summary":[]}'))) == 1


class TestCalls:
    @pytest.mark.fault("FAULT-TOOL-CALLS")
    def test_interleaved_calls(self) -> None:
        def piece(at: int, text: str) -> dict[str, Any]:
            where = {"item_id": f"fc_{at}", "output_index": at}
            return {"type": "response.function_call_arguments.delta", **where, "delta": text}

        found = stream(
            added(call("f", "", 0)),
            added(call("g", "", 1), 1),
            piece(1, '{"a"'),
            piece(0, '{"a":1}'),
            piece(1, ":1}"),
            done(call("f", at=0)),
            done(call("g", at=1), 1),
            ended(call("f", at=0), call("g", at=1)),
        )
        assert found[1:8] == [
            ToolCallStart(0, "call_0", "f"),
            ToolCallStart(1, "call_1", "g"),
            ToolCallDelta(1, '{"a"'),
            ToolCallDelta(0, '{"a":1}'),
            ToolCallDelta(1, ":1}"),
            ToolCallEnd(0),
            ToolCallEnd(1),
        ]
        assert ChoiceEnd("tool_calls") in found

    @pytest.mark.fault("FAULT-TOOL-CALLS")
    @pytest.mark.parametrize(
        "events",
        [
            [ended(call())],
            [done(call()), ended(call())],
            [done(call()), ended({**call(), "id": "fc_another"})],
            [added(call(arguments="")), ended(call())],
            [added({**call(arguments=""), "name": ""}), done(call()), ended()],
            [
                {"type": "response.function_call_arguments.delta", "item_id": "fc_0", "delta": '{"a":'},
                {"type": "response.function_call_arguments.done", "item_id": "fc_0", "arguments": '{"a":1}'},
                done(call()),
                ended(call()),
            ],
            [
                added(call(arguments="")),
                {"type": "response.function_call_arguments.done", "item_id": "fc_0", "arguments": '{"a":1}'},
                ended(),
            ],
        ],
    )
    def test_a_call_is_neither_lost_nor_made_twice(self, events: list[dict[str, Any]]) -> None:
        (item,) = output(stream(*events)).choices[0].items
        assert item == FunctionCall(call_id="call_0", name="f", arguments='{"a":1}')

    def test_custom_tools_and_namespaces(self) -> None:
        custom = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** x"}
        spaced = call("tide", at=1, namespace="sea")
        one, two = output(stream(done(custom), done(spaced, 1), ended())).choices[0].items
        assert one == FunctionCall(call_id="c", name="patch", arguments="*** x", custom=True)
        assert two == FunctionCall(call_id="call_1", name="tide", arguments='{"a":1}', namespace="sea")

    def test_a_call_that_nobody_named_is_no_answer(self) -> None:
        found = stream(
            {"type": "response.function_call_arguments.delta", "item_id": "fc_0", "delta": "{}"},
            ended(),
        )
        assert isinstance(found[-1], Failed)


class TestOtherItems:
    SEARCH: ClassVar[dict[str, Any]] = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "x"},
    }

    def test_hosted_tools_are_kept_whole(self) -> None:
        progress = {"type": "response.web_search_call.searching", "item_id": "ws_1", "output_index": 0}
        for found in (
            stream(added({**self.SEARCH, "status": "in_progress"}), progress, done(self.SEARCH), ended(self.SEARCH)),
            stream(added({**self.SEARCH, "status": "in_progress"}), progress, ended(self.SEARCH)),
            stream(ended(self.SEARCH)),
        ):
            items = [event for event in found if isinstance(event, Opaque)]
            assert [json.loads(bytes(one.item)) for one in items] == [self.SEARCH]
            assert items[0].type == "web_search_call"

    def test_images(self) -> None:
        item = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "aGk="}
        assert MediaDelta("image/webp", "aGk=") in stream(ended({**item, "output_format": "webp"}))

    def test_unknown_events_end_nothing(self) -> None:
        odd = {"type": "response.tidal_wave.rising", "delta": {"height": 3}, "output_index": "x"}
        assert words(stream(odd, delta("a"), odd, ended(said("a")))) == "a"


class TestEndings:
    @pytest.mark.parametrize(
        ("details", "reason"),
        [
            ({"reason": "max_output_tokens"}, "length"),
            ({"reason": "content_filter"}, "content_filter"),
            (None, "length"),
            ({"reason": 3}, "length"),
        ],
    )
    def test_incomplete(self, details: Any, reason: Any) -> None:
        found = stream(delta("a"), ended(said("a"), kind="incomplete", incomplete_details=details))
        assert found[-2:] == [ChoiceEnd(reason), Finished()]

    def test_a_completed_event_around_an_incomplete_answer(self) -> None:
        event = ended(said("a"), incomplete_details={"reason": "max_output_tokens"})
        assert ChoiceEnd("length") in stream(delta("a"), event)

    @pytest.mark.parametrize(
        ("error", "kind", "status"),
        [
            ({"code": "rate_limit_exceeded", "message": "slow"}, errors.UpstreamRateLimited, 429),
            ({"code": "server_is_overloaded", "message": "busy"}, errors.UpstreamFailed, 503),
            ({"code": "context_length_exceeded", "message": "long"}, errors.UpstreamFailed, 400),
            ({"code": "server_error", "message": "oh"}, errors.UpstreamFailed, 502),
            ({"code": "insufficient_quota", "message": "oh"}, errors.UpstreamFailed, 429),
        ],
    )
    def test_errors_keep_their_class(self, error: dict[str, Any], kind: type[Exception], status: int) -> None:
        for event in (
            {"type": "error", **error},
            {"type": "error", "error": error},
            {"error": error},
            {"type": "provider_error", "error": error},
            {"type": "response.failed", "response": {"status": "failed", "error": error}},
            ended(kind="completed", error=error),
        ):
            found = decode([frame(CREATED) + frame(event)])
            last = found[-1]
            assert isinstance(last, Failed)
            assert isinstance(last.error, kind)
            assert last.error.http_status == status

    def test_a_failed_answer_still_reports_its_usage(self) -> None:
        event = ended(kind="failed", error={"code": "server_error", "message": "no"})
        assert stream(event)[1] == UsageReport(Usage(5, 7, cached_tokens=2))
        assert decode([frame(event)])[0] == Started("")

    @pytest.mark.parametrize(
        "tail",
        [
            b"",
            b"data: [DONE]\n\n",
            b"data: {oops\n\n",
            b'data: {"type":"response.output_text.delta","delta":"\xff"}\n\n',
            b'data: {"type":"response.output_text.delta","delta":"b","logprobs":[{"token":"\xff"}]}\n\n',
            b'data: {"type":"response.output_item.done","item":{"id":"x"}}\n\n',
            b'data: {"type":"response.completed","respon',
            b'data: {"type":"response.output_text.delta"}\n\n',
            b'data: {"no":"type"}\n\n',
            b'data: {"type":"response.output_item.done","item":{"type":"message","content":3}}\n\n',
            b"data: 3\n\n",
        ],
    )
    def test_what_is_no_ending_is_a_failure(self, tail: bytes) -> None:
        found = decode([numbered(CREATED, delta("a")), tail])
        assert found[:2] == [Started("tide-1"), TextDelta("a")]
        last = found[-1]
        assert isinstance(last, Failed)
        assert isinstance(last.error, errors.UpstreamBroken)
        assert len(found) == 3

    @pytest.mark.fault("FAULT-UTF8")
    def test_bytes_that_are_not_utf8_are_called_that(self) -> None:
        last = decode([vector("responses-not-utf8")])[-1]
        assert isinstance(last, Failed)
        assert "not valid UTF-8" in last.error.message

    def test_calls_without_end_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tidegate.dialects.responses.decoder.HELD_LIMIT", 2000)
        calls = [added(call("", "", at), at) for at in range(9)]
        assert isinstance(stream(*calls)[-1], Failed)

    def test_pings(self) -> None:
        found = decode([frame(CREATED), b": hi\n\n", frame({"type": "keepalive"}), frame(ended(said("a")))])
        assert found.count(Ping()) == 2


class TestWholeAnswers:
    def body(self, *items: dict[str, Any], **members: Any) -> bytes:
        return json.dumps({**ended(*items)["response"], **members}, separators=(",", ":")).encode()

    def test_gives_the_events_that_a_stream_would_have_had(self) -> None:
        reasoning = {
            **TestReasoning.ITEM,
            "encrypted_content": "gAAA",
            "summary": [{"type": "summary_text", "text": "h"}],
        }
        items = [reasoning, said("潮汐", annotations=[CITATION]), call(at=2)]
        whole = decode_answer(self.body(*items, model="tide-1"), destination())
        assert plain(whole) == plain(stream(ended(*items)))

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b"{}", b"\xff", b'{"output":3}', b'{"output":[],"status":"queued"}', b'{"output":[3]}', b"{oops"],
    )
    def test_what_is_no_answer_is_a_wire_error(self, body: bytes) -> None:
        with pytest.raises(errors.WireError):
            decode_answer(body, destination())

    def test_errors_are_raised_as_what_they_are(self) -> None:
        with pytest.raises(errors.UpstreamRateLimited):
            decode_answer(b'{"error":{"code":"rate_limit_exceeded","message":"slow"}}', destination())
        with pytest.raises(errors.UpstreamBroken):
            decode_answer(self.body(status="failed"), destination())

    @settings(max_examples=150, deadline=None)
    @given(at=st.integers(0, 900), put=st.binary(max_size=3), cut=st.integers(0, 6))
    def test_mutations_raise_nothing_else(self, at: int, put: bytes, cut: int) -> None:
        data = self.body(TestReasoning.ITEM, said("潮汐", annotations=[CITATION]), call(at=2))
        mutated = data[: at % len(data)] + put + data[at % len(data) + cut :]
        try:
            events = decode_answer(mutated, destination())
        except (errors.WireError, errors.TidegateError):
            return
        laws = Laws()
        for event in events:
            laws.check(event)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(NAMES), at=st.integers(0, 20000), put=st.binary(max_size=3), cut=st.integers(0, 40))
def test_a_damaged_stream_keeps_the_laws_and_the_grammar(name: str, at: int, put: bytes, cut: int) -> None:
    data = vector(name)
    place = at % len(data)
    made = encoder()
    out = b""
    for event in decode([data[:place] + put + data[place + cut :]]):
        out += made.fail(event.error) if isinstance(event, Failed) else made.encode([event])
    check_stream([found for found in read_frames(out) if found.data and b'"keepalive"' not in found.data[:30]])


def _comparable(found: Output) -> Any:
    items: list[Any] = []
    for item in found.choices[0].items:
        match item:
            case Message():
                items += [
                    ("image", part.url) if isinstance(part, ImagePart) else json.loads(msgspec.json.encode(part))
                    for part in item.content
                ]
            case OpaqueItem():
                items.append(json.loads(bytes(item.value)))
            case Reasoning():
                # Plain words are sealed as well, where the provider reads them again.
                kept = item.seal if item.seal is not None and item.seal.kind == "encrypted" else None
                sealed = kept.data if kept is not None else item.encrypted
                if item.summary or item.content or sealed:
                    items.append(("reasoning", item.summary, item.content, sealed))
            case _:
                items.append(msgspec.to_builtins(item))
    return items, found.choices[0].reason, found.usage


@settings(max_examples=80, deadline=None)
@given(events=answers(), reason=st.sampled_from(["stop", "length", "content_filter"]))
def test_what_the_encoder_writes_the_decoder_reads(events: list[Event], reason: Any) -> None:
    calls = any(isinstance(event, ToolCallStart) for event in events)
    if reason == "stop" and calls:
        reason = "tool_calls"
    said_ = answer(*events, reason=reason)
    out = encoder().encode(said_)
    assert _comparable(output(decode([out]))) == _comparable(output(said_))
    last = common.events(out)[-1]["response"]
    assert _comparable(output(decode_answer(json.dumps(last).encode(), destination()))) == _comparable(output(said_))
    assert USAGE in [event.usage for event in decode(bytewise(out)) if isinstance(event, UsageReport)]


def test_a_source_of_an_earlier_text_leaves_the_thought_behind_it_whole() -> None:
    source = msgspec.Raw(
        b'{"type":"url_citation","start_index":0,"end_index":1,"url":"https://tide.example","title":"Tide"}'
    )
    said_ = answer(
        TextDelta("a"), MessageEnd(), ReasoningDelta("b"), ReasoningEnd(encrypted="tgr1_x"), Annotation(source)
    )
    back = decode([encoder().encode(said_)])
    assert [type(event) for event in back if isinstance(event, ReasoningEnd)] == [ReasoningEnd]
    assert _comparable(output(back)) == _comparable(output(said_))
