"""Requests that build on what the gateway keeps."""

import itertools
import json
from typing import Any

import pytest

from tests.dialects.common import call, destination
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.request import ResponsesRequest
from tidegate.dialects.responses.state import Kept, References
from tidegate.wire.errors import InvalidRequest, NotFound


def request(**members: Any) -> ResponsesRequest:
    found = ResponsesDialect().parse(json.dumps({"model": "m", **members}).encode())
    assert isinstance(found, ResponsesRequest)
    return found


def item(**members: Any) -> bytes:
    return json.dumps(members).encode()


USER = item(type="message", id="msg_1", role="user", content=[{"type": "input_text", "text": "你好"}])
CALL = item(type="function_call", id="fc_1", call_id="call_1", name="f", arguments="{}", status="completed")
ANSWER = {"type": "function_call_output", "call_id": "call_1", "output": "3"}


def test_what_a_request_refers_to_is_read_from_it() -> None:
    assert request(input="hi").references is None
    assert request(input="hi", previous_response_id="resp_1").references == References(previous="resp_1")
    assert request(input="hi", conversation={"id": "conv_1"}).references == References(conversation="conv_1")
    named = request(input=[{"type": "item_reference", "id": "msg_1"}, {"id": "msg_2"}, {"id": "msg_1"}])
    assert named.references == References(items=("msg_1", "msg_2"))


def test_history_stands_before_the_input_and_is_canonical_as_if_it_had_been_sent() -> None:
    asked = request(input=[ANSWER], previous_response_id="resp_1")
    asked.resolve([USER, CALL], {})
    sent = request(input=[json.loads(USER), json.loads(CALL), ANSWER])
    assert asked.canonical().items == sent.canonical().items


