"""Answers that come as one body: forwarded, completed, or refused as broken."""

import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from tests.dialects import common
from tests.dialects.common import COMPLETED, CREATED, DIALECTS, RESPONSE_ID, destination
from tidegate.dialects.dialect import Answer, Quirks, WholeRequest
from tidegate.wire import errors

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
MESSAGE = {"role": "assistant", "content": "潮汐", "refusal": None}
PART = {"type": "output_text", "text": "潮汐", "annotations": [], "logprobs": []}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [PART]}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "想"}]}

WHOLE: dict[str, dict[str, Any]] = {
    "responses": {
        "id": "resp_up", "object": "response", "created_at": 1_700_000_000, "status": "completed", "model": "tide-1-0901",
        "output": [ITEM], "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
    },
    "chat": {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "tide-1-0901",
        "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}], "usage": USAGE,
    },
    "completions": {
        "id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "tide-1-0901",
        "choices": [{"index": 0, "text": "潮汐", "logprobs": None, "finish_reason": "stop"}], "usage": USAGE,
    },
}  # fmt: skip
TYPES: dict[str, Any] = {"responses": Response, "chat": ChatCompletion, "completions": Completion}


def answer(dialect: str, content: Any, profile: str = "openai", to: Any = None, **asked: Any) -> Answer:
    data = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    request = cast("WholeRequest", DIALECTS[dialect].parse(common.body(dialect, **asked)))
    return request.complete(data, common.call(profile), to or destination())


def shown(dialect: str, content: Any, profile: str = "openai", to: Any = None, **asked: Any) -> dict[str, Any]:
    found = json.loads(answer(dialect, content, profile, to, **asked).body)
    if profile != "kkiai":
        TYPES[dialect].model_validate(found)
    return dict(found)


def changed(dialect: str, **members: Any) -> dict[str, Any]:
    return {name: value for name, value in {**WHOLE[dialect], **members}.items() if value != "absent"}


def with_nested(dialect: str, member: str, depth: int) -> bytes:
    rest = json.dumps(changed(dialect, **{member: "absent"})).encode()
    return rest[:-1] + b',"%b":' % member.encode() + b"[" * depth + b"]" * depth + b"}"


def broken(dialect: str, content: Any, **asked: Any) -> Exception:
    with pytest.raises((errors.WireError, errors.TidegateError)) as caught:
        answer(dialect, content, **asked)
    return caught.value


# -- chat and completions ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["chat", "completions"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_whole_answer_goes_on_byte_for_byte(dialect: str) -> None:
    text = json.dumps({**WHOLE[dialect], "x": 1.50}, ensure_ascii=True, indent=1).replace("1.5", "1.50").encode()
    found = answer(dialect, text)
    assert found.body == text
    assert (found.status, found.usage.input_tokens, found.usage.output_tokens, found.usage.estimated) == (
        "completed",
        5,
        7,
        False,
    )


@pytest.mark.parametrize("missing", ["id", "object", "created", "model"])
@pytest.mark.parametrize("value", ["absent", None, [], 1.5])
def test_an_answer_gets_what_it_lacks(dialect: str, missing: str, value: Any) -> None:
    found = shown(dialect, changed(dialect, **{missing: value}))
    assert found["object"] == WHOLE[dialect]["object"]
    assert isinstance(found["created"], int)
    assert isinstance(found["id"], str)
    assert found["choices"] == WHOLE[dialect]["choices"]
    if missing == "model":
        assert found["model"] == "tide-1"


def test_a_choice_gets_its_index(dialect: str) -> None:
    choices = [{name: value for name, value in WHOLE[dialect]["choices"][0].items() if name != "index"}] * 2
    assert [one["index"] for one in shown(dialect, changed(dialect, choices=choices))["choices"]] == [0, 1]


