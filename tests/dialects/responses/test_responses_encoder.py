"""Canonical events in, the official stream of a response out."""

import json
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tests.dialects.common import RESPONSE_ID, destination
from tests.dialects.responses.client import answer, encoder, final, lawful, open_responses, sent, streamed, told
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import BridgedRequest, Collector, StreamEncoder
from tidegate.dialects.dialect import Quirks
from tidegate.dialects.responses import ResponsesDialect, held
from tidegate.dialects.responses.decoder import ResponsesDecoder
from tidegate.dialects.responses.encoder import ResponsesEncoder
from tidegate.dialects.responses.stream import ResponsesStream
from tidegate.wire import errors
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
from tidegate.wire.items import CanonicalRequest

ACTION = {"type": "search", "query": "潮"}
CITATION = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://tide.example", "title": "Tide"}


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def called(index: int, arguments: str, *, name: str = "f", custom: bool = False) -> list[Event]:
    return [
        ToolCallStart(index, f"call_{index}", name, custom),
        *([ToolCallDelta(index, arguments)] if arguments else []),
        ToolCallEnd(index),
    ]


def kinds(out: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told(out)]


def texts(response: dict[str, Any]) -> list[str]:
    return [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]


class TestText:
    def test_has_the_whole_grammar_around_it(self) -> None:
        out = sent(answer(TextDelta("潮"), TextDelta("汐")))
        assert kinds(out) == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        response = final(out)
        assert texts(response) == ["潮汐"]
        assert response["usage"] == {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 3},
            "total_tokens": 12,
        }
        assert response["completed_at"] == common.COMPLETED
        assert response["output"][0]["id"].startswith("msg_")

    def test_ids_are_stable_and_each_items_own(self) -> None:
        events = answer(ReasoningDelta("h"), ReasoningEnd(), TextDelta("a"), *called(0, "{}"), *called(1, "{}"))
        one, two = sent(events), sent(events)
        assert one == two
        ids = [item["id"] for item in final(one)["output"]]
        assert [name.split("_")[0] for name in ids] == ["rs", "msg", "fc", "fc"]
        assert len(set(ids)) == 4
        assert {len(name.split("_")[1]) for name in ids} == {48}

    def test_empty_pieces_make_no_events(self) -> None:
        out = sent(
            answer(TextDelta(""), TextDelta("a"), TextDelta(""), MessageEnd(), ReasoningDelta(""), ReasoningEnd())
        )
        assert kinds(out).count("output_text.delta") == 1

    def test_every_character_survives_json(self) -> None:
        text = 'quote " back \\ line\n tab\t nul\x00 emoji 🌊 sep\u2028 del\x7f'
        out = sent(answer(*map(TextDelta, text)))
        assert texts(final(out)) == [text]

    def test_a_message_ends_where_the_provider_says_so(self) -> None:
        out = sent(answer(TextDelta("a"), MessageEnd(), TextDelta("b"), MessageEnd()))
        assert texts(final(out)) == ["a", "b"]
        assert kinds(out).index("output_item.done") < kinds(out).index("output_item.added", 3)

    def test_annotations_stand_in_the_part_and_are_announced(self) -> None:
        out = sent(answer(TextDelta("潮汐"), Annotation(raw(CITATION)), TextDelta("!"), Annotation(raw(CITATION))))
        added = [event for event in told(out) if event["type"].endswith("annotation.added")]
        assert [event["annotation_index"] for event in added] == [0, 1]
        assert final(out)["output"][0]["content"][0]["annotations"] == [CITATION, CITATION]

    @pytest.mark.parametrize(
        "between",
        [
            called(0, "{}"),
            [MessageEnd(), ReasoningDelta("hm"), ReasoningEnd()],
            [MessageEnd(), ReasoningDelta("hm"), ReasoningEnd(), *called(0, "{}")],
            [MediaDelta("image/png", "aGk=")],
            [
                Opaque(
                    "web_search_call",
                    raw({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": ACTION}),
                )
            ],
            [MessageEnd()],
        ],
        ids=["call", "thought", "thought and call", "image", "search", "nothing"],
    )
    def test_sources_that_are_named_late_belong_to_the_text_that_was_said(self, between: list[Event]) -> None:
        entry = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []}
        said = [TextDelta("caf"), TextDelta("é", 0, [raw(entry), raw(entry)])]
        two = {**CITATION, "url": "https://b.example"}
        events = answer(*said, *between, Annotation(raw(CITATION)), Annotation(raw(two)))
        out = sent(events)
        first, *others = final(out)["output"]
        assert first["content"] == [
            {"type": "output_text", "text": "café", "annotations": [CITATION, two], "logprobs": [entry, entry]}
        ]
        assert "message" not in [item["type"] for item in others], "an empty message would pass for the answer"
        added = [event for event in told(out) if event["type"].endswith("annotation.added")]
        assert [
            (one["item_id"], one["output_index"], one["content_index"], one["annotation_index"]) for one in added
        ] == [
            (first["id"], 0, 0, 0),
            (first["id"], 0, 0, 1),
        ]

    def test_a_source_after_sources_of_its_text_is_one_more(self) -> None:
        out = sent(answer(TextDelta("a"), Annotation(raw(CITATION)), *called(0, "{}"), Annotation(raw(CITATION))))
        assert final(out)["output"][0]["content"][0]["annotations"] == [CITATION, CITATION]

    def test_a_source_that_is_named_late_leaves_the_cut_where_it_is(self) -> None:
        events = [TextDelta("a"), *called(0, '{"x":'), Annotation(raw(CITATION))]
        message, call = final(sent(answer(*events, reason="length")))["output"]
        assert (message["status"], call["status"]) == ("completed", "incomplete")

    def test_a_source_of_no_text_has_a_message_of_its_own(self) -> None:
        out = sent(answer(*called(0, "{}"), Annotation(raw(CITATION)), reason="tool_calls"))
        assert final(out)["output"][-1]["content"][0]["annotations"] == [CITATION]

    def test_logprobs_stand_in_deltas_and_at_the_end_with_bytes(self) -> None:
        entry = {"token": "潮", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "a", "logprob": -1}]}
        out = sent(answer(TextDelta("潮", 0, [raw(entry)]), TextDelta("汐")))
        shown = {
            "token": "潮",
            "logprob": -0.5,
            "bytes": [230, 189, 174],
            "top_logprobs": [{"token": "a", "logprob": -1.0, "bytes": [97]}],
        }
        events = told(out)
        assert [event["logprobs"] for event in events if event["type"].endswith("text.delta")] == [[shown], []]
        assert next(event for event in events if event["type"].endswith("text.done"))["logprobs"] == [shown]
        assert final(out)["output"][0]["content"][0]["logprobs"] == [shown]

    def test_a_refusal_is_a_part_of_its_own(self) -> None:
        out = sent(answer(TextDelta("Well, "), RefusalDelta("no"), RefusalDelta(".")))
        assert final(out)["output"][0]["content"] == [
            {"type": "output_text", "text": "Well, ", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "no."},
        ]

    def test_text_after_a_refusal_opens_a_third_part(self) -> None:
        out = sent(answer(TextDelta("a"), RefusalDelta("b"), TextDelta("c"), TextDelta("d")))
        content = final(out)["output"][0]["content"]
        assert [part.get("text", part.get("refusal")) for part in content] == ["a", "b", "cd"]

    def test_several_choices_are_several_messages(self) -> None:
        events: list[Event] = [
            Started("m"),
            TextDelta("a", 0),
            TextDelta("x", 1),
            TextDelta("b", 0),
            TextDelta("y", 1),
            ChoiceEnd("stop", 0),
            ChoiceEnd("length", 1),
            UsageReport(Usage(1, 2)),
            Finished(),
        ]
        response = final(sent(events))
        assert texts(response) == ["ab", "xy"]
        assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
        assert response["status"] == "incomplete"


