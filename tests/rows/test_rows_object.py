"""Rows S43–S56: the response object."""

import re
import time
from typing import Any

import openai
import pytest

from tests.support.api import Api, Reply
from tests.support.canned import Canned, json_answer, sse_answer
from tests.support.running import Running

ID = re.compile(r"resp_[0-9a-f]{48}")
ZH = "潮汐之门把每个回答都当作一条河流：有序、持久、可以续传。🌊 你好，世界！👩‍👩‍👧‍👦 𠮷野家的牛肉饭很好吃。"

MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}


def final(reply: Reply) -> Any:
    """The finished response object, streamed or not."""
    assert reply.status == 200, reply.content
    return reply.events[-1]["response"] if "event-stream" in reply.headers["content-type"] else reply.json


def from_engine(content: dict[str, Any], *, stream: bool = False, **members: Any) -> Reply:
    """What a client sees when an engine answers with this response object."""
    if stream:
        kind = f"response.{content.get('status', 'completed')}"
        answer = sse_answer(
            {"type": "response.created", "response": {**content, "status": "in_progress"}},
            {"type": kind, "response": content},
        )
    else:
        answer = json_answer(content)
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        return api.ask("responses", "canned/m", stream=stream, **members)


@pytest.mark.row("S43")
def test_an_answer_is_200_and_json(api: Api) -> None:
    reply = api.ask("responses")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.json["object"] == "response"


@pytest.mark.row("S44")
def test_the_id_is_ours_and_the_same_in_every_snapshot(api: Api) -> None:
    first, second = api.ask("responses").json["id"], api.ask("responses").json["id"]
    assert ID.fullmatch(first)
    assert ID.fullmatch(second)
    assert first != second
    events = api.ask("responses", stream=True).events
    ids = {event["response"]["id"] for event in events if "response" in event}
    assert len(ids) == 1
    assert ID.fullmatch(ids.pop())


@pytest.mark.row("S44")
@pytest.mark.parametrize("stream", [False, True])
def test_the_id_of_the_provider_is_replaced(stream: bool) -> None:
    reply = from_engine({"id": "resp_theirs", "status": "completed", "output": []}, stream=stream)
    assert ID.fullmatch(final(reply)["id"])
    assert b"resp_theirs" not in reply.content


@pytest.mark.row("S45")
@pytest.mark.parametrize("stream", [False, True])
def test_object_is_response_whatever_the_provider_says(api: Api, stream: bool) -> None:
    assert final(api.ask("responses", stream=stream))["object"] == "response"
    assert (
        final(from_engine({"object": "realtime.response", "status": "completed", "output": []}, stream=stream))[
            "object"
        ]
        == "response"
    )


@pytest.mark.row("S46", "S53")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("created", [1765000000.73, None, "soon"])
def test_times_are_whole_seconds_whatever_the_provider_sends(stream: bool, created: Any) -> None:
    before = int(time.time())
    reply = from_engine(
        {"status": "completed", "output": [], "created_at": created, "completed_at": created}, stream=stream
    )
    for name in (b"created_at", b"completed_at"):
        values = re.findall(rb'"%b":([^,}]*)' % name, reply.content)
        assert all(re.fullmatch(rb"\d{10}|null", value) for value in values), values
    response = final(reply)
    assert before <= response["created_at"] <= time.time()
    assert response["created_at"] <= response["completed_at"] <= time.time()


@pytest.mark.row("S46")
@pytest.mark.parametrize("stream", [False, True])
def test_created_at_is_the_same_whole_number_in_every_snapshot(api: Api, stream: bool) -> None:
    reply = api.ask("responses", "sim/echo?floats=1", stream=stream)
    values = set(re.findall(rb'"created_at":([^,}]*)', reply.content))
    assert len(values) == 1
    assert values.pop().isdigit()


@pytest.mark.row("S46")
@pytest.mark.parametrize("stream", [False, True])
def test_created_at_is_a_whole_number_also_where_the_provider_holds_the_state(stream: bool) -> None:
    toml = '[server]\nport = 0\n[providers.keeper]\nkind = "sim"\nbase_url = "{sim}"\nstate = "provider"\n'
    with Running(toml) as gateway, Api(gateway) as keeper:
        reply = keeper.ask("responses", "keeper/echo?floats=1", stream=stream)
    values = re.findall(rb'"created_at":([^,}]*)', reply.content)
    assert values
    assert all(value.isdigit() for value in values), values


