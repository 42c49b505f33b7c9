"""What stands within messages, items, parts and tools of a request that goes to another dialect: it is read, or named by its
whole path, or one of the few members that say nothing elsewhere."""

import json
from typing import Any

import pytest

from tests.dialects import common
from tests.docs.pages import LANGUAGES, read
from tidegate.dialects.bridge import Bridge
from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import Losses, UpstreamDialect
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.dialect import Destination, Endpoint, Quirks
from tidegate.dialects.envelope import KEY_BYTES, Envelopes, Sealer
from tidegate.dialects.gemini import GeminiDialect, GeminiUpstream
from tidegate.dialects.messages import MessagesDialect, MessagesUpstream
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.dialects.shapes import HARMLESS, OneOf, Says, Shape, placed, unread
from tidegate.wire import jsonio
from tidegate.wire.errors import UnsupportedParameter
from tidegate.wire.items import CanonicalRequest, FunctionOutput

Members = dict[str, Any]
UPSTREAMS: dict[str, UpstreamDialect] = {
    "chat": ChatUpstream(),
    "gemini": GeminiUpstream(),
    "messages": MessagesUpstream(),
    "responses": ResponsesUpstream(),
}


def canonical(client: str, members: Members) -> CanonicalRequest:
    match client:
        case "responses":
            return ResponsesDialect().parse(json.dumps({"model": "m", **members}).encode()).canonical()
        case "chat":
            return ChatDialect().parse(json.dumps({"model": "m", **members}).encode()).canonical()
        case "completions":
            return CompletionsDialect().parse(json.dumps({"model": "m", **members}).encode()).canonical()
        case "messages":
            body = {"model": "m", "max_tokens": 9, **members}
            return MessagesDialect().parse(json.dumps(body).encode()).canonical()
        case _:
            return GeminiDialect().parse(json.dumps(members).encode(), model="m").canonical()


def item(*items: Members) -> Members:
    return {"input": list(items)}


def message(*content: Members, **members: Any) -> Members:
    return item({"type": "message", "role": "user", "content": list(content), **members})


def chat(*content: Members, **members: Any) -> Members:
    return {"messages": [{"role": "user", "content": list(content) or "?", **members}]}


