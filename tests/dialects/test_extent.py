"""How much requests can use at most, as far as they say so."""

import json
from typing import Any

import pytest

from tidegate.dialects import extent
from tidegate.dialects.extent import IMAGE_TOKENS, Extent, is_remarkable, reads, reads_more, surcharge, text_bytes
from tidegate.dialects.gemini import gemini_at
from tidegate.gateway.dialects import CLIENT_DIALECTS
from tidegate.wire.errors import InvalidRequest

TEXT = [{"role": "user", "content": "Hi"}]
SAID = {"max_tokens": 9, "messages": TEXT}


def dialect(path: str) -> Any:
    return next(one for one in CLIENT_DIALECTS if one.path == path)


@pytest.mark.parametrize(
    ("path", "body", "extent"),
    [
        ("/v1/responses", {"input": "Hi"}, Extent()),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 7}, Extent(output_tokens=7)),
        ("/v1/chat/completions", {"messages": TEXT, "n": 3}, Extent(choices=3)),
        (
            "/v1/chat/completions",
            {"messages": TEXT, "max_tokens": 5, "max_completion_tokens": 9},
            Extent(output_tokens=9),
        ),
        ("/v1/completions", {"prompt": "Hi", "max_tokens": 4}, Extent(output_tokens=4)),
        ("/v1/completions", {"prompt": ["a", "b"], "n": 2, "best_of": 3}, Extent(choices=6)),
        ("/v1/completions", {"prompt": [1, 2, 3]}, Extent()),
        ("/v1/messages", {"messages": TEXT, "max_tokens": 8}, Extent(output_tokens=8)),
        ("/v1/messages/count_tokens", {"messages": TEXT}, Extent(output_tokens=0)),
        ("/v1/embeddings", {"input": "Hi"}, Extent(output_tokens=0)),
        ("/v1/audio/speech", {"input": "用户", "voice": "alloy"}, Extent(output_tokens=50, characters=2)),
        ("/v1/responses/compact", {"model": "m", "input": "Hi"}, Extent()),
    ],
)
def test_the_extent_is_what_the_request_allows(path: str, body: Any, extent: Extent) -> None:
    request = dialect(path).parse(json.dumps({"model": "m", **body}).encode())
    assert request.extent == extent
    assert request.reads() == 0


