"""Requests: what is accepted, and the body that goes upstream."""

import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from tests.dialects.common import DIALECTS, MINIMAL, body, destination
from tidegate.dialects.dialect import refuse_unsupported
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, NotFound, UnsupportedParameter

IMAGE = "data:image/png;base64,iVBORw0KGgo="
TEXT = [{"type": "input_text", "text": "潮汐"}]

# What clients send back or put in, item by item (protocol §1.4, §4.2).
ITEMS: dict[str, dict[str, Any]] = {
    "easy message": {"role": "user", "content": "潮汐"},
    "typed easy message": {"type": "message", "role": "user", "content": TEXT},
    "system": {"role": "system", "content": "短"},
    "developer": {"role": "developer", "content": TEXT},
    "image": {"role": "user", "content": [{"type": "input_image", "image_url": IMAGE, "detail": "low"}, *TEXT]},
    "image by id": {"role": "user", "content": [{"type": "input_image", "file_id": "file_1", "image_url": None}]},
    "file": {"role": "user", "content": [{"type": "input_file", "file_data": "data:a/b;base64,eA==", "filename": "x"}]},
    "audio": {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}}]},
    "cache breakpoint": {"role": "user", "content": [{**TEXT[0], "prompt_cache_breakpoint": {"mode": "explicit"}}]},
    "assistant text": {"role": "assistant", "content": "早"},
    "assistant replayed": {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final_answer", "content": [{"type": "output_text", "text": "早", "annotations": [], "logprobs": []}]},
    "assistant refusal": {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "不"}]},
    "assistant empty": {"role": "assistant", "content": []},
    "tool role of a conversation": {"type": "message", "role": "tool", "content": "ok"},
    "function call": {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}", "status": "completed", "namespace": None},
    "function call output": {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
    "function call output, parts": {"type": "function_call_output", "call_id": "call_1", "output": [*TEXT, {"type": "input_image", "image_url": IMAGE}]},
    "function call output by name": {"type": "function_call_output", "call_id": None, "name": "f", "output": "ok"},
    "custom call": {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin"},
    "custom call output": {"type": "custom_tool_call_output", "call_id": "call_2", "output": TEXT},
    "reasoning of Codex": {"type": "reasoning", "summary": [{"type": "summary_text", "text": "想"}], "content": None, "encrypted_content": "gAAA"},
    "reasoning with text": {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "想"}]},
    "additional tools": {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "f", "parameters": {}}]},
    "item reference": {"type": "item_reference", "id": "msg_1"},
    "bare item reference": {"id": "msg_1"},
    "compaction": {"type": "compaction", "encrypted_content": "gAAA"},
    "compaction trigger": {"type": "compaction_trigger"},
    "web search": {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "潮"}},
    "local shell": {"type": "local_shell_call", "id": "ls_1", "call_id": "call_3", "status": "completed", "action": {"type": "exec", "command": ["ls"], "env": {}}},
    "shell output": {"type": "shell_call_output", "call_id": "call_3", "output": [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
    "apply patch": {"type": "apply_patch_call", "call_id": "call_4", "status": "completed", "operation": {"type": "delete_file", "path": "x"}},
    "mcp approval": {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True, "reason": None},
    "mcp call": {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "f", "arguments": "{}", "error": None},
    "image call": {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "eA=="},
    "computer output": {"type": "computer_call_output", "call_id": "call_5", "output": {"type": "computer_screenshot", "image_url": IMAGE}},
    "tool search output": {"type": "tool_search_output", "tools": [], "call_id": None},
    "vendor's own": {"type": "acme:thought", "id": "x_1", "status": "completed", "depth": 3},
}  # fmt: skip

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "f", "parameters": None, "strict": None, "description": None},
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
    {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "g", "parameters": {}}]},
    {"type": "web_search", "filters": None, "search_context_size": "low"},
    {"type": "mcp", "server_label": "s", "server_url": "https://example.com", "require_approval": "never"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "acme:tool", "anything": [1]},
]  # fmt: skip