def assistant(**members: Any) -> Members:
    return {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a", **members}]}


def blocks(*content: Members, role: str = "user") -> Members:
    return {"messages": [{"role": role, "content": list(content)}]}


def part(**members: Any) -> Members:
    return {"contents": [{"role": "user", "parts": [members]}]}


def declared(**members: Any) -> Members:
    return {**part(text="?"), "tools": [{"functionDeclarations": [{"name": "f", **members}]}]}


PNG = "data:image/png;base64,AAAA"
TEXT = {"type": "input_text", "text": "?"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "o"}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
SAID = {"type": "text", "text": "?"}
CHAT_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT_TOOL = {"type": "function", "function": {"name": "f"}}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
BLOB = {"mimeType": "image/png", "data": "AAAA"}
ANSWER = {"name": "f", "id": "c", "response": {}}

LEFT: list[tuple[str, Members, str]] = [
    ("responses", message(TEXT, bar=1), "input[0].bar"),
    ("responses", item({"role": "user", "content": "?", "bar": 1}), "input[0].bar"),
    ("responses", message({**TEXT, "foo": 1}), "input[0].content[0].foo"),
    ("responses", message(TEXT, {**TEXT, "image_url": PNG}), "input[0].content[1].image_url"),
    ("responses", message(TEXT, arguments="{}"), "input[0].arguments"),
    ("responses", message(TEXT, status="incomplete"), "input[0].status"),
    ("responses", item({**CALL, "output": "x"}, OUTPUT), "input[0].output"),
    ("responses", item({**CALL, "caller": {"type": "program", "caller_id": "p"}}, OUTPUT), "input[0].caller"),
    ("responses", item({**CALL, "status": "in_progress"}, OUTPUT), "input[0].status"),
    ("responses", item(CALL, {**OUTPUT, "output": [{**TEXT, "foo": 1}]}), "input[1].output[0].foo"),
    ("responses", item({"type": "reasoning", "summary": [{"type": "summary_text", "text": "t", "foo": 1}]}), "input[0].summary[0].foo"),
    ("responses", item({"type": "reasoning", "summary": [], "foo": 1}), "input[0].foo"),
    ("responses", message({"type": "input_image", "image_url": PNG, "file_id": "f"}), "input[0].content[0].file_id"),
    ("responses", message({"type": "input_file", "file_data": PNG, "detail": "low"}), "input[0].content[0].detail"),
    ("responses", message({"type": "input_file", "file_data": PNG, "file_id": "f"}), "input[0].content[0].file_id"),
    ("responses", message({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav", "foo": 1}}), "input[0].content[0].input_audio.foo"),
    ("responses", item({"type": "additional_tools", "role": "developer", "tools": [{**FUNCTION, "foo": 1}]}, TEXT and {"role": "user", "content": "?"}), "input[0].tools[].foo"),
    ("responses", {"input": "?", "tools": [{**FUNCTION, "foo": 1}]}, "tools[].foo"),
    ("responses", {"input": "?", "tools": [{"type": "namespace", "name": "n", "description": "d", "tools": [FUNCTION]}]}, "tools[].namespace.description"),
    ("responses", {"input": "?", "tools": [{"type": "custom", "name": "w", "format": {"type": "text", "foo": 1}}]}, "tools[].format.foo"),
    ("responses", {"input": "?", "tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f", "w": 1}}, "tool_choice.w"),
    ("responses", {"input": "?", "text": {"format": {"type": "text", "foo": 1}}}, "text.format.foo"),
    ("responses", {"input": "?", "stream": True, "stream_options": {"foo": 1}}, "stream_options.foo"),
    ("responses", {"input": "?", "background_options": {"completion_window": "2h"}}, "background_options"),
    ("chat", chat(bar=1), "messages[0].bar"),
    ("chat", chat({**SAID, "foo": 1}), "messages[0].content[0].foo"),
    ("chat", chat(tool_call_id="c"), "messages[0].tool_call_id"),
    ("chat", chat({**SAID, "cache_control": {"type": "ephemeral", "ttl": "1h"}}), "messages[0].content[0].cache_control.ttl"),
    ("chat", chat({"type": "image_url", "image_url": {"url": PNG, "foo": 1}}), "messages[0].content[0].image_url.foo"),
    ("chat", chat({"type": "file", "file": {"file_id": "f", "foo": 1}}), "messages[0].content[0].file.foo"),
    ("chat", chat({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}, "cache_control": {}}), "messages[0].content[0].cache_control"),
    ("chat", assistant(provider_specific_fields={"a": 1}), "messages[1].provider_specific_fields"),
    ("chat", assistant(reasoning_details=[{"type": "reasoning.text", "text": "t", "signature": "s"}]), "messages[1].reasoning_details[0].signature"),
    ("chat", assistant(tool_calls=[{**CHAT_CALL, "foo": 1}]), "messages[1].tool_calls[0].foo"),
    ("chat", assistant(tool_calls=[{**CHAT_CALL, "function": {"name": "f", "foo": 1}}]), "messages[1].tool_calls[0].function.foo"),
    ("chat", assistant(tool_calls=[{**CHAT_CALL, "extra_content": {"other": 1}}]), "messages[1].tool_calls[0].extra_content.other"),
    ("chat", assistant(tool_calls=[{**CHAT_CALL, "extra_content": {"google": {"thought_signature": "?!"}}}]), "messages[1].tool_calls[0].extra_content"),
    ("chat", assistant(tool_calls=[{**CHAT_CALL, "extra_content": {"google": {"thought_signature": "c2ln", "foo": 1}}}]), "messages[1].tool_calls[0].extra_content.google.foo"),
    ("chat", assistant(tool_calls=[{**CHAT_CALL, "extra_content": "c2ln"}]), "messages[1].tool_calls[0].extra_content"),
    ("chat", {**chat(), "tools": [{**CHAT_TOOL, "foo": 1}]}, "tools[].foo"),
    ("chat", {**chat(), "tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}, "w": 1}}, "tool_choice.w"),
    ("chat", {**chat(), "functions": [{"name": "f", "foo": 1}]}, "functions[].foo"),
    ("chat", {**chat(), "stream": True, "stream_options": {"foo": 1}}, "stream_options.foo"),
    ("chat", {**chat(), "stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ("completions", {"prompt": "?", "stream": True, "stream_options": {"foo": 1}}, "stream_options.foo"),
    ("messages", {"messages": [{"role": "user", "content": "?", "bar": 1}]}, "messages[0].bar"),
    ("messages", blocks({**SAID, "foo": 1}), "messages[0].content[0].foo"),
    ("messages", blocks({**SAID, "source": PDF}), "messages[0].content[0].source"),
    ("messages", blocks({**USE, "caller": {"type": "code_execution_20250825", "tool_id": "s"}}, role="assistant"), "messages[0].content[0].caller"),
    ("messages", blocks({**USE, "cache_control": {"type": "ephemeral"}}, role="assistant"), "messages[0].content[0].cache_control"),
    ("messages", blocks({**SAID, "cache_control": {"type": "ephemeral", "ttl": "1h"}}), "messages[0].content[0].cache_control.ttl"),
    ("messages", blocks({"type": "document", "source": {**PDF, "foo": 1}}), "messages[0].content[0].source.foo"),
    ("messages", blocks({"type": "document", "source": {"type": "content", "content": [{**SAID, "foo": 1}]}}), "messages[0].content[0].source.content[0].foo"),
    ("messages", blocks({"type": "tool_result", "tool_use_id": "t", "content": [{**SAID, "foo": 1}]}), "messages[0].content[0].content[0].foo"),
    ("messages", blocks({"type": "search_result", "source": "s", "title": "t", "content": [SAID], "citations": {"enabled": True}}), "messages[0].content[0].citations"),
    ("messages", {**blocks(SAID), "system": [{**SAID, "foo": 1}]}, "system[0].foo"),
    ("messages", {**blocks(SAID), "tools": [{"name": "f", "input_schema": {}, "foo": 1}]}, "tools[].foo"),
    ("messages", {**blocks(SAID), "tool_choice": {"type": "auto", "w": 1}}, "tool_choice.w"),
    ("messages", {**blocks(SAID), "output_config": {"format": {"type": "json_schema", "schema": {}, "foo": 1}}}, "output_config.format.foo"),
    ("messages", {**blocks(SAID), "thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "output_config.effort"),
    ("messages", {**blocks(SAID), "thinking": {"type": "adaptive", "display": "updates"}}, "thinking.display"),
    ("messages", {**blocks(SAID), "thinking": {"type": "between_tools"}}, "thinking.type"),
    ("gemini", {"contents": [{"parts": [{"text": "?"}], "bar": 1}]}, "contents[0].bar"),
    ("gemini", {**part(text="?"), "systemInstruction": {"parts": [{"text": "s", "inlineData": BLOB}]}}, "systemInstruction.parts[0].inlineData"),
    ("gemini", {**part(text="?"), "generationConfig": {"logprobs": 2}}, "generationConfig.logprobs"),
    ("gemini", {"contents": {"parts": {"text": "?"}, "bar": 1}}, "contents.bar"),
    ("gemini", part(text="?", partMetadata={"a": 1}), "contents[0].parts[0].partMetadata"),
    ("gemini", part(functionCall={"name": "f", "willContinue": True}), "contents[0].parts[0].functionCall.willContinue"),
    ("gemini", {"contents": [*part(functionCall={"name": "f", "id": "c"})["contents"], *part(functionResponse={**ANSWER, "scheduling": "SILENT"})["contents"]]}, "contents[1].parts[0].functionResponse.scheduling"),
    ("gemini", {"contents": [*part(functionCall={"name": "f", "id": "c"})["contents"], *part(functionResponse={**ANSWER, "willContinue": True})["contents"]]}, "contents[1].parts[0].functionResponse.willContinue"),
    ("gemini", part(inlineData={**BLOB, "displayName": "a.png"}), "contents[0].parts[0].inlineData.displayName"),
    ("gemini", part(fileData={"fileUri": "https://a.example/a", "mimeType": "image/png", "displayName": "a"}), "contents[0].parts[0].fileData.displayName"),
    ("gemini", {**part(text="?"), "systemInstruction": {"parts": [{"text": "s", "foo": 1}]}}, "systemInstruction.parts[0].foo"),
    ("gemini", part(inlineData=BLOB, thought=True), "contents[0].parts[0].thought"),
    ("gemini", declared(foo=1), "tools[].functionDeclarations[].foo"),
    ("gemini", declared(parameters={"type": "OBJECT"}, parametersJsonSchema={}), "tools[].functionDeclarations[].parameters"),
    ("gemini", declared(behavior="NON_BLOCKING"), "tools[].functionDeclarations[].behavior"),
    ("gemini", declared(parameters={"type": "OBJECT", "propertyOrdering": ["a"]}), "tools[].functionDeclarations[].parameters.propertyOrdering"),
    ("gemini", declared(parameters={"properties": {"a": {"anyOf": [{"type": "STRING", "foo": 1}]}}}), "tools[].functionDeclarations[].parameters.properties.a.anyOf[0].foo"),
    ("gemini", {**part(text="?"), "generationConfig": {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT", "propertyOrdering": ["a"]}}}, "generationConfig.responseSchema.propertyOrdering"),
    ("gemini", {**part(text="?"), "generationConfig": {"responseFormat": {"text": {"mimeType": "text/plain", "foo": 1}}}}, "generationConfig.responseFormat.text.foo"),
]  # fmt: skip


@pytest.mark.parametrize(("client", "members", "name"), LEFT, ids=[f"{one[0]}-{one[2]}" for one in LEFT])
def test_a_member_that_is_not_read_is_named_by_its_whole_path(client: str, members: Members, name: str) -> None:
    found = canonical(client, members)
    assert (found.hints, found.refused) == ((name,), ())


ECHOES: dict[str, tuple[str, Members]] = {
    "an answer of Responses": (
        "responses",
        item(
            {"role": "user", "content": "?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}], "content": None, "encrypted_content": "e", "status": None},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}], "logprobs": []}]},
            {**CALL, "id": "fc_1", "status": "completed", "namespace": None, "caller": {"type": "direct"}},
            {**OUTPUT, "id": "fco_1", "status": "completed"},
        ),
    ),
    "an answer of chat": (
        "chat",
        assistant(
            id="m", refusal=None, annotations=[{"type": "url_citation"}], audio=None, function_call=None, parsed=None, reasoning_content="t",
            reasoning_details=[{"type": "reasoning.encrypted", "data": "d", "index": 0, "format": "f"}],
            tool_calls=[{**CHAT_CALL, "index": 0, "function": {"name": "f", "arguments": "{}", "parsed_arguments": {}}}],
        ),
    ),
    "an answer of Anthropic": (
        "messages",
        blocks(
            {"type": "thinking", "thinking": "t", "signature": "s"},
            {**SAID, "citations": [{"type": "char_location", "cited_text": "x"}], "cache_control": {"type": "ephemeral", "ttl": "5m"}},
            {**USE, "caller": {"type": "direct"}},
            {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {}, "caller": {"type": "direct"}},
            role="assistant",
        ),
    ),
    "an answer of Gemini": (
        "gemini",
        {
            "contents": [
                {"role": "model", "parts": [{"text": "t", "thought": True}, {"text": "a", "thoughtSignature": "c2ln"}, {"functionCall": {"id": "c", "name": "f", "args": {}}}]},
                {"role": "model", "parts": [{"executableCode": {"language": "PYTHON", "code": "1"}, "foo": 1}]},
            ],
            "systemInstruction": {"role": "user", "parts": [{"text": "s"}]},
            "tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}], "googleSearch": {}}],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("echo", ECHOES)
def test_what_an_answer_had_comes_back_without_a_word(echo: str) -> None:
    client, members = ECHOES[echo]
    found = canonical(client, members)
    assert (found.hints, found.refused) == ((), ())


def test_a_phase_is_carried_as_far_as_there_are_phases() -> None:
    found = canonical("responses", message(TEXT, phase="commentary"))
    assert found.hints == ()
    (said,) = found.items
    assert getattr(said, "phase", "") == "commentary"


SIGNED = assistant(tool_calls=[{**CHAT_CALL, "extra_content": {"google": {"thought_signature": "c2ln"}}}])
SIGNED["messages"].append({"role": "tool", "tool_call_id": "c", "content": "o"})
SIGNED["tools"] = [CHAT_TOOL]


def crossed(members: Members, endpoint: Endpoint) -> tuple[Any, tuple[str, ...]]:
    """A chat client's request as a provider of another dialect gets it, and what is named."""
    request = ChatDialect().parse(json.dumps({"model": "m", **members}).encode())
    bridge = Bridge(request, common.call(), envelopes=Envelopes(Sealer(bytes(KEY_BYTES)), "t"))
    to = Destination(provider="p", model="gemini-3-pro", endpoint=endpoint, max_output_tokens=9)
    body, dropped = bridge.forward(UPSTREAMS[endpoint], to)
    return json.loads(body), dropped


def test_a_signature_of_googles_chat_endpoint_goes_to_gemini_with_its_call() -> None:
    body, dropped = crossed(SIGNED, "gemini")
    (called,) = [part for part in body["contents"][1]["parts"] if "functionCall" in part]
    assert called["thoughtSignature"] == "c2ln"
    assert dropped == ()


@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_a_signature_of_googles_chat_endpoint_is_named_elsewhere(endpoint: Endpoint) -> None:
    body, dropped = crossed(SIGNED, endpoint)
    assert "c2ln" not in json.dumps(body)
    assert dropped == ("messages[].tool_calls[].extra_content",)


SEARCHED: list[tuple[Members, str]] = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}], "web_search_options": {"foo": 1}}, "web_search_options.foo"),
    ({"web_search_options": {"user_location": {"type": "approximate", "approximate": {}, "foo": 1}}}, "web_search_options.user_location.foo"),
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ["chat", "gemini", "messages"])
@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"reasoning_content": "t"}, "reasoning_content"),
        ({"reasoning": "t"}, "messages[].reasoning"),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "t"}]}, "messages[].reasoning_details"),
    ],
)
def test_what_a_chat_client_sends_back_of_a_thought_is_named_as_it_is_called(
    members: Members, name: str, endpoint: Endpoint
) -> None:
    asked = assistant(**members)
    asked["messages"].append({"role": "user", "content": "?"})
    assert crossed(asked, endpoint)[1] == (name,)


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
@pytest.mark.parametrize(("members", "name"), SEARCHED, ids=[one for _, one in SEARCHED])
def test_what_nobody_knows_of_a_search_is_named(members: Members, name: str, endpoint: Endpoint) -> None:
    assert crossed({**chat(), **members}, endpoint)[1] == (name,)


def test_what_nobody_knows_of_a_searchs_domains_is_named() -> None:
    search = {"type": "web_search", "filters": {"allowed_domains": ["a.example"], "foo": 1}}
    asked = canonical("responses", {"input": "?", "tools": [search]})
    losses = Losses(asked, to := Destination(provider="p", model="m", endpoint="messages"), allowed=False)
    body = json.loads(UPSTREAMS["messages"].encode_request(asked, to, losses))
    assert body["tools"][0]["allowed_domains"] == ["a.example"]
    assert tuple(losses.dropped) == ("tools[].filters.foo",)


@pytest.mark.parametrize("endpoint", UPSTREAMS)
def test_texts_and_images_of_one_result_of_gemini_keep_their_order(endpoint: Endpoint) -> None:
    parts = [{"text": "low"}, {"inlineData": BLOB}, {"text": "high", "inlineData": BLOB}]
    called = part(functionCall={"name": "f", "id": "c"})["contents"]
    asked = canonical("gemini", {"contents": [*called, *part(functionResponse={**ANSWER, "parts": parts})["contents"]]})
    (output,) = [item for item in asked.items if isinstance(item, FunctionOutput)]
    assert [type(one).__name__ for one in output.content] == ["TextPart", "ImagePart", "TextPart", "ImagePart"]
    losses = Losses(asked, to := Destination(provider="p", model="m", endpoint=endpoint), allowed=False)
    body = json.dumps(json.loads(UPSTREAMS[endpoint].encode_request(asked, to, losses)))
    assert body.index("low") < body.index("high")
    assert body.count("AAAA") == 2
    assert not losses.dropped


PICTURE: Members = {"url": "data:image/png;base64,AAAA"}
DRAWN = assistant(content=None, images=[{"type": "image_url", "image_url": PICTURE}])
DRAWN["messages"].append({"role": "user", "content": "?"})


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
def test_an_image_that_a_model_made_is_no_reason_to_refuse_its_history(endpoint: Endpoint) -> None:
    body, dropped = crossed(DRAWN, endpoint)
    assert "AAAA" not in json.dumps(body)
    assert [one["role"] for one in body.get("messages") or body["input"]][-1] == "user"
    assert all(one["content"] for one in body.get("messages") or body["input"])
    assert dropped == ("messages[].images",)


def test_what_many_items_have_has_one_name() -> None:
    many = [
        {"role": "user", "content": [{**TEXT, "foo": 1}], **({"bar": 1} if place == 3 else {})} for place in range(99)
    ]
    assert canonical("responses", {"input": many}).hints == ("input[].content[].foo", "input[3].bar")


@pytest.mark.parametrize("value", ["1e999", '"in_progress"', "[]", "{}", "7", "true"])
def test_a_member_with_a_value_of_any_kind_is_named(value: str) -> None:
    body = b'{"model":"m","input":[{"role":"user","content":"?","status":%b}]}' % value.encode()
    assert ResponsesDialect().parse(body).canonical().hints == ("input[0].status",)


NODE = OneOf("kind", {"a": Shape("x", inner=Shape("y", says=Says("1", {"t": "u"}))), "b": Shape()}, otherwise="a")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"x": 1}', []),
        ('{"kind": "a", "x": 1}', []),
        ('{"kind": "b", "x": 1}', ["n.x"]),
        ('{"kind": "c", "x": 1}', []),
        ('[{"x": 1}, {"z": 1, "w": null}]', ["n[1].z"]),
        ('{"inner": [{"y": 1}, {"says": "1"}, {"says": {"t": "u"}}, {"says": "2"}]}', ["n.inner[3].says"]),
        ('{"inner": "text"}', []),
        ('{"inner": 7}', []),
        ("7", []),
        ("null", []),
    ],
)
def test_a_shape_tells_what_it_does_not_read(text: str, names: list[str]) -> None:
    assert list(unread(jsonio.Raw(text.encode()), NODE, "n")) == names


