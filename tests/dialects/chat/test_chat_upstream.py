"""Bodies for chat providers: OpenAI's own, and those of servers that follow it."""

from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from tests.dialects.chat.playing import OFFICIAL, asked, provider, said, sent
from tidegate.dialects.dialect import Destination, Quirks
from tidegate.dialects.websearch import FORCED
from tidegate.providers.registry import REGISTRY
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, UnsupportedParameter
from tidegate.wire.events import Seal
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
    OpaqueItem,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    Tool,
    ToolChoice,
)

OPENAI = provider(provider="openai", quirks=OFFICIAL)
LAB = provider()
_PARAMS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
GRAMMAR = jsonio.raw({"type": "grammar", "syntax": "lark", "definition": "start: /a/"})
PNG = "data:image/png;base64,AA=="


def body(request: CanonicalRequest, to: Destination = LAB, *, allowed: bool = False) -> dict[str, Any]:
    found, _ = sent(request, to, allowed=allowed)
    return found


def messages(*items: Item, to: Destination = LAB, allowed: bool = False, **members: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body(asked(*items, **members), to, allowed=allowed)["messages"]
    return found


def call(number: int, **members: Any) -> FunctionCall:
    return FunctionCall(**{"call_id": f"call_{number}", "name": "f", "arguments": "{}", **members})


def result(number: int, *content: Part, **members: Any) -> FunctionOutput:
    return FunctionOutput(
        call_id=f"call_{number}", content=list(content) or [TextPart(text=f"result {number}")], **members
    )


def refused(request: CanonicalRequest, to: Destination = LAB) -> UnsupportedParameter:
    with pytest.raises(UnsupportedParameter) as caught:
        body(request, to)
    return caught.value


def dropped(request: CanonicalRequest, to: Destination = LAB) -> list[str]:
    return sent(request, to, allowed=True)[1]


# -- members ------------------------------------------------------------------------------------------------------


def everything() -> CanonicalRequest:
    return asked(
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        n=2,
        stop=("a",),
        seed=7,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        logit_bias=jsonio.raw({"42": 1}),
        top_logprobs=3,
        format=OutputFormat(type="json_schema", name="n", schema=jsonio.raw({}), strict=True),
        verbosity="low",
        effort="high",
        user="u",
        safety_identifier="s",
        service_tier="flex",
        prompt_cache_key="k",
        tools=[Tool(name="f"), Tool(name="p", custom=True, format=GRAMMAR)],
        tool_choice=ToolChoice(mode="required"),
        parallel_tool_calls=False,
    )


def test_a_full_request_has_openais_members() -> None:
    found = body(everything(), OPENAI)
    assert found == {
        "model": "tide-1",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "max_completion_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "stop": ["a"],
        "seed": 7,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "logit_bias": {"42": 1},
        "logprobs": True,
        "top_logprobs": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
        "verbosity": "low",
        "reasoning_effort": "high",
        "user": "u",
        "safety_identifier": "s",
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "tools": [
            {"type": "function", "function": {"name": "f"}},
            {
                "type": "custom",
                "custom": {
                    "name": "p",
                    "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a/"}},
                },
            },
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    _PARAMS.validate_python(found)


def test_a_stream_asks_for_its_usage_where_it_can() -> None:
    assert body(asked(stream=True))["stream_options"] == {"include_usage": True}
    assert body(asked(stream=True))["stream"] is True
    assert "stream_options" not in body(asked(stream=True), provider(include_usage=False))
    assert "stream_options" not in body(asked())


@pytest.mark.parametrize(
    ("to", "name"),
    [
        (OPENAI, "max_completion_tokens"),
        (LAB, "max_tokens"),
        (provider(refuses=frozenset({"max_tokens"})), "max_completion_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_provider_knows(to: Destination, name: str) -> None:
    assert body(asked(max_output_tokens=5), to)[name] == 5


def test_records_say_what_their_chat_takes() -> None:
    assert REGISTRY["openai"].quirks.openai_chat
    assert REGISTRY["openai"].quirks.max_tokens_name == "max_completion_tokens"
    assert REGISTRY["deepseek"].quirks.reasoning_back == "reasoning_content"


@pytest.mark.parametrize(
    ("members", "refuses", "param"),
    [
        ({"seed": 1}, "seed", "seed"),
        ({"top_logprobs": 1}, "logprobs", "logprobs"),
        ({"format": OutputFormat(type="json_object")}, "response_format", "response_format"),
        ({"effort": "high"}, "reasoning_effort", "reasoning_effort"),
        ({"n": 2}, "n", "n"),
        ({"tools": [Tool(name="f")]}, "tools", "tools"),
    ],
)
def test_what_the_deployment_refuses_is_refused_in_the_clients_words(
    members: dict[str, Any], refuses: str, param: str
) -> None:
    names = {"top_logprobs": "logprobs", "format": "response_format", "effort": "reasoning_effort"}
    request = asked(**members, names=names)
    to = provider(refuses=frozenset({refuses}))
    assert refused(request, to).param == param
    assert dropped(request, to) == [param]


@pytest.mark.parametrize("name", ["verbosity", "user", "safety_identifier", "service_tier", "prompt_cache_key"])
def test_hints_are_left_out_and_named(name: str) -> None:
    to = provider(refuses=frozenset({name}))
    found, lost = sent(asked(**{name: "x"}), to)
    assert name not in found
    assert lost == [name]


def test_defaults_are_no_loss() -> None:
    to = provider(refuses=frozenset({"verbosity", "service_tier", "temperature"}))
    _, lost = sent(asked(verbosity="medium", service_tier="auto", temperature=1.0), to)
    assert lost == []


def test_one_message_of_the_assistant_has_one_name() -> None:
    said = [Message(role="assistant", name=name, content=[TextPart(text=name)]) for name in ("ada", "bob")]
    found, lost = sent(asked(said[0], call(1), said[1], result(1)))
    assert (found["messages"][0]["name"], found["messages"][0]["content"]) == ("ada", "ada\nbob")
    assert lost == ["name"]


def test_what_chat_has_no_word_for_is_named() -> None:
    _, lost = sent(asked(reasoning_summary="auto", metadata={"k": "v"}))
    assert lost == ["reasoning_summary", "metadata"]


@pytest.mark.parametrize(("budget", "effort"), [(0, None), (1024, "low"), (10_000, "medium"), (32_000, "high")])
def test_a_budget_of_reasoning_becomes_the_nearest_effort(budget: int, effort: str | None) -> None:
    found, lost = sent(asked(reasoning_budget=budget))
    assert found.get("reasoning_effort") == effort
    assert lost == ["reasoning_budget"]
    assert sent(asked(reasoning_budget=budget, effort="max"))[0]["reasoning_effort"] == "max"


def test_top_k_goes_where_it_is_known() -> None:
    assert body(asked(top_k=40))["top_k"] == 40
    assert refused(asked(top_k=40), OPENAI).param == "top_k"


# -- tools --------------------------------------------------------------------------------------------------------


def test_a_custom_tool_becomes_a_function_with_one_text() -> None:
    found, lost = sent(asked(tools=[Tool(name="p", description="Patches.", custom=True, format=GRAMMAR)]))
    [tool] = found["tools"]
    function = tool["function"]
    assert lost == ["grammar"]
    assert function["parameters"]["properties"] == {"input": {"type": "string"}}
    assert function["parameters"]["required"] == ["input"]
    assert function["description"].startswith("Patches.\n\n")
    assert "lark grammar:\nstart: /a/" in function["description"]


@pytest.mark.parametrize("to", [OPENAI, LAB])
def test_a_format_that_cannot_be_read_is_the_clients_mistake(to: Destination) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body(asked(tools=[Tool(name="p", custom=True, format=jsonio.raw({"type": "grammar", "syntax": 7}))]), to)
    assert caught.value.param == "tools"


def test_functions_of_servers_have_parameters() -> None:
    schema = jsonio.raw({"type": "object", "properties": {"x": {}}})
    tools: list[Tool | HostedTool] = [Tool(name="f"), Tool(name="g", parameters=schema, strict=False)]
    f, g = body(asked(tools=tools))["tools"]
    assert f["function"]["parameters"] == {"type": "object", "properties": {}}
    assert g["function"] == {"name": "g", "parameters": {"type": "object", "properties": {"x": {}}}}


def test_a_forced_tool_is_named_in_its_kind() -> None:
    tools: list[Tool | HostedTool] = [Tool(name="f"), Tool(name="p", custom=True)]
    forced = asked(tools=tools, tool_choice=ToolChoice(mode="function", names=("p",)))
    assert body(forced, OPENAI)["tool_choice"] == {"type": "custom", "custom": {"name": "p"}}
    assert body(forced)["tool_choice"] == {"type": "function", "function": {"name": "p"}}


@pytest.mark.parametrize("required", [True, False])
def test_allowed_tools_are_the_only_ones_where_the_choice_is_unknown(required: bool) -> None:
    tools: list[Tool | HostedTool] = [Tool(name="f"), Tool(name="g"), Tool(name="p", custom=True)]
    request = asked(tools=tools, tool_choice=ToolChoice(mode="allowed", names=("g", "p"), required=required))
    mode = "required" if required else "auto"
    found = body(request)
    assert [tool["function"]["name"] for tool in found["tools"]] == ["g", "p"]
    assert found["tool_choice"] == mode
    official = body(request, OPENAI)
    assert len(official["tools"]) == 3
    assert official["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": mode,
            "tools": [{"type": "function", "function": {"name": "g"}}, {"type": "custom", "custom": {"name": "p"}}],
        },
    }


def hosted(kind: str) -> HostedTool:
    return HostedTool(type=kind, value=jsonio.raw({"type": kind}))


def test_hosted_tools_are_refused_by_name() -> None:
    request = asked(tools=[hosted("file_search")])
    error = refused(request)
    assert error.param == "tools"
    assert "file_search" in error.message
    found, lost = sent(request, allowed=True)
    assert "tools" not in found
    assert lost == ["tools.file_search"]
    assert 'unsupported = "drop"' in error.message


@pytest.mark.parametrize("kind", ["web_search", "web_search_20250305", "googleSearch", "tool_search"])
def test_searches_that_nobody_has_here_are_left_out(kind: str) -> None:
    """The model may do without, and agents offer them with every request."""
    found, lost = sent(asked(tools=[hosted(kind), Tool(name="f")]))
    assert [tool["function"]["name"] for tool in found["tools"]] == ["f"]
    assert lost == [f"tools.{kind}"]


def test_the_search_options_of_a_chat_stay_its_own() -> None:
    options = HostedTool(type="web_search_options", value=jsonio.raw({"search_context_size": "low"}))
    assert sent(asked(tools=[options]))[0]["web_search_options"] == {"search_context_size": "low"}


def test_a_choice_among_no_tools_is_not_sent() -> None:
    assert "tool_choice" not in body(asked(tool_choice=ToolChoice(mode="auto"), parallel_tool_calls=True))


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([], ToolChoice(mode="required")),
        ([hosted("web_search")], ToolChoice(mode="required")),
        ([hosted("web_search")], FORCED),
        ([hosted("web_search"), Tool(name="f")], FORCED),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(tools: list[Tool | HostedTool], choice: ToolChoice) -> None:
    assert refused(asked(tools=tools, tool_choice=choice)).param == "tool_choice"


# -- messages -----------------------------------------------------------------------------------------------------


def test_instructions_come_first() -> None:
    assert messages(said("user", "hi"), instructions="be kind")[0] == {"role": "system", "content": "be kind"}
    assert messages(said("user", "hi"), instructions="be kind", to=OPENAI)[0]["role"] == "developer"


def test_only_openai_knows_the_developer() -> None:
    items = [said("developer", "a"), said("user", "hi"), said("system", "b")]
    assert [one["role"] for one in messages(*items)] == ["system", "user", "system"]
    assert [one["role"] for one in messages(*items, to=OPENAI)] == ["developer", "user", "system"]


def test_texts_are_one_string_where_arrays_are_not_known() -> None:
    assert messages(said("user", "a", "b")) == [{"role": "user", "content": "a\nb"}]
    [official] = messages(said("user", "a", "b"), to=OPENAI)
    assert official["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_parts_of_a_user() -> None:
    content: list[Part] = [
        TextPart(text="see", breakpoint=True),
        ImagePart(url="https://a/1.png", detail="low"),
        FilePart(data="data:application/pdf;base64,AA==", filename="a.pdf"),
        FilePart(file_id="file-1"),
        FilePart(text="plain"),
        AudioPart(data="AA==", format="wav"),
    ]
    [found] = messages(Message(role="user", content=content, name="ada"), to=OPENAI)
    assert found == {
        "role": "user",
        "name": "ada",
        "content": [
            {"type": "text", "text": "see", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "image_url", "image_url": {"url": "https://a/1.png", "detail": "low"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "text", "text": "plain"},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ],
    }


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("application/pdf", "document.pdf"),
        ("text/plain;charset=utf-8", "document.txt"),
        ("application/atom+xml", "document.atom"),
    ],
)
def test_data_that_nobody_named_gets_the_name_that_openai_demands(media_type: str, name: str) -> None:
    part = FilePart(data=f"data:{media_type};base64,AA==")
    [found] = messages(Message(role="user", content=[part]), to=OPENAI)
    assert found["content"] == [{"type": "file", "file": {"file_data": part.data, "filename": name}}]


def test_so_does_a_document_that_a_tool_returned() -> None:
    part = FilePart(data="data:application/pdf;base64,AA==")
    called = call(1)
    found = messages(said("user", "x"), called, FunctionOutput(call_id=called.call_id, content=[part]), to=OPENAI)
    assert found[-1]["content"][-1] == {"type": "file", "file": {"file_data": part.data, "filename": "document.pdf"}}


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(file_id="file-1"),
        FilePart(file_id="file-1"),
        FilePart(url="https://a/1.pdf"),
        OpaquePart(type="video_url", value=jsonio.raw({})),
    ],
)
def test_parts_without_a_place_are_refused_by_the_clients_name(part: Part) -> None:
    request = asked(Message(role="user", content=[TextPart(text="x"), part]), names={"items": "input"})
    assert refused(request).param == "input"
    found, lost = sent(request, allowed=True)
    assert found["messages"] == [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    assert lost == ["input"]


def test_items_that_the_client_has_a_part_in_are_refused_by_name() -> None:
    item = OpaqueItem(type="shell_call", value=jsonio.raw({}))
    assert "shell_call" in refused(asked(said("user", "x"), item)).message
    assert messages(said("user", "x"), item, allowed=True) == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("kind", "items", "name"),
    [
        ("file_search_call", "input", "input[].file_search_call"),
        ("google:inlineData", "input", "input[].inlineData"),
        ("anthropic:code_execution_tool_result", "messages", "messages[].content[].code_execution_tool_result"),
        ("google:executableCode", "contents", "contents[].parts[].executableCode"),
    ],
)
def test_what_a_provider_ran_itself_is_left_out_of_a_history_and_named(kind: str, items: str, name: str) -> None:
    item = OpaqueItem(type=kind, value=jsonio.raw({}))
    found, lost = sent(asked(said("user", "x"), item, names={"items": items}))
    assert found["messages"] == [{"role": "user", "content": "x"}]
    assert lost == [name]


def test_a_search_of_the_past_is_left_out() -> None:
    item = OpaqueItem(type="web_search_call", value=jsonio.raw({}))
    found, lost = sent(asked(said("user", "x"), item, said("assistant", "y"), said("user", "z")))
    assert [message["content"] for message in found["messages"]] == ["x", "y", "z"]
    assert lost == ["web_search_call"]


def test_breakpoints_are_hints() -> None:
    mark = Message(role="user", content=[TextPart(text="x", breakpoint=True)])
    found, lost = sent(asked(mark, names={"breakpoint": "cache_control"}))
    assert found["messages"] == [{"role": "user", "content": "x"}]
    assert lost == ["cache_control"]


# -- the assistant's turns ----------------------------------------------------------------------------------------


def test_text_and_parallel_calls_are_one_message_with_its_results_behind() -> None:
    """Portkey: one assistant message per call."""
    found = messages(said("user", "q"), said("assistant", "I look."), call(1), call(2), result(2), result(1))
    assert [one["role"] for one in found] == ["user", "assistant", "tool", "tool"]
    assert found[1]["content"] == "I look."
    assert [one["id"] for one in found[1]["tool_calls"]] == ["call_1", "call_2"]
    assert [one["tool_call_id"] for one in found[2:]] == ["call_2", "call_1"]


def test_text_behind_calls_does_not_stand_between_them_and_their_results() -> None:
    found = messages(call(1), said("assistant", "wait"), result(1))
    assert [one["role"] for one in found] == ["assistant", "tool"]
    assert found[0]["content"] == "wait"


def test_a_result_that_comes_late_stands_behind_its_call() -> None:
    found = messages(call(1), said("user", "hurry"), result(1))
    assert [one["role"] for one in found] == ["assistant", "tool", "user"]


def test_call_ids_that_come_again_belong_to_their_own_turn() -> None:
    found = messages(call(1), result(1), said("assistant", "so"), call(1), result(1, TextPart(text="again")))
    assert [one["role"] for one in found] == ["assistant", "tool", "assistant", "tool"]
    assert found[3]["content"] == "again"


def test_two_answers_stay_two() -> None:
    found = messages(said("assistant", "a"), Reasoning(content=["hm"]), said("assistant", "b"))
    assert [one["content"] for one in found] == ["a", "b"]


def test_a_call_without_text_says_null_and_an_empty_answer_says_nothing() -> None:
    assert messages(call(1))[0]["content"] is None
    assert messages(said("assistant", ""))[0]["content"] == ""
    assert messages(Message(role="assistant", content=[])) == []


def test_empty_arguments_are_an_object() -> None:
    assert messages(call(1, arguments=""))[0]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("length", "given", "kept"),
    [
        (None, "call_" + "a" * 35, True),
        (None, "toolu_" + "a" * 60, False),
        (9, "abcDEF123", True),
        (9, "call_1", False),
    ],
)
def test_call_ids_are_those_that_the_provider_takes(length: int | None, given: str, kept: bool) -> None:
    to = provider(quirks=Quirks(call_id_length=length))
    found = messages(call(1, call_id=given), FunctionOutput(call_id=given, content=[]), to=to)
    used = found[0]["tool_calls"][0]["id"]
    assert used == found[1]["tool_call_id"]
    assert (used == given) is kept
    assert len(used) <= 40
    assert length is None or (len(used) == length and used.isalnum())