def test_references_give_way_to_the_items_that_they_name() -> None:
    asked = request(input=[{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "go on"}])
    asked.resolve([], {"msg_1": USER})
    sent = request(input=[json.loads(USER), {"role": "user", "content": "go on"}])
    assert asked.canonical().items == sent.canonical().items
    lost = request(input=[{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_9"}])
    with pytest.raises(NotFound, match="Item with id 'msg_9' not found") as caught:
        lost.resolve([], {})
    assert caught.value.param == "input[1].id"


def test_a_request_may_consist_of_history_alone() -> None:
    asked = request(previous_response_id="resp_1")
    asked.resolve([USER], {})
    assert [one.content[0].text for one in asked.canonical().items] == ["你好"]  # type: ignore[union-attr]


def test_an_output_needs_its_call_and_a_call_its_output() -> None:
    with pytest.raises(InvalidRequest, match="No tool call found for function call output with call_id call_1") as lost:
        request(input=[ANSWER], previous_response_id="resp_1").resolve([USER], {})
    assert lost.value.param == "input"
    with pytest.raises(InvalidRequest, match="No tool output found for function call call_1") as lost:
        request(input="go on", previous_response_id="resp_1").resolve([USER, CALL], {})
    assert lost.value.param == "input"


ASKED = {"role": "user", "content": "hi"}
PAIRS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (json.loads(CALL), ANSWER),
    (
        {"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "3"},
    ),
    (
        {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "id": "call_1", "output": "3"},
    ),
    (
        {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "call_1", "output": []},
    ),
    (
        {"type": "apply_patch_call", "call_id": "call_1", "operation": {"type": "delete_file", "path": "a"}},
        {"type": "apply_patch_call_output", "call_id": "call_1", "status": "completed"},
    ),
    (
        {"type": "computer_call", "id": "cu_1", "call_id": "call_1", "action": {"type": "screenshot"}},
        {"type": "computer_call_output", "call_id": "call_1", "output": {"type": "computer_screenshot"}},
    ),
    (
        {"type": "tool_search_call", "call_id": "call_1", "arguments": {}, "execution": "client"},
        {"type": "tool_search_output", "call_id": "call_1", "tools": [], "execution": "client"},
    ),
]


@pytest.mark.parametrize(("called", "output"), PAIRS, ids=[output["type"] for _, output in PAIRS])
def test_an_output_that_was_sent_without_its_call_is_refused_by_its_id(
    called: dict[str, Any], output: dict[str, Any]
) -> None:
    words = output["type"].replace("_", " ")
    for given in ([ASKED, output], [ASKED, output, called], [ASKED, {**called, "call_id": "call_2"}, output]):
        with pytest.raises(InvalidRequest) as lost:
            request(input=given).canonical()
        assert str(lost.value) == f"No tool call found for {words} with call_id call_1."
        assert (lost.value.param, lost.value.code) == ("input", None)
    assert len(request(input=[ASKED, called, output]).canonical().items) == 3
    resolved = request(input=[output], previous_response_id="resp_1")
    resolved.resolve([USER, json.dumps(called).encode()], {})
    assert len(resolved.canonical().items) == 3


@pytest.mark.parametrize("called", [PAIRS[0][0], PAIRS[1][0], PAIRS[-1][0]], ids=lambda called: str(called["type"]))
def test_a_call_that_was_sent_without_its_output_is_refused_by_its_id(called: dict[str, Any]) -> None:
    for given in ([ASKED, called], [ASKED, called, ASKED]):
        with pytest.raises(InvalidRequest, match=f"No tool output found for .* call {called['call_id']}"):
            request(input=given).canonical()


def test_a_local_shell_may_be_answered_like_a_function() -> None:
    """As Codex does."""
    asked = request(input=[ANSWER], previous_response_id="resp_1")
    asked.resolve([USER, json.dumps(PAIRS[2][0]).encode()], {})
    assert len(asked.whole_items()) == 3


def test_a_call_of_an_asynchronous_tool_may_be_answered_later() -> None:
    asked = request(input=[ASKED], previous_response_id="resp_1")
    asked.resolve([USER, json.dumps({**json.loads(CALL), "async": True}).encode()], {})
    late = request(input=[ANSWER], previous_response_id="resp_2")
    late.resolve(asked.whole_items(), {})
    assert len(late.whole_items()) == 4


def test_what_the_provider_does_by_itself_needs_no_pair() -> None:
    given = [
        ASKED,
        {"type": "tool_search_call", "call_id": None, "arguments": {}, "execution": "server"},
        {"type": "tool_search_output", "call_id": None, "tools": [], "execution": "server"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    ]
    assert len(request(input=given).canonical().items) == len(given)


def test_kept_items_have_the_full_form_and_ids() -> None:
    ids = itertools.count(1)
    asked = request(
        input=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ho"},
            {"id": "msg_7", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
            json.loads(CALL),
            ANSWER,
            {"type": "item_reference", "id": "rs_1"},
        ]
    )
    found = asked.kept_items(lambda prefix: f"{prefix}_new{next(ids)}")
    assert [name for name, _ in found] == ["msg_new1", "msg_new2", "msg_7", "fc_1", "fco_new3"]
    shown = [json.loads(one) for _, one in found]
    assert shown[0] == {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "hi"}],
        "id": "msg_new1",
        "status": "completed",
    }
    assert shown[1]["content"] == [{"type": "output_text", "text": "ho", "annotations": []}]
    assert shown[4] == {**ANSWER, "id": "fco_new3"}
    (alone,) = request(input="hi").kept_items(lambda prefix: f"{prefix}_1")
    assert json.loads(alone[1])["content"] == [{"type": "input_text", "text": "hi"}]


def test_an_answer_that_is_kept_says_so_in_every_snapshot() -> None:
    asked = request(input="hi", previous_response_id="resp_0", background=True, stream=True)
    kept = asked.kept = Kept()
    asked.resolve([USER], {})
    asked.encoder(call()).fail(InvalidRequest("no"))
    shown = json.loads(kept.response)
    assert (shown["store"], shown["background"], shown["previous_response_id"]) == (True, True, "resp_0")
    assert shown["status"] == "failed"


@pytest.mark.parametrize("more", [{}, {"strange": 1}, {"billing": {"payer": "developer"}, "strange": 1}])
def test_a_whole_answer_is_kept_in_two_parts_that_are_what_was_told(more: dict[str, Any]) -> None:
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "id": "", "role": "assistant", "content": [], "status": "completed"},
    ]
    usage = {
        "input_tokens": 5, "output_tokens": 7, "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    body = {"id": "resp_9", "status": "completed", "model": "m", "output": output, "usage": usage, **more}
    asked = request(input="hi", temperature=0.5)
    kept = asked.kept = Kept()
    answer = asked.complete(json.dumps(body).encode(), call(), destination())
    assert kept.response == answer.body
    assert kept.apart is not None
    told, rest = json.loads(answer.body), json.loads(kept.apart.rest)
    assert list(rest) == list(told)
    assert told == {**rest, "output": [json.loads(content) for _, content in kept.apart.items]}
    assert (rest["output"], [name for name, _ in kept.apart.items]) == ([], ["rs_1", ""])
    asked.encoder(call()).fail(InvalidRequest("no"))
    assert kept.apart is None  # what is told later is kept in its place
