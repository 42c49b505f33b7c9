"""The canonical request as a body for Google: every member is in it, or named as lost."""

from typing import Any

import pytest
from google.genai import types

from tests.dialects.gemini.samples import asked, candidate, chunk, decode, deployment, end, frames
from tidegate.dialects.codec import Collector, Losses
from tidegate.dialects.gemini import GeminiUpstream
from tidegate.dialects.gemini.contents import FOREIGN_SIGNATURE
from tidegate.dialects.websearch import FORCED
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
    Role,
    TextPart,
    Tool,
    ToolChoice,
)

OLD = "gemini-2.5-flash"
SCHEMA = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "additionalProperties": False}


def message(text: str, role: Role = "user") -> Message:
    return Message(role=role, content=[TextPart(text=text)])


def call(call_id: str, name: str = "tide", arguments: str = '{"d":1}', **members: Any) -> FunctionCall:
    return FunctionCall(call_id=call_id, name=name, arguments=arguments, **members)


def result(call_id: str, text: str = "high", **members: Any) -> FunctionOutput:
    return FunctionOutput(call_id=call_id, content=[TextPart(text=text)], **members)


def sealed(data: str, **members: Any) -> Reasoning:
    return Reasoning(seal=Seal(kind="thought_signature", data=data, **members))


def encode(request: CanonicalRequest, model: str = "gemini-3-flash", *, allowed: bool = False, **to: Any) -> Any:
    return told(request, model, allowed=allowed, **to)[0]


def told(request: CanonicalRequest, model: str = "gemini-3-flash", *, allowed: bool = False, **to: Any) -> Any:
    """The body, checked against the SDK's types, and the names of what was lost."""
    destination = deployment(model, **to)
    losses = Losses(request, destination, allowed=allowed)
    body = jsonio.anything(GeminiUpstream().encode_request(request, destination, losses))
    losses.check()
    for content in body["contents"]:
        types.Content.model_validate(content)
        assert content["parts"]
    types.GenerationConfig.model_validate(body.get("generationConfig", {}))
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(body.get("toolConfig", {}))
    return body, list(losses.dropped)


def contents(*items: Item, model: str = OLD) -> list[Any]:
    return [(one["role"], one["parts"]) for one in encode(asked(*items), model)["contents"]]


# -- contents ---------------------------------------------------------------------------------------------------------


def test_a_plain_question() -> None:
    assert encode(asked()) == {"contents": [{"role": "user", "parts": [{"text": "潮汐"}]}]}


def test_all_system_messages_become_the_system_instruction() -> None:
    request = asked(
        message("be brief", "system"),
        message("tide?"),
        message("no poems", "developer"),
        message("high", "assistant"),
        message("now?"),
        instructions="be kind",
    )
    body, dropped = told(request)
    assert dropped == ["items[].role"]
    assert body["systemInstruction"] == {"parts": [{"text": "be kind"}, {"text": "be brief"}, {"text": "no poems"}]}
    assert [one["role"] for one in body["contents"]] == ["user", "model", "user"]


@pytest.mark.parametrize(
    ("instructions", "given", "system", "question", "named"),
    [
        ("", ["be brief"], [], "be brief", "messages[].role"),
        ("be kind", ["be brief"], ["be kind"], "be brief", "messages[].role"),
        ("", ["be brief", "say the tide"], ["be brief"], "say the tide", "messages[].role"),
        ("say the tide", [], [], "say the tide", "instructions"),
    ],
)
def test_the_last_of_instructions_without_a_question_is_the_question(
    instructions: str, given: list[str], system: list[str], question: str, named: str
) -> None:
    request = asked(*(message(one, "system") for one in given), instructions=instructions)
    request.items, request.names = request.items if given else [], {"items": "messages"}
    body, dropped = told(request)
    assert body["contents"] == [{"role": "user", "parts": [{"text": question}]}]
    assert body.get("systemInstruction", {"parts": []}) == {"parts": [{"text": one} for one in system]}
    assert dropped == [named]


def test_a_request_without_any_words_is_refused() -> None:
    request = asked(names={"items": "messages"})
    request.items = []
    with pytest.raises(InvalidRequest) as caught:
        encode(request)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("seal", [{"call_id": "c1"}, {"anchor": "media"}], ids=["of a call", "of an image"])