@pytest.mark.parametrize("usage", ["absent", None, {}, "n/a", 5])
def test_usage_that_nobody_gave_is_estimated_and_marked(dialect: str, usage: Any) -> None:
    found = answer(dialect, changed(dialect, usage=usage))
    assert found.usage.estimated
    assert json.loads(found.body)["usage"]["completion_tokens"] == found.usage.output_tokens == 2
    assert json.loads(found.body)["usage"]["prompt_tokens"] == 100


def test_half_a_usage_becomes_whole_and_keeps_what_the_provider_adds(dialect: str) -> None:
    found = shown(
        dialect,
        changed(
            dialect, usage={"prompt_tokens": 5.0, "completion_tokens": 7, "cost": 0.5, "prompt_tokens_details": None}
        ),
    )
    assert {name: found["usage"][name] for name in USAGE} == USAGE
    assert found["usage"]["cost"] == 0.5
    found = shown(dialect, changed(dialect, usage={"input_tokens": 5, "output_tokens": 7}))
    assert {name: found["usage"][name] for name in USAGE} == USAGE


@pytest.mark.parametrize(
    ("reason", "told", "status"),
    [
        ("length", "length", "incomplete"),
        ("MAX_TOKENS", "length", "incomplete"),
        ("eos", "stop", "completed"),
        ("safety", "content_filter", "incomplete"),
    ],
)
def test_finish_reasons_stay_inside_the_enumeration(dialect: str, reason: str, told: str, status: str) -> None:
    content = changed(dialect, choices=[{**WHOLE[dialect]["choices"][0], "finish_reason": reason}])
    assert shown(dialect, content)["choices"][0]["finish_reason"] == told
    assert answer(dialect, content).status == status


@pytest.mark.parametrize("reason", [None, "", "error", "abort"])
def test_an_answer_that_was_not_finished_is_broken(dialect: str, reason: Any) -> None:
    broken(dialect, changed(dialect, choices=[{**WHOLE[dialect]["choices"][0], "finish_reason": reason}]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"<html>",
        b"\xff",
        {},
        {"choices": []},
        {"choices": None},
        {"choices": 5},
        {"choices": [5]},
        {"choices": [{"index": 0, "finish_reason": "stop"}]},
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_broken(dialect: str, content: Any) -> None:
    assert isinstance(broken(dialect, content), errors.WireError)


@pytest.mark.parametrize("member", ["choices", "usage", "x_unknown"])
def test_an_answer_that_is_nested_too_deeply_is_broken(dialect: str, member: str) -> None:
    assert isinstance(broken(dialect, with_nested(dialect, member, 2_000_000)), errors.WireError)


def test_an_error_with_status_200_is_an_error(dialect: str) -> None:
    error = broken(dialect, {"error": {"message": "slow", "code": 429}})
    assert isinstance(error, errors.UpstreamRateLimited)
    assert isinstance(
        broken(dialect, changed(dialect, error={"message": "x", "code": "server_error"})), errors.UpstreamFailed
    )
    shown(dialect, changed(dialect, error=None))


def test_the_name_that_an_engine_appends_to_is_the_one_that_was_asked(dialect: str) -> None:
    to = destination(quirks=Quirks(model_suffix="@main"))
    assert shown(dialect, changed(dialect, model="tide-1@main"), to=to)["model"] == "tide-1"


# -- responses ------------------------------------------------------------------------------------------------------


def test_a_response_is_ours_and_says_what_the_provider_said() -> None:
    found = shown("responses", {**WHOLE["responses"], "service_tier": "priority", "x": {"y": 1}})
    assert found["id"] == RESPONSE_ID
    assert (found["created_at"], found["completed_at"]) == (CREATED, COMPLETED)
    assert (found["status"], found["store"], found["error"], found["incomplete_details"]) == (
        "completed",
        False,
        None,
        None,
    )
    assert (found["model"], found["service_tier"], found["x"]) == ("tide-1-0901", "priority", {"y": 1})
    assert found["output"] == [ITEM]
    assert found["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}


@pytest.mark.parametrize(
    ("members", "status", "reason"),
    [
        ({"status": "absent"}, "completed", None),
        ({"status": None}, "completed", None),
        ({"status": "incomplete"}, "incomplete", "max_output_tokens"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "incomplete", "content_filter"),
        ({"incomplete_details": {"reason": "content_filter"}}, "incomplete", "content_filter"),
        ({"output": [{**ITEM, "status": "incomplete"}]}, "incomplete", "max_output_tokens"),
    ],
)
def test_the_status_tells_the_truth(members: dict[str, Any], status: str, reason: str | None) -> None:
    found = shown("responses", changed("responses", **members))
    assert found["status"] == status
    assert (found["incomplete_details"] or {}).get("reason") == reason
    assert (found["completed_at"] is None) == (status == "incomplete")


@pytest.mark.parametrize(
    "members",
    [
        {"status": "failed"},
        {"status": "cancelled"},
        {"error": {"code": "server_error", "message": "x"}},
        {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "x"}},
    ],
)
def test_a_failed_answer_is_an_error(members: dict[str, Any]) -> None:
    error = broken("responses", changed("responses", **members))
    assert isinstance(error, errors.ProviderError)
    assert error.may_retry


@pytest.mark.parametrize(
    "members",
    [
        {"status": "queued"},
        {"status": "in_progress"},
        {"status": 5},
        {"output": "absent"},
        {"output": "x"},
        {"output": {}},
        {"output": [5]},
        {"output": ["x"]},
    ],
)
def test_what_is_no_ending_is_broken(members: dict[str, Any]) -> None:
    assert isinstance(broken("responses", changed("responses", **members)), errors.WireError)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"<html>", b'{"output":[],"x":"\xff"}', b"[" * 100_000, WHOLE["chat"]]
)
def test_what_is_no_response_is_broken(content: Any) -> None:
    assert isinstance(broken("responses", content), errors.WireError)