def test_custom_calls_are_wrapped_like_their_tool() -> None:
    item = call(1, arguments='*** "潮"', custom=True)
    [found] = messages(item)[0]["tool_calls"]
    assert found["function"] == {"name": "f", "arguments": '{"input":"*** \\"潮\\""}'}
    [official] = messages(item, result(1), to=OPENAI)[0]["tool_calls"]
    assert official == {"id": "call_1", "type": "custom", "custom": {"name": "f", "input": '*** "潮"'}}


def test_images_of_tools_go_into_a_user_message_behind_all_results() -> None:
    found = messages(call(1), call(2), result(1, TextPart(text="shot"), ImagePart(url=PNG)), result(2))
    assert [one["role"] for one in found] == ["assistant", "tool", "tool", "user"]
    assert found[1]["content"] == "shot"
    what, image = found[3]["content"]
    assert "call_1" in what["text"]
    assert image["image_url"]["url"] == PNG


def test_what_a_user_says_behind_such_images_is_one_message_with_them() -> None:
    found = messages(call(1), result(1, ImagePart(url=PNG)), said("user", "what is it?"), said("user", "quick"))
    assert [one["role"] for one in found] == ["assistant", "tool", "user", "user"]
    assert [one["type"] for one in found[2]["content"]] == ["text", "image_url", "text"]
    assert found[3]["content"] == "quick"