def test_a_signature_whose_part_does_not_follow_is_named(seal: dict[str, Any]) -> None:
    body, dropped = told(asked(message("a"), sealed("c2ln", **seal), message("b"), call("c1"), result("c1")))
    assert "c2ln" not in str(body)
    assert dropped == ["reasoning_items"]


@pytest.mark.parametrize(
    ("schema", "found", "dropped"),
    [
        (SCHEMA, {"description": "the tide", **SCHEMA}, []),
        ({"description": "own", **SCHEMA}, {"description": "own", **SCHEMA}, ["format.description"]),
        (True, True, ["format.description"]),
        (None, None, ["format.description"]),
    ],
)
def test_what_a_format_is_for_stands_in_its_schema(schema: Any, found: Any, dropped: list[str]) -> None:
    form = OutputFormat(type="json_schema", name="n", description="the tide", schema=jsonio.raw(schema))
    body, named = told(asked(format=form))
    assert body["generationConfig"].get("responseJsonSchema") == found
    assert named == dropped


def test_messages_of_one_side_become_one_content() -> None:
    assert contents(message("a"), message("b"), message("c", "assistant"), message("d", "assistant")) == [
        ("user", [{"text": "a"}, {"text": "b"}]),
        ("model", [{"text": "c"}, {"text": "d"}]),
    ]


def test_parallel_calls_are_one_content_and_their_results_another_in_the_order_of_the_calls() -> None:
    found = contents(message("?"), call("c1"), call("c2", "wind"), result("c2", "strong"), result("c1"), message("so?"))
    assert found == [
        ("user", [{"text": "?"}]),
        (
            "model",
            [
                {"functionCall": {"id": "c1", "name": "tide", "args": {"d": 1}}},
                {"functionCall": {"id": "c2", "name": "wind", "args": {"d": 1}}},
            ],
        ),
        (
            "user",
            [
                {"functionResponse": {"id": "c1", "name": "tide", "response": {"output": "high"}}},
                {"functionResponse": {"id": "c2", "name": "wind", "response": {"output": "strong"}}},
            ],
        ),
        ("user", [{"text": "so?"}]),
    ]


def test_sequential_calls_keep_their_steps_and_ids_may_come_again() -> None:
    roles = [role for role, _ in contents(message("?"), call("c"), result("c", "1"), call("c"), result("c", "2"))]
    assert roles == ["user", "model", "user", "model", "user"]


def test_a_result_that_comes_late_stands_behind_its_call() -> None:
    found = contents(message("?"), call("c1"), message("wait"), result("c1"))
    assert [list(parts[0]) for _, parts in found] == [["text"], ["functionCall"], ["functionResponse"], ["text"]]


def test_results_and_calls_that_do_not_belong_together_are_refused_by_id() -> None:
    with pytest.raises(InvalidRequest, match="No tool call found for function call output with call_id c9"):
        contents(message("?"), result("c9"))
    with pytest.raises(InvalidRequest, match="No tool call found for function call output with call_id c1"):
        contents(message("?"), result("c1"), call("c1"))
    with pytest.raises(InvalidRequest, match="No tool output found for function call c1"):
        contents(message("?"), call("c1"), message("never mind"))


def test_a_call_that_nobody_has_answered_may_stand_last() -> None:
    assert [role for role, _ in contents(message("?"), call("c1"))] == ["user", "model"]


@pytest.mark.parametrize(
    ("output", "response"),
    [
        (result("c", "high"), {"output": "high"}),
        (result("c", ""), {"output": ""}),
        (result("c", '{"level": 3}'), {"level": 3}),
        (result("c", "[1]"), {"output": "[1]"}),
        (result("c", "no such port", is_error=True), {"error": "no such port"}),
    ],
)
def test_results_are_objects(output: FunctionOutput, response: Any) -> None:
    (part,) = contents(message("?"), call("c"), output)[2][1]
    assert part["functionResponse"]["response"] == response


def test_images_in_a_result_stand_in_it_where_the_model_takes_them_and_beside_it_elsewhere() -> None:
    output = result("c")
    output.content.append(ImagePart(url="data:image/png;base64,aGk="))
    image = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    new = contents(message("?"), call("c"), output, message("so?"), model="gemini-3-pro")
    assert new[2][1][0]["functionResponse"]["parts"] == [image]
    old = contents(message("?"), call("c"), output, message("so?"))
    assert "parts" not in old[2][1][0]["functionResponse"]
    assert old[3] == ("user", [image, {"text": "so?"}])