class TestReasoning:
    def test_summaries_come_in_parts_before_the_text(self) -> None:
        out = sent(
            answer(
                ReasoningDelta("one", "summary"),
                ReasoningDelta("!", "summary"),
                ReasoningDelta("two", "summary", 1),
                ReasoningEnd(None, "tgr1_x"),
                TextDelta("a"),
            )
        )
        reasoning, message = final(out)["output"]
        assert reasoning == {
            "id": reasoning["id"],
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "one!"}, {"type": "summary_text", "text": "two"}],
            "encrypted_content": "tgr1_x",
        }
        assert message["type"] == "message"
        added = next(event for event in told(out) if event["type"] == "response.output_item.added")
        assert added["item"] == {"id": reasoning["id"], "type": "reasoning", "summary": []}

    def test_raw_thoughts_are_content(self) -> None:
        out = sent(answer(ReasoningDelta("hm"), ReasoningDelta("m"), ReasoningEnd(), TextDelta("a")))
        assert final(out)["output"][0]["content"] == [{"type": "reasoning_text", "text": "hmm"}]
        assert "encrypted_content" not in final(out)["output"][0]
        assert "reasoning_text.delta" in kinds(out)

    def test_text_behind_reasoning_is_another_message(self) -> None:
        first, second = ReasoningDelta("hm"), ReasoningDelta("again")
        out = sent(answer(first, ReasoningEnd(), TextDelta("a"), MessageEnd(), second, ReasoningEnd(), TextDelta("b")))
        response = final(out)
        assert [item["type"] for item in response["output"]] == ["reasoning", "message", "reasoning", "message"]
        assert texts(response) == ["a", "b"]

    def test_a_seal_without_words_is_an_item(self) -> None:
        out = sent(answer(ReasoningEnd(None, "tgr1_sig"), *called(0, "{}")))
        reasoning, call = final(out)["output"]
        assert (reasoning["summary"], reasoning["encrypted_content"]) == ([], "tgr1_sig")
        assert call["type"] == "function_call"

    def test_an_end_of_nothing_is_nothing(self) -> None:
        assert [item["type"] for item in final(sent(answer(ReasoningEnd(), TextDelta("a"))))["output"]] == ["message"]

    def test_both_kinds_in_one_item(self) -> None:
        out = sent(answer(ReasoningDelta("raw"), ReasoningDelta("short", "summary"), ReasoningEnd(), TextDelta("a")))
        item = final(out)["output"][0]
        assert item["content"][0]["text"] == "raw"
        assert item["summary"][0]["text"] == "short"