@pytest.mark.parametrize("member", ["output", "metadata", "usage", "x_unknown"])
def test_a_response_that_is_nested_too_deeply_is_broken(member: str) -> None:
    assert isinstance(broken("responses", with_nested("responses", member, 2_000_000)), errors.WireError)


def test_an_item_that_is_nested_deeply_is_measured_all_the_same() -> None:
    """Deeper than Python's own calls may go."""
    inner = b'{"type":"x","content":[' * 400 + b'{"text":"abc"}' + b"]}" * 400
    content = changed("responses", output="absent", usage=None)
    found = answer("responses", json.dumps(content).encode()[:-1] + b',"output":[%b]}' % inner)
    assert found.usage.estimated
    assert found.usage.output_tokens == 1


def test_texts_always_have_annotations() -> None:
    bare = {
        **ITEM,
        "content": [
            {"type": "output_text", "text": "x"},
            {"type": "output_text", "text": "y", "annotations": None},
            {"type": "refusal", "refusal": "z"},
        ],
    }
    parts = shown("responses", changed("responses", output=[THOUGHT, bare]))["output"][1]["content"]
    assert [part.get("annotations") for part in parts] == [[], [], None]


def test_an_empty_output_is_an_output() -> None:
    assert shown("responses", changed("responses", output=None, usage=None))["output"] == []
    assert answer("responses", changed("responses", output=[], usage=None)).usage.output_tokens == 0


def test_usage_is_estimated_from_what_was_said() -> None:
    found = answer("responses", changed("responses", usage=None, output=[THOUGHT, ITEM, CALL]))
    assert found.usage.estimated
    assert found.usage.output_tokens == 3  # eleven bytes: 想, 潮汐, {}


def test_a_cut_that_an_engine_does_not_tell_is_told() -> None:
    to = destination(cut_reported_as_completed=True)
    assert shown("responses", WHOLE["responses"], to=to, max_output_tokens=7)["status"] == "incomplete"
    assert shown("responses", WHOLE["responses"], to=to, max_output_tokens=8)["status"] == "completed"
    assert shown("responses", WHOLE["responses"], max_output_tokens=7)["status"] == "completed"


