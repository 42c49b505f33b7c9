"""A stored response is replayed as the full grammar of events, each of which the official SDK knows."""

import json
from typing import Any

import pydantic
import pytest
from openai.types.responses import ResponseStreamEvent

from tests.support.api import read_frames
from tidegate.dialects.profile import PROFILES
from tidegate.dialects.responses.replay import replayed

_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
LOGPROB = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}
CITED = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://a.example", "title": "A"}

ITEMS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "message": (
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Hi", "annotations": [CITED], "logprobs": [LOGPROB]},
                {"type": "refusal", "refusal": "No."},
                {"type": "output_text", "text": "", "annotations": []},
            ],
        },
        {"status": "in_progress", "content": []},
        [
            "content_part.added",
            "output_text.delta",
            "output_text.annotation.added",
            "output_text.done",
            "content_part.done",
            "content_part.added",
            "refusal.delta",
            "refusal.done",
            "content_part.done",
            "content_part.added",
            "output_text.done",
            "content_part.done",
        ],
    ),
    "reasoning": (
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "content": [{"type": "reasoning_text", "text": "well"}],
            "encrypted_content": "tgr1_x",
        },
        {"summary": []},
        [
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
        ],
    ),
    "function_call": (
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "f",
            "arguments": '{"a":1}',
            "status": "completed",
        },
        {"arguments": "", "status": "in_progress"},
        ["function_call_arguments.delta", "function_call_arguments.done"],
    ),
    "custom_tool_call": (
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "f", "input": "x\ny"},
        {"input": ""},
        ["custom_tool_call_input.delta", "custom_tool_call_input.done"],
    ),
    "web_search_call": (
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "q", "queries": ["q"]},
        },
        {"status": "in_progress"},
        ["web_search_call.in_progress", "web_search_call.searching", "web_search_call.completed"],
    ),
    "a search that failed": (
        {"type": "file_search_call", "id": "fs_1", "status": "failed", "queries": ["q"], "results": []},
        {"status": "in_progress", "results": None},
        ["file_search_call.in_progress", "file_search_call.searching"],
    ),
    "code_interpreter_call": (
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "status": "completed",
            "code": "1 + 1",
            "container_id": "cntr_1",
            "outputs": [{"type": "logs", "logs": "2"}],
        },
        {"status": "in_progress", "code": "", "outputs": None},
        [
            "code_interpreter_call.in_progress",
            "code_interpreter_call_code.delta",
            "code_interpreter_call_code.done",
            "code_interpreter_call.interpreting",
            "code_interpreter_call.completed",
        ],
    ),
    "image_generation_call": (
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="},
        {"status": "in_progress", "result": None},
        ["image_generation_call.in_progress", "image_generation_call.generating", "image_generation_call.completed"],
    ),
    "mcp_call": (
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "status": "completed",
            "server_label": "s",
            "name": "f",
            "arguments": "{}",
            "output": "ok",
        },
        {"status": "in_progress", "arguments": "", "output": None},
        ["mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.completed"],
    ),
    "mcp_list_tools": (
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": [], "error": "gone"},
        {"error": None},
        ["mcp_list_tools.in_progress", "mcp_list_tools.failed"],
    ),
    "compaction": ({"type": "compaction", "id": "cmp_1", "encrypted_content": "tgr1_x"}, {}, []),
    "shell_call": (
        {
            "type": "shell_call",
            "id": "sh_1",
            "call_id": "call_1",
            "status": "completed",
            "action": {"commands": ["ls"], "max_output_length": None, "timeout_ms": None},
            "environment": None,
        },
        {},
        [],
    ),
}


def response(*output: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "completed_at": 2,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
        **members,
    }


def events(whole: dict[str, Any], after: int | None = None, *, indent: int | None = None) -> list[Any]:
    frames = read_frames(b"".join(replayed(json.dumps(whole, indent=indent).encode(), after, PROFILES["openai"])))
    assert all(frame.event == frame.json["type"] for frame in frames)
    return [frame.json for frame in frames]