@pytest.mark.row("S47")
@pytest.mark.parametrize("stream", [False, True])
def test_model_is_there_even_when_the_provider_says_none(stream: bool) -> None:
    reply = from_engine({"status": "completed", "output": []}, stream=stream)
    snapshots = [event["response"] for event in reply.events] if stream else [reply.json]
    assert {snapshot["model"] for snapshot in snapshots} == {"m"}
    other = from_engine({"status": "completed", "output": [], "model": "m-2026-11-01"}, stream=stream)
    assert final(other)["model"] == "m-2026-11-01"


@pytest.mark.row("S48")
def test_every_status_of_a_stream_is_in_the_enumeration(api: Api) -> None:
    for model, statuses in (
        ("sim/echo", ["in_progress", "in_progress", "completed"]),
        ("sim/lorem?finish=length", ["in_progress", "in_progress", "incomplete"]),
        ("sim/lorem?fault=failed", ["in_progress", "in_progress", "failed"]),
    ):
        events = api.ask("responses", model, stream=True).events
        assert [event["response"]["status"] for event in events if "response" in event] == statuses


@pytest.mark.row("S48", "S49")
@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "done", "", 7])
def test_a_status_that_is_no_ending_is_not_passed_off_as_one(status: Any) -> None:
    reply = from_engine({"status": status, "output": [{**MESSAGE, "content": []}]})
    assert reply.status == 502
    assert reply.error["code"] == "upstream_broken"


@pytest.mark.row("S49")
@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_or_filtered_answer_is_incomplete(api: Api, reason: str, stream: bool) -> None:
    response = final(api.ask("responses", f"sim/lorem?finish={reason}", stream=stream))
    assert response["status"] == "incomplete"
    told = {"length": "max_output_tokens", "content_filter": "content_filter"}[reason]
    assert response["incomplete_details"] == {"reason": told}
    assert response["completed_at"] is None
    assert response["usage"]["output_tokens"] > 0


@pytest.mark.row("S49")
@pytest.mark.parametrize("fault", ["eof", "reset", "cut", "close", "error", "failed", "garbage", "bad_chunk_size"])
def test_a_broken_stream_is_failed_never_completed(api: Api, fault: str) -> None:
    reply = api.ask("responses", f"sim/lorem?fault={fault}", stream=True)
    assert reply.kinds[-2:] == ["error", "response.failed"]
    assert "response.completed" not in reply.kinds
    response = reply.events[-1]["response"]
    assert (response["status"], response["completed_at"]) == ("failed", None)
    assert response["error"]["message"]
    assert b'"status":"completed"' not in reply.content


@pytest.mark.row("S49")
@pytest.mark.parametrize("fault", ["eof", "reset", "cut", "close", "error", "failed", "garbage", "truncated_json"])
def test_a_broken_body_is_an_error_never_an_answer(api: Api, fault: str) -> None:
    reply = api.ask("responses", f"sim/lorem?fault={fault}")
    assert reply.status == 502
    assert reply.error["message"]


@pytest.mark.row("S50")
@pytest.mark.parametrize("stream", [False, True])
def test_output_holds_messages_and_every_other_item_type(api: Api, stream: bool) -> None:
    message = final(api.ask("responses", say="hello", stream=stream))["output"]
    assert [(item["type"], item["role"], item["status"]) for item in message] == [("message", "assistant", "completed")]
    thought = final(api.ask("responses", "sim/reasoning", stream=stream))["output"]
    assert [item["type"] for item in thought] == ["reasoning", "message"]
    tool = {
        "type": "function",
        "name": "tide",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    }
    calls = final(api.ask("responses", "sim/tools?parallel=2", tools=[tool], stream=stream))["output"]
    assert [(item["type"], item["name"], item["arguments"]) for item in calls] == [
        ("function_call", "tide", '{"at": "sim 0"}'),
        ("function_call", "tide", '{"at": "sim 1"}'),
    ]
    custom = final(api.ask("responses", "sim/tools", tools=[{"type": "custom", "name": "write"}], stream=stream))
    assert [(item["type"], item["input"]) for item in custom["output"]] == [("custom_tool_call", "input 0 for write")]
    refusal = final(api.ask("responses", "sim/refusal", stream=stream))["output"][0]["content"]
    assert [part["type"] for part in refusal] == ["refusal"]