class TestCalls:
    def test_parallel_and_interleaved_calls_keep_their_own(self) -> None:
        out = sent(
            answer(
                ToolCallStart(0, "call_a", "f"),
                ToolCallStart(1, "call_b", "g"),
                ToolCallDelta(1, '{"b":'),
                ToolCallDelta(0, '{"a":1}'),
                ToolCallDelta(1, "2}"),
                ToolCallEnd(1),
                ToolCallEnd(0),
                reason="tool_calls",
            )
        )
        assert [(item["call_id"], item["name"], item["arguments"]) for item in final(out)["output"]] == [
            ("call_a", "f", '{"a":1}'),
            ("call_b", "g", '{"b":2}'),
        ]
        wheres = {(event["item_id"], event["output_index"]) for event in told(out) if "item_id" in event}
        assert len(wheres) == 2

    def test_a_call_without_arguments_has_an_empty_object(self) -> None:
        out = sent(answer(*called(0, "")))
        assert final(out)["output"][0]["arguments"] == "{}"

    def test_a_call_without_an_id_gets_one(self) -> None:
        out = sent(answer(ToolCallStart(0, "", "f"), ToolCallEnd(0), ToolCallStart(1, "", "f"), ToolCallEnd(1)))
        ids = [item["call_id"] for item in final(out)["output"]]
        assert len(set(ids)) == 2
        assert all(0 < len(name) <= 64 for name in ids)

    def test_custom_tools_have_their_own_events(self) -> None:
        out = sent(answer(*called(0, "*** Begin Patch\n", name="apply_patch", custom=True)))
        item = final(out)["output"][0]
        assert (item["type"], item["input"], item["id"][:4]) == ("custom_tool_call", "*** Begin Patch\n", "ctc_")
        assert "custom_tool_call_input.delta" in kinds(out)
        assert "custom_tool_call_input.done" in kinds(out)

    def test_an_empty_custom_input_stays_empty(self) -> None:
        assert final(sent(answer(*called(0, "", custom=True))))["output"][0]["input"] == ""

    def test_a_call_is_closed_when_it_ends_and_not_at_the_end_of_the_stream(self) -> None:
        made = encoder()
        out = made.encode([Started("m"), TextDelta("a"), *called(0, '{"a":1}')])
        assert b"response.output_item.done" in out
        assert out.count(b"event: response.output_item.done") == 2

    def test_names_of_a_namespace_come_back_as_the_client_gave_them(self) -> None:
        inner = {"type": "function", "name": "tide", "parameters": {}, "strict": False}
        tools = [{"type": "namespace", "name": "sea", "description": "The sea.", "tools": [inner]}]
        for event in (ToolCallStart(0, "c", "sea__tide"), ToolCallStart(0, "c", "tide", False, "sea")):
            item = final(sent(answer(event, ToolCallEnd(0)), tools=tools))["output"][0]
            assert (item["namespace"], item["name"]) == ("sea", "tide")

    def test_text_after_calls_is_a_message_of_its_own(self) -> None:
        out = sent(answer(TextDelta("a"), *called(0, "{}"), TextDelta("b")))
        assert [item["type"] for item in final(out)["output"]] == ["message", "function_call", "message"]
        assert streamed(out).output_text == "ab"