def test_a_tool_that_returns_only_an_image_points_to_it() -> None:
    found = messages(call(1), result(1, ImagePart(url=PNG)))
    assert found[1]["content"]
    assert found[2]["content"][1]["type"] == "image_url"


def test_images_of_the_assistant_are_shown_to_it() -> None:
    drawn = Message(role="assistant", content=[TextPart(text="here"), ImagePart(url=PNG)])
    found = messages(drawn, said("user", "bigger"))
    assert [one["role"] for one in found] == ["assistant", "user"]
    assert found[1]["content"][1]["image_url"]["url"] == PNG
    assert found[1]["content"][2] == {"type": "text", "text": "bigger"}


@pytest.mark.parametrize(
    ("content", "text"),
    [([TextPart(text="no such file")], "Error: no such file"), ([TextPart(text="Error 7")], "Error 7"), ([ImagePart(url=PNG)], None)],
)  # fmt: skip
def test_a_failed_tool_says_so(content: list[Part], text: str | None) -> None:
    found = messages(call(1), result(1, *content, is_error=True))[1]["content"]
    assert found.lower().startswith("error")
    assert text is None or found == text


def test_refusals_are_text_but_for_openai() -> None:
    item = Message(role="assistant", content=[RefusalPart(refusal="no")])
    assert messages(item) == [{"role": "assistant", "content": "no"}]
    assert messages(item, to=OPENAI) == [{"role": "assistant", "content": None, "refusal": "no"}]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([said("user", "x"), result(1)], "No tool call found for function call output with call_id call_1."),
        ([call(1), said("user", "x")], "No tool output found for function call call_1."),
        ([call(1), call(2), result(2)], "No tool output found for function call call_1."),
    ],
)
def test_calls_and_results_without_each_other(items: list[Item], text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages(*items, to=OPENAI, names={"items": "input"})
    assert (caught.value.message, caught.value.param) == (text, "input")
    assert messages(*items)  # other servers are content


# -- reasoning ----------------------------------------------------------------------------------------------------

WANTS_IT = provider(quirks=Quirks(reasoning_back="reasoning_content"))


def test_sealed_reasoning_comes_back_as_it_was() -> None:
    """new-api #4497: «reasoning_content is missing in assistant tool call message»."""
    seal = Seal(kind="reasoning_content", data="潮 hm")
    found = messages(Reasoning(content=["not this"], seal=seal), call(1), result(1), to=WANTS_IT)
    assert found[0]["reasoning_content"] == "潮 hm"


def test_reasoning_details_come_back_entry_by_entry() -> None:
    entries = (
        '[{"type":"reasoning.text","text":"a","signature":"s","index":0},{"type":"reasoning.encrypted","data":"A"}]'
    )
    items: list[Item] = [Reasoning(seal=Seal(kind="reasoning_details", data=entries)), call(1)]
    assert messages(*items)[0]["reasoning_details"] == jsonio.anything(entries.encode())


def test_plain_reasoning_goes_only_where_it_is_wanted() -> None:
    items: list[Item] = [Reasoning(summary=["short"], content=["long"]), said("assistant", "42")]
    assert messages(*items, to=WANTS_IT)[0]["reasoning_content"] == "long"
    found, lost = sent(asked(*items))
    assert found["messages"] == [{"role": "assistant", "content": "42"}]
    assert lost == ["reasoning_items"]


def test_reasoning_of_several_steps_stays_with_its_calls() -> None:
    def thought(text: str) -> Reasoning:
        return Reasoning(seal=Seal(kind="reasoning_content", data=text))

    found = messages(thought("a"), call(1), result(1), thought("b"), call(2), result(2), to=WANTS_IT)
    assert [one.get("reasoning_content") for one in found] == ["a", None, "b", None]


def test_reasoning_that_nobody_can_read_leaves_no_empty_message() -> None:
    assert messages(said("user", "x"), Reasoning(summary=["s"])) == [{"role": "user", "content": "x"}]


def test_the_phase_of_a_message_is_named() -> None:
    assert dropped(asked(Message(role="assistant", content=[TextPart(text="a")], phase="commentary"))) == ["phase"]


def test_a_budget_beside_an_effort_is_named() -> None:
    both = asked(effort="low", reasoning_budget=3000)
    assert body(both)["reasoning_effort"] == "low"
    assert dropped(both) == ["reasoning_budget"]