# One value for each parameter that the official SDK knows.
RESPONSES: dict[str, Any] = {
    "background": False, "context_management": [{"type": "compaction", "compact_threshold": 1000}], "conversation": {"id": "conv_1"},
    "include": ["reasoning.encrypted_content"], "input": list(ITEMS.values()), "instructions": "短", "max_output_tokens": 16,
    "max_tool_calls": 3, "metadata": {"潮": "汐"}, "model": "gpt-5.2", "moderation": {"model": "omni"}, "parallel_tool_calls": True,
    "previous_response_id": None, "prompt": {"id": "pmpt_1", "variables": {"a": "b"}, "version": "2"}, "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"}, "prompt_cache_retention": "24h", "reasoning": {"effort": "xhigh", "summary": "auto", "generate_summary": None},
    "safety_identifier": "s", "service_tier": "flex", "store": True, "stream": True, "stream_options": {"include_obfuscation": False},
    "temperature": 1, "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}, "verbosity": "low"},
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}, "tools": TOOLS,
    "top_logprobs": 20, "top_p": 0.5, "truncation": "auto", "user": "u", "background_options": {"completion_window": "soonest"},
    "image": {"context_compression": "auto"}, "access_programs": {"cyber": True}, "personality": "warm",
}  # fmt: skip
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "短"},
        {"role": "developer", "content": [{"type": "text", "text": "短"}]},
        {"role": "user", "content": [{"type": "text", "text": "潮"}, {"type": "image_url", "image_url": {"url": IMAGE}}, {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}}, {"type": "file", "file": {"file_id": "f"}}], "name": "n"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}}], "refusal": None, "audio": {"id": "a"}, "reasoning_content": "想"},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "ok"}]},
        {"role": "tool", "tool_call_id": "c2", "content": "ok"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "不"}]},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "ok"},
        {"role": "user", "content": "再来"},
    ],
    "audio": {"format": "wav", "voice": "alloy"}, "frequency_penalty": 0.1, "function_call": "auto", "functions": [{"name": "f"}],
    "logit_bias": {"50256": -100}, "logprobs": True, "max_completion_tokens": 5, "max_tokens": 5, "metadata": {"a": "b"},
    "modalities": ["text"], "model": "gpt-5.2", "n": 2, "parallel_tool_calls": False, "prediction": {"type": "content", "content": "x"},
    "presence_penalty": -0.1, "prompt_cache_key": "k", "prompt_cache_retention": None, "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}, "safety_identifier": "s", "seed": 2**62,
    "service_tier": "auto", "stop": ["a"], "store": False, "stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False},
    "temperature": 0.5, "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}, {"type": "custom", "custom": {"name": "g"}}],
    "top_logprobs": 2, "top_p": 1, "user": "u", "verbosity": "low", "web_search_options": {}, "moderation": {"model": "omni"},
    "prompt_cache_options": {"mode": "implicit"},
}  # fmt: skip
COMPLETIONS: dict[str, Any] = {
    "model": "m", "prompt": ["潮", "汐"], "best_of": 2, "echo": True, "frequency_penalty": 0.5, "logit_bias": {"1": 1}, "logprobs": 5,
    "max_tokens": 0, "n": 2, "presence_penalty": 0.5, "seed": 1, "stop": "x", "stream": True, "stream_options": {"include_usage": True},
    "suffix": "尾", "temperature": 0, "top_p": 0.1, "user": "u",
}  # fmt: skip
ALL = {"responses": RESPONSES, "chat": CHAT, "completions": COMPLETIONS}
PARAMS: dict[str, Any] = {
    "responses": response_create_params.ResponseCreateParamsStreaming,
    "chat": chat_create_params.CompletionCreateParamsStreaming,
    "completions": completion_create_params.CompletionCreateParamsStreaming,
}


def forwarded(dialect: str, to: Any = None, **members: Any) -> dict[str, Any]:
    parsed = DIALECTS[dialect].parse(body(dialect, **members))
    return dict(json.loads(parsed.forward(to or destination())))


# -- what is accepted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ALL)
def test_the_examples_have_every_parameter_of_the_sdk(dialect: str) -> None:
    assert not get_type_hints(PARAMS[dialect]).keys() - ALL[dialect].keys()


@pytest.mark.parametrize("dialect", ALL)
def test_every_parameter_of_the_sdk_is_accepted_and_travels(dialect: str) -> None:
    DIALECTS[dialect].parse(json.dumps(ALL[dialect]).encode())
    sent = forwarded(dialect, destination(gateway_state=False, model="up"), **ALL[dialect])
    expected = {**ALL[dialect], "model": "up", "stream": True}
    if dialect != "responses":
        expected["stream_options"] = {**expected["stream_options"], "include_usage": True}
    assert sent == expected


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_every_kind_of_item_is_accepted(item: dict[str, Any]) -> None:
    sent = forwarded("responses", destination(gateway_state=False), input=[item])
    assert sent["input"] == [item]


