"""Bodies of Google's clients: what is refused and by which name, and what they mean in no dialect."""

import base64
import contextlib
import json
from typing import Any

import httpx
import msgspec
import pytest
from google import genai
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from tests.dialects.gemini.samples import deployment, end, frames, said
from tidegate.dialects.codec import BridgedRequest, Losses, UpstreamDialect
from tidegate.dialects.dialect import Dialect, Request
from tidegate.dialects.gemini import GeminiBody, GeminiDialect, GeminiRequest, GeminiUpstream
from tidegate.dialects.gemini.contents import FOREIGN_SIGNATURE
from tidegate.dialects.gemini.openapi import json_schema
from tidegate.dialects.gemini.spelling import camel_case
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
    Message,
    OpaqueItem,
    OutputFormat,
    Reasoning,
    TextPart,
    Tool,
    ToolChoice,
)

USER = {"role": "user", "parts": [{"text": "潮汐"}]}


def parse(alt: str = "sse", **members: Any) -> GeminiRequest:
    body = json.dumps({"contents": [USER], **members}, ensure_ascii=False, separators=(",", ":")).encode()
    return GeminiDialect().parse(body, model="tide", stream=True, alt=alt)


def canonical(**members: Any) -> CanonicalRequest:
    return parse(**members).canonical()


def conversation(*parts: dict[str, Any]) -> list[Any]:
    """The items of a model's parts between a question and nothing."""
    return canonical(contents=[USER, {"role": "model", "parts": list(parts)}]).items[1:]