class TestOtherItems:
    def test_hosted_tools_pass_whole(self) -> None:
        item = {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "潮"},
        }
        out = sent(answer(TextDelta("a"), Opaque("web_search_call", raw(item)), TextDelta("b")))
        assert final(out)["output"][1] == item

    def test_pretty_printed_json_stays_on_one_line(self) -> None:
        item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": ACTION}
        pretty = msgspec.Raw(json.dumps(item, indent=2).replace("\n", "\r\n").encode())
        tools = [{"type": "function", "name": "f", "parameters": {}, "strict": False}]
        body = json.dumps({"input": "x", "stream": True, "tools": tools}, indent=2).encode()
        made = ResponsesDialect().parse(body).encoder(common.call())
        made.attempt(destination(endpoint="chat"))
        entry = msgspec.Raw(b'{"token":\n3}')
        cited = msgspec.Raw(json.dumps(CITATION, indent=1).encode())
        out = made.encode(answer(TextDelta("a", 0, [entry]), Annotation(cited), Opaque("web_search_call", pretty)))
        frames = out.split(b"\n\n")
        assert all(frame.count(b"\n") == 1 for frame in frames if frame)
        assert b"\r" not in out
        events = common.events(out)
        assert events[-1]["response"]["output"][1] == item
        assert events[-1]["response"]["tools"] == tools

    HOSTED: ClassVar[dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]]] = {
        "search": (
            {"type": "web_search_call", "action": ACTION, "anthropic_blocks": [{}]},
            {"type": "web_search_call", "action": ACTION},
            ["web_search_call.in_progress", "web_search_call.searching", "web_search_call.completed"],
        ),
        "failed search": (
            {"type": "web_search_call", "action": ACTION, "status": "failed"},
            {"type": "web_search_call", "action": ACTION},
            ["web_search_call.in_progress", "web_search_call.searching"],
        ),
        "files": (
            {"type": "file_search_call", "queries": ["潮"], "results": [{"file_id": "f", "text": "x", "score": 1.0}]},
            {"type": "file_search_call", "queries": ["潮"], "results": None},
            ["file_search_call.in_progress", "file_search_call.searching", "file_search_call.completed"],
        ),
        "code": (
            {"type": "code_interpreter_call", "code": 'a = "潮"\n', "container_id": "c", "outputs": []},
            {"type": "code_interpreter_call", "code": "", "container_id": "c", "outputs": None},
            [
                "code_interpreter_call.in_progress",
                "code_interpreter_call_code.delta",
                "code_interpreter_call_code.done",
                "code_interpreter_call.interpreting",
                "code_interpreter_call.completed",
            ],
        ),
        "mcp": (
            {"type": "mcp_call", "server_label": "s", "name": "n", "arguments": "{}", "output": "o", "error": None},
            {"type": "mcp_call", "server_label": "s", "name": "n", "arguments": "", "output": None, "error": None},
            ["mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.completed"],
        ),
        "failed mcp": (
            {"type": "mcp_call", "server_label": "s", "name": "n", "arguments": "", "status": "failed"},
            {"type": "mcp_call", "server_label": "s", "name": "n", "arguments": ""},
            ["mcp_call.in_progress", "mcp_call_arguments.done", "mcp_call.failed"],
        ),
    }

    @pytest.mark.parametrize(("item", "begun", "steps"), HOSTED.values(), ids=HOSTED)
    def test_a_hosted_tool_goes_through_all_its_steps(
        self, item: dict[str, Any], begun: dict[str, Any], steps: list[str]
    ) -> None:
        item = {"id": "own_1", "status": "completed", **item}
        out = sent(answer(TextDelta("a"), Opaque(item["type"], raw(item))))
        assert final(out)["output"][1] == item
        events = [event for event in told(out) if event.get("output_index") == 1]
        assert events[0]["item"] == {"id": "own_1", **begun, "status": "in_progress"}
        assert [event["type"].removeprefix("response.") for event in events[1:-1]] == steps
        assert {event["item_id"] for event in events[1:-1]} == {"own_1"}
        for event in events[1:-1]:
            if event["type"].endswith("_code.delta"):
                assert event["delta"] == item["code"]
        assert events[-1]["item"] == item

    def test_a_client_of_open_responses_sees_no_events_that_it_does_not_know(self) -> None:
        item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": ACTION}
        out = sent(answer(Opaque("web_search_call", raw(item))), "openresponses")
        assert not [event for event in common.events(out) if "searching" in event["type"]]

    def test_an_item_without_id_gets_one(self) -> None:
        out = sent(answer(Opaque("compaction", raw({"type": "compaction", "encrypted_content": "x"}))))
        assert final(out)["output"][0]["id"].startswith("cmp_")

    def test_images_are_generation_calls(self) -> None:
        out = sent(answer(TextDelta("see"), MediaDelta("image/png", "aGk="), TextDelta("there")))
        response = final(out)
        assert [item["type"] for item in response["output"]] == ["message", "image_generation_call", "message"]
        image = response["output"][1]
        assert (image["result"], image["status"], image["output_format"]) == ("aGk=", "completed", "png")
        assert [kind for kind in kinds(out) if "image" in kind] == [
            "image_generation_call.in_progress",
            "image_generation_call.generating",
            "image_generation_call.completed",
        ]