@pytest.mark.row("S50")
@pytest.mark.parametrize("stream", [False, True])
def test_items_that_we_do_not_know_come_through_untouched(stream: bool) -> None:
    output = [{"type": "tidal_wave", "id": "tw_1", "height": 1.5, "crest": {"foam": None}}, {**MESSAGE, "content": []}]
    assert final(from_engine({"status": "completed", "output": output}, stream=stream))["output"] == output


@pytest.mark.row("S50")
def test_an_ending_without_output_is_completed_from_the_items_that_were_streamed() -> None:
    item = {**MESSAGE, "content": [{"type": "output_text", "text": "hi", "annotations": []}]}
    answer = sse_answer(
        {"type": "response.created", "response": {}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    )
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        assert final(api.ask("responses", "canned/m", stream=True))["output"] == [item]


@pytest.mark.row("S51")
@pytest.mark.parametrize("stream", [False, True])
def test_text_parts_have_text_and_an_annotations_array(api: Api, stream: bool) -> None:
    part = final(api.ask("responses", say="ebb", stream=stream))["output"][0]["content"][0]
    assert (part["type"], part["text"], part["annotations"]) == ("output_text", "ebb", [])


@pytest.mark.row("S51")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("annotations", [..., None])
def test_annotations_are_an_array_even_where_the_provider_has_none(stream: bool, annotations: Any) -> None:
    part = {"type": "output_text", "text": "hi", "annotations": annotations}
    if annotations is ...:
        del part["annotations"]
    output = [{**MESSAGE, "content": [part]}, {"type": "reasoning", "id": "rs_1", "summary": []}]
    shown = final(from_engine({"status": "completed", "output": output}, stream=stream))["output"]
    assert shown == [{**MESSAGE, "content": [{**part, "annotations": []}]}, output[1]]


@pytest.mark.row("S51")
def test_annotations_of_the_provider_come_through() -> None:
    cited = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://example.com", "title": "t"}
    output = [{**MESSAGE, "content": [{"type": "output_text", "text": "hi", "annotations": [cited]}]}]
    assert final(from_engine({"status": "completed", "output": output}))["output"] == output


@pytest.mark.row("S52")
@pytest.mark.parametrize("stream", [False, True])
def test_usage_has_both_details_and_adds_up(api: Api, stream: bool) -> None:
    reply = api.ask("responses", "sim/reasoning", stream=stream)
    usage = final(reply)["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert usage["output_tokens_details"]["reasoning_tokens"] > 0
    assert "tidegate-usage" not in reply.headers
    entry = api.gateway.usage(reply.request_id)
    assert (entry["input_tokens"], entry["output_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    assert entry["reasoning_tokens"] == usage["output_tokens_details"]["reasoning_tokens"]
    assert not entry.get("estimated")


@pytest.mark.row("S52")
@pytest.mark.parametrize("stream", [False, True])
def test_a_sparse_usage_of_the_provider_is_completed(stream: bool) -> None:
    usage = {"input_tokens": 7.0, "output_tokens": 5, "total_tokens": 99, "input_tokens_details": {"cached_tokens": 3}}
    reply = from_engine({"status": "completed", "output": [], "usage": usage}, stream=stream)
    assert final(reply)["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
    }
    assert b"7.0" not in reply.content


@pytest.mark.row("S52")
@pytest.mark.parametrize("kind", ["responses", "chat", "completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_missing_usage_is_estimated_and_flagged(api: Api, kind: str, stream: bool) -> None:
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream and kind != "responses" else {}
    reply = api.ask(kind, "sim/lorem?usage=absent", stream=stream, **asked)
    if kind == "responses":
        usage = final(reply)["usage"]
        counts = (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])
    else:
        usage = reply.events[-1]["usage"] if stream else reply.json["usage"]
        counts = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
    assert all(count > 0 for count in counts)
    assert counts[2] == counts[0] + counts[1]
    entry = api.gateway.usage(reply.request_id)
    assert entry["estimated"] is True
    assert (entry["input_tokens"], entry["output_tokens"]) == counts[:2]
    if not stream:
        assert reply.headers["tidegate-usage"] == "estimated"


@pytest.mark.row("S52")
@pytest.mark.parametrize("fault", ["eof", "failed", "error"])
def test_a_failed_response_has_usage_too(api: Api, fault: str) -> None:
    usage = api.ask("responses", f"sim/lorem?fault={fault}", stream=True).events[-1]["response"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


@pytest.mark.row("S53")
@pytest.mark.parametrize("stream", [False, True])
def test_completed_at_is_there_when_completed_and_only_then(stream: bool) -> None:
    before = int(time.time())
    whole = from_engine({"status": "completed", "output": []}, stream=stream)
    assert before <= final(whole)["completed_at"] <= time.time()
    assert isinstance(final(whole)["completed_at"], int)
    if stream:
        assert whole.events[0]["response"]["completed_at"] is None
    cut = from_engine({"status": "incomplete", "output": [], "completed_at": 1765000000}, stream=stream)
    assert final(cut)["completed_at"] is None


@pytest.mark.row("S54", "S55")
@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_and_text_are_echoed_in_every_snapshot(stream: bool) -> None:
    asked = {"reasoning": {"effort": "low", "summary": "auto"}, "text": {"format": {"type": "json_object"}}}
    reply = from_engine({"status": "completed", "output": []}, stream=stream, **asked)
    for snapshot in [event["response"] for event in reply.events] if stream else [reply.json]:
        assert {name: snapshot[name] for name in asked} == asked
    plain = final(from_engine({"status": "completed", "output": []}, stream=stream))
    assert plain["reasoning"] == {"effort": None, "summary": None}
    assert plain["text"] == {"format": {"type": "text"}}


@pytest.mark.row("S54", "S55")
def test_what_the_provider_really_used_wins_over_what_was_asked() -> None:
    used = {"reasoning": {"effort": "high", "summary": None}, "text": {"format": {"type": "text"}, "verbosity": "low"}}
    shown = from_engine({"status": "completed", "output": [], **used}, reasoning={"effort": "max"}).json
    assert {name: shown[name] for name in used} == used


@pytest.mark.row("S56")
@pytest.mark.parametrize("endpoint", ["responses", "chat", "completions"])
@pytest.mark.parametrize("split", [1, 2, 3, 7])
def test_chinese_text_survives_any_cut_of_the_network(api: Api, endpoint: str, split: int) -> None:
    for stream in (True, False):
        reply = api.ask(endpoint, f"sim/zh?split={split}", stream=stream)
        assert reply.text == ZH
        assert "�" not in reply.content.decode()
    escaped = api.ask(endpoint, f"sim/zh?split={split}&ascii=1", stream=True)
    assert escaped.text == ZH


@pytest.mark.row("S56")
def test_chinese_text_goes_both_ways(gateway: Running, api: Api) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key="unused") as client:
        assert client.responses.create(model="sim/echo", input=ZH).output_text == ZH
        with client.responses.stream(model="sim/echo?split=1", input=ZH) as stream:
            stream.until_done()
            assert stream.get_final_response().output_text == ZH
    assert api.sent["input"] == ZH


FAULTLESS: dict[str, Any] = {
    "status": "completed",
    "model": "m",
    "output": [{**MESSAGE, "content": [{"type": "output_text", "text": "ebb", "annotations": []}]}],
    "usage": {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    },
}
"""An answer of an engine that has nothing to mend."""


@pytest.mark.row("S52")
@pytest.mark.parametrize("stream", [False, True])
def test_the_total_is_the_sum_whatever_the_provider_says(stream: bool) -> None:
    reply = from_engine({**FAULTLESS, "usage": {**FAULTLESS["usage"], "total_tokens": 999}}, stream=stream)
    assert final(reply)["usage"] == FAULTLESS["usage"]


@pytest.mark.row("S54", "S55")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        {"reasoning": {"effort": "low", "summary": "auto"}},
        {"text": {"format": {"type": "json_object"}}},
        {"instructions": "Be brief."},
    ],
)
def test_a_null_of_the_provider_does_not_undo_the_echo(asked: dict[str, Any], stream: bool) -> None:
    nulls = {"reasoning": None, "text": None, "instructions": None}
    shown = final(from_engine({**FAULTLESS, **nulls}, stream=stream, **asked))
    assert {name: shown[name] for name in asked} == asked


@pytest.mark.row("S49")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
def test_an_answer_with_a_reason_to_be_incomplete_is_not_completed(reason: str, stream: bool) -> None:
    """Some engines say why an answer was cut, and `completed` all the same."""
    details = {"reason": reason}
    reply = from_engine({**FAULTLESS, "incomplete_details": details}, stream=stream)
    shown = final(reply)
    assert (shown["status"], shown["incomplete_details"], shown["completed_at"]) == ("incomplete", details, None)
    assert not stream or reply.kinds[-1] == "response.incomplete"


@pytest.mark.row("S53")
@pytest.mark.parametrize("stream", [False, True])
def test_completed_at_is_when_the_answer_was_complete(api: Api, stream: bool) -> None:
    shown = final(api.ask("responses", "sim/echo?head_delay=1100", stream=stream))
    assert shown["created_at"] < shown["completed_at"] <= time.time()


@pytest.mark.row("S50")
def test_items_stand_by_their_index_whichever_was_complete_first() -> None:
    items = [{**MESSAGE, "id": f"msg_{at}", "content": []} for at in range(3)]
    answer = sse_answer(
        {"type": "response.created", "response": {}},
        *({"type": "response.output_item.done", "output_index": at, "item": items[at]} for at in (1, 2, 0)),
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    )
    with Canned(answer) as provider, Running(f"[server]\nport = 0\n{provider.toml()}") as gateway, Api(gateway) as api:
        assert final(api.ask("responses", "canned/m", stream=True))["output"] == items


CLAUDE = """
[server]
port = 0
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789abcdef"]
"""


@pytest.mark.row("S49")
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_provider_withheld_is_incomplete_in_its_usage_entry_too(stream: bool) -> None:
    with Running(CLAUDE) as gateway, Api(gateway) as api:
        withheld = api.ask("responses", "claude/refusal", stream=stream)
        assert final(withheld)["status"] == "incomplete"
        assert final(withheld)["incomplete_details"] == {"reason": "content_filter"}
        assert gateway.usage(withheld.request_id)["ending"] == "incomplete"
        whole = api.ask("responses", "claude/echo", stream=stream)
        assert final(whole)["status"] == "completed"
        assert gateway.usage(whole.request_id)["ending"] == "completed"


@pytest.mark.row("S49")
@pytest.mark.parametrize("reason", ["refusal", "content_filter", "length"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_a_chat_provider_cut_is_incomplete_wherever_it_is_told(reason: str, stream: bool) -> None:
    said = {"delta" if stream else "message": {"role": "assistant", "content": "ebb"}}
    kind = "chat.completion.chunk" if stream else "chat.completion"
    content = {
        "id": "c",
        "object": kind,
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, **said, "finish_reason": reason}],
    }
    answer = sse_answer(content, b"data: [DONE]\n\n") if stream else json_answer(content)
    with (
        Canned(answer) as provider,
        Running("[server]\nport = 0\n" + provider.toml(kind="openai-compatible", more='speaks = ["chat"]')) as gateway,
        Api(gateway) as api,
    ):
        reply = api.ask("responses", "canned/m", stream=stream)
        assert gateway.usage(reply.request_id)["ending"] == "incomplete"
    assert (final(reply)["status"], final(reply)["completed_at"]) == ("incomplete", None)
    told = "max_output_tokens" if reason == "length" else "content_filter"
    assert final(reply)["incomplete_details"] == {"reason": told}
