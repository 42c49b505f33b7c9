"""What chat clients ask, in no dialect."""

import json
from typing import Any

import pytest

from tests.dialects.chat.playing import plain
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.codec import Losses
from tidegate.dialects.dialect import Destination
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, UnsupportedParameter
from tidegate.wire.items import (
    AudioPart,
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    HostedTool,
    ImagePart,
    Item,
    Message,
    OpaquePart,
    OutputFormat,
    Reasoning,
    RefusalPart,
    TextPart,
    Tool,
    ToolChoice,
)

USER = {"role": "user", "content": "潮汐"}


def canonical(**members: Any) -> CanonicalRequest:
    body = json.dumps({"model": "m", "messages": [USER], **members}, ensure_ascii=False, separators=(",", ":")).encode()
    return ChatDialect().parse(body).canonical()


def items(*messages: dict[str, Any]) -> list[Item]:
    return canonical(messages=list(messages)).items


def refused(**members: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        canonical(**members)
    return caught.value


def test_every_member_has_its_place() -> None:
    found = canonical(
        stream=True,
        max_completion_tokens=100,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        n=2,
        stop=["a", "b"],
        seed=7,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        logit_bias={"42": -100},
        logprobs=True,
        top_logprobs=3,
        user="u",
        safety_identifier="s",
        metadata={"k": "v"},
        service_tier="flex",
        prompt_cache_key="p",
        reasoning_effort="high",
        verbosity="low",
        parallel_tool_calls=False,
    )
    assert (found.model, found.stream, found.max_output_tokens) == ("m", True, 100)
    assert (found.temperature, found.top_p, found.top_k, found.n, found.seed) == (0.5, 0.9, 40, 2, 7)
    assert (found.frequency_penalty, found.presence_penalty, found.stop) == (0.1, 0.2, ("a", "b"))
    assert plain(found.logit_bias) == {"42": -100}
    assert (found.top_logprobs, found.user, found.safety_identifier) == (3, "u", "s")
    assert (found.metadata, found.service_tier, found.prompt_cache_key) == ({"k": "v"}, "flex", "p")
    assert (found.effort, found.verbosity, found.parallel_tool_calls) == ("high", "low", False)
    assert (found.hints, found.refused) == ((), ())


def test_what_is_not_said_stays_unsaid() -> None:
    found = canonical()
    nothing = CanonicalRequest(model="m", items=found.items, names=found.names, client="chat", shows_thoughts=True)
    assert found == nothing


def test_the_older_limit_is_known_by_its_name() -> None:
    found = canonical(max_tokens=5)
    assert (found.max_output_tokens, found.names["max_output_tokens"]) == (5, "max_tokens")
    assert canonical(max_tokens=5, max_completion_tokens=6).max_output_tokens == 6


def test_logprobs_alone_ask_for_the_chosen_tokens() -> None:
    assert canonical(logprobs=True).top_logprobs == 0
    assert canonical(logprobs=False, top_logprobs=0).top_logprobs is None
    assert refused(top_logprobs=2).param == "top_logprobs"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, OutputFormat(type="text")),
        ({"type": "json_object"}, OutputFormat(type="json_object")),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {}, "strict": True}},
            OutputFormat(type="json_schema", name="n", description="d", schema=jsonio.raw({}), strict=True),
        ),
    ],
)
def test_formats(given: dict[str, Any], expected: OutputFormat) -> None:
    assert canonical(response_format=given).format == expected


def test_a_format_of_an_engine_is_not_forgotten() -> None:
    found = canonical(response_format={"type": "grammar", "grammar": "x"})
    assert (found.format, found.refused) == (None, ("response_format",))


@pytest.mark.parametrize(
    ("members", "effort", "budget", "name"),
    [
        ({"reasoning": {"effort": "low"}}, "low", None, "reasoning.effort"),
        ({"reasoning": {"max_tokens": 2000}}, "", 2000, "reasoning_effort"),
        ({"reasoning": {"enabled": False}}, "", 0, "reasoning_effort"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "", 1024, "reasoning_effort"),
        ({"thinking": {"type": "disabled"}}, "", 0, "reasoning_effort"),
        ({"enable_thinking": False}, "", 0, "reasoning_effort"),
        ({"enable_thinking": True, "thinking_budget": 50}, "", 50, "reasoning_effort"),
    ],
)
def test_other_words_for_reasoning_are_understood(
    members: dict[str, Any], effort: str, budget: int | None, name: str
) -> None:
    found = canonical(**members)
    assert (found.effort, found.reasoning_budget, found.names["effort"]) == (effort, budget, name)
    assert found.hints == ()


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"thinking": {"type": "enabled"}}, "thinking"),
        ({"enable_thinking": True}, "enable_thinking"),
        ({"reasoning": {"enabled": True}}, "reasoning"),
    ],
)
def test_a_wish_to_think_says_nothing_of_how_much_and_yields_to_what_does(members: dict[str, Any], name: str) -> None:
    found = canonical(**members)
    assert (found.reasons, found.effort, found.reasoning_budget, found.names["reasons"]) == (True, "", None, name)
    assert not canonical(**members, reasoning_effort="low").reasons