@pytest.mark.parametrize("tool", TOOLS, ids=[tool["type"] for tool in TOOLS])
def test_every_kind_of_tool_is_accepted(tool: dict[str, Any]) -> None:
    assert forwarded("responses", tools=[tool])["tools"] == [tool]


@pytest.mark.parametrize(
    "choice",
    ["none", "auto", "required", {"type": "function", "name": "f"}, {"type": "custom", "name": "g"}, {"type": "mcp", "server_label": "s"},
     {"type": "web_search"}, {"type": "apply_patch"}, {"type": "allowed_tools", "mode": "required", "tools": [{"type": "mcp"}]}],
)  # fmt: skip
def test_every_kind_of_tool_choice_is_accepted(choice: Any) -> None:
    assert forwarded("responses", tool_choice=choice)["tool_choice"] == choice


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max", None])
def test_every_effort_is_accepted(effort: str | None) -> None:
    assert forwarded("responses", reasoning={"effort": effort})["reasoning"] == {"effort": effort}


def test_input_may_be_absent_where_something_stands_for_it() -> None:
    for other in ({"prompt": {"id": "p"}}, {"previous_response_id": "resp_1"}, {"conversation": "conv_1"}):
        DIALECTS["responses"].parse(json.dumps(other).encode())


@pytest.mark.parametrize("prompt", ["", "潮", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_every_kind_of_prompt_is_accepted(prompt: Any) -> None:
    assert forwarded("completions", prompt=prompt)["prompt"] == prompt


def test_the_end_user_is_the_identifier_or_the_user() -> None:
    for dialect in ("responses", "chat"):
        assert DIALECTS[dialect].parse(body(dialect, user="u", safety_identifier="s")).end_user == "s"
        assert DIALECTS[dialect].parse(body(dialect, user="u")).end_user == "u"
    assert DIALECTS["completions"].parse(body("completions")).end_user is None


# -- what goes upstream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_is_added_but_model_and_stream(dialect: str) -> None:
    assert forwarded(dialect) == {**MINIMAL[dialect], "model": "tide-1", "stream": False}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("given_stream", "sent"), [(None, False), (False, False), (True, True)])
def test_stream_is_always_said(dialect: str, given_stream: bool | None, sent: bool) -> None:
    assert forwarded(dialect, stream=given_stream)["stream"] is sent


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_we_do_not_know_travels_byte_for_byte(dialect: str) -> None:
    odd = '"x_big":123456789012345678901234567890, "x_float": 1.50,"temperature":0.70 , "x_text":"\\u6f6e汐","seed":18446744073709551616, "x":{ "a" : [ 1 , null ] }'
    text = body(dialect).decode()[:-1] + "," + odd + "}"
    sent = DIALECTS[dialect].parse(text.encode()).forward(destination()).decode()
    for piece in (
        "123456789012345678901234567890",
        "1.50",
        "0.70",
        '"\\u6f6e汐"',
        "18446744073709551616",
        '{ "a" : [ 1 , null ] }',
    ):
        assert piece in sent


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_a_member_that_comes_twice_one_goes_upstream(dialect: str) -> None:
    text = body(dialect)[:-1] + b', "temperature": 2, "temperature": 1}'
    sent = DIALECTS[dialect].parse(text).forward(destination())
    assert sent.count(b"temperature") == 1
    assert json.loads(sent)["temperature"] == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_request_can_be_forwarded_to_another_deployment(dialect: str) -> None:
    parsed = DIALECTS[dialect].parse(body(dialect, store=True, stream=True))
    first = parsed.forward(destination(model="a", stores=True))
    second = json.loads(parsed.forward(destination(model="b", gateway_state=False)))
    assert json.loads(first)["model"] == "a"
    assert (second["model"], second["store"]) == ("b", True)


@pytest.mark.parametrize(
    ("stores", "asked"), [(True, None), (True, True), (True, False), (False, True), (False, False)]
)
def test_the_upstream_keeps_nothing_that_the_gateway_holds(stores: bool, asked: bool | None) -> None:
    sent = forwarded("responses", destination(stores=stores), store=asked, background=False)
    assert sent.get("store") == (False if stores else None)
    assert "background" not in sent


STATE: dict[str, tuple[dict[str, Any], type[Exception], str, str | None]] = {
    "previous response": ({"previous_response_id": "resp_1"}, InvalidRequest, "previous_response_id", "previous_response_not_found"),
    "conversation": ({"conversation": "conv_1"}, NotFound, "conversation", "not_found"),
    "conversation object": ({"conversation": {"id": "conv_1"}}, NotFound, "conversation", "not_found"),
    "prompt": ({"prompt": {"id": "p"}}, UnsupportedParameter, "prompt", "unsupported_parameter"),
    "reference": ({"input": [ITEMS["easy message"], ITEMS["item reference"]]}, NotFound, "input[1].id", "not_found"),
    "bare reference": ({"input": [ITEMS["bare item reference"]]}, NotFound, "input[0].id", "not_found"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "kind", "param", "code"), STATE.values(), ids=STATE)
def test_state_that_the_gateway_lacks_is_refused_and_never_forgotten(
    members: dict[str, Any], kind: type[InvalidRequest], param: str, code: str
) -> None:
    parsed = DIALECTS["responses"].parse(body("responses", **members))
    with pytest.raises(kind) as caught:
        parsed.forward(destination())
    assert (caught.value.param, caught.value.code) == (param, code)
    assert {**MINIMAL["responses"], **members}.items() <= json.loads(
        parsed.forward(destination(gateway_state=False))
    ).items()


@pytest.mark.parametrize("gateway_state", [True, False])
def test_a_run_in_the_background_is_refused_since_nothing_here_could_retrieve_it(gateway_state: bool) -> None:
    parsed = DIALECTS["responses"].parse(body("responses", background=True))
    with pytest.raises(UnsupportedParameter) as caught:
        parsed.forward(destination(gateway_state=gateway_state))
    assert caught.value.param == "background"


@pytest.mark.parametrize(
    "name", ["easy message", "assistant replayed", "function call", "reasoning with text", "custom call", "compaction"]
)
def test_item_ids_that_a_stateless_upstream_would_look_up_are_left_out(name: str) -> None:
    item = {"id": "x_1", **ITEMS[name]}
    to = destination(encrypted_reasoning=name == "compaction")
    sent = forwarded("responses", to, input=[{"role": "user", "content": "x"}, item])["input"]
    assert sent[1] == {key: value for key, value in item.items() if key != "id"}


@pytest.mark.parametrize("name", ["mcp call", "image call", "web search"])
def test_item_ids_that_mean_something_stay(name: str) -> None:
    assert forwarded("responses", input=[ITEMS[name]])["input"] == [ITEMS[name]]


def test_reasoning_of_another_provider_is_left_out_of_messages() -> None:
    ours = {"type": "reasoning.encrypted", "data": "tgr1_x", "index": 0}
    other = {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 1}
    said = {"role": "assistant", "content": "42", "reasoning_content": "hm"}
    messages = [{**said, "reasoning_details": [ours]}, {**said, "reasoning_details": [ours, other]}, said]
    sent = forwarded("chat", messages=messages)["messages"]
    assert sent == [said, {**said, "reasoning_details": [other]}, said]


def test_items_without_ids_are_not_written_anew() -> None:
    text = b'{"input":[ {"role":"user",  "content":"x", "n": 1.0} ]}'
    assert b'[ {"role":"user",  "content":"x", "n": 1.0} ]' in DIALECTS["responses"].parse(text).forward(destination())


@pytest.mark.parametrize(
    ("supported", "members", "sent"),
    [
        (True, {"reasoning": {"effort": "low"}}, ["reasoning.encrypted_content"]),
        (True, {"reasoning": {}, "include": ["a"]}, ["a", "reasoning.encrypted_content"]),
        (True, {"reasoning": {}, "include": ["reasoning.encrypted_content"]}, ["reasoning.encrypted_content"]),
        (True, {}, None),  # a model that does not reason would refuse it
        (True, {"include": ["reasoning.encrypted_content"]}, ["reasoning.encrypted_content"]),
        (False, {"reasoning": {}, "include": ["a"]}, ["a"]),
        (False, {"reasoning": {"effort": "low"}}, None),
    ],
)
def test_reasoning_is_asked_for_in_the_form_that_survives_a_stateless_call(
    supported: bool, members: dict[str, Any], sent: list[str] | None
) -> None:
    assert forwarded("responses", destination(encrypted_reasoning=supported), **members).get("include") == sent


@pytest.mark.parametrize("dialect", ["chat", "completions"])
@pytest.mark.parametrize(
    ("supported", "members", "sent"),
    [
        (True, {"stream": True}, {"include_usage": True}),
        (True, {"stream": True, "stream_options": None}, {"include_usage": True}),
        (True, {"stream": True, "stream_options": {}}, {"include_usage": True}),
        (True, {"stream": True, "stream_options": {"include_usage": False, "x": 1}}, {"include_usage": True, "x": 1}),
        (True, {"stream": False}, None),
        (True, {}, None),
        (False, {"stream": True, "stream_options": {"include_usage": True}}, None),
        (False, {"stream": True}, None),
    ],
)
def test_usage_is_asked_for_on_every_stream_that_can_have_it(
    dialect: str, supported: bool, members: dict[str, Any], sent: Any
) -> None:
    assert forwarded(dialect, destination(include_usage=supported), **members).get("stream_options") == sent


# -- what a deployment refuses ----------------------------------------------------------------------------------------

NEUTRAL: dict[str, list[str]] = {
    "n": ["1"],
    "temperature": ["1", "1.0", "1e0"],
    "top_p": ["1", "1.0"],
    "frequency_penalty": ["0", "0.0", "-0.0", "0e5"],
    "presence_penalty": ["0"],
    "stop": ["[]", "null"],
    "logit_bias": ["{}"],
    "logprobs": ["false"],
    "top_logprobs": ["0"],
    "parallel_tool_calls": ["true", " true "],
    "tool_choice": ['"auto"'],
    "tools": ["[]"],
    "text": [
        '{"format":{"type":"text"}}',
        '{ "format" : { "type" : "text" } }',
        "{}",
        '{"verbosity":"medium","format":{"type":"text"}}',
    ],
    "response_format": ['{"type":"text"}'],
    "reasoning": ["{}", '{"effort":null}', '{"effort":null,"summary":null}'],
    "truncation": ['"disabled"'],
    "service_tier": ['"auto"'],
    "store": ["false"],
    "metadata": ["{}"],
    "include": ["[]"],
    "best_of": ["1"],
    "echo": ["false"],
    "suffix": ['""', "null"],
    "seed": ["null"],
    "user": ["null"],
}
TELLING: dict[str, list[str]] = {
    "n": ["2", "true"],
    "temperature": ["0.9", "true"],
    "top_p": ["0"],
    "frequency_penalty": ["0.1", "false"],
    "stop": ['"x"', '[""]'],
    "logprobs": ["true", "0"],
    "parallel_tool_calls": ["false", "1"],
    "tool_choice": ['"none"', '"required"'],
    "text": ['{"format":{"type":"json_object"}}', '{"verbosity":"low"}', '{"format":{"type":"text"},"x":1}'],
    "reasoning": ['{"effort":"low"}'],
    "truncation": ['"auto"'],
    "service_tier": ['"flex"'],
    "store": ["true"],
    "seed": ["0", "1"],
    "user": ['""', '"u"'],
    "anything": ["1e999", "0", '""', "[]", "{}", "false"],
}


def _pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), _pairs(NEUTRAL))
def test_a_member_that_asks_for_what_happens_anyway_is_left_out(name: str, value: str) -> None:
    members = jsonio.members(f'{{"a":1,"{name}":{value}}}'.encode())
    refuse_unsupported(members, destination(refuses=frozenset({name, "other"})))
    assert list(members) == ["a"]


@pytest.mark.parametrize(("name", "value"), _pairs(TELLING))
def test_a_member_that_cannot_be_honoured_is_refused_aloud(name: str, value: str) -> None:
    members = jsonio.members(f'{{"a":1,"{name}":{value}}}'.encode())
    with pytest.raises(UnsupportedParameter) as caught:
        refuse_unsupported(members, destination(refuses=frozenset({name, "other"})))
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
    for word in (f"'{name}'", "'lab'", "'tide-1'"):
        assert word in caught.value.message


@pytest.mark.parametrize(("name", "value"), _pairs(NEUTRAL))
def test_what_is_not_refused_travels_even_when_it_says_nothing(name: str, value: str) -> None:
    members = jsonio.members(f'{{"{name}":{value}}}'.encode())
    refuse_unsupported(members, destination(refuses=frozenset({"other"})))
    assert list(members) == [name]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(members=st.dictionaries(st.text(max_size=6).map(lambda name: "x_" + name), JSON, max_size=4))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_unknown_members_travel(dialect: str, members: dict[str, Any]) -> None:
    assert members.items() <= forwarded(dialect, **members).items()
