"""A provider's Messages stream, or body, as canonical events."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.common import bytewise, split
from tests.dialects.messages import streams
from tests.dialects.messages.streams import (
    BROKEN,
    CHINESE,
    VECTORS,
    block,
    collected,
    decoded,
    destination,
    end,
    frame,
    joined,
    message,
    plain,
    start,
    text,
    whole,
)
from tidegate.dialects.messages.decoder import decode_message
from tidegate.dialects.messages.figures import Figures
from tidegate.wire import jsonio
from tidegate.wire.errors import UpstreamBroken, UpstreamFailed, UpstreamRateLimited, WireError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Failed,
    Finished,
    MessageEnd,
    Opaque,
    Paused,
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
from tidegate.wire.items import CanonicalRequest, FunctionCall, HostedTool, Message, Reasoning, TextPart

ALL = {**VECTORS, **BROKEN}
each_vector = pytest.mark.parametrize("name", sorted(ALL))


@each_vector
def test_any_split_gives_the_same_events(name: str) -> None:
    data = ALL[name]
    at_once = decoded([data])
    assert joined(decoded(bytewise(data))) == joined(at_once) or isinstance(at_once[-1], Failed)
    assert len(decoded(bytewise(data))) == len(at_once)


@settings(max_examples=60)
@given(st.sampled_from(sorted(VECTORS)), st.lists(st.integers(0, 10_000), max_size=8))
def test_a_random_split_gives_the_same_events(name: str, cuts: list[int]) -> None:
    assert decoded(split(VECTORS[name], cuts)) == decoded([VECTORS[name]])


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_a_whole_answer_ends_well(name: str) -> None:
    assert isinstance(decoded([VECTORS[name]])[-1], Finished)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_an_answer_that_is_not_whole_is_a_failure(name: str) -> None:
    last = decoded([BROKEN[name]])[-1]
    assert isinstance(last, Failed)
    assert last.error.may_retry


@pytest.mark.parametrize("name", sorted(set(VECTORS) - {"unknown", "crlf"}))
def test_a_body_gives_what_its_stream_gives(name: str) -> None:
    assert plain(collected(whole(message(VECTORS[name])))) == plain(collected(decoded([VECTORS[name]])))


def test_text_is_handed_out_with_the_read_that_completes_it() -> None:
    events = decoded([VECTORS["text"]])
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Hel", "lo ", "wor", "ld"]
    assert events[0] == Started("claude-x")
    assert events[-3:] == [UsageReport(Usage(11, 7)), ChoiceEnd("stop"), Finished()]


@pytest.mark.fault("FAULT-UTF8")
def test_chinese_survives_a_split_at_every_byte() -> None:
    output = collected(decoded(bytewise(VECTORS["chinese"])))
    assert output.choices[0].items == [Message(role="assistant", content=[TextPart(text=CHINESE)])]


def test_thinking_is_sealed_with_its_signature_and_text() -> None:
    events = decoded([VECTORS["thinking"]])
    assert ReasoningDelta("let me ", "summary") in events
    assert ReasoningEnd(Seal(kind="signature", data="c2ln", text="let me see")) in events
    assert isinstance(collected(events).choices[0].items[0], Reasoning)


def test_thinking_without_text_keeps_its_signature() -> None:
    events = decoded([VECTORS["silent-thinking"]])
    assert [event for event in events if isinstance(event, ReasoningDelta)] == []
    assert ReasoningEnd(Seal(kind="signature", data="c2ln")) in events


def test_redacted_thinking_is_sealed() -> None:
    assert ReasoningEnd(Seal(kind="redacted", data="b3BhcXVl")) in decoded([VECTORS["redacted"]])


def test_unsigned_thinking_has_no_seal() -> None:
    events = decoded([start() + streams.thinking(0, "hm", signature="") + text(1, "x") + end()])
    assert ReasoningEnd() in events


def test_texts_with_thinking_between_them_are_two_messages() -> None:
    items = collected(decoded([VECTORS["interleaved"]])).choices[0].items
    assert [type(item) for item in items] == [Reasoning, Message, Reasoning, Message]


def test_a_call_streams_its_arguments() -> None:
    events = decoded([VECTORS["call"]])
    at = events.index(ToolCallStart(0, "toolu_01", "f"))
    assert events[at - 1] == MessageEnd()
    assert events[at + 1 : at + 5] == [
        ToolCallDelta(0, '{"ci'),
        ToolCallDelta(0, 'ty":"上'),
        ToolCallDelta(0, '海"}'),
        ToolCallEnd(0),
    ]
    assert ChoiceEnd("tool_calls") in events


def test_a_call_without_input_has_an_empty_object() -> None:
    (call,) = collected(decoded([VECTORS["call-without-input"]])).choices[0].items
    assert call == FunctionCall(call_id="toolu_01", name="f", arguments="{}")


def test_an_input_that_comes_with_the_start_is_not_lost() -> None:
    data = start() + block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "潮"}}) + end("tool_use")
    (call,) = collected(decoded([data])).choices[0].items
    assert isinstance(call, FunctionCall)
    assert json.loads(call.arguments) == {"a": "潮"}


def test_a_custom_tool_gets_its_free_text_back() -> None:
    (call,) = collected(decoded([VECTORS["custom"]])).choices[0].items
    assert call == FunctionCall(call_id="toolu_01", name="apply_patch", arguments="*** Begin\n潮", custom=True)


def test_the_free_text_of_a_custom_tool_streams() -> None:
    events = decoded([VECTORS["custom"]])
    assert [event.text for event in events if isinstance(event, ToolCallDelta)] == ["*** Be", "gin\n潮"]


def test_a_custom_call_that_is_not_wrapped_is_kept_as_it_is() -> None:
    data = start() + streams.call(0, "apply_patch", '{"patch":1}') + end("tool_use")
    (call,) = collected(decoded([data])).choices[0].items
    assert isinstance(call, FunctionCall)
    assert call.arguments == '{"patch":1}'


@pytest.mark.parametrize("escape", ["\\x", "\\udc00", "\\u12zz and so on and on"])
def test_an_escape_that_json_does_not_have_costs_nothing_else(escape: str) -> None:
    events = decoded([start() + streams.call(0, "apply_patch", '{"input":"a' + escape + '"}') + text(1, "x") + end()])
    assert TextDelta("x") in events
    assert isinstance(events[-1], Finished)


def test_a_custom_call_without_input_has_none() -> None:
    (call,) = collected(decoded([start() + streams.call(0, "apply_patch", "") + end("tool_use")])).choices[0].items
    assert call == FunctionCall(call_id="toolu_01", name="apply_patch", arguments="", custom=True)


@pytest.mark.parametrize(
    ("reason", "known"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_stop_reasons(reason: str, known: str) -> None:
    (ending,) = [event for event in decoded([start() + text(0, "x") + end(reason)]) if isinstance(event, ChoiceEnd)]
    assert ending.reason == known


CALLED = block(0, {"type": "tool_use", "id": "t", "name": "tide", "input": {"a": 1}})


@pytest.mark.parametrize(
    ("said", "reason", "known"),
    [
        (CALLED, "tool_use", "tool_calls"),
        (CALLED, "end_turn", "tool_calls"),
        (text(0, "x"), "tool_use", "stop"),
        (CALLED, "max_tokens", "length"),
        (CALLED, "stop_sequence", "tool_calls"),
    ],
)
def test_an_end_is_what_the_answer_holds(said: bytes, reason: str, known: str) -> None:
    """Servers that merely speak this API tell one for the other; whoever asked goes on only where a call is told."""
    (ending,) = [event for event in decoded([start() + said + end(reason)]) if isinstance(event, ChoiceEnd)]
    assert ending.reason == known


def test_a_stop_reason_that_nobody_knows_is_no_ending() -> None:
    events = decoded([start() + text(0, "x") + end("something_new")])
    assert TextDelta("x") in events
    last = events[-1]
    assert isinstance(last, Failed)
    assert "stop_reason 'something_new'" in last.error.message
    assert not any(isinstance(event, ChoiceEnd) for event in events)
    body = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "something_new"}
    with pytest.raises(WireError, match="something_new"):
        decode_message(jsonio.encode(body), destination(), CanonicalRequest(model="m", items=[]))


def test_a_pause_gives_back_all_that_was_said_block_by_block() -> None:
    """The provider wants its own blocks again: streamed in pieces, they are those of the whole body."""
    asked = CanonicalRequest(model="m", items=[], tools=[HostedTool(type="web_search", value=jsonio.raw({}))])
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    cited = {"type": "web_search_result_location", "url": "https://a.example", "title": "A"}
    data = (
        start()
        + block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "h"},
            {"type": "thinking_delta", "thinking": "m"},
            {"type": "signature_delta", "signature": "c2ln"},
        )
        + block(1, {"type": "redacted_thinking", "data": "ZGF0YQ=="})
        + text(2, "")
        + block(
            3,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "潮"},
            {"type": "text_delta", "text": "汐"},
            {"type": "citations_delta", "citation": cited},
        )
        + block(
            4,
            use,
            {"type": "input_json_delta", "partial_json": '{"query":'},
            {"type": "input_json_delta", "partial_json": '"x"}'},
        )
        + block(5, found)
        + end("pause_turn")
    )
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "text", "text": "潮汐", "citations": [cited]},
        {**use, "input": {"query": "x"}},
        found,
    ]
    last = decoded([data], asked)[-1]
    assert isinstance(last, Paused)
    assert [json.loads(bytes(one)) for one in last.content] == content
    body = {"type": "message", "model": "m", "content": content, "stop_reason": "pause_turn", "usage": {}}
    last = whole(body, asked)[-1]
    assert isinstance(last, Paused)
    assert [json.loads(bytes(one)) for one in last.content] == content


def test_the_stop_sequence_that_matched_is_told() -> None:
    assert ChoiceEnd("stop", stop_sequence="three") in decoded([VECTORS["stop-sequence"]])


def test_the_explanation_of_a_refusal_reaches_the_client() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "It may harm."}
    data = start() + frame("message_delta", delta={"stop_reason": "refusal", "stop_details": details}, usage={})
    events = decoded([data + frame("message_stop")])
    assert events[-3:] == [RefusalDelta("It may harm."), ChoiceEnd("content_filter"), Finished()]


def test_cached_tokens_are_part_of_the_input() -> None:
    usage = collected(decoded([VECTORS["cached"]])).usage
    assert usage == Usage(input_tokens=131, output_tokens=7, cached_tokens=100, cache_write_tokens=20)


def test_usage_is_cumulative() -> None:
    assert collected(decoded([VECTORS["usage-first"]])).usage == Usage(input_tokens=12, output_tokens=9)


def test_thinking_tokens_are_counted_as_reasoning() -> None:
    data = start() + text(0, "x") + end(output_tokens_details={"thinking_tokens": 5})
    assert collected(decoded([data])).usage.reasoning_tokens == 5


def test_the_beginning_of_an_answer_counts_its_input_and_nothing_of_its_output() -> None:
    reports = [event.usage for event in decoded([BROKEN["cut"]]) if isinstance(event, UsageReport)]
    assert reports == [Usage(input_tokens=11, estimated=True)]


def test_a_web_search_becomes_an_item_with_query_sources_and_its_own_blocks() -> None:
    events = decoded([VECTORS["search"]])
    (found,) = [event for event in events if isinstance(event, Opaque)]
    item = json.loads(bytes(found.item))
    assert item["type"] == found.type == "web_search_call"
    assert item["id"] == "ws_srvtoolu_1"
    assert item["status"] == "completed"
    assert item["action"] == {
        "type": "search",
        "query": "tides",
        "sources": [{"type": "url", "url": "https://a.example"}],
    }
    use, result = item["anthropic_blocks"]
    assert use["input"] == {"query": "tides"}
    assert result["content"][0]["encrypted_content"] == "ZW5j"


def test_texts_around_a_citation_are_one_message_and_the_citation_has_its_place() -> None:
    last = collected(decoded([VECTORS["search"]])).choices[0].items[-1]
    assert isinstance(last, Message)
    (part,) = last.content
    assert isinstance(part, TextPart)
    assert part.text == "It says high."
    (annotation,) = [json.loads(bytes(one)) for one in part.annotations]
    assert part.text[annotation["start_index"] : annotation["end_index"]] == "high"
    assert annotation["url"] == "https://a.example"


def test_a_citation_without_address_or_file_is_left_out() -> None:
    citation = {"type": "char_location", "cited_text": "x", "document_index": 0}
    data = start() + block(0, {"type": "text", "text": "x"}, {"type": "citations_delta", "citation": citation}) + end()
    assert [event for event in decoded([data]) if isinstance(event, Annotation)] == []


def test_other_server_tools_become_items_of_their_own_type() -> None:
    found = [event for event in decoded([VECTORS["server-tool"]]) if isinstance(event, Opaque)]
    assert [event.type for event in found] == [
        "anthropic:server_tool_use",
        "anthropic:bash_code_execution_tool_result",
    ]
    assert json.loads(bytes(found[0].item))["anthropic_blocks"][0]["input"] == {"command": "ls"}


def test_unknown_blocks_are_kept_and_unknown_events_passed_over() -> None:
    found = [event for event in decoded([VECTORS["unknown"]]) if isinstance(event, Opaque)]
    assert [event.type for event in found] == ["anthropic:foam"]


def test_text_of_an_unannounced_block_is_not_lost() -> None:
    data = start() + frame("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"}) + end()
    assert TextDelta("x") in decoded([data])


@pytest.mark.parametrize(
    ("kind", "status", "class_"),
    [
        ("overloaded_error", 503, UpstreamFailed),
        ("rate_limit_error", 429, UpstreamRateLimited),
        ("api_error", 502, UpstreamFailed),
        ("invalid_request_error", 400, UpstreamFailed),
        ("billing_error", 429, UpstreamFailed),
    ],
)
def test_an_error_event_keeps_its_meaning(kind: str, status: int, class_: type[Exception]) -> None:
    last = decoded([start() + frame("error", error={"type": kind, "message": "so it is"})])[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, class_)
    assert last.error.http_status == status


def test_what_is_said_only_in_words_has_its_code() -> None:
    error = {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}
    last = decoded([frame("error", error=error)])[-1]
    assert isinstance(last, Failed)
    assert last.error.code == "context_length_exceeded"
    assert not last.error.may_retry


def test_an_empty_balance_is_not_the_callers_fault() -> None:
    error = {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API."}
    last = decoded([frame("error", error=error)])[-1]
    assert isinstance(last, Failed)
    assert (last.error.http_status, last.error.code) == (429, "insufficient_quota")


def test_an_error_in_a_body_with_status_200_is_raised() -> None:
    with pytest.raises(UpstreamFailed):
        whole({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"content":[]}', b'{"content":[{}],"stop_reason":"end_turn"}', b'{"content":"x\xff"}'],
)
def test_a_body_that_is_no_message_is_a_wire_error(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_message(body, destination(), streams.REQUEST)


def test_a_frame_without_end_is_a_failure_and_keeps_what_came_before() -> None:
    events = decoded([start() + text(0, "x"), b"data: " + b"x" * (9 * 1024 * 1024)])
    assert TextDelta("x") in events
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, UpstreamBroken)


def test_blocks_that_say_nothing_are_nothing() -> None:
    empty = start() + block(0, {"type": "thinking", "thinking": "", "signature": ""}) + text(1, "")
    called = block(2, {"type": "tool_use", "id": "t", "name": "f", "input": {}})
    kinds = [type(event) for event in decoded([empty + called + end("tool_use")])]
    assert kinds[:4] == [Started, UsageReport, ToolCallStart, ToolCallDelta]


def test_calls_without_ids_get_one_each() -> None:
    content = [{"type": "tool_use", "name": f"f{place}", "input": {}} for place in range(3)]
    usage = {"input_tokens": 1, "output_tokens": 1}
    events = whole({"type": "message", "content": content, "stop_reason": "tool_use", "usage": usage})
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [event.call_id for event in starts] == ["call_0", "call_1", "call_2"]


def test_no_more_is_written_for_an_hour_than_is_written() -> None:
    usage = {"input_tokens": 5, "cache_creation_input_tokens": 20, "output_tokens": 1}
    figures = Figures()
    assert figures.read(jsonio.raw({**usage, "cache_creation": {"ephemeral_1h_input_tokens": 50}}))
    assert figures.usage().cache_write_1h_tokens == 20
    assert figures.read(jsonio.raw({**usage, "cache_creation": {"ephemeral_1h_input_tokens": 15}}))
    assert figures.usage().cache_write_1h_tokens == 15