def config(**members: Any) -> CanonicalRequest:
    return canonical(generationConfig=members)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "user"}]}, "contents[0].parts"),
        ({"contents": [{"role": "user", "parts": []}]}, "contents[0].parts"),
        ({"contents": "潮"}, "contents"),
        ({"contents": [USER], "generationConfig": {"temperature": 3}}, "generationConfig.temperature"),
        ({"contents": [USER], "generation_config": {"top_p": 2}}, "generation_config.top_p"),
        ({"contents": [USER], "generationConfig": {"candidateCount": 0}}, "generationConfig.candidateCount"),
        ({"contents": [USER], "generationConfig": {"maxOutputTokens": "x"}}, "generationConfig.maxOutputTokens"),
        (
            {"contents": [USER], "generationConfig": {"thinkingConfig": {"thinkingLevel": "vast"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
        ({"contents": [USER], "tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
    ],
)
def test_a_wrong_member_is_named(body: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GeminiDialect().parse(json.dumps(body).encode(), model="tide")
    assert caught.value.param is not None
    assert caught.value.param.replace("[...]", "[0]") == param


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"contents": [{"role": "tool", "parts": [{"text": "a"}]}]}, "contents[0].role"),
        ({"contents": [{"parts": [{}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"text": "a", "functionCall": {"name": "f"}}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f"}}]}]}, "contents[0].parts[0].functionResponse"),
        (
            {"systemInstruction": {"parts": [{"inlineData": {"mimeType": "a/b", "data": ""}}]}},
            "systemInstruction.parts[0]",
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": "x"}]}]},
            "tools[0].functionDeclarations[0].parameters",
        ),
    ],
)
def test_what_has_no_canonical_form_is_named(members: Any, param: str) -> None:
    request = parse(**members)
    with pytest.raises(InvalidRequest) as caught:
        request.canonical()
    assert caught.value.param == param


@pytest.mark.parametrize("alt", ["proto", "media", "SSE"])
def test_another_form_of_stream_is_refused(alt: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(alt)
    assert caught.value.param == "alt"


@given(st.binary(max_size=60))
def test_no_body_does_worse_than_a_refusal(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        GeminiDialect().parse(body, model="tide")


# -- what goes on -----------------------------------------------------------------------------------------------------


def test_the_body_goes_on_as_it_came() -> None:
    body = b'{ "contents": [{"parts": {"text": "a"}}], "system_instruction": {"parts": {"text": "b"}}, "new": 1.50 }'
    request = GeminiDialect().parse(body, model="tide", stream=True)
    assert request.forward(deployment()) is body
    assert (request.model, request.stream, request.wants_stream, request.end_user) == ("tide", True, True, None)


def test_a_model_in_the_body_is_replaced_and_refused_members_are_named() -> None:
    forwarded = json.loads(parse(model="models/tide").forward(deployment("gemini-3-pro")))
    assert forwarded == {"contents": [USER], "model": "models/gemini-3-pro"}
    with pytest.raises(UnsupportedParameter) as caught:
        parse(cachedContent="c").forward(deployment(refuses=frozenset({"cachedContent"})))
    assert caught.value.param == "cachedContent"


# -- spelling ---------------------------------------------------------------------------------------------------------


def test_both_spellings_mean_the_same_and_users_names_are_left_alone() -> None:
    snake = {
        "contents": [
            {"parts": [{"inline_data": {"mime_type": "image/png", "data": "aGk="}}]},
            {"role": "model", "parts": [{"function_call": {"name": "f_g", "args": {"in_data": {"mime_type": 1}}}}]},
        ],
        "system_instruction": {"parts": {"text": "be_brief"}},
        "tools": {"function_declarations": [{"name": "f", "parameters_json_schema": {"properties": {"a_b": {}}}}]},
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f_g"]}},
        "generation_config": {"max_output_tokens": 5, "response_json_schema": {"a_b": 1}},
        "labels": {"a_b": "c_d"},
    }
    camel = camel_case(json.dumps(snake).encode())
    assert json.loads(camel) == {
        "contents": [
            {"parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f_g", "args": {"in_data": {"mime_type": 1}}}}]},
        ],
        "systemInstruction": {"parts": {"text": "be_brief"}},
        "tools": {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"properties": {"a_b": {}}}}]},
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f_g"]}},
        "generationConfig": {"maxOutputTokens": 5, "responseJsonSchema": {"a_b": 1}},
        "labels": {"a_b": "c_d"},
    }
    assert camel_case(camel) == camel


# -- conversations ----------------------------------------------------------------------------------------------------


def test_texts_and_system_instruction() -> None:
    request = canonical(
        contents=[USER, {"role": "model", "parts": [{"text": "高"}, {"text": "潮"}]}, {"parts": {"text": "谢"}}],
        systemInstruction={"parts": [{"text": "be brief"}, {"text": "be kind"}]},
    )
    assert request.instructions == "be brief\nbe kind"
    assert request.items == [
        Message(role="user", content=[TextPart(text="潮汐")]),
        Message(role="assistant", content=[TextPart(text="高潮")]),
        Message(role="user", content=[TextPart(text="谢")]),
    ]
    assert (request.model, request.stream) == ("tide", True)


def test_chunks_that_a_client_kept_as_contents_are_one_message() -> None:
    model = [{"role": "model", "parts": [{"text": text}]} for text in ("潮", "汐", "")]
    assert canonical(contents=[USER, *model]).items[1:] == [Message(role="assistant", content=[TextPart(text="潮汐")])]


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ({"inlineData": {"mimeType": "image/png", "data": "__77"}}, ImagePart(url="data:image/png;base64,//77")),
        ({"inlineData": {"mimeType": "image/png", "data": "aGk"}}, ImagePart(url="data:image/png;base64,aGk=")),
        ({"inlineData": {"mimeType": "audio/wav", "data": "aGk="}}, AudioPart(data="aGk=", format="wav")),
        ({"inlineData": {"mimeType": "audio/mpeg", "data": "aGk="}}, AudioPart(data="aGk=", format="mp3")),
        (
            {"inlineData": {"mimeType": "application/pdf", "data": "aGk=", "displayName": "a.pdf"}},
            FilePart(data="data:application/pdf;base64,aGk=", filename="a.pdf"),
        ),
        ({"fileData": {"mimeType": "image/png", "fileUri": "gs://a"}}, ImagePart(url="gs://a")),
        ({"fileData": {"fileUri": "gs://a"}}, FilePart(url="gs://a")),
    ],
)
def test_data(part: Any, read: Any) -> None:
    assert canonical(contents=[{"parts": [part]}]).items == [Message(role="user", content=[read])]