def test_names_keep_their_numbers_where_they_are_alone() -> None:
    assert placed(["a[0].x", "b", "a[1].x", "a[0].y", "b"]) == ("a[].x", "b", "a[0].y")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", HARMLESS)
def test_every_member_that_is_lost_without_a_name_is_documented(language: str, name: str) -> None:
    assert f"`{name}`" in read(language, "translation.md")


NEUTRAL: dict[str, Members] = {
    "chat": {
        "chat_template_kwargs": {}, "enable_search": False, "ignore_eos": False, "length_penalty": 1.0, "min_p": 0,
        "min_tokens": 0, "plugins": [], "repetition_penalty": 1, "stop_token_ids": [], "top_a": 0, "top_k": -1,
        "use_beam_search": False,
    },
    "messages": {"mcp_servers": [], "top_k": 0},
    "responses": {"max_tokens": None, "repetition_penalty": 1.0, "top_k": 0},
}  # fmt: skip
"""What clients of several APIs send although they want what happens anyway."""


@pytest.mark.parametrize("client", NEUTRAL)
@pytest.mark.parametrize("endpoint", UPSTREAMS)
def test_what_asks_for_nothing_is_no_reason_to_refuse(client: str, endpoint: Endpoint) -> None:
    said: Members = {"input": "a"} if client == "responses" else {"messages": [{"role": "user", "content": "a"}]}
    to = Destination(provider="p", model="m", endpoint=endpoint, max_output_tokens=9, quirks=Quirks(openai_chat=True))
    losses = Losses(asked := canonical(client, {**said, **NEUTRAL[client]}), to, allowed=False)
    body = UPSTREAMS[endpoint].encode_request(asked, to, losses)
    losses.check()
    assert not losses.dropped
    assert not json.loads(body).keys() & NEUTRAL[client].keys() - {"max_tokens"}


@pytest.mark.parametrize(
    ("name", "value"), [("min_p", 0.1), ("ignore_eos", True), ("plugins", [{"id": "web"}]), ("top_k", 1)]
)
def test_what_asks_for_something_is_refused(name: str, value: Any) -> None:
    request = ChatDialect().parse(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], name: value}).encode()
    )
    bridge = Bridge(request, common.call(), envelopes=Envelopes(Sealer(bytes(KEY_BYTES)), "t"))
    with pytest.raises(UnsupportedParameter, match=name):
        bridge.forward(UPSTREAMS["responses"], Destination(provider="p", model="m"))