@pytest.mark.parametrize(
    ("arguments", "args"),
    [("", {}), ("{}", {}), ('{"a": 1.50}', {"a": 1.5}), ("[1]", {"_raw": "[1]"}), ("{oops", {"_raw": "{oops"})],
)
def test_arguments_are_objects(arguments: str, args: Any) -> None:
    found = contents(message("?"), call("c", arguments=arguments))
    assert found[1][1][0]["functionCall"]["args"] == args


def test_numbers_in_arguments_keep_their_digits() -> None:
    request = asked(message("?"), call("c", arguments='{"id":12345678901234567890,"x":1.10}'))
    body = GeminiUpstream().encode_request(request, deployment(), Losses(request, deployment(), allowed=False))
    assert b'{"id":12345678901234567890,"x":1.10}' in body


def test_custom_calls_are_wrapped_and_namespaces_flattened() -> None:
    found = contents(message("?"), call("c", "patch", "*** Begin", custom=True), call("d", namespace="git"))
    assert found[1][1][0]["functionCall"] == {"id": "c", "name": "patch", "args": {"input": "*** Begin"}}
    assert found[1][1][1]["functionCall"]["name"] == "git__tide"


@pytest.mark.parametrize(
    ("part", "made"),
    [
        (RefusalPart(refusal="no"), {"text": "no"}),
        (ImagePart(url="data:image/png;base64,aGk="), {"inlineData": {"mimeType": "image/png", "data": "aGk="}}),
        (AudioPart(data="aGk=", format="wav"), {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}}),
        (AudioPart(data="aGk=", format="mp3"), {"inlineData": {"mimeType": "audio/mp3", "data": "aGk="}}),
        (
            FilePart(data="data:application/pdf;base64,aGk=", filename="a.pdf"),
            {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        ),
        (FilePart(text="plain"), {"text": "plain"}),
        (FilePart(url="gs://bucket/a.pdf"), {"fileData": {"fileUri": "gs://bucket/a.pdf"}}),
    ],
)
def test_content_parts(part: Part, made: Any) -> None:
    assert contents(Message(role="user", content=[part])) == [("user", [made])]


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(url="https://example.com/a.png"),
        ImagePart(file_id="file_1"),
        FilePart(url="https://example.com/a.pdf"),
        FilePart(file_id="file_1"),
        OpaquePart(type="video", value=jsonio.raw({})),
    ],
)
def test_parts_that_google_cannot_have_are_refused_by_the_clients_name(part: Part) -> None:
    request = asked(Message(role="user", content=[TextPart(text="a"), part]), names={"items": "input"})
    with pytest.raises(UnsupportedParameter) as caught:
        encode(request)
    assert caught.value.param == "input"
    body, dropped = told(request, allowed=True)
    assert (body["contents"][0]["parts"], dropped) == ([{"text": "a"}], ["input"])


def test_detail_and_breakpoints_are_named_and_change_nothing() -> None:
    image = ImagePart(url="data:image/png;base64,aGk=", detail="high", breakpoint=True)
    assert told(asked(Message(role="user", content=[image])))[1] == ["breakpoint", "detail"]


def test_empty_texts_are_left_out_beside_others() -> None:
    empty = TextPart(text="")
    assert contents(Message(role="user", content=[empty, TextPart(text="a"), empty])) == [("user", [{"text": "a"}])]
    assert contents(Message(role="user", content=[empty])) == [("user", [{"text": ""}])]


def test_items_of_googles_own_come_back_and_others_are_refused() -> None:
    own = OpaqueItem(type="google:toolCall", value=jsonio.raw({"part": {"toolCall": {"id": "1"}}}))
    assert contents(message("?"), own)[1] == ("model", [{"toolCall": {"id": "1"}}])
    with pytest.raises(UnsupportedParameter, match="shell_call"):
        contents(message("?"), OpaqueItem(type="shell_call", value=jsonio.raw({})))
    assert told(asked(message("?"), OpaqueItem(type="mcp_call", value=jsonio.raw({}))))[1] == ["items[].mcp_call"]