def test_calls_without_ids_get_lasting_ones_and_results_find_them_by_name_and_order() -> None:
    called: list[Any] = [
        {"functionCall": {"name": name, "args": {"n": n}}} for n, name in enumerate(("tide", "wind", "tide"))
    ]
    answered = [
        {"functionResponse": {"name": name, "response": {"output": text}}}
        for name, text in (("tide", "first"), ("wind", "strong"), ("tide", "second"))
    ]
    request = canonical(contents=[USER, {"role": "model", "parts": called}, {"role": "function", "parts": answered}])
    assert request.items[1:] == [
        FunctionCall(call_id="call_gemini_0", name="tide", arguments='{"n":0}'),
        FunctionCall(call_id="call_gemini_1", name="wind", arguments='{"n":1}'),
        FunctionCall(call_id="call_gemini_2", name="tide", arguments='{"n":2}'),
        FunctionOutput(call_id="call_gemini_0", name="tide", content=[TextPart(text="first")]),
        FunctionOutput(call_id="call_gemini_1", name="wind", content=[TextPart(text="strong")]),
        FunctionOutput(call_id="call_gemini_2", name="tide", content=[TextPart(text="second")]),
    ]


def test_results_find_their_call_by_id_first() -> None:
    called: list[Any] = [{"functionCall": {"id": one, "name": "tide", "args": {}}} for one in ("a", "b")]
    answered = [{"functionResponse": {"id": one, "name": "tide", "response": {"output": one}}} for one in ("b", "a")]
    items = canonical(contents=[USER, {"role": "model", "parts": called}, {"parts": answered}]).items
    assert [(item.call_id, item.content) for item in items if isinstance(item, FunctionOutput)] == [
        ("b", [TextPart(text="b")]),
        ("a", [TextPart(text="a")]),
    ]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "high"}, "high", False),
        ({"result": "high"}, "high", False),
        ({"error": "none"}, "none", True),
        ({"output": {"a": 1}}, '{"a":1}', False),
        ({"result": 5}, '{"result":5}', False),
        ({"level": 3, "unit": "m"}, '{"level":3,"unit":"m"}', False),
        ({}, "{}", False),
    ],
)
def test_results(response: Any, text: str, is_error: bool) -> None:
    parts = [{"functionResponse": {"name": "tide", "response": response}}]
    items = canonical(
        contents=[{"role": "model", "parts": [{"functionCall": {"name": "tide"}}]}, {"parts": parts}]
    ).items
    output = items[1]
    assert isinstance(output, FunctionOutput)
    assert output.content == [TextPart(text=text)]
    assert output.is_error is is_error


def test_thoughts_and_signatures_are_reasoning() -> None:
    envelope = base64.urlsafe_b64encode(b"tidegate.v1:~~?>").decode().rstrip("=")
    called = {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": envelope}
    assert conversation({"text": "h", "thought": True}, {"text": "m", "thought": True}, called) == [
        Reasoning(summary=["hm"], encrypted="tidegate.v1:~~?>"),
        FunctionCall(call_id="c", name="f", arguments="{}"),
    ]
    assert conversation({"text": "a"}, {"text": "", "thoughtSignature": envelope}) == [
        Message(role="assistant", content=[TextPart(text="a")]),
        Reasoning(encrypted="tidegate.v1:~~?>"),
    ]
    assert conversation({"text": "a", "thoughtSignature": envelope}, {"text": "b"}) == [
        Reasoning(encrypted="tidegate.v1:~~?>"),
        Message(role="assistant", content=[TextPart(text="a")]),
        Message(role="assistant", content=[TextPart(text="b")]),
    ]


def test_a_signature_of_googles_own_stays_as_it_is_and_its_stand_in_says_nothing() -> None:
    assert conversation({"text": "", "thoughtSignature": "_v8B"}) == [Reasoning(encrypted="_v8B")]
    assert conversation({"functionCall": {"name": "f"}, "thoughtSignature": FOREIGN_SIGNATURE}) == [
        FunctionCall(call_id="call_gemini_0", name="f", arguments="{}")
    ]


def test_parts_of_unknown_kinds_are_kept_whole() -> None:
    part = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "QQ=="}
    (item,) = conversation(part)
    assert isinstance(item, OpaqueItem)
    assert item.type == "google:executableCode"
    assert jsonio.anything(item.value)["part"] == part