class TestEndings:
    @pytest.mark.parametrize(
        ("reason", "says"),
        [("length", "max_output_tokens"), ("content_filter", "content_filter"), ("refusal", "content_filter")],
    )
    def test_a_cut_answer_is_incomplete_and_so_is_its_last_item(self, reason: Reason, says: str) -> None:
        response = final(sent(answer(ReasoningDelta("h"), ReasoningEnd(), TextDelta("a"), reason=reason)))
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": says}
        assert response["completed_at"] is None
        assert response["output"][-1]["status"] == "incomplete"
        assert "status" not in response["output"][0]

    def test_a_refusal_in_words_is_a_complete_answer(self) -> None:
        assert final(sent(answer(RefusalDelta("no"), reason="refusal")))["status"] == "completed"

    def test_a_message_that_ended_just_before_the_limit_is_cut_too(self) -> None:
        out = sent(answer(TextDelta("a"), MessageEnd(), reason="length"))
        assert final(out)["output"][0]["status"] == "incomplete"

    def test_reasoning_that_the_limit_cut(self) -> None:
        out = sent(answer(ReasoningDelta("h"), ReasoningEnd(None, "x"), reason="length"))
        assert final(out)["output"][0]["status"] == "incomplete"
        assert final(out)["output"][0]["encrypted_content"] == "x"

    def test_a_call_that_the_limit_cut(self) -> None:
        out = sent(answer(*called(0, '{"a":1}'), *called(1, '{"a":'), reason="length"))
        assert [item["status"] for item in final(out)["output"]] == ["completed", "incomplete"]

    def test_a_call_that_ends_after_its_choice(self) -> None:
        out = sent(
            [
                Started("m"),
                ToolCallStart(0, "c", "f"),
                ToolCallDelta(0, '{"a'),
                ChoiceEnd("length"),
                ToolCallEnd(0),
                UsageReport(Usage(1, 2)),
                Finished(),
            ]
        )
        assert final(out)["output"][0]["status"] == "incomplete"

    def test_arguments_that_are_no_json_do_not_make_an_answer_incomplete(self) -> None:
        out = sent(answer(*called(0, "oops"), *called(1, "{}"), reason="tool_calls"))
        assert [item["status"] for item in final(out)["output"]] == ["completed", "completed"]

    def test_a_provider_that_calls_a_cut_answer_completed(self) -> None:
        to = destination(endpoint="chat", cut_reported_as_completed=True)
        out = sent(answer(TextDelta("a")), to=to, max_output_tokens=7)
        assert final(out)["output"][0]["status"] == "incomplete"
        assert final(out)["incomplete_details"] == {"reason": "max_output_tokens"}
        assert final(sent(answer(TextDelta("a")), to=to, max_output_tokens=8))["status"] == "completed"

    def test_usage_is_estimated_when_nobody_gave_it(self) -> None:
        out = sent([Started("m"), TextDelta("abcdefgh"), ChoiceEnd("stop"), Finished()])
        assert final(out)["usage"]["input_tokens"] == 100
        assert final(out)["usage"]["output_tokens"] > 0

    def test_an_empty_answer_is_complete(self) -> None:
        assert final(sent(answer()))["output"] == []

    def test_the_model_is_the_providers_own_name_without_its_suffix(self) -> None:
        to = destination(endpoint="chat", quirks=Quirks(model_suffix="@main"))
        events: list[Event] = [Started("tide-9@main"), ChoiceEnd("stop"), Finished()]
        assert final(sent(events, to=to))["model"] == "tide-9"
        assert final(sent([Started(""), ChoiceEnd("stop"), Finished()], to=to))["model"] == "tide-1"

    def test_the_clients_request_is_echoed(self) -> None:
        members: dict[str, Any] = {
            "temperature": 0.5,
            "instructions": "Be brief.",
            "metadata": {"a": "b"},
            "max_output_tokens": 90,
        }
        response = final(sent(answer(TextDelta("a")), **members))
        assert {name: response[name] for name in members} == members