def test_searches_of_googles_own_come_back_and_others_are_left_out() -> None:
    parts = [{"toolCall": {"id": "1"}, "thoughtSignature": "QQ=="}, {"toolResponse": {"id": "1"}}]
    own = OpaqueItem(type="web_search_call", value=jsonio.raw({"google_parts": parts}))
    assert contents(message("?"), own)[1] == ("model", parts)
    other = OpaqueItem(type="web_search_call", value=jsonio.raw({"anthropic_blocks": [{}]}))
    assert told(asked(message("?"), other))[1] == ["web_search_call"]


# -- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gemini-3-flash", OLD])
@pytest.mark.parametrize(
    "parts",
    [
        [
            {"functionCall": {"id": "c1", "name": "tide", "args": {}}, "thoughtSignature": "QUJD"},
            {"functionCall": {"id": "c2", "name": "wind", "args": {}}},
        ],
        [
            {"functionCall": {"id": "c1", "name": "tide", "args": {}}, "thoughtSignature": "QUJD"},
            {"functionCall": {"id": "c2", "name": "wind", "args": {}}, "thoughtSignature": "REVG"},
        ],
        [
            {"text": "hm", "thought": True, "thoughtSignature": "QUJD"},
            {"functionCall": {"id": "c1", "name": "tide", "args": {}}, "thoughtSignature": "REVG"},
        ],
        [{"text": "high", "thoughtSignature": "QUJD"}],
        [{"text": "high"}, {"text": "", "thoughtSignature": "QUJD"}],
        [{"text": "high"}, {"text": "", "thoughtSignature": "QUJD"}, {"text": "low"}],
        [{"text": "high"}, {"text": "", "thoughtSignature": "QUJD"}, {"text": "low", "thoughtSignature": "REVG"}],
        [
            {"text": "", "thoughtSignature": "QUJD"},
            {"functionCall": {"id": "c1", "name": "tide", "args": {}}, "thoughtSignature": "REVG"},
        ],
        [
            {"text": "high"},
            {"text": "", "thoughtSignature": "QUJD"},
            {"text": "", "thoughtSignature": "R0hJ"},
            {"functionCall": {"id": "c1", "name": "tide", "args": {}}, "thoughtSignature": "REVG"},
        ],
        [{"text": "", "thoughtSignature": "QUJD"}, {"toolCall": {"id": "1"}}],
        [
            {"text": "high"},
            {"functionCall": {"id": "c1", "name": "tide", "args": {}}, "thoughtSignature": "QUJD"},
        ],
        [
            {"text": "high", "thoughtSignature": "REVG"},
            {"functionCall": {"id": "c1", "name": "tide", "args": {}}, "thoughtSignature": "QUJD"},
        ],
        [{"inlineData": {"mimeType": "image/png", "data": "aGk="}, "thoughtSignature": "QUJD"}],
        [
            {"inlineData": {"mimeType": "image/png", "data": "aGk="}, "thoughtSignature": "QUJD"},
            {"text": "high", "thoughtSignature": "REVG"},
        ],
        [{"toolCall": {"id": "1"}, "thoughtSignature": "QUJD"}, {"text": "a"}],
    ],
)
def test_signatures_come_back_on_exactly_the_parts_that_had_them(parts: list[Any], model: str) -> None:
    """Through events and items, as a client that stores nothing would send them."""
    collector = Collector()
    for event in decode([frames(*(chunk(candidate(part)) for part in parts), end())]):
        collector.add(event)
    answered = collector.output().choices[0].items
    outputs = [result(item.call_id) for item in answered if isinstance(item, FunctionCall)]
    assert contents(message("?"), *answered, *outputs, model=model)[1] == ("model", parts)


def test_a_signature_is_of_the_first_text_behind_it() -> None:
    said = Message(role="assistant", content=[TextPart(text="a"), TextPart(text="b")])
    (_, parts) = contents(message("?"), sealed("QUJD", anchor="text"), said)[1]
    assert parts == [{"text": "a", "thoughtSignature": "QUJD"}, {"text": "b"}]