# -- tools ------------------------------------------------------------------------------------------------------------


def test_tools() -> None:
    declared = [
        {"name": "f", "description": "d", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}},
        {"name": "g", "parametersJsonSchema": {"type": "object"}, "behavior": "NON_BLOCKING"},
        {"name": "h"},
    ]
    request = canonical(tools=[{"functionDeclarations": declared}, {"googleSearch": {}, "urlContext": {}}])
    assert request.tools == [
        Tool(
            name="f",
            description="d",
            parameters=jsonio.raw({"type": "object", "properties": {"a": {"type": "string"}}}),
        ),
        Tool(name="g", parameters=jsonio.raw({"type": "object"})),
        Tool(name="h"),
        HostedTool(type="googleSearch", value=jsonio.raw({"googleSearch": {}})),
        HostedTool(type="urlContext", value=jsonio.raw({"urlContext": {}})),
    ]
    assert request.hints == ("tools[].functionDeclarations[].behavior",)


@pytest.mark.parametrize(
    ("schema", "read"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "1"},
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        ),
        ({"anyOf": [{"type": "NUMBER"}], "nullable": True}, {"anyOf": [{"type": "number"}, {"type": "null"}]}),
        (
            {"type": "STRING", "enum": ["a"], "format": "enum", "example": "a"},
            {"type": "string", "enum": ["a"], "format": "enum", "examples": ["a"]},
        ),
        (
            {"properties": {"type": {"type": "STRING"}}, "propertyOrdering": ["type"]},
            {"properties": {"type": {"type": "string"}}},
        ),
        (
            {"type": "TYPE_UNSPECIFIED", "ref": "#/$defs/a", "defs": {"a": {"type": "BOOLEAN"}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}},
        ),
    ],
)
def test_openapi_schemas_become_json_schemas(schema: Any, read: Any) -> None:
    assert jsonio.anything(json_schema(jsonio.raw(schema))[0]) == read


@pytest.mark.parametrize(
    ("calling", "choice"),
    [
        ({}, ToolChoice(mode="auto")),
        ({"mode": "AUTO"}, ToolChoice(mode="auto")),
        ({"mode": "NONE"}, ToolChoice(mode="none")),
        ({"mode": "ANY"}, ToolChoice(mode="required")),
        ({"mode": "any", "allowedFunctionNames": ["f"]}, ToolChoice(mode="function", names=("f",))),
        (
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
            ToolChoice(mode="allowed", names=("f", "g"), required=True),
        ),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice(mode="allowed", names=("f",))),
    ],
)
def test_tool_choice(calling: Any, choice: ToolChoice) -> None:
    assert canonical(toolConfig={"functionCallingConfig": calling}).tool_choice == choice


# -- configuration ----------------------------------------------------------------------------------------------------


def test_parameters() -> None:
    request = config(
        temperature=0.5,
        topP=0.9,
        topK=40.0,
        maxOutputTokens=100,
        stopSequences=["END"],
        candidateCount=2,
        seed=7,
        presencePenalty=0.1,
        frequencyPenalty=0.2,
        responseLogprobs=True,
        logprobs=3,
        thinkingConfig={"thinkingLevel": "LOW", "includeThoughts": True},
        responseModalities=["TEXT"],
    )
    assert (request.temperature, request.top_p, request.top_k, request.max_output_tokens) == (0.5, 0.9, 40, 100)
    assert (request.stop, request.n, request.seed, request.top_logprobs) == (("END",), 2, 7, 3)
    assert (request.presence_penalty, request.frequency_penalty) == (0.1, 0.2)
    assert (request.effort, request.reasoning_summary, request.reasoning_budget) == ("low", "auto", None)
    assert (request.hints, request.refused) == ((), ())


@pytest.mark.parametrize(("given_", "budget"), [(0, 0), (512, 512), (-1, None)])
def test_budgets(given_: int, budget: int | None) -> None:
    assert config(thinkingConfig={"thinkingBudget": given_}).reasoning_budget == budget