@pytest.mark.parametrize(
    ("members", "asks", "refuses"),
    [
        ({"thinking": {"type": "enabled"}, "reasoning_effort": "none"}, "thinking", "reasoning_effort"),
        ({"enable_thinking": True, "reasoning": {"effort": "none"}}, "enable_thinking", "reasoning.effort"),
        ({"reasoning_effort": "high", "enable_thinking": False}, "reasoning_effort", "enable_thinking"),
        ({"reasoning_effort": "high", "thinking": {"type": "disabled"}}, "reasoning_effort", "thinking"),
        ({"reasoning": {"effort": "low", "enabled": False}}, "reasoning.effort", "reasoning"),
        ({"thinking": {"type": "enabled"}, "enable_thinking": False}, "thinking", "enable_thinking"),
        ({"thinking_budget": 100, "enable_thinking": False}, "thinking_budget", "enable_thinking"),
        ({"thinking": {"type": "disabled", "budget_tokens": 2000}}, "thinking.budget_tokens", "thinking"),
        ({"reasoning_effort": "none", "thinking_budget": 100}, "thinking_budget", "reasoning_effort"),
    ],
)
def test_a_contradiction_about_reasoning_names_both_members(members: Any, asks: str, refuses: str) -> None:
    error = refused(**members)
    assert error.param == asks
    assert f"'{asks}'" in error.message
    assert f"'{refuses}'" in error.message


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, ("reasoning.effort",)),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}, "thinking_budget": 3000},
            ("thinking.budget_tokens",),
        ),
        ({"enable_thinking": False, "thinking": {"type": "disabled"}}, ()),
        ({"enable_thinking": True, "thinking_budget": 3000, "reasoning_effort": "low"}, ()),
    ],
)
def test_of_two_amounts_of_reasoning_one_is_left_out_and_named(members: Any, names: Any) -> None:
    assert canonical(**members).hints == names


def test_a_type_of_thinking_that_nobody_knows_is_named() -> None:
    assert canonical(thinking={"type": "auto"}).hints == ("thinking.type",)


# -- what has no canonical form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"search_parameters": {}},
        {"modalities": ["text", "audio"]},
        {"moderation": {"model": "m"}},
        {"min_p": 0.1},
        {"guided_json": {}},
        {"response_format": {"type": "regex"}},
    ],
)
def test_what_changes_the_answer_is_refused_by_name(members: dict[str, Any]) -> None:
    found = canonical(**members)
    [name] = members
    assert found.refused == (name,)
    with pytest.raises(UnsupportedParameter) as caught:
        Losses(found, Destination(provider="p", model="m"), allowed=False).check()
    assert caught.value.param == name


@pytest.mark.parametrize(
    "members",
    [
        {"prediction": {"type": "content", "content": "x"}},
        {"store": True},
        {"prompt_cache_retention": "24h"},
        {"prompt_cache_options": {}},
        {"audio": {"voice": "alloy"}},
        {"client_metadata": {"a": 1}},
        {"provider": {"order": ["a"]}},
    ],
)
def test_what_changes_no_answer_is_a_hint(members: dict[str, Any]) -> None:
    found = canonical(**members)
    assert (found.hints, found.refused) == (tuple(members), ())


@pytest.mark.parametrize(
    ("members", "name"),
    [
        (
            {"tools": [{"type": "function", "function": {"name": "f", "novelty": 1}}]},
            "tools[].function.novelty",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}, "novelty": 1}]}, "tools[].novelty"),
        ({"reasoning": {"effort": "low", "exclude": True}}, "reasoning.exclude"),
        ({"thinking": {"type": "enabled", "novelty": 1}}, "thinking.novelty"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "novelty": 1}}},
            "response_format.json_schema.novelty",
        ),
    ],
)
def test_members_within_others_are_hints_too(members: dict[str, Any], name: str) -> None:
    found = canonical(**members)
    assert (found.hints, found.refused) == ((name,), ())