def test_a_signature_whose_text_never_comes_has_a_part_of_its_own_before_the_next() -> None:
    shown = Message(role="assistant", content=[ImagePart(url="data:image/png;base64,aGk=")])
    said = Message(role="assistant", content=[TextPart(text="b")])
    items: list[Item] = [sealed("QUJD", anchor="text"), shown, sealed("REVG", anchor="text"), said]
    (_, parts) = contents(message("?"), *items)[1]
    assert parts[1:] == [{"text": "", "thoughtSignature": "QUJD"}, {"text": "b", "thoughtSignature": "REVG"}]


def test_a_signature_alone_is_not_given_to_a_text_further_on() -> None:
    parts: list[Any] = [{"text": "", "thoughtSignature": "QUJD"}, {"text": "hm", "thought": True}, {"text": "high"}]
    collector = Collector()
    for event in decode([frames(*(chunk(candidate(part)) for part in parts), end())]):
        collector.add(event)
    answered = collector.output().choices[0].items
    assert contents(message("?"), *answered)[1] == ("model", [parts[0], parts[2]])


def test_foreign_calls_get_googles_own_stand_in_where_signatures_are_demanded() -> None:
    items: list[Item] = [message("?"), call("c1"), call("c2"), result("c1"), result("c2"), call("c3"), result("c3")]
    found = contents(*items, model="gemini-3-pro-preview")
    assert [part.get("thoughtSignature") for part in found[1][1]] == [FOREIGN_SIGNATURE, None]
    assert [part.get("thoughtSignature") for part in found[3][1]] == [FOREIGN_SIGNATURE]
    assert not any("thoughtSignature" in part for _, parts in contents(*items) for part in parts)


def test_seals_of_others_and_thoughts_without_one_are_left_out() -> None:
    other = Reasoning(summary=["hm"], seal=Seal(kind="signature", data="x", text="hm"))
    assert contents(message("?"), other, Reasoning(summary=["hm"]), message("a", "assistant"))[1] == (
        "model",
        [{"text": "a"}],
    )


# -- tools ------------------------------------------------------------------------------------------------------------


def test_functions_keep_their_json_schema() -> None:
    body, dropped = told(
        asked(tools=[Tool(name="tide", description="d", parameters=jsonio.raw(SCHEMA), strict=True), Tool(name="now")])
    )
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {"name": "tide", "description": "d", "parametersJsonSchema": SCHEMA},
                {"name": "now"},
            ]
        }
    ]
    assert dropped == ["strict"]


def test_a_custom_tool_takes_its_text_as_input_and_is_told_of_its_grammar() -> None:
    grammar = jsonio.raw({"type": "grammar", "syntax": "lark", "definition": 'start: "a"'})
    body, dropped = told(asked(tools=[Tool(name="patch", description="Edits.", custom=True, format=grammar)]))
    ((declared,),) = [tool["functionDeclarations"] for tool in body["tools"]]
    assert declared["description"] == 'Edits.\n\nThe input must match this lark grammar:\nstart: "a"'
    assert declared["parametersJsonSchema"]["required"] == ["input"]
    assert dropped == ["grammar"]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (None, None),
        (ToolChoice(mode="auto"), None),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (ToolChoice(mode="function", names=("a",)), {"mode": "ANY", "allowedFunctionNames": ["a"]}),
        (ToolChoice(mode="allowed", names=("a",), required=True), {"mode": "ANY", "allowedFunctionNames": ["a"]}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, config: Any) -> None:
    body = encode(asked(tools=[Tool(name="a"), Tool(name="b")], tool_choice=choice))
    assert body.get("toolConfig") == (None if config is None else {"functionCallingConfig": config})
    assert len(body["tools"][0]["functionDeclarations"]) == 2


def test_tools_that_may_but_need_not_be_called_are_the_only_ones_offered() -> None:
    body = encode(asked(tools=[Tool(name="a"), Tool(name="b")], tool_choice=ToolChoice(mode="allowed", names=("b",))))
    assert body["tools"] == [{"functionDeclarations": [{"name": "b"}]}]
    assert "toolConfig" not in body


def test_googles_own_tools_go_on_and_others_are_refused() -> None:
    own = HostedTool(type="googleSearch", value=jsonio.raw({"googleSearch": {}}))
    assert encode(asked(tools=[own]))["tools"] == [{"googleSearch": {}}]
    with pytest.raises(UnsupportedParameter, match="file_search"):
        encode(asked(tools=[HostedTool(type="file_search", value=jsonio.raw({"type": "file_search"}))]))