PLAIN = {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": 'an "image_url" é'}]}]}


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    "extra",
    [
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://e.example/a"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
        {"tools": [{"type": "web_search_preview"}]},
        {"tools": [{"type": "mcp", "server_label": "x"}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "AA=="}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA=="}}]}]},
        {"web_search_options": {}},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}]},
        {"contents": [{"parts": [{"file_data": {"file_uri": "gs://x"}}]}]},
        {"tools": [{"googleSearch": {}}]},
        {"tools": [{"url_context": {}}]},
        {"cachedContent": "cachedContents/1"},
        {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]},
        {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]},
        {"tools": [{"type": "browser_search"}]},
        {"tools": [{"type": "openrouter:web_search"}]},
        {"tools": [{"type": "x_search"}]},
        {"tools": [{"type": "collections_search"}]},
        {"tools": [{"type": "web_extractor"}]},
        {"tools": [{"type": "t2i_search"}, {"type": "i2i_search"}]},
        {"data_sources": [{"type": "azure_search", "parameters": {}}]},
        {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}]},
        {"plugins": [{"id": "web"}]},
        {"search_parameters": {"mode": "on"}},
        {"enable_search": True},
    ],
)
def test_what_the_provider_reads_beside_the_body_is_seen(extra: Any) -> None:
    body = json.dumps({**PLAIN, **extra})
    assert reads_more(body.encode())
    assert is_remarkable(body.encode())
    hidden = "".join(f"\\u{ord(letter):04x}" if letter.isalpha() else letter for letter in "image_url")
    assert reads_more(f'{{"content": [{{"{hidden}": "https://e.example/a"}}]}}'.encode())


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        {"messages": [{"role": "user", "content": 'an image, a file and "audio"'}]},
        {"tools": [{"type": "function", "name": "image_maker", "parameters": {"type": "object"}}]},
        {"input": "é", "metadata": {"note": "file"}},
        {"messages": [{"role": "user", "content": "hi"}], "modalities": ["audio"], "audio": {"voice": "alloy"}},
    ],
)
def test_text_about_such_things_is_only_text(body: Any) -> None:
    assert not reads_more(json.dumps(body).encode())


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    ("body", "member"),
    [
        ('{"service_tier": "priority"}', "service_tier"),
        ('{"serviceTier": "priority"}', "serviceTier"),
        ('{"speed": "fast", "messages": []}', "speed"),
        ('{"\\u0073peed": "fast"}', "speed"),
        ('{"inference_geo": "us"}', "inference_geo"),
        ('{"reasoning": {"effort": "low", "mode": "pro"}}', "reasoning.mode"),
        ('{"reasoning": {"\\u006dode": "pro"}}', "reasoning.mode"),
        ('{"reasoning": {"mode": "standard"}, "mode": "pro"}', None),
        ('{"reasoning": null, "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}', None),
        ('{"speed": 1.5}', None),
        ('{"service_tier": "flex", "speed": "standard", "inference_geo": null}', None),
        ('{"input": "\\"speed\\"", "metadata": {"speed": "fast"}}', None),
    ],
)
def test_what_costs_more_than_the_list_price_is_seen(body: str, member: str | None) -> None:
    assert surcharge(body.encode()) == member
    assert member is None or is_remarkable(body.encode())


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    "name",
    sorted({*extent._KEYS, *extent._RUN_KEYS, *extent._LISTED, *extent._TYPES, *extent._RUN_TYPES} - {"shell"}),
    # The client itself runs a shell, unless its environment is a container.
)
def test_a_search_finds_all_that_may_cost_more_than_text(name: str) -> None:
    assert is_remarkable(f'{{"messages": [{{"{name}": 1}}]}}'.encode())
    assert is_remarkable(f'{{"messages": [{{"type": "{name}"}}]}}'.encode())


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    "name", sorted({*extent._KEYS, *extent._RUN_KEYS, *extent._LISTED, *extent._TYPES, *extent._RUN_TYPES} - {"shell"})
)
@pytest.mark.parametrize("letters", ["plain", "escaped"])
def test_nothing_that_may_cost_more_than_text_is_taken_for_plain(name: str, letters: str) -> None:
    said = {"role": "user", "content": "Hi"}
    bodies: list[tuple[str, Any]] = [
        ("/v1/chat/completions", {"messages": TEXT, name: {}}),
        ("/v1/chat/completions", {"messages": [{**said, name: {}}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": name, name: {}}]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", name: {}}]}]}),
        ("/v1/chat/completions", {"messages": TEXT, "tools": [{"type": name}]}),
        ("/v1/chat/completions", {"messages": TEXT, "tools": [{"type": "function", "function": {"name": "f"}, name: {}}]}),
        ("/v1/chat/completions", {"messages": TEXT, "tools": [{"type": "function", "function": {"name": "f", name: {}}}]}),
        ("/v1/responses", {"input": "Hi", name: {}}),
        ("/v1/responses", {"input": [{"type": name}]}),
        ("/v1/responses", {"input": [{**said, name: {}}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": name}]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi", name: {}}]}]}),
        ("/v1/responses", {"input": "Hi", "tools": [{"type": name}]}),
        ("/v1/responses", {"input": "Hi", "tools": [{"type": "function", "name": "f", name: {}}]}),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", name: {}}]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", name: {}}}]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "function_call": {"name": "f", name: {}}}]}),
        ("/v1/chat/completions", {"messages": TEXT, "functions": [{"name": "f", name: {}}]}),
        ("/v1/responses", {"input": "Hi", name: "x"}),
        ("/v1/responses", {"input": "Hi", "prompt": {"id": "pmpt_1", name: {}}}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi", name: "x"}]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "output_text", "text": "", "annotations": [{"type": name}]}]}]}),
        ("/v1/responses", {"input": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "x", name: {}}]}]}),
        ("/v1/messages", {**SAID, name: {}}),
        ("/v1/messages", {**SAID, name: "x"}),
        ("/v1/messages", {**SAID, "system": [{"type": name, "text": "x"}]}),
        ("/v1/messages", {**SAID, "system": [{"type": "text", "text": "x", name: {}}]}),
        ("/v1/messages", {"max_tokens": 9, "messages": [{**said, name: {}}]}),
        *[
            ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [block]}]})
            for block in (
                {"type": name, name: {}},
                {"type": "text", "text": "Hi", name: {}},
                {"type": "text", "text": "Hi", "citations": [{"type": name}]},
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": name}]},
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x", name: {}}]},
                {"type": "tool_result", "tool_use_id": "t", "content": {name: {}}},
                {"type": "text", "text": "Hi", "content": [{"type": name}]},
            )
        ],
        ("/v1/messages", {**SAID, "tools": [{"type": name, "name": "f", "input_schema": {}}]}),
        ("/v1/messages", {**SAID, "tools": [{"name": "f", "input_schema": {}, name: {}}]}),
    ]  # fmt: skip
    for path, body in bodies:
        text = json.dumps({"model": "m", **body})
        if letters == "escaped":
            text = text.replace(f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:]}"')
        assert dialect(path).parse_plain(text.encode()) is None, text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [*TEXT, {"role": "assistant", "content": "用户", "refusal": None}]}),
        (
            "/v1/chat/completions",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": 'an "image_url"'}]},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "c", "type": "function", "function": {"name": "file_search", "arguments": "{}"}}
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c", "content": "a file"},
                ],
                "tools": [
                    {"type": "function", "function": {"name": "file_search", "parameters": {"input_file": "mcp"}}}
                ],
            },
        ),
        ("/v1/responses", {"input": 'an "image_url"', "reasoning": {"effort": "low"}}),
        (
            "/v1/responses",
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "用户"}]},
                    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AAAA"},
                    {"type": "function_call", "call_id": "c", "name": "file_search", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "a file"},
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
                    },
                ],
                "tools": [
                    {"type": "function", "name": "file_search", "parameters": {"type": "object"}, "strict": True}
                ],
            },
        ),
        ("/v1/messages", {"max_tokens": 9, "messages": TEXT, "system": 'an "image_url"', "metadata": {"user_id": "u"}}),
        (
            "/v1/messages",
            {
                "max_tokens": 9,
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "system": [{"type": "text", "text": "用户", "cache_control": {"type": "ephemeral"}}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "a file"}]},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "x", "signature": "AAAA"},
                            {"type": "tool_use", "id": "t", "name": "file_search", "input": {"input_file": "mcp"}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}]},
                            {"type": "tool_result", "tool_use_id": "t", "content": "x", "is_error": True},
                            {"type": "tool_result", "tool_use_id": "t"},
                        ],
                    },
                ],
                "tools": [
                    {"name": "file_search", "input_schema": {"type": "object", "properties": {"input_file": {}}}}
                ],
            },
        ),
    ],
)
def test_text_and_functions_of_the_clients_are_plain(path: str, body: Any) -> None:
    request = dialect(path).parse_plain(json.dumps({"model": "m", **body}, ensure_ascii=False).encode())
    assert not request.is_remarkable(True)
    assert request.reads() == 0