@pytest.mark.parametrize(
    ("members", "read"),
    [
        ({}, None),
        ({"responseMimeType": "text/plain"}, None),
        ({"responseMimeType": "application/json"}, OutputFormat(type="json_object")),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
            OutputFormat(type="json_schema", name="response", schema=jsonio.raw({"type": "object"})),
        ),
        (
            {"responseMimeType": "application/json", "_responseJsonSchema": {"type": "object"}},
            OutputFormat(type="json_schema", name="response", schema=jsonio.raw({"type": "object"})),
        ),
        (
            {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}},
            OutputFormat(type="json_schema", name="response", schema=jsonio.raw({"type": "object"})),
        ),
        (
            {"responseFormat": [{"text": {"mimeType": "application/json", "schema": {"type": "object"}}}]},
            OutputFormat(type="json_schema", name="response", schema=jsonio.raw({"type": "object"})),
        ),
    ],
)
def test_formats(members: Any, read: OutputFormat | None) -> None:
    found = config(**members).format
    assert (found is None) == (read is None)
    if found is not None and read is not None:
        assert (found.type, found.name) == (read.type, read.name)
        if found.type == "json_schema":
            assert jsonio.anything(found.schema) == jsonio.anything(read.schema)


@pytest.mark.parametrize("name", ["responseSchema", "responseJsonSchema", "_responseJsonSchema"])
@pytest.mark.parametrize("mime", [{}, {"responseMimeType": "text/plain"}])
def test_a_schema_without_json_is_refused_as_google_does(name: str, mime: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        config(**mime, **{name: {"type": "object"}})
    assert error.value.param == "generationConfig.responseMimeType"


@pytest.mark.parametrize(
    ("members", "hints", "refused"),
    [
        ({"safetySettings": [{"category": "a", "threshold": "b"}]}, ("safetySettings",), ()),
        ({"cachedContent": "cachedContents/1"}, (), ("cachedContent",)),
        ({"novelty": 1, "nothing": None, "model": "models/tide"}, ("novelty",), ()),
        ({"generationConfig": {"speechConfig": {}}}, (), ("generationConfig.speechConfig",)),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, (), ("generationConfig.responseModalities",)),
        ({"generationConfig": {"mediaResolution": "LOW"}}, ("generationConfig.mediaResolution",), ()),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, (), ("generationConfig.responseMimeType",)),
        ({"generationConfig": {"responseFormat": [{"audio": {}}]}}, (), ("generationConfig.responseFormat",)),
        ({"toolConfig": {"retrievalConfig": {}}}, (), ("toolConfig.retrievalConfig",)),
        ({"toolConfig": {"novelty": 1}}, ("toolConfig.novelty",), ()),
        (
            {"toolConfig": {"functionCallingConfig": {"novelty": 1}}},
            ("toolConfig.functionCallingConfig.novelty",),
            (),
        ),
        ({"generationConfig": {"novelty": 1, "nothing": None}}, ("generationConfig.novelty",), ()),
        (
            {"generationConfig": {"thinkingConfig": {"novelty": 1}}},
            ("generationConfig.thinkingConfig.novelty",),
            (),
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "novelty": 1}]}]},
            ("tools[].functionDeclarations[].novelty",),
            (),
        ),
        (
            {"contents": [{"parts": [{"text": "a", "videoMetadata": {}, "mediaResolution": {}}]}]},
            ("contents[0].parts[0].mediaResolution",),
            ("contents[0].parts[0].videoMetadata",),
        ),
    ],
)
def test_what_has_no_canonical_form_is_told(members: Any, hints: Any, refused: Any) -> None:
    request = canonical(**members)
    assert (request.hints, request.refused) == (hints, refused)


@pytest.mark.parametrize(
    ("tier", "read"), [("standard", "default"), ("FLEX", "flex"), ("SERVICE_TIER_PRIORITY", "priority")]
)
def test_service_tiers_and_labels(tier: str, read: str) -> None:
    request = canonical(serviceTier=tier, labels={"team": "sea"})
    assert (request.service_tier, request.metadata) == (read, {"team": "sea"})


