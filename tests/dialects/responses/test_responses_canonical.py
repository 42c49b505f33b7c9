"""The client's request in canonical form."""

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects import common
from tidegate.dialects.codec import Losses
from tidegate.dialects.responses import CompactDialect, ResponsesDialect
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.dialects.websearch import FORCED
from tidegate.wire import errors
from tidegate.wire.items import (
    AudioPart,
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    HostedTool,
    ImagePart,
    Message,
    OpaqueItem,
    OpaquePart,
    Reasoning,
    RefusalPart,
    TextPart,
    Tool,
    ToolChoice,
)


def canonical(**members: Any) -> CanonicalRequest:
    return ResponsesDialect().parse(common.body("responses", model="m", **members)).canonical()


def items(*given: dict[str, Any]) -> list[Any]:
    return list(canonical(input=list(given)).items)


def value(raw: msgspec.Raw) -> Any:
    return json.loads(bytes(raw))


class TestItems:
    def test_a_string_is_a_users_message(self) -> None:
        assert canonical(input="潮汐").items == [Message(role="user", content=[TextPart(text="潮汐")])]

    def test_messages_easy_and_typed(self) -> None:
        assert items(
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "phase": "final_answer",
                "content": [
                    {"type": "output_text", "text": "a", "annotations": [{"type": "file_path"}], "logprobs": []},
                    {"type": "refusal", "refusal": "no"},
                ],
            },
        ) == [
            Message(role="developer", content=[TextPart(text="Be brief.")]),
            Message(role="user", content=[TextPart(text="Hi")]),
            Message(
                role="assistant",
                id="msg_1",
                phase="final_answer",
                content=[
                    TextPart(text="a", annotations=[msgspec.Raw(b'{"type": "file_path"}')]),
                    RefusalPart(refusal="no"),
                ],
            ),
        ]

    def test_parts(self) -> None:
        (message,) = items(
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                    {"type": "input_image", "file_id": "file-1"},
                    {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                    {"type": "input_file", "file_data": "aGk=", "filename": "a.csv"},
                    {"type": "input_file", "file_url": "https://x/y.pdf"},
                    {"type": "input_file", "file_id": "file-2"},
                    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                    {"type": "input_video", "url": "x"},
                ],
            }
        )
        opaque = message.content.pop()
        assert message.content == [
            TextPart(text="a", breakpoint=True),
            ImagePart(url="https://x/y.png", detail="low"),
            ImagePart(file_id="file-1"),
            FilePart(data="data:application/pdf;base64,aGk=", filename="a.pdf"),
            FilePart(data="data:text/csv;base64,aGk=", filename="a.csv"),
            FilePart(url="https://x/y.pdf"),
            FilePart(file_id="file-2"),
            AudioPart(data="aGk=", format="wav"),
        ]
        assert isinstance(opaque, OpaquePart)
        assert value(opaque.value) == {"type": "input_video", "url": "x"}

    def test_calls_and_what_they_returned(self) -> None:
        assert items(
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "a",
                "name": "f",
                "arguments": "{}",
                "status": "completed",
            },
            {"type": "function_call_output", "call_id": "a", "output": "7"},
            {"type": "function_call", "call_id": "b", "name": "tide", "namespace": "sea", "arguments": "{}"},
            {
                "type": "function_call_output",
                "call_id": "b",
                "output": [
                    {"type": "input_text", "text": "x"},
                    {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                ],
            },
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** x"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "Done"},
        ) == [
            FunctionCall(call_id="a", name="f", arguments="{}", id="fc_1"),
            FunctionOutput(call_id="a", content=[TextPart(text="7")]),
            FunctionCall(call_id="b", name="sea__tide", arguments="{}"),
            FunctionOutput(call_id="b", content=[TextPart(text="x"), ImagePart(url="data:image/png;base64,aGk=")]),
            FunctionCall(call_id="c", name="patch", arguments="*** x", custom=True),
            FunctionOutput(call_id="c", content=[TextPart(text="Done")], custom=True),
        ]

    def test_reasoning_as_codex_sends_it_back(self) -> None:
        assert items(
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "h"}],
                "content": None,
                "encrypted_content": "tgr1_x",
            },
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        ) == [Reasoning(id="rs_1", summary=["h"], encrypted="tgr1_x"), Reasoning(content=["hm"])]

    @pytest.mark.parametrize(
        "kind", ["web_search_call", "computer_call", "shell_call_output", "compaction", "mcp_call", "slug:thing"]
    )
    def test_items_of_hosted_tools_are_kept_as_they_came(self, kind: str) -> None:
        given = {"type": kind, "id": "x_1", "status": "completed", "action": {"type": "search"}}
        if kind == "compaction":
            given["encrypted_content"] = "tgr1_x"
        (item,) = items(given)
        assert isinstance(item, OpaqueItem)
        assert item.type == kind
        assert value(item.value) == given

    @pytest.mark.parametrize(
        ("item", "param"),
        [
            ({"type": "function_call", "call_id": "a", "arguments": "{}"}, "input[0].name"),
            ({"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}, "input[0].arguments"),
            ({"type": "function_call_output", "call_id": "a"}, "input[0].output"),
            ({"type": "function_call_output", "call_id": "a", "output": 3}, "input[0].output"),
            ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
            ({"role": "critic", "content": "x"}, "input[0].role"),
            ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
            ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0].file_data"),
            ({"type": "reasoning", "summary": [{"type": "x", "text": 3}]}, "input[0].summary[0].text"),
        ],
    )
    def test_errors_name_the_place(self, item: dict[str, Any], param: str) -> None:
        with pytest.raises(errors.InvalidRequest) as caught:
            items(item)
        assert caught.value.param == param


WHOLE: dict[str, Any] = {
    "model": "m",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "a"}]},
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": "https://x"}, {"type": "input_file", "file_id": "f"}],
        },
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "namespace": "s"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "x"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "h"}], "encrypted_content": "x"},
        {"type": "additional_tools", "tools": [{"type": "function", "name": "q"}]},
        {"type": "web_search_call", "id": "ws_1", "action": {}},
    ],
    "tools": [
        {"type": "namespace", "name": "s", "tools": [{"type": "function", "name": "t", "parameters": {}}]},
        {"type": "custom", "name": "p", "format": {"type": "text"}},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "p"}]},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}, "verbosity": "high"},
    "reasoning": {"effort": "low", "summary": "auto", "mode": "standard"},
    "include": ["message.output_text.logprobs"],
    "stop": ["a"],
    "seed": 3,
    "logit_bias": {"1": 1},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inner for found in ((*path, key), *places(one, (*path, key)))]