@pytest.mark.parametrize(("item", "begun", "kinds"), ITEMS.values(), ids=ITEMS.keys())
def test_each_item_has_the_events_of_its_type(item: dict[str, Any], begun: dict[str, Any], kinds: list[str]) -> None:
    whole = response(item)
    found = events(whole, indent=2)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        _EVENT.validate_python(event)
    assert [event["type"] for event in found] == [
        f"response.{kind}"
        for kind in ("created", "in_progress", "output_item.added", *kinds, "output_item.done", "completed")
    ]
    added, done = found[2], found[-2]
    grown = (
        {name for name in item if name in ("content", "encrypted_content")} if item["type"] == "reasoning" else set()
    )
    assert added["item"] == {**{name: value for name, value in item.items() if name not in grown}, **begun}
    assert done["item"] == item
    assert all(event["item_id"] == item["id"] and event["output_index"] == 0 for event in found[3:-2])
    assert found[-1]["response"] == whole
    assert found[0]["response"]["status"] == "in_progress"
    assert found[0]["response"]["output"] == []
    assert found[0]["response"]["usage"] is None


def test_a_replay_goes_on_behind_every_event() -> None:
    whole = response(*(item for item, _, _ in ITEMS.values()))
    found = events(whole)
    assert [event["output_index"] for event in found if event["type"] == "response.output_item.added"] == list(
        range(len(ITEMS))
    )
    for after in range(len(found) + 2):
        assert events(whole, after) == found[after + 1 :]


@pytest.mark.parametrize(
    ("status", "ending"), [("incomplete", "incomplete"), ("failed", "failed"), ("cancelled", "failed")]
)
def test_the_ending_is_the_responses_own(status: str, ending: str) -> None:
    found = events(response(status=status, error={"code": "server_error", "message": "x"}))
    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        f"response.{ending}",
    ]
    assert found[-1]["response"]["status"] == status
    assert found[0]["response"]["error"] is None


@pytest.mark.parametrize(
    "item",
    [
        {"type": "tide:rising", "id": "x"},
        {"id": "x"},
        {"type": "message", "id": "x", "content": "odd"},
        {"type": "reasoning", "id": "x", "summary": ["odd"]},
    ],
)
def test_what_is_no_item_of_the_api_comes_whole(item: dict[str, Any]) -> None:
    found = events(response(item))
    assert [event["type"] for event in found[2:-1]] == ["response.output_item.added", "response.output_item.done"]
    assert found[2]["item"] == found[3]["item"] == item


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
@pytest.mark.parametrize(
    ("profile", "is_named", "is_done", "thought"),
    [
        ("openai", True, False, "response.reasoning_text"),
        ("anyfast", True, False, "response.reasoning_text"),
        ("openresponses", True, True, "response.reasoning"),
        ("kkiai", False, True, "response.reasoning_text"),
    ],
)
def test_a_made_stream_has_the_form_of_its_clients_profile(
    status: str, profile: str, is_named: bool, is_done: bool, thought: str
) -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    message: dict[str, Any] = {"type": "message", "id": "msg_1", "phase": None, "content": []}
    whole = json.dumps(response(reasoning, message, status=status)).encode()
    found = read_frames(b"".join(replayed(whole, None, PROFILES[profile])))
    ends = is_done and status in ("completed", "incomplete")  # nothing else is an ending
    assert (found[-1].data == b"[DONE]") is ends
    events = found[:-1] if ends else found
    assert {frame.event for frame in events} == ({frame.json["type"] for frame in events} if is_named else {""})
    assert f"{thought}.delta" in [frame.json["type"] for frame in events]
    shown = [frame.json["item"] for frame in events if frame.json["type"] == "response.output_item.done"]
    assert ("phase" in shown[1]) is (profile != "openresponses")
    assert not list(replayed(whole, len(events) - 1, PROFILES[profile]))
    behind = b"".join(replayed(whole, len(events) - 2, PROFILES[profile]))
    assert behind == b"".join(frame.raw for frame in found[len(events) - 1 :])