@pytest.mark.parametrize(
    "members",
    [{"modalities": ["text"]}, {"store": False}, {"web_search_options": None}, {"audio": None}, {"anything": None}],
)
def test_what_says_nothing_is_neither(members: dict[str, Any]) -> None:
    found = canonical(**members)
    assert (found.hints, found.refused) == ((), ())


# -- tools --------------------------------------------------------------------------------------------------------


def test_tools_of_every_kind() -> None:
    schema = {"type": "object"}
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a/"}}
    found = canonical(
        tools=[
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": True}},
            {"type": "function", "function": {"name": "g"}, "cache_control": {"type": "ephemeral"}},
            {"type": "custom", "custom": {"name": "p", "description": "d", "format": grammar}},
            {"type": "custom", "custom": {"name": "q", "format": {"type": "text"}}},
            {"type": "web_search", "web_search": {"x": 1}},
        ]
    ).tools
    f, g, p, q, hosted = found
    assert f == Tool(name="f", description="d", parameters=jsonio.raw(schema), strict=True)
    assert g == Tool(name="g", breakpoint=True)
    assert isinstance(p, Tool)
    assert (p.custom, plain(p.format)) == (True, {"type": "grammar", "syntax": "lark", "definition": "start: /a/"})
    assert q == Tool(name="q", custom=True)
    assert isinstance(hosted, HostedTool)
    assert (hosted.type, plain(hosted.value)) == ("web_search", {"type": "web_search", "web_search": {"x": 1}})


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ("any", ToolChoice(mode="required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="function", names=("f",))),
        ({"type": "custom", "custom": {"name": "p"}}, ToolChoice(mode="function", names=("p",))),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [
                        {"type": "function", "function": {"name": "f"}},
                        {"type": "custom", "custom": {"name": "p"}},
                    ],
                },
            },
            ToolChoice(mode="allowed", names=("f", "p"), required=True),
        ),
    ],
)
def test_tool_choices(choice: Any, expected: ToolChoice) -> None:
    assert canonical(tool_choice=choice).tool_choice == expected


def test_functions_of_2023_are_tools_that_are_called_one_at_a_time() -> None:
    found = canonical(functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"})
    assert found.tools == [Tool(name="f", parameters=jsonio.raw({}))]
    assert found.tool_choice == ToolChoice(mode="function", names=("f",))
    assert found.parallel_tool_calls is False
    assert found.names["tools"] == "functions"


# -- messages -----------------------------------------------------------------------------------------------------


def test_system_messages_stay_where_they_are() -> None:
    found = items(
        {"role": "system", "content": "a"}, USER, {"role": "developer", "content": [{"type": "text", "text": "b"}]}
    )
    assert [item.role for item in found if isinstance(item, Message)] == ["system", "user", "developer"]


def test_parts_of_every_kind() -> None:
    [message] = items(
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "潮", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "image_url", "image_url": {"url": "https://a/1.png", "detail": "low"}},
                {"type": "image_url", "image_url": "data:image/png;base64,AA=="},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "video_url", "video_url": {"url": "x"}},
            ],
        }
    )
    assert isinstance(message, Message)
    assert message.name == "ada"
    assert message.content[:-1] == [
        TextPart(text="潮", breakpoint=True),
        ImagePart(url="https://a/1.png", detail="low"),
        ImagePart(url="data:image/png;base64,AA=="),
        AudioPart(data="AA==", format="wav"),
        FilePart(data="data:application/pdf;base64,AA==", filename="a.pdf"),
        FilePart(file_id="file-1"),
    ]
    opaque = message.content[-1]
    assert isinstance(opaque, OpaquePart)
    assert (opaque.type, plain(opaque.value)) == ("video_url", {"type": "video_url", "video_url": {"url": "x"}})


def test_cache_control_marks_a_message_or_a_part() -> None:
    mark = {"type": "ephemeral"}
    found = canonical(messages=[{**USER, "cache_control": mark}])
    assert found.items == [Message(role="user", content=[TextPart(text="潮汐", breakpoint=True)])]
    assert found.names["breakpoint"] == "cache_control"


def test_calls_and_their_results() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    patch = {"id": "call_2", "type": "custom", "custom": {"name": "p", "input": "*** Begin"}}
    assert items(
        {"role": "assistant", "content": "I look.", "tool_calls": [call, patch]},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ) == [
        Message(role="assistant", content=[TextPart(text="I look.")]),
        FunctionCall(call_id="call_1", name="f", arguments='{"x": 1}'),
        FunctionCall(call_id="call_2", name="p", arguments="*** Begin", custom=True),
        FunctionOutput(call_id="call_1", content=[TextPart(text="one")]),
        FunctionOutput(call_id="call_2", content=[TextPart(text="a"), TextPart(text="b")], custom=True),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, ""])