def search(**options: Any) -> HostedTool:
    return HostedTool(type="web_search", value=jsonio.raw({"type": "web_search", **options}))


def test_a_search_of_the_web_is_googles_and_loses_its_options_by_name() -> None:
    body, dropped = told(asked(tools=[search(search_context_size="low", user_location={"city": "Kiel"}, odd=1)]))
    assert body["tools"] == [{"googleSearch": {}}]
    assert "toolConfig" not in body
    assert dropped == ["tools[].user_location", "tools[].search_context_size", "tools[].odd"]
    with pytest.raises(UnsupportedParameter) as caught:
        encode(asked(tools=[search(filters={"allowed_domains": ["a.b"]})]))
    assert caught.value.param == "tools[].filters.allowed_domains"


def test_a_search_beside_functions_is_for_models_that_can_do_both() -> None:
    both = asked(tools=[search(), Tool(name="f")], tool_choice=ToolChoice(mode="required"))
    body = encode(both)
    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]
    assert body["toolConfig"] == {
        "includeServerSideToolInvocations": True,
        "functionCallingConfig": {"mode": "ANY"},
    }
    body, dropped = told(both, OLD)
    assert (body["tools"], dropped) == ([{"functionDeclarations": [{"name": "f"}]}], ["tools.web_search"])
    assert "includeServerSideToolInvocations" not in body["toolConfig"]
    schema = OutputFormat(type="json_schema", name="n", schema=jsonio.raw({"type": "object"}))
    body, dropped = told(asked(tools=[search()], format=schema), OLD)
    assert ("tools" in body, dropped) == (False, ["tools.web_search"])


def test_a_search_cannot_be_forced() -> None:
    body, dropped = told(asked(tools=[search()], tool_choice=FORCED))
    assert (body["tools"], dropped) == ([{"googleSearch": {}}], ["tool_choice"])
    assert "toolConfig" not in body


def test_a_choice_among_no_functions_is_refused() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        encode(asked(tools=[search()], tool_choice=ToolChoice(mode="required")))
    assert caught.value.param == "tool_choice"


# -- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_have_their_places() -> None:
    request = asked(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        max_output_tokens=100,
        stop=("END",),
        n=2,
        seed=7,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        top_logprobs=3,
    )
    assert encode(request)["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "maxOutputTokens": 100,
        "stopSequences": ["END"],
        "candidateCount": 2,
        "seed": 7,
        "frequencyPenalty": 0.1,
        "presencePenalty": 0.2,
        "responseLogprobs": True,
        "logprobs": 3,
    }


def test_logprobs_of_the_chosen_tokens_only() -> None:
    assert encode(asked(top_logprobs=0))["generationConfig"] == {"responseLogprobs": True}


def test_formats() -> None:
    assert "generationConfig" not in encode(asked(format=OutputFormat(type="text")))
    assert encode(asked(format=OutputFormat(type="json_object")))["generationConfig"] == {
        "responseMimeType": "application/json"
    }
    schema = OutputFormat(type="json_schema", name="a", schema=jsonio.raw(SCHEMA), strict=True)
    assert encode(asked(format=schema))["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    }


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-3-flash-preview", "low", {"thinkingLevel": "LOW"}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH"}),
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-3.1-pro-preview", "xhigh", {"thinkingLevel": "HIGH"}),
        ("gemini-flash-latest", "high", {"thinkingLevel": "HIGH"}),
        (OLD, "none", {"thinkingBudget": 0}),
        (OLD, "minimal", {"thinkingBudget": 1024}),
        (OLD, "medium", {"thinkingBudget": 8192}),
        (OLD, "max", {"thinkingBudget": 24576}),
        ("gemini-2.5-pro", "max", {"thinkingBudget": 32768}),
    ],
)
def test_effort_is_a_level_or_a_budget(model: str, effort: str, config: Any) -> None:
    body, dropped = told(asked(effort=effort), model)
    assert body["generationConfig"] == {"thinkingConfig": config}
    nearest = config.get("thinkingLevel", effort).lower() != effort
    assert dropped == (["effort"] if nearest else [])