class TestFailures:
    ERROR = errors.UpstreamBroken("Provider 'lab': it broke.")

    def failed(self, *events: Event, profile: str = "openai") -> bytes:
        made = encoder(profile)
        return made.encode(events) + made.fail(self.ERROR)

    def test_open_items_are_closed_as_incomplete(self) -> None:
        out = self.failed(
            Started("m"), TextDelta("a"), ToolCallStart(0, "c", "f"), ToolCallDelta(0, '{"a'), TextDelta("b")
        )
        events = told(out)
        response = events[-1]["response"]
        assert [item["status"] for item in response["output"]] == ["completed", "incomplete", "incomplete"]
        assert response["error"] == {"code": "server_error", "message": f"upstream_broken: {self.ERROR.message}"}
        assert response["usage"]["total_tokens"] > 0
        assert events[-2]["type"] == "error"
        assert events[-2]["error"]["message"] == events[-2]["message"] == self.ERROR.message
        assert events[-2]["error"]["type"] == "server_error"

    def test_a_failure_before_anything_still_begins_properly(self) -> None:
        assert kinds(self.failed()) == ["created", "in_progress", "error", "failed"]

    def test_an_item_that_waited_for_its_end_is_closed(self) -> None:
        assert told(self.failed(Started("m"), TextDelta("a"), MessageEnd()))[-1]["response"]["output"][0]["status"] == (
            "completed"
        )
        out = self.failed(Started("m"), ToolCallStart(0, "c", "f"), ToolCallDelta(0, '{"a'), ToolCallEnd(0))
        assert told(out)[-1]["response"]["output"][0]["status"] == "incomplete"

    def test_the_relay_says_it_in_the_same_words(self) -> None:
        relay = common.open_stream("responses")
        out = relay.fail(self.ERROR)
        assert common.events(out) == common.events(self.failed())

    def test_an_answer_without_bounds_is_refused_with_nothing_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tidegate.dialects.responses.encoder.HELD_LIMIT", 100)
        assert held.HELD_LIMIT > 100
        made = encoder()
        out = made.encode([Started("m"), TextDelta("x" * 200)])
        with pytest.raises(errors.WireError, match="longer than 100 bytes"):
            made.encode([TextDelta("y")])
        told(out + made.fail(self.ERROR))


class TestPings:
    def test_a_ping_repeats_the_last_number_and_counts_for_nothing(self) -> None:
        made = encoder()
        assert made.ping() == b": keepalive\n\n"
        out = made.encode([Started("m"), TextDelta("a")])
        ping = made.ping()
        assert ping.startswith(b": keepalive\n\nevent: keepalive\n")
        last = common.events(out)[-1]["sequence_number"]
        assert common.events(ping) == [{"type": "keepalive", "sequence_number": last}]
        rest = made.encode([Ping(), TextDelta("b"), ChoiceEnd("stop"), Finished()])
        told(out + ping + rest)

    def test_a_ping_commits_to_nothing(self) -> None:
        made = encoder()
        made.encode([Started("m")])
        made.ping()
        assert not made.committed


class TestProfiles:
    def test_open_responses(self) -> None:
        tools = [{"type": "function", "name": "f"}]
        events = answer(
            ReasoningDelta("hm"), ReasoningEnd(None, "x"), TextDelta("a"), *called(0, '{"a":1}'), reason="tool_calls"
        )
        out = sent(events, "openresponses", tools=tools, text={"verbosity": None}, reasoning={"effort": "low"})
        response = open_responses(out)
        assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call"]
        assert b"event: response.reasoning.delta\n" in out

    def test_open_responses_cut_and_failed(self) -> None:
        assert open_responses(sent(answer(TextDelta("a"), reason="length"), "openresponses"))["status"] == "incomplete"
        made = encoder("openresponses")
        out = made.encode([Started("m"), RefusalDelta("n")]) + made.ping() + made.fail(TestFailures.ERROR)
        assert open_responses(out)["status"] == "failed"
        assert b"[DONE]" not in out

    def test_kkiai_has_bare_frames_and_done(self) -> None:
        out = sent(answer(ReasoningDelta("h"), ReasoningEnd(), TextDelta("a"), *called(0, "{}")), "kkiai")
        assert b"event:" not in out
        assert out.endswith(b"data: [DONE]\n\n")
        assert out.count(b"[DONE]") == 1
        named = sent(answer(ReasoningDelta("h"), ReasoningEnd(), TextDelta("a"), *called(0, "{}")))
        assert common.events(out) == common.events(named)