@settings(max_examples=300, deadline=None)
@given(
    path=st.sampled_from(places(WHOLE)),
    put=st.sampled_from([None, 3, "x", "", True, [], {}, [None], {"a": None}, [3], {"type": "function"}, "custom"]),
)
def test_a_request_of_the_wrong_shape_is_refused_in_words(path: tuple[Any, ...], put: Any) -> None:
    damaged = copy.deepcopy(WHOLE)
    place: Any = damaged
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = put
    try:
        request = ResponsesDialect().parse(json.dumps(damaged).encode())
        request.encoder(common.call())
        asked = request.canonical()
    except (errors.InvalidRequest, errors.NotFound):
        return
    to = common.destination(encrypted_reasoning=True)
    assert json.loads(ResponsesUpstream().encode_request(asked, to, Losses(asked, to, allowed=True)))


class TestTools:
    FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}  # noqa: RUF012

    def test_flat_functions_custom_tools_and_hosted_ones(self) -> None:
        grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
        function, bare, custom, hosted = canonical(
            tools=[
                self.FUNCTION,
                {"type": "function", "name": "g", "parameters": None, "strict": None},
                {"type": "custom", "name": "patch", "description": "p", "format": grammar},
                {"type": "web_search", "search_context_size": "low"},
            ]
        ).tools
        assert isinstance(function, Tool)
        assert (function.name, function.description, function.strict) == ("f", "d", True)
        assert value(function.parameters) == {"type": "object"}
        assert bare == Tool(name="g")
        assert isinstance(custom, Tool)
        assert custom.custom
        assert value(custom.format) == grammar
        assert isinstance(hosted, HostedTool)
        assert hosted.type == "web_search"

    def test_namespaces_are_flattened_and_long_names_kept_apart(self) -> None:
        inner = [{"type": "function", "name": "tide"}, {"type": "custom", "name": "x" * 60}]
        one, two = canonical(tools=[{"type": "namespace", "name": "sea", "tools": inner}]).tools
        assert isinstance(one, Tool)
        assert isinstance(two, Tool)
        assert one.name == "sea__tide"
        assert len(two.name) == 64
        assert two.custom

    def test_members_that_only_this_api_knows_are_named(self) -> None:
        deferred = {**self.FUNCTION, "name": "g", "defer_loading": True, "allowed_callers": None}
        request = canonical(tools=[self.FUNCTION, {"type": "namespace", "name": "sea", "tools": [deferred]}])
        assert request.hints == ("tools[].tools[].defer_loading",)

    def test_tools_among_the_items_join_the_others(self) -> None:
        request = canonical(
            input=[
                {
                    "type": "additional_tools",
                    "role": "developer",
                    "tools": [self.FUNCTION, {**self.FUNCTION, "name": "g"}],
                },
                {"role": "user", "content": "Hi"},
            ],
            tools=[self.FUNCTION],
        )
        assert [tool.name for tool in request.tools if isinstance(tool, Tool)] == ["f", "g"]
        assert len(request.items) == 1

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("auto", ToolChoice(mode="auto")),
            ("none", ToolChoice(mode="none")),
            ("required", ToolChoice(mode="required")),
            ({"type": "function", "name": "f"}, ToolChoice(mode="function", names=("f",))),
            (
                {"type": "function", "name": "tide", "namespace": "sea"},
                ToolChoice(mode="function", names=("sea__tide",)),
            ),
            ({"type": "custom", "name": "patch"}, ToolChoice(mode="function", names=("patch",))),
            ({"type": "web_search_preview"}, FORCED),
            (
                {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
                ToolChoice(mode="allowed", names=("f",), required=True),
            ),
        ],
    )
    def test_choices(self, given: Any, expected: ToolChoice) -> None:
        assert canonical(tool_choice=given).tool_choice == expected

    @pytest.mark.parametrize("within", [{}, {"type": "allowed_tools", "mode": "required"}])
    def test_a_choice_without_a_namespace_finds_the_only_tool_of_that_name(self, within: dict[str, Any]) -> None:
        def chosen(name: str, *spaces: str) -> Any:
            tool = {"type": "function", "name": name}
            inner = [{"type": "function", "name": "tide"}, {"type": "function", "name": "f"}]
            tools = [self.FUNCTION, *({"type": "namespace", "name": space, "tools": inner} for space in spaces)]
            found = canonical(tools=tools, tool_choice={**within, "tools": [tool]} if within else tool).tool_choice
            assert found is not None
            return found.names

        assert chosen("tide", "sea") == ("sea__tide",)
        assert chosen("f", "sea") == ("f",), "the one outside has the name itself"
        assert chosen("g", "sea") == ("g",)
        with pytest.raises(errors.InvalidRequest, match="2 namespaces have a tool 'tide'; say which") as caught:
            chosen("tide", "sea", "sky")
        assert caught.value.param == ("tool_choice.tools[0].namespace" if within else "tool_choice.namespace")

    @pytest.mark.parametrize(
        "given",
        [
            {"type": "file_search"},
            {"type": "mcp", "server_label": "x"},
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
        ],
    )
    def test_choices_of_hosted_tools_are_this_dialects_own(self, given: Any) -> None:
        request = canonical(tool_choice=given)
        assert request.tool_choice is None
        assert request.refused == ("tool_choice",)

    @pytest.mark.parametrize(
        ("tools", "param"),
        [
            ([{"type": "namespace", "tools": []}], "tools[0].name"),
            ([{"type": "namespace", "name": "s", "tools": [{"type": "function"}]}], "tools[0].tools[0].name"),
            ([{"type": "function", "name": "f", "strict": "x"}], "tools[0].strict"),
        ],
    )
    def test_errors_name_the_place(self, tools: Any, param: str) -> None:
        with pytest.raises(errors.InvalidRequest) as caught:
            canonical(tools=tools)
        assert caught.value.param == param