GOOGLE = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def google(body: bytes) -> Any:
    found = gemini_at(b"/v1beta/models/m:generateContent")
    assert found is not None
    return found.parse_plain(body)


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    "name",
    [
        *sorted({*extent._KEYS, *extent._RUN_KEYS, *extent._LISTED, *extent._TYPES, *extent._RUN_TYPES}),
        "model",
        "models",
    ],
)
@pytest.mark.parametrize("letters", ["plain", "escaped"])
def test_nothing_of_googles_that_may_cost_more_than_text_is_taken_for_plain(name: str, letters: str) -> None:
    said = {"text": "Hi"}
    answered = {"functionResponse": {"name": "f", "response": {}, "parts": [{name: {}}]}}
    bodies: tuple[dict[str, Any], ...] = (
        {**GOOGLE, name: {}},
        {**GOOGLE, name: "x"},
        {**GOOGLE, "generationConfig": {name: {}}},
        {**GOOGLE, "toolConfig": {name: {}}},
        {**GOOGLE, "toolConfig": {"functionCallingConfig": {name: {}}}},
        {**GOOGLE, "tools": [{name: {}}]},
        {**GOOGLE, "tools": [{"functionDeclarations": [{"name": "f", name: {}}]}]},
        {**GOOGLE, "systemInstruction": {"parts": [{**said, name: {}}]}},
        {**GOOGLE, "safetySettings": [{"category": "c", "threshold": "t", name: {}}]},
        {"contents": [{"parts": [said], name: {}}]},
        {"contents": [{"parts": [{**said, name: {}}]}]},
        {"contents": [{"parts": [{name: {}}]}]},
        {"contents": [{"parts": [{"functionCall": {"name": "f", name: {}}}]}]},
        {"contents": [{"parts": [answered]}]},
    )
    for body in bodies:
        text = json.dumps(body)
        if letters == "escaped":
            text = text.replace(f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:]}"')
        assert google(text.encode()) is None, text