def test_how_much_is_told_of_a_thought_is_named() -> None:
    body, dropped = told(asked(effort="low", reasoning_summary="concise"))
    assert body["generationConfig"]["thinkingConfig"]["includeThoughts"] is True
    assert dropped == ["reasoning_summary"]


@pytest.mark.parametrize("model", ["gemini-3-flash", "gemini-2.5-pro"])
def test_a_model_that_cannot_but_reason_does_the_least_and_says_so(model: str) -> None:
    """OpenAI's agents framework asks for `none` unless it is told otherwise."""
    body, lost = told(asked(effort="none", names={"effort": "reasoning.effort"}), model)
    assert lost == ["reasoning.effort"]
    least = {"thinkingLevel": "MINIMAL"} if "flash" in model else {"thinkingBudget": 1024}
    assert body["generationConfig"] == {"thinkingConfig": least}


def test_budgets_and_summaries() -> None:
    config = encode(asked(reasoning_budget=2048, effort="high", reasoning_summary="auto"))["generationConfig"]
    assert config == {"thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True}}
    assert encode(asked(reasoning_budget=0), OLD)["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 0}}


@pytest.mark.parametrize(
    ("model", "members", "config"),
    [
        ("gemini-3-pro", {}, {"includeThoughts": True}),
        ("gemini-flash-latest", {}, {"includeThoughts": True}),
        ("gemini-2.5-flash", {}, {"includeThoughts": True}),
        ("gemini-2.5-flash", {"effort": "low"}, {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", {"effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"reasoning_budget": 0}, {"thinkingBudget": 0}),
        ("gemini-3-flash", {"effort": "none"}, {"thinkingLevel": "MINIMAL"}),
        ("gemini-2.5-flash-lite", {}, None),
        ("gemini-2.5-flash-lite", {"effort": "low"}, {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-3.1-flash-lite", {}, {"includeThoughts": True}),
        ("gemini-2.5-flash-image", {}, None),
        ("gemini-3-pro-image", {}, {"includeThoughts": True}),
        ("gemini-2.5-pro-preview-tts", {}, None),
        ("gemini-2.0-flash", {}, None),
        ("gemma-3-27b-it", {}, None),
    ],
)
def test_thoughts_are_asked_for_where_the_client_has_no_word_for_it(model: str, members: Any, config: Any) -> None:
    """The wish for thoughts alone is a 400 at models that do not think unless they are told to."""
    body = told(asked(shows_thoughts=True, **members), model)[0]
    assert body.get("generationConfig", {}).get("thinkingConfig") == config
    without = told(asked(**members), model)[0]
    assert "includeThoughts" not in without.get("generationConfig", {}).get("thinkingConfig", {})


def test_a_wish_to_think_wakes_models_that_do_not_think_unasked_or_has_a_name() -> None:
    config = encode(asked(reasons=True, shows_thoughts=True), "gemini-2.5-flash-lite")["generationConfig"]
    assert config == {"thinkingConfig": {"thinkingBudget": -1, "includeThoughts": True}}
    assert told(asked(reasons=True, names={"reasons": "thinking"}), "gemini-2.0-flash")[1] == ["thinking"]


def test_a_document_of_text_stands_below_its_title() -> None:
    message = Message(role="user", content=[FilePart(text="words", filename="Tides")])
    body, lost = told(asked(message), "gemini-3-flash")
    assert (body["contents"][0]["parts"], lost) == ([{"text": "Tides\n\nwords"}], [])


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemma-3-27b-it"])
def test_models_that_do_not_reason(model: str) -> None:
    assert "generationConfig" not in encode(asked(effort="none", reasoning_summary="auto"), model)
    with pytest.raises(UnsupportedParameter):
        encode(asked(effort="low"), model)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"logit_bias": jsonio.raw({"1": 5})}, "logit_bias"),
        ({"seed": 2**40}, "seed"),
        ({"refused": ("audio",)}, "audio"),
    ],
)
def test_what_changes_answers_is_refused_or_named(members: Any, name: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        encode(asked(**members))
    assert caught.value.param == name
    assert told(asked(**members), allowed=True)[1] == [name]


def test_what_changes_no_answer_is_named() -> None:
    request = asked(
        user="u",
        safety_identifier="s",
        metadata={"a": "b"},
        prompt_cache_key="k",
        service_tier="scale",
        hints=("store",),
        logit_bias=jsonio.raw({}),
        verbosity="medium",
    )
    assert told(asked(verbosity="low"))[1] == ["verbosity"]
    assert told(request)[1] == ["store", "service_tier", "user", "safety_identifier", "metadata", "prompt_cache_key"]


@pytest.mark.parametrize(
    ("tier", "theirs"),
    [("", None), ("auto", None), ("default", "standard"), ("flex", "flex"), ("priority", "priority")],
)
def test_service_tiers(tier: str, theirs: str | None) -> None:
    assert encode(asked(service_tier=tier)).get("serviceTier") == theirs


def test_a_deployment_may_refuse_members() -> None:
    request = asked(top_k=3, names={"top_k": "top_k"})
    with pytest.raises(UnsupportedParameter):
        encode(request, refuses=frozenset({"topK"}))


@pytest.mark.parametrize("count", [1, 4])
def test_everything_fits_any_number_of_turns(count: int) -> None:
    items: list[Any] = []
    for turn in range(count):
        items += [message(f"q{turn}"), call(f"c{turn}"), result(f"c{turn}"), message(f"a{turn}", "assistant")]
    roles = [role for role, _ in contents(*items, message("so?"))]
    assert roles == ["user", "model", "user", "model"] * count + ["user"]


@pytest.mark.parametrize("odd", [b"5", b'{"definition":1e999}', b'{"definition":""}'])
def test_an_odd_grammar_is_left_out(odd: bytes) -> None:
    body = encode(asked(tools=[Tool(name="a", description="d", custom=True, format=jsonio.Raw(odd))]))
    assert body["tools"][0]["functionDeclarations"][0]["description"] == "d"


def test_blocks_of_a_system_message_stay_apart() -> None:
    system = Message(role="system", content=[TextPart(text="a", breakpoint=True), TextPart(text="b")])
    body, dropped = told(asked(system, message("?")))
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert dropped == ["breakpoint"]
    system.content.append(ImagePart(url="data:image/png;base64,aGk="))
    with pytest.raises(UnsupportedParameter, match="only text"):
        encode(asked(system, message("?")))


def test_reasoning_of_other_models_is_left_out_and_named() -> None:
    thought = message("?"), Reasoning(summary=["hm"]), message("a", "assistant")
    assert told(asked(*thought))[1] == []
    raw = message("?"), Reasoning(content=["hm"]), message("a", "assistant")
    assert told(asked(*raw))[1] == ["reasoning_items"]


# -- what may not go without a word -----------------------------------------------------------------------------------


def test_the_texts_of_one_result_are_its_text_line_by_line_and_never_parts_of_it() -> None:
    content: list[Part] = [
        TextPart(text="two tides"),
        FilePart(text="high\nlow", filename="tides.txt"),
        RefusalPart(refusal="no more"),
        ImagePart(url="data:image/png;base64,AAAA"),
    ]
    output = FunctionOutput(call_id="a", content=content)
    said = "two tides\ntides.txt\n\nhigh\nlow\nno more"
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    new = encode(asked(message("?"), call("a"), output))["contents"][2]["parts"]
    assert new == [{"functionResponse": {"id": "a", "name": "tide", "response": {"output": said}, "parts": [image]}}]
    old = contents(message("?"), call("a"), output)[2:]
    assert old == [
        ("user", [{"functionResponse": {"id": "a", "name": "tide", "response": {"output": said}}}]),
        ("user", [image]),
    ]


def test_one_call_at_a_time_is_what_gemini_cannot_be_told() -> None:
    tools: list[Tool | HostedTool] = [Tool(name="tide")]
    assert told(asked(tools=tools, parallel_tool_calls=False))[1] == ["parallel_tool_calls"]
    assert told(asked(tools=tools, parallel_tool_calls=True))[1] == []
    assert told(asked(parallel_tool_calls=False))[1] == [], "without tools there is nothing to call"


def test_of_an_effort_and_a_budget_google_takes_the_budget() -> None:
    body, dropped = told(asked(effort="low", reasoning_budget=2048), OLD)
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 2048}
    assert dropped == ["effort"]


def test_the_phase_of_a_message_is_named() -> None:
    said = Message(role="assistant", content=[TextPart(text="a")], phase="commentary")
    assert told(asked(message("?"), said, message("!")))[1] == ["phase"]