class TestHandOver:
    def relay(self) -> ResponsesStream:
        stream = common.open_stream("responses")
        assert isinstance(stream, ResponsesStream)
        return stream

    def test_an_encoder_goes_on_behind_the_relay(self) -> None:
        stream = self.relay()
        created = {"type": "response.created", "response": {"id": "up_1", "status": "in_progress", "model": "tide-1"}}
        out = stream.feed(common.numbered(created))
        assert out
        made = encoder()
        made.go_on(stream.hand_over())
        made.attempt(destination(endpoint="chat"))
        out += made.encode(lawful(answer(TextDelta("a"))))
        assert texts(final(out)) == ["a"]

    def test_frames_that_were_held_back_come_first(self) -> None:
        stream = self.relay()
        created = {"type": "response.created", "response": {"id": "up_1", "status": "in_progress", "model": "tide-1"}}
        error = {"type": "error", "code": "server_error", "message": "no"}
        assert stream.feed(common.numbered(created, error)) == b""
        made = encoder()
        made.go_on(stream.hand_over())
        made.attempt(destination(endpoint="chat"))
        assert made.ping() == b": keepalive\n\n"
        assert texts(final(made.encode(answer(TextDelta("a"))))) == ["a"]

    def test_the_relay_goes_on_behind_an_encoder(self) -> None:
        made = encoder()
        out = made.encode([Started("tide-1")])
        assert not made.committed
        stream = self.relay()
        stream.go_on(made.hand_over())
        stream.attempt(destination())
        out += b"".join([stream.feed(common.vector("responses-text")), stream.finish()])
        events = common.events(out)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert streamed(out).output_text

    def test_an_encoder_goes_on_behind_its_own_beginning(self) -> None:
        made = encoder()
        out = made.encode([Started("tide-0")])
        made.attempt(destination(endpoint="chat", provider="spare", model="tide-2"))
        out += made.encode(lawful(answer(TextDelta("a"))))
        assert texts(final(out)) == ["a"]

    def test_nothing_of_a_failed_attempt_stays(self) -> None:
        made = encoder()
        out = made.encode([Started("tide-0"), UsageReport(Usage(90, 90)), ChoiceEnd("length")])
        assert not made.committed
        made.attempt(destination(endpoint="chat", provider="spare", model="tide-2"))
        response = final(out + made.encode(lawful(answer(TextDelta("a")))))
        assert response["status"] == "completed"
        assert response["usage"]["input_tokens"] == 5