def test_calls_without_text_bring_no_message(content: str | None) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert [type(item) for item in items({"role": "assistant", "content": content, "tool_calls": [call]})] == [
        FunctionCall
    ]


def test_functions_of_2023_find_their_results() -> None:
    call, output = items(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "one"},
    )
    assert isinstance(call, FunctionCall)
    assert isinstance(output, FunctionOutput)
    assert (call.call_id, output.name) == (output.call_id, "f")


def test_what_the_assistant_said_comes_back_whole() -> None:
    [message] = items(
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
            "refusal": "c",
            "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}, 7],
        }
    )
    assert isinstance(message, Message)
    assert message.content == [
        TextPart(text="a"),
        RefusalPart(refusal="b"),
        RefusalPart(refusal="c"),
        ImagePart(url="data:image/png;base64,AA=="),
    ]


@pytest.mark.parametrize(
    ("said", "text"),
    [({"id": "audio_1"}, ""), ({"id": "audio_1", "transcript": "high tide"}, "high tide"), ("odd", "")],
)
def test_a_sound_that_a_model_made_is_named_and_its_words_stay(said: Any, text: str) -> None:
    found = canonical(messages=[USER, {"role": "assistant", "content": None, "audio": said}])
    assert found.hints == ("messages[1].audio",)
    assert found.items[1] == Message(role="assistant", content=[TextPart(text=text)] if text else [])


# -- reasoning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_plain_reasoning_is_an_item_before_the_text(member: str) -> None:
    found = items({"role": "assistant", "content": "42", member: "hm"})
    assert found == [Reasoning(content=["hm"]), Message(role="assistant", content=[TextPart(text="42")])]


def test_our_opaque_reasoning_comes_back_with_its_text() -> None:
    details = [{"type": "reasoning.encrypted", "data": "tgr1.A", "index": 0}]
    found = items({"role": "assistant", "content": "42", "reasoning_content": "hm", "reasoning_details": details})
    assert found[0] == Reasoning(content=["hm"], encrypted="tgr1.A")


def test_reasoning_comes_back_to_its_place() -> None:
    def call(number: int) -> dict[str, Any]:
        return {"id": f"call_{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    found = items(
        {
            "role": "assistant",
            "content": "first",
            "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "A", "index": 0},
                {"type": "reasoning.encrypted", "data": "B", "index": 1, "after_text": True},
                {"type": "reasoning.encrypted", "data": "C", "index": 2, "after_text": True, "after_calls": 1},
                {"type": "reasoning.encrypted", "data": "D", "index": 3, "after_text": True, "after_calls": 9},
            ],
            "tool_calls": [call(1), call(2)],
        }
    )
    kinds = [item.encrypted if isinstance(item, Reasoning) else type(item).__name__ for item in found]
    assert kinds == ["A", "Message", "B", "FunctionCall", "C", "FunctionCall", "D"]


def test_reasoning_of_other_gateways_is_read() -> None:
    details = [{"type": "reasoning.summary", "summary": "s"}, {"type": "reasoning.text", "text": "t"}, {"type": "?"}, 7]
    found = items({"role": "assistant", "content": "x", "reasoning": "st", "reasoning_details": details})
    assert found[:-1] == [Reasoning(summary=["s"]), Reasoning(content=["t"])]


@pytest.mark.parametrize("odd", [{"a": 1}, 7, ["x"], None, ""])
def test_reasoning_in_odd_shapes_is_no_reason_to_refuse(odd: Any) -> None:
    found = items(
        {"role": "assistant", "content": "x", "reasoning": odd, "reasoning_content": odd, "reasoning_details": odd}
    )
    assert [type(item) for item in found] == [Message]


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}, "messages[1].tool_calls[0].id"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[1].tool_calls[0].function"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 7}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].name"),
        ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
        ({"tools": [{"type": "custom", "custom": {"name": "p", "format": {"type": "grammar"}}}]}, "tools[0].custom.format.grammar"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"functions": [{"name": "f"}], "function_call": "sometimes"}, "function_call"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"reasoning": {"effort": "heroic"}}, "reasoning.effort"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_path(members: dict[str, Any], param: str) -> None:
    assert refused(**members).param == param