def test_text_and_functions_for_google_are_plain() -> None:
    body = {
        "systemInstruction": {"parts": [{"text": 'an "inlineData"'}]},
        "contents": [
            {"role": "user", "parts": [{"text": "用户"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a_b": 1}}, "thoughtSignature": "AA"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"is_file": "mcp"}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "generationConfig": {"maxOutputTokens": 9, "thinkingConfig": {"includeThoughts": True}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }
    text = json.dumps(body, ensure_ascii=False).encode()
    request = google(text)
    assert not request.is_remarkable(True)
    assert request.reads() == 0
    found: Any = gemini_at(b"/v1beta/models/m:generateContent")
    assert request.canonical() == found.parse(text).canonical()
    snake = text.replace(b"maxOutputTokens", b"max_output_tokens")
    assert google(snake) is None
    assert google(b'{"contents": []}') is None
    assert google(b'{"contents": {"parts": [{"text": "Hi"}]}}') is None


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize("name", ["mode", "\\u006dode", "speed"])
def test_reasoning_with_more_than_an_effort_is_never_plain(name: str) -> None:
    """In its pro mode a model works on a question as often as it likes."""
    asked = '{"model": "m", "input": "Hi", "reasoning": {"effort": "low", "summary": "auto"%s}}'
    assert dialect("/v1/responses").parse_plain((asked % "").encode()) is not None
    assert dialect("/v1/responses").parse_plain((asked % f', "{name}": "pro"').encode()) is None


@pytest.mark.parametrize("name", ["models", "\\u006dodels", "MODEL", "service_tier", "store_more"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_a_member_that_asks_for_more_is_never_plain(path: str, name: str) -> None:
    said = '"messages": [{"role": "user", "content": "Hi"}]'
    asked = {"/v1/responses": '"input": "Hi"', "/v1/messages": f'"max_tokens": 9, {said}'}.get(path, said)
    assert dialect(path).parse_plain(f'{{"model": "m", {asked}}}'.encode()) is not None
    assert dialect(path).parse_plain(f'{{"model": "m", {asked}, "{name}": ["a"]}}'.encode()) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "Hi"}], "tool_choice": {"type": "x", "y": "%b"}}'),
        (
            "/v1/chat/completions",
            b'{"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": "%b"}}]}',
        ),
        ("/v1/responses", b'{"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x", "schema": {"x": "%b"}}}}'),
        ("/v1/responses", b'{"input": "Hi", "tools": [{"type": "custom", "name": "f", "format": "%b"}]}'),
        ("/v1/messages", b'{"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "tools": [{"name": "f", "input_schema": "%b"}]}'),
    ],
)  # fmt: skip
def test_a_body_is_plain_only_if_it_is_utf8_to_the_end_and_not_too_long_to_be_read_twice(
    path: str, body: bytes
) -> None:
    assert dialect(path).parse_plain(body % "é".encode()) is not None
    for wrong in (b"\xe9", b"\xed\xa0\x80", b"\xff" * 3):
        assert dialect(path).parse_plain(body % wrong) is None
        with pytest.raises(InvalidRequest, match="not valid UTF-8"):
            dialect(path).parse(body % wrong)
    assert dialect(path).parse_plain(body % (b"a" * 300_000)) is None
    assert dialect(path).parse(body % (b"a" * 300_000)).reads() == 0


def test_the_searches_pass_plain_text_by() -> None:
    assert not is_remarkable(json.dumps({"model": "m", "messages": TEXT, "tools": [], "temperature": 1}).encode())


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
IMAGE = [{"role": "user", "content": [{"type": "input_image", "image_url": "https://e.example/a"}]}]


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    ("body", "times"),
    [
        ({"input": "Hi"}, 0),
        ({"input": IMAGE}, 1),
        ({"input": IMAGE, "tools": [{"type": "function", "name": "f"}]}, 1),
        ({"tools": [{"type": "computer_use_preview"}]}, 1),
        ({"tools": [{"type": "web_search"}]}, None),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 3}, 4),
        ({"tools": [{"type": "mcp"}, {"type": "code_interpreter"}], "max_tool_calls": 0}, 1),
        ({"tools": [{**SEARCH, "max_uses": 5}]}, 6),
        ({"tools": [{**SEARCH, "max_uses": 5}, {"type": "web_fetch_20250910", "max_uses": 2}]}, 8),
        ({"tools": [{**SEARCH, "max_uses": 5}, {"type": "code_execution_20250825"}]}, None),
        ({"tools": [{**SEARCH, "max_uses": True}]}, None),
        ({"tools": [{"googleSearch": {}}]}, None),
        ({"web_search_options": {}}, None),
        ({"tools": [{"type": "openrouter:web_fetch"}]}, None),
        ({"tools": [{"type": "x_search"}], "max_tool_calls": 1}, 2),
        ({"data_sources": [{"type": "azure_search"}]}, None),
        ({"mcp_servers": [{"url": "https://e.example"}], "tools": [{**SEARCH, "max_uses": 5}]}, None),
    ],
)
def test_each_use_of_a_tool_that_the_provider_runs_reads_everything_anew(body: Any, times: int | None) -> None:
    assert reads(json.dumps(body).encode()) == times