def test_the_upstream_keeps_its_identity_where_it_holds_the_state() -> None:
    found = shown("responses", {**WHOLE["responses"], "store": True}, to=destination(gateway_state=False))
    assert (found["id"], found["created_at"], found["store"]) == ("resp_up", 1_700_000_000, True)


def test_a_filling_is_no_echo() -> None:
    filled = {
        **WHOLE["responses"],
        "temperature": 0.0,
        "tool_choice": "none",
        "text": {"format": {"type": "json_object"}},
    }
    found = shown("responses", filled, to=destination(quirks=Quirks(echoes_request=False)), temperature=0.5)
    assert (found["temperature"], found["tool_choice"]) == (0.5, "auto")
    assert found["text"] == {"format": {"type": "text"}}
    assert found["usage"]["output_tokens"] == 7


def test_open_responses_has_its_nulls_left_out() -> None:
    item = {**ITEM, "phase": None, "content": [{**PART, "logprobs": None}]}
    found = shown(
        "responses", changed("responses", output=[{**THOUGHT, "encrypted_content": None}, item]), "openresponses"
    )
    assert "encrypted_content" not in found["output"][0]
    assert "phase" not in found["output"][1]
    assert "logprobs" not in found["output"][1]["content"][0]
    for name in (
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "top_logprobs",
        "truncation",
        "tools",
        "tool_choice",
        "store",
        "background",
        "service_tier",
        "parallel_tool_calls",
        "text",
    ):
        assert found[name] is not None


# -- a response in the shape of a chat completion ---------------------------------------------------------------------


def as_chat(**members: Any) -> dict[str, Any]:
    found = shown("responses", changed("responses", **members), "kkiai")
    ChatCompletion.model_validate(found)
    return found


def test_a_response_can_look_like_a_chat_completion() -> None:
    assert as_chat() == {
        "id": RESPONSE_ID,
        "object": "chat.completion",
        "created": CREATED,
        "model": "tide-1-0901",
        "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            **USAGE,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_calls_and_reasoning_have_their_place_in_it() -> None:
    custom = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "潮"}
    (choice,) = as_chat(output=[THOUGHT, ITEM, CALL, custom])["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning_content"] == "想"
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": "潮"}},
    ]
    (choice,) = as_chat(output=[CALL])["choices"]
    assert choice["message"]["content"] is None