def test_refusals_speak_of_googles_members() -> None:
    request = config(frequencyPenalty=1)
    losses = Losses(request, deployment(), allowed=False)
    losses.refuse("frequency_penalty")
    with pytest.raises(UnsupportedParameter) as caught:
        losses.check()
    assert caught.value.param == "generationConfig.frequencyPenalty"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"generation_config": {"top_p": 3}}, "generation_config.top_p"),
        ({"generationConfig": {"top_p": 3}}, "generationConfig.top_p"),
        ({"generationConfig": {"topP": 3}}, "generationConfig.topP"),
        (
            {"tool_config": {"function_calling_config": {"mode": "odd"}}},
            "tool_config.function_calling_config.mode",
        ),
        (
            {"system_instruction": {"parts": [{"inline_data": {"mime_type": "a", "data": ""}}]}},
            "system_instruction.parts[0]",
        ),
    ],
)
def test_errors_have_the_clients_spelling(body: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical(**body)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message


# -- round trips and the official client ------------------------------------------------------------------------------


def test_a_request_comes_back_as_it_was() -> None:
    body = {
        "contents": [
            {"role": "user", "parts": [{"text": "潮"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}]},
            {"role": "model", "parts": [{"functionCall": {"id": "a", "name": "f", "args": {"x": [1, "二"]}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "a", "name": "f", "response": {"y": 2}}}]},
            {"role": "model", "parts": [{"text": "高"}]},
            {"role": "user", "parts": [{"text": "谢"}]},
        ],
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "tools": [
            {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]},
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {
            "temperature": 0.5,
            "topK": 3,
            "stopSequences": ["a"],
            "seed": 1,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"thinkingBudget": 5, "includeThoughts": True},
        },
        "serviceTier": "flex",
    }
    request = canonical(**body)
    losses = Losses(request, deployment("gemini-2.5-flash"), allowed=False)
    again = GeminiUpstream().encode_request(request, deployment("gemini-2.5-flash"), losses)
    losses.check()
    assert json.loads(again) == body
    assert not losses.dropped


def test_the_official_client_is_understood() -> None:
    """It mixes both spellings and writes base64 for URLs."""
    seen: list[CanonicalRequest] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(GeminiDialect().parse(request.content, model="tide", stream=True).canonical())
        envelope = base64.b64encode("封套>>".encode()).decode()
        data = frames(said("潮"), said("汐"), end("STOP", {"text": "", "thoughtSignature": envelope}))
        return httpx.Response(200, content=data, headers={"content-type": "text/event-stream"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http))
        chat = client.chats.create(
            model="tide",
            config=types.GenerateContentConfig(
                system_instruction="be brief",
                temperature=0.5,
                safety_settings=[
                    types.SafetySetting(
                        category=types.HarmCategory.HARM_CATEGORY_HARASSMENT,
                        threshold=types.HarmBlockThreshold.BLOCK_NONE,
                    )
                ],
                thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW, include_thoughts=True),
                tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="f")])],
                automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            ),
        )
        for _ in chat.send_message_stream("你好"):
            pass
        image = types.Part.from_bytes(data=b"\xff\xfe\xfb", mime_type="image/png")
        for _ in chat.send_message_stream([image]):
            pass
    first, second = seen
    assert (first.instructions, first.temperature, first.effort) == ("be brief", 0.5, "low")
    assert first.hints == ("safetySettings",)
    assert [tool.name for tool in first.tools if isinstance(tool, Tool)] == ["f"]
    assert second.items == [
        Message(role="user", content=[TextPart(text="你好")]),
        Message(role="assistant", content=[TextPart(text="潮汐")]),
        second.items[2],
        Message(role="user", content=[ImagePart(url="data:image/png;base64,//77")]),
    ]
    assert isinstance(second.items[2], Reasoning)