@pytest.mark.security("SEC-API4-BOUND")
@pytest.mark.parametrize(
    "text", ["fileid://file-fe-1", "See fileid://file-fe-1,fileid://file-fe-2", "\\u0066ileid://x", "fileid:\\/\\/x"]
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", '{"messages": [{"role": "system", "content": "%s"}]}'),
        ("/v1/chat/completions", '{"messages": [{"role": "system", "content": [{"type": "text", "text": "%s"}]}], "x": 1}'),
        ("/v1/responses", '{"input": "Hi", "instructions": "%s"}'),
        ("/v1/messages", '{"max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}], "system": "%s"}'),
    ],
)  # fmt: skip
def test_a_text_may_stand_for_files_that_lie_with_the_provider(path: str, body: str, text: str) -> None:
    given = (body % text).replace("{", '{"model": "m", ', 1).encode()
    spoken = dialect(path)
    request = spoken.parse_plain(given) or spoken.parse(given)
    assert request.is_remarkable(True)
    assert request.reads() == 1


PIXELS = "iVBORw0KGgo" + "Ab9/" * 100_000
IMAGES: list[dict[str, Any]] = [
    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXELS}"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXELS}},
    {"source": {"data": PIXELS, "media_type": "image/png"}},
    {"inlineData": {"mimeType": "image/png", "data": PIXELS}},
]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_estimated_by_what_it_shows_and_not_by_its_bytes(image: dict[str, Any]) -> None:
    body = json.dumps({"input": [{"role": "user", "content": [image, {"type": "input_text", "text": "word " * 1000}]}]})
    found = text_bytes(body.encode())
    assert 4 * IMAGE_TOKENS + 5000 <= found < 4 * IMAGE_TOKENS + 5400
    two = json.dumps({"input": [{"role": "user", "content": [image, image]}]})
    assert text_bytes(two.encode()) < 8 * IMAGE_TOKENS + 600


def test_text_counts_whole_however_it_looks() -> None:
    for text in ("a;base64,b", "x" * 5000, "word " * 5000):
        body = json.dumps({"input": text, "data": text}).encode()
        assert text_bytes(body) == len(body)
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 1_600_000, "format": "mp3"}}
    assert text_bytes(json.dumps({"messages": [{"content": [sound]}]}).encode()) < 4000