def test_refusals_citations_and_several_messages_have_their_place_in_it() -> None:
    cited = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://example.com", "title": "t"}
    first = {
        **ITEM,
        "content": [
            {**PART, "annotations": [cited, {"type": "file_citation", "file_id": "f", "filename": "n", "index": 0}]}
        ],
    }
    second = {**ITEM, "id": "msg_2", "content": [{"type": "refusal", "refusal": "不"}]}
    one, two = as_chat(output=[first, second])["choices"]
    assert one["message"]["annotations"] == [
        {"type": "url_citation", "url_citation": {key: cited[key] for key in cited if key != "type"}}
    ]
    assert (two["index"], two["message"]["content"], two["message"]["refusal"]) == (1, None, "不")


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_output_tokens"}, "length"), ({"reason": "content_filter"}, "content_filter"), (None, "length")],
)
def test_a_cut_is_a_cut_there_too(details: Any, reason: str) -> None:
    assert as_chat(status="incomplete", incomplete_details=details)["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("profile", ["openai", "anyfast", "deepintshield", "openresponses"])
def test_elsewhere_a_response_is_a_response(profile: str) -> None:
    assert shown("responses", WHOLE["responses"], profile)["object"] == "response"


# -- anything at all ------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["message", "completed", "stop", "output_text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "content",
                    "text",
                    "annotations",
                    "id",
                    "status",
                    "choices",
                    "message",
                    "finish_reason",
                    "index",
                    "reason",
                    "summary",
                    "usage",
                    "arguments",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
NAMES = [
    "output",
    "status",
    "error",
    "usage",
    "incomplete_details",
    "choices",
    "id",
    "object",
    "created",
    "created_at",
    "model",
    "text",
    "tools",
    "metadata",
    "reasoning",
]


@pytest.mark.parametrize("profile", ["openai", "openresponses", "kkiai"])
@pytest.mark.parametrize("name", DIALECTS)
@given(members=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
@settings(max_examples=40, deadline=None)
def test_an_answer_of_any_kind_is_told_or_refused(name: str, profile: str, members: dict[str, Any]) -> None:
    content = json.dumps({**WHOLE[name], **members}).encode()
    try:
        found = answer(name, content, profile)
    except (errors.WireError, errors.TidegateError):
        return
    told = json.loads(found.body)
    assert found.status in ("completed", "incomplete")
    assert told["usage"]["total_tokens"] >= 0
    assert isinstance(told["id"], str)
    assert isinstance(told["model"], str)


FULL: dict[str, Any] = {
    **WHOLE["responses"],
    "usage": {
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 12,
    },
    "background": False, "completed_at": 1_700_000_009, "error": None, "incomplete_details": None, "instructions": None,
    "max_output_tokens": 99, "max_tool_calls": None, "parallel_tool_calls": False, "previous_response_id": None,
    "prompt_cache_key": "k", "reasoning": {"effort": "low", "summary": None}, "safety_identifier": None,
    "service_tier": "default", "store": True, "temperature": 1, "text": {"format": {"type": "text"}, "verbosity": "low"},
    "tool_choice": {"type": "function", "name": "潮"}, "tools": [{"type": "function", "name": "潮", "x": 1.50}],
    "top_logprobs": 0, "top_p": 0.25, "truncation": "auto", "frequency_penalty": 0.5, "presence_penalty": 0,
    "user": "\u2028", "metadata": {"a": "b"},
}  # fmt: skip
"""An answer with every documented member."""

TOLD: dict[str, Any] = {
    "billing": {"payer": "潮", "n": 1e2}, "moderation": None, "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h", "tool_usage": {"web_search": {"num_requests": 0}},
}  # fmt: skip
"""Further members that a provider may have."""

ASKED: dict[str, Any] = {
    "instructions": "Be brief.", "max_output_tokens": 50, "temperature": 0.5, "top_p": 0.75, "tool_choice": "none",
    "tools": [{"type": "function", "name": "g"}], "metadata": {"c": "d"}, "user": "u", "truncation": "disabled",
    "reasoning": {"effort": "high"}, "text": {"verbosity": "high"}, "parallel_tool_calls": False, "top_logprobs": 3,
}  # fmt: skip


@pytest.mark.parametrize("asked", [{}, ASKED], ids=["asked-nothing", "asked-all"])
@pytest.mark.parametrize("name", ["", *(name for name in FULL if name not in ("output", "status", "usage"))])
def test_the_short_way_to_a_response_leads_to_the_same_one(name: str, asked: dict[str, Any]) -> None:
    """A destination that may hide a cut is looked at closely; for an answer without fault that changes nothing."""
    long_way = destination(cut_reported_as_completed=True)
    absent = {key: value for key, value in FULL.items() if key != name}
    more = [{**absent, one: told} for one, told in TOLD.items()]
    more += [{**FULL, **TOLD}, {**FULL, **TOLD, "strange": 1}, {**absent, "strange": 1}, {**FULL, "billing": "x"}]
    for content in (FULL, absent, {**FULL, name or "null": None}, *more):
        short = answer("responses", content, **asked)
        close = answer("responses", content, to=long_way, **asked)
        assert json.loads(short.body) == json.loads(close.body)
        assert list(json.loads(short.body)) == list(json.loads(close.body))
        assert (short.usage, short.status) == (close.usage, close.status)