def test_the_dialect_is_what_the_gateway_expects() -> None:
    dialect: Dialect = GeminiDialect()
    upstream: UpstreamDialect = GeminiUpstream()
    request = parse(generationConfig={"stopSequences": ["a"]})
    plain: Request = request
    bridged: BridgedRequest = request
    assert (dialect.name, upstream.name, plain.wants_stop) == ("gemini", "gemini", True)
    assert bridged.canonical().stop == ("a",)
    assert dialect.error_status(InvalidRequest("m")) == 400
    assert json.loads(dialect.error_body(InvalidRequest("m"), "req_1"))["error"]["status"] == "INVALID_ARGUMENT"
    assert msgspec.json.schema(GeminiBody)["$defs"]["GeminiBody"]["required"] == ["contents"]


@pytest.mark.parametrize("depth", [20, 400, 3000, 100_000])
def test_what_is_nested_too_deeply_is_read_or_refused_in_time(depth: int) -> None:
    deep = b'{"a_b":' * depth + b"1" + b"}" * depth
    bodies = [
        b'{"contents":[{"parts":[{"text":"a"}]}],"x_y":%b}' % deep,
        b'{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":%b}}]}]}' % deep,
        b'{"contents":[{"parts":[{"text":"a"}]}],"tools":[{"functionDeclarations":[{"name":"f","parameters":%b}]}]}'
        % (b'{"items":' * depth + b"{}" + b"}" * depth),
        b'{"contents":[{"parts":%b}]}' % (b"[" * depth + b"]" * depth),
    ]
    for body in bodies:
        with contextlib.suppress(InvalidRequest):
            GeminiDialect().parse(body, model="tide").canonical()


def test_numbers_without_a_float_are_no_error_of_ours() -> None:
    parts = [{"functionCall": {"name": "f", "args": {}}}]
    body = json.dumps({"contents": [{"role": "model", "parts": parts}, {"parts": [{"functionResponse": 0}]}]}).encode()
    for response in (b'{"output":1e999}', b'{"a":1e999}'):
        answered = body.replace(b": 0", b': {"name":"f","response":%b}' % response)
        assert isinstance(GeminiDialect().parse(answered, model="tide").canonical().items[1], FunctionOutput)


def test_arguments_and_results_are_readable_text() -> None:
    called = {"functionCall": {"name": "f", "args": {"harbour": "青岛", "n": 12345678901234567890}}}
    answered = {"functionResponse": {"name": "f", "response": {"tide": "高"}}}
    body = {"contents": [{"role": "model", "parts": [called]}, {"parts": [answered]}]}
    items = GeminiDialect().parse(json.dumps(body).encode(), model="tide").canonical().items  # escapes all but ASCII
    assert isinstance(items[0], FunctionCall)
    assert items[0].arguments == '{"harbour":"青岛","n":12345678901234567890}'
    assert isinstance(items[1], FunctionOutput)
    assert items[1].content == [TextPart(text='{"tide":"高"}')]


@pytest.mark.parametrize("signature", ["潮汐", "\ufffd", "é===", "x", "=", "QUJ", "Q\u0661"])
def test_any_text_is_a_signature(signature: str) -> None:
    (message, *_) = conversation({"text": "t", "thought": True, "thoughtSignature": signature}, {"text": "x"})
    assert isinstance(message, Reasoning)


def test_a_budget_that_the_model_finds_itself_is_a_wish_to_reason() -> None:
    found = config(thinkingConfig={"thinkingBudget": -1})
    assert (found.reasons, found.reasoning_budget, found.effort) == (True, None, "")
    assert found.names["reasons"] == "generationConfig.thinkingConfig.thinkingBudget"
    assert found.hints == ()


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    "config",
    [
        {"generation_config": {"max_output_tokens": 60000}, "generationConfig": {"maxOutputTokens": 1}},
        {"generationConfig": {"max_output_tokens": 60000, "maxOutputTokens": 1}},
    ],
)
def test_a_maximum_in_both_spellings_goes_on_in_the_one_that_was_read(config: dict[str, Any]) -> None:
    """A budget that reserves for one of them must not meet the other at the provider."""
    request = parse(**config)
    assert request.extent.output_tokens == 1
    assert json.loads(request.forward(deployment()))["generationConfig"] == {"maxOutputTokens": 1}
    assert b"60000" not in request.forward(deployment())