# -- whole answers ------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["潮", "汐", " tide", "🌊", "", "\n", '"', "é"])


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Answers as the dialects with items and without have them: reasoning first, then text, then calls; several turns."""
    events: list[Event] = []
    index = 0
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["reasoning", "text", "refusal", "call", "opaque", "image", "source"]))
        words = draw(st.lists(WORDS, min_size=1, max_size=4))
        match kind:
            case "reasoning":
                summary = draw(st.booleans())
                events += [ReasoningDelta(word or "h", "summary" if summary else "text") for word in words]
                events.append(ReasoningEnd(None, draw(st.sampled_from(["", "tgr1_x"]))))
            case "text":
                events += [TextDelta(word or "t") for word in words]
                events.append(MessageEnd())
            case "refusal":
                events += [RefusalDelta(word or "r") for word in words]
                events.append(MessageEnd())
            case "call":
                custom = draw(st.booleans())
                text = "".join(words) if custom else json.dumps(words)
                events += called(index, text, custom=custom)
                index += 1
            case "opaque":
                item = {"type": "web_search_call", "id": f"ws_{len(events)}", "status": "completed", "action": ACTION}
                events.append(Opaque("web_search_call", raw(item)))
            case "source":
                events += [Annotation(raw(CITATION)), MessageEnd()]
            case _:
                events += [MediaDelta("image/png", "aGk="), MessageEnd()]
    return events


@settings(max_examples=60, deadline=None)
@given(events=answers(), reason=st.sampled_from(["stop", "length"]), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_a_stream_ends_in_the_same_object_as_the_answer_in_one_body(
    events: list[Event], reason: Reason, cuts: list[int]
) -> None:
    whole = lawful(answer(*events, reason=reason))
    made = encoder()
    places = sorted({cut % (len(whole) + 1) for cut in cuts})
    out = b"".join(made.encode(whole[a:b]) for a, b in zip([0, *places], [*places, len(whole)], strict=True))
    response = told(out)[-1]["response"]
    collector = Collector()
    for event in whole:
        collector.add(event)
    request = ResponsesDialect().parse(common.body("responses", stream=False))
    body = request.encode_answer(collector.output(), common.call(), destination(endpoint="chat"))
    assert json.loads(body) == response
    assert response["id"] == RESPONSE_ID


class TestWholeAnswers:
    def body(self, events: list[Event], profile: str = "openai", **members: Any) -> Any:
        collector = Collector()
        for event in events:
            collector.add(event)
        request = ResponsesDialect().parse(common.body("responses", **members))
        call = common.call(profile)
        return json.loads(request.encode_answer(collector.output(), call, destination(endpoint="chat")))

    def test_kkiai_gets_a_chat_completion(self) -> None:
        body = self.body(answer(TextDelta("a"), *called(0, "{}"), reason="tool_calls"), "kkiai")
        assert body["object"] == "chat.completion"
        assert body["choices"][0]["message"]["content"] == "a"
        assert body["choices"][0]["finish_reason"] == "tool_calls"

    def test_names_of_a_namespace(self) -> None:
        tools = [{"type": "namespace", "name": "sea", "tools": [{"type": "function", "name": "tide"}]}]
        item = self.body(answer(*called(0, "", name="sea__tide")), tools=tools)["output"][0]
        assert (item["namespace"], item["name"], item["arguments"]) == ("sea", "tide", "{}")

    def test_logprobs_and_annotations(self) -> None:
        entry = {"token": "a", "logprob": -1, "bytes": None, "top_logprobs": None}
        part = self.body(answer(TextDelta("a", 0, [raw(entry)]), Annotation(raw(CITATION))))["output"][0]["content"][0]
        assert part["annotations"] == [CITATION]
        assert part["logprobs"] == [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}]


@pytest.mark.parametrize("name", common.names("responses"))
def test_every_recorded_stream_comes_out_by_the_book(name: str) -> None:
    made = encoder()
    decoder = ResponsesDecoder(destination())
    out = b""
    for event in [*decoder.feed(common.vector(name)), *decoder.eof()]:
        out += made.fail(event.error) if isinstance(event, Failed) else made.encode([event])
    told(out)


@pytest.mark.parametrize("name", common.names("chat"))
def test_every_recorded_chat_stream_comes_out_by_the_book(name: str) -> None:
    to = destination(endpoint="chat")
    asked = CanonicalRequest(model="m", items=[], n=2 if name == "chat-two" else 1)
    decoder = ChatUpstream().decoder(to, asked)
    made = encoder(to=to)
    out = b""
    for event in [*decoder.feed(common.vector(name)), *decoder.eof()]:
        out += made.fail(event.error) if isinstance(event, Failed) else made.encode([event])
    told(out)


def test_a_request_and_its_encoder_are_what_the_bridge_expects() -> None:
    request: BridgedRequest = ResponsesDialect().parse(common.body("responses"))
    made: StreamEncoder = request.encoder(common.call())
    made.attempt(destination())
    assert made.encode([Started("m")]).count(b"\n\n") == 2


def test_an_encoder_is_light_on_memory_and_time() -> None:
    """No figure, which other loads would spoil; only that the path of a delta makes one frame and nothing else."""
    made: ResponsesEncoder = encoder()
    made.encode([Started("m"), TextDelta("a")])
    frame = made.encode([TextDelta("潮")])
    assert frame.count(b"\n\n") == 1
    assert json.loads(frame.split(b"data: ")[1])["delta"] == "潮"


def test_only_the_last_of_two_calls_can_be_the_one_that_was_cut() -> None:
    events: list[Event] = [
        ToolCallStart(0, "call_a", "f"),
        ToolCallDelta(0, '{"a'),
        ToolCallStart(1, "call_b", "f"),
        ToolCallDelta(1, '{"b'),
        ChoiceEnd("length"),
        ToolCallEnd(0),
        ToolCallEnd(1),
    ]
    response = final(sent([Started("m"), *events, UsageReport(Usage(1, 1)), Finished()]))
    assert response["status"] == "incomplete"
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