class TestParameters:
    def test_all_that_has_a_canonical_form(self) -> None:
        request = canonical(
            instructions="Be brief.",
            stream=True,
            max_output_tokens=90,
            temperature=0.5,
            top_p=0.9,
            parallel_tool_calls=False,
            stop=["a", "b"],
            n=2,
            seed=7,
            top_k=40,
            logit_bias={"1": 2},
            frequency_penalty=0.1,
            presence_penalty=0.2,
            user="u",
            safety_identifier="s",
            metadata={"a": "b"},
            service_tier="flex",
            prompt_cache_key="k",
            reasoning={"effort": "high", "summary": "auto"},
            text={
                "format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True},
                "verbosity": "low",
            },
            include=["message.output_text.logprobs", "reasoning.encrypted_content"],
            top_logprobs=3,
        )
        assert request.instructions == "Be brief."
        assert request.stream
        assert (request.max_output_tokens, request.temperature, request.top_p, request.top_k) == (90, 0.5, 0.9, 40)
        assert (request.stop, request.n, request.seed, request.parallel_tool_calls) == (("a", "b"), 2, 7, False)
        assert (request.frequency_penalty, request.presence_penalty) == (0.1, 0.2)
        assert value(request.logit_bias) == {"1": 2}
        assert (request.user, request.safety_identifier, request.metadata) == ("u", "s", {"a": "b"})
        assert (request.service_tier, request.prompt_cache_key) == ("flex", "k")
        assert (request.effort, request.reasoning_summary, request.verbosity) == ("high", "auto", "low")
        assert request.format is not None
        assert (request.format.type, request.format.name, request.format.strict) == ("json_schema", "x", True)
        assert request.top_logprobs == 3
        assert request.hints == request.refused == ()

    def test_defaults_say_nothing(self) -> None:
        request = canonical(
            truncation="disabled",
            store=True,
            stream=False,
            reasoning=None,
            text=None,
            tools=None,
            tool_choice=None,
            top_logprobs=0,
        )
        assert request.hints == request.refused == ()
        assert request.top_logprobs is None
        assert request.n == 1

    def test_logprobs_of_the_chosen_tokens_alone(self) -> None:
        assert canonical(include=["message.output_text.logprobs"]).top_logprobs == 0
        assert canonical(top_logprobs=2).top_logprobs == 2

    def test_what_has_no_canonical_form_is_named(self) -> None:
        request = canonical(
            client_metadata={"a": "b"},
            prompt_cache_retention="24h",
            truncation="auto",
            max_tool_calls=3,
            include=["web_search_call.action.sources"],
            reasoning={"context": "all_turns", "mode": "pro"},
            text={"novelty": 1},
            moderation={"model": "x"},
            max_tokens=5,
            guided_json={},
            tidal=True,
        )
        assert set(request.hints) == {
            "client_metadata",
            "prompt_cache_retention",
            "truncation",
            "max_tool_calls",
            "include[web_search_call.action.sources]",
            "reasoning.context",
            "text.novelty",
            "tidal",
        }
        assert set(request.refused) == {"moderation", "max_tokens", "guided_json", "reasoning.mode"}

    @pytest.mark.parametrize(
        ("members", "kind"),
        [
            ({"background": True}, errors.UnsupportedParameter),
            ({"previous_response_id": "resp_1"}, errors.InvalidRequest),
            ({"conversation": "conv_1"}, errors.NotFound),
            ({"prompt": {"id": "p"}}, errors.UnsupportedParameter),
            ({"input": [{"type": "item_reference", "id": "msg_1"}]}, errors.NotFound),
        ],
    )
    def test_state_that_nobody_holds_is_refused(self, members: dict[str, Any], kind: type[Exception]) -> None:
        with pytest.raises(kind):
            canonical(**members)


@pytest.mark.parametrize(("members", "param"), [({"tools": 3}, "tools"), ({"reasoning": "x"}, "reasoning")])
def test_a_compaction_with_members_of_a_response_names_the_odd_one(members: dict[str, Any], param: str) -> None:
    request = CompactDialect().parse(json.dumps({"model": "m", "input": "?", **members}).encode())
    with pytest.raises(errors.InvalidRequest) as caught:
        request.canonical()
    assert caught.value.param == param
