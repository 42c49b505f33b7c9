"""What cannot be carried is a 400 that names it, or is left out and named. Never silence."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conformance.losses import LOSSES, SOURCES, Loss
from tests.conformance.providers import ECHO, SPEAKS, TOML, calls_of
from tests.docs.pages import LANGUAGES, read, section
from tests.support.running import Running

REFUSES, DROPS = "key-refuses-0123456789abcdef0123456789", "key-drops-0123456789abcdef0123456789ab"
KEYS = f"""
[[keys]]
name = "refuses"
secret = "{REFUSES}"
[[keys]]
name = "drops"
secret = "{DROPS}"
unsupported = "drop"
[models.lenient]
target = "anthropic/echo"
unsupported = "drop"
[models.lenient-in-turn]
targets = [{{ model = "anthropic/echo" }}]
fallback = ["openai/echo"]
unsupported = "drop"
"""
PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}
PLAIN: dict[str, dict[str, Any]] = {
    "responses": {"input": "?"},
    "chat": {"messages": [{"role": "user", "content": "?"}]},
    "messages": {"messages": [{"role": "user", "content": "?"}], "max_tokens": 100},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "?"}]}]},
}
CASES = [
    pytest.param(loss, client, provider, id=f"{loss.what}-{client}-{provider}")
    for loss in LOSSES
    for client, provider in loss.pairs
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML + KEYS) as running:
        yield running


@pytest.fixture(scope="module")
def http(gateway: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.origin, timeout=20, trust_env=False) as made:
        yield made


def ask(http: httpx.Client, client: str, model: str, members: dict[str, Any], key: str = REFUSES) -> httpx.Response:
    body = {**PLAIN[client], **members}
    path = f"/v1beta/models/{model}:generateContent" if client == "gemini" else PATHS[client]
    if client != "gemini":
        body["model"] = model
    return http.post(path, json=body, headers={"authorization": f"Bearer {key}"})


def dropped(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return answer.headers["tidegate-dropped"].split(", ")


@pytest.mark.parametrize(("loss", "client", "provider"), CASES)
def test_a_loss_is_a_400_or_has_a_name(
    gateway: Running, http: httpx.Client, loss: Loss, client: str, provider: str
) -> None:
    name, members = loss.asks[client]
    calls = len(calls_of(gateway))
    answer = ask(http, client, ECHO[provider], members)
    if not loss.refused:
        assert name in dropped(answer)
        return
    assert answer.status_code == 400, answer.text
    assert f"'{name}'" in answer.json()["error"]["message"]
    if client in ("responses", "chat"):
        assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (name, "unsupported_parameter")
    assert len(calls_of(gateway)) == calls, "a refused request reached the provider"


@pytest.mark.parametrize(
    ("loss", "client", "provider"),
    [case for case in CASES if isinstance(case.values[0], Loss) and case.values[0].refused],
)
def test_a_key_may_leave_it_out_instead(
    gateway: Running, http: httpx.Client, loss: Loss, client: str, provider: str
) -> None:
    name, members = loss.asks[client]
    if name in ("input", "messages", "contents"):  # what is left of a message of one part is no message
        members = {list_: [*content, *PLAIN[client].get("messages", [])] for list_, content in members.items()}
        if client == "responses":
            members = {"input": [*members["input"], {"role": "user", "content": "?"}]}
        elif client == "gemini":
            members = {"contents": [*members["contents"], *PLAIN["gemini"]["contents"]]}
    left_out = dropped(ask(http, client, ECHO[provider], members, DROPS))
    assert any(one == name or one.startswith(f"{name}.") for one in left_out), left_out


ODD: dict[str, Any] = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}


def _said(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": [{"type": "text", "text": "?"}, ODD]} for role in roles]}


PARTS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("chat", _said("user", "user"), ("openai", "anthropic", "google")),
    ("chat", _said("system", "assistant"), ("openai", "anthropic", "google")),
    ("messages", _said("user", "user"), ("openai", "openai-chat", "lab", "google")),
    (
        "gemini",
        {"contents": [{"role": "user", "parts": [{"text": "?"}, {"videoNote": {"uri": "gs://a"}}]}] * 2},
        ("openai", "openai-chat", "lab", "anthropic"),
    ),
]


@pytest.mark.parametrize(
    ("client", "members", "provider"),
    [(client, members, provider) for client, members, providers in PARTS for provider in providers],
)
def test_a_content_part_of_another_api_is_named_by_its_place(
    gateway: Running, http: httpx.Client, client: str, members: dict[str, Any], provider: str
) -> None:
    first, second, all_of_them = (
        f"contents[{place}].parts[{part}]" if client == "gemini" else f"messages[{place}].content[{part}]"
        for place, part in (("0", "1"), ("1", "1"), ("", ""))
    )
    calls = len(calls_of(gateway))
    answer = ask(http, client, ECHO[provider], members)
    assert answer.status_code == 400, answer.text
    assert f"'{first}'" in answer.json()["error"]["message"]
    assert f"'{second}'" not in answer.json()["error"]["message"], "one place is enough to find what is wrong"
    if client == "chat":
        assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (first, "unsupported_parameter")
    assert len(calls_of(gateway)) == calls, "a refused request reached the provider"

    ((name, said),) = members.items()
    rest = PLAIN[client][name]
    assert first in dropped(ask(http, client, ECHO[provider], {name: [said[0], *rest]}, DROPS))
    left_out = dropped(ask(http, client, ECHO[provider], {name: [*said, *rest]}, DROPS))
    assert all_of_them in left_out
    assert first not in left_out


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
@pytest.mark.parametrize(
    "members",
    [
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "adaptive"}},
        {"enable_thinking": True},
        {"reasoning": {"enabled": True}},
    ],
    ids=str,
)
def test_a_chat_clients_wish_for_reasoning_arrives(
    gateway: Running, http: httpx.Client, members: dict[str, Any], provider: str
) -> None:
    answer = ask(http, "chat", ECHO[provider], members)
    assert answer.status_code == 200, answer.text
    assert "tidegate-dropped" not in answer.headers
    sent = calls_of(gateway)[-1].json
    match provider:
        case "openai":
            assert sent["reasoning"] == {"effort": "medium"}
        case "anthropic":
            assert sent["thinking"] == {"type": "adaptive", "display": "summarized"}
        case _:
            assert sent["generationConfig"] == {"thinkingConfig": {"includeThoughts": True}}


def test_what_nothing_is_lost_of_has_no_header(http: httpx.Client) -> None:
    for client in PLAIN:
        for provider in SPEAKS:
            assert "tidegate-dropped" not in ask(http, client, ECHO[provider], {}).headers


MANY: dict[str, tuple[list[str], dict[str, Any]]] = {
    "responses": (["n", "seed", "text.format"], {"n": 2, "seed": 1, "text": {"format": {"type": "json_object"}}}),
    "chat": (
        ["moderation", "n", "seed", "frequency_penalty", "logprobs", "response_format"],
        {
            "seed": 1,
            "n": 2,
            "logprobs": True,
            "frequency_penalty": 1,
            "moderation": {"model": "m"},
            "response_format": {"type": "json_object"},
        },
    ),
    "gemini": (
        ["generationConfig.speechConfig", "generationConfig.candidateCount", "generationConfig.responseLogprobs"],
        {"generationConfig": {"candidateCount": 2, "responseLogprobs": True, "speechConfig": {}}},
    ),
}


@pytest.mark.parametrize("client", MANY)
def test_all_that_is_refused_is_in_one_error(http: httpx.Client, client: str) -> None:
    names, members = MANY[client]
    answer = ask(http, client, ECHO["anthropic"], members)
    assert answer.status_code == 400
    error = answer.json()["error"]
    listed = ", ".join(f"'{name}'" for name in names[:-1]) + f" and '{names[-1]}'"
    assert error["message"].startswith(f"Unsupported parameters: {listed} are not supported by provider 'anthropic'")
    assert error["message"].count("Leave them out") == 1
    if client != "gemini":
        assert (error["param"], error["code"]) == (names[0], "unsupported_parameter")
    assert dropped(ask(http, client, ECHO["anthropic"], members, DROPS)) == names


@pytest.mark.parametrize(
    ("client", "members", "name"),
    [
        ("responses", {"include": ["message.output_text.logprobs"]}, "include[message.output_text.logprobs]"),
        ("chat", {"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
        ("gemini", {"generationConfig": {"responseLogprobs": True}}, "generationConfig.responseLogprobs"),
        ("gemini", {"generation_config": {"candidate_count": 2}}, "generation_config.candidate_count"),
        ("gemini", {"generation_config": {"speech_config": {}}}, "generation_config.speech_config"),
        (
            "gemini",
            {"generationConfig": {"responseFormat": {"text": {"mimeType": "application/json"}}}},
            "generationConfig.responseFormat",
        ),
    ],
)
def test_the_member_is_named_as_the_client_wrote_it(
    http: httpx.Client, client: str, members: dict[str, Any], name: str
) -> None:
    answer = ask(http, client, ECHO["anthropic"], members)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith(f"Unsupported parameter: '{name}' is not supported")


UNKNOWN: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "responses": [
        ("client_metadata", {"client_metadata": {"a": "b"}}),
        ("novelty", {"novelty": [1]}),
        ("reasoning.novelty", {"reasoning": {"novelty": 1}}),
        ("text.novelty", {"text": {"novelty": 1}}),
        ("tools[].novelty", {"tools": [{"type": "function", "name": "f", "novelty": 1}]}),
        ("input[0].novelty", {"input": [{"role": "user", "content": "?", "novelty": 1}]}),
        (
            "input[0].content[0].novelty",
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "?", "novelty": 1}]}]},
        ),
    ],
    "chat": [
        ("client_metadata", {"client_metadata": {"a": "b"}}),
        ("tools[].function.novelty", {"tools": [{"type": "function", "function": {"name": "f", "novelty": 1}}]}),
        (
            "messages[0].content[0].novelty",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "?", "novelty": 1}]}]},
        ),
    ],
    "messages": [
        ("client_metadata", {"client_metadata": {"a": "b"}}),
        ("metadata.novelty", {"metadata": {"novelty": 1}}),
        ("tools[].novelty", {"tools": [{"name": "f", "input_schema": {}, "novelty": 1}]}),
        (
            "messages[0].content[0].novelty",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "?", "novelty": 1}]}]},
        ),
    ],
    "gemini": [
        ("clientMetadata", {"clientMetadata": {"a": "b"}}),
        ("generationConfig.novelty", {"generationConfig": {"novelty": 1}}),
        ("toolConfig.novelty", {"toolConfig": {"novelty": 1}}),
        (
            "tools[].functionDeclarations[].novelty",
            {"tools": [{"functionDeclarations": [{"name": "f", "novelty": 1}]}]},
        ),
        ("contents[0].parts[0].novelty", {"contents": [{"parts": [{"text": "?", "novelty": 1}]}]}),
        ("contents[0].parts[0].part_metadata", {"contents": [{"parts": [{"text": "?", "part_metadata": {}}]}]}),
    ],
}


@pytest.mark.parametrize(
    ("client", "name", "members", "provider"),
    [
        pytest.param(client, name, members, provider, id=f"{client}-{name}-{provider}")
        for client, asks in UNKNOWN.items()
        for name, members in asks
        for provider, dialect in SPEAKS.items()
        if dialect != client
    ],
)
def test_a_member_that_nobody_knows_is_left_out_and_named(
    http: httpx.Client, client: str, name: str, members: dict[str, Any], provider: str
) -> None:
    assert name in dropped(ask(http, client, ECHO[provider], members))


ECHO_OF_ALL: list[dict[str, Any]] = [
    {"role": "user", "content": "?"},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": None,
        "encrypted_content": None,
        "status": "completed",
    },
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": [], "results": None},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "code": "1",
        "container_id": "c",
        "outputs": [],
    },
    {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "n", "arguments": "{}", "output": "o"},
    {"type": "anthropic:server_tool_use", "id": "at_1", "status": "completed", "anthropic_blocks": []},
    {"type": "google:inlineData", "id": "gg_1", "status": "completed", "part": {"inlineData": {}}},
    {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "phase": "commentary",
        "content": [
            {
                "type": "output_text",
                "text": "a",
                "annotations": [{"type": "file_citation", "file_id": "f", "filename": "n", "index": 1}],
                "logprobs": [{"token": "a", "logprob": 0, "bytes": [97], "top_logprobs": []}],
            }
        ],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c",
        "name": "t",
        "arguments": "{}",
        "status": "completed",
        "caller": {"type": "direct"},
    },
    {"type": "function_call_output", "id": "fco_1", "call_id": "c", "output": "7", "status": "completed", "name": "t"},
]


@pytest.mark.parametrize("provider", SPEAKS)
def test_an_echo_of_any_answer_is_never_refused(http: httpx.Client, provider: str) -> None:
    """Clients send items back as they got them, whoever made them."""
    names = dropped(ask(http, "responses", ECHO[provider], {"input": ECHO_OF_ALL}))
    ran = {f"input[].{one}" for one in ("file_search_call", "code_interpreter_call", "mcp_call")}
    foreign = {"input[].server_tool_use", "input[].inlineData"}
    match provider:
        case "openai":
            assert set(names) == foreign | {"reasoning_items"}
        case "anthropic":
            assert set(names) == ran | (foreign - {"input[].server_tool_use"}) | {"input[].phase", "reasoning_items"}
        case "google":
            assert set(names) == ran | (foreign - {"input[].inlineData"}) | {"input[].phase"}
        case _:
            assert set(names) == ran | foreign | {"input[].phase", "reasoning_items"}


@pytest.mark.parametrize("client", UNKNOWN)
def test_a_member_that_nobody_knows_goes_on_to_a_provider_of_the_same_dialect(
    gateway: Running, http: httpx.Client, client: str
) -> None:
    own = next(provider for provider, dialect in SPEAKS.items() if dialect == client)
    answer = ask(http, client, ECHO[own], {"clientMetadata": {"a": "b"}})
    assert answer.status_code == 200, answer.text
    assert "tidegate-dropped" not in answer.headers
    assert calls_of(gateway)[-1].json["clientMetadata"] == {"a": "b"}


@pytest.mark.parametrize("alias", ["lenient", "lenient-in-turn"])
def test_an_alias_may_leave_it_out(http: httpx.Client, alias: str) -> None:
    assert dropped(ask(http, "chat", alias, {"seed": 1, "logit_bias": {"1": 5}})) == ["seed", "logit_bias"]


def test_the_defaults_may_leave_it_out_and_an_alias_or_a_key_may_not() -> None:
    strict = "key-strict-0123456789abcdef0123456789a"
    toml = TOML + KEYS.replace(
        "[models.lenient]", '[models.strict]\ntarget = "anthropic/echo"\nunsupported = "refuse"\n[models.lenient]'
    )
    toml += (
        f'[defaults]\nunsupported = "drop"\n[[keys]]\nname = "strict"\nsecret = "{strict}"\nunsupported = "refuse"\n'
    )
    with Running(toml) as gateway, httpx.Client(base_url=gateway.origin, timeout=20, trust_env=False) as http:
        assert dropped(ask(http, "chat", "anthropic/echo", {"seed": 1})) == ["seed"]
        assert ask(http, "chat", "strict", {"seed": 1}).status_code == 400
        assert ask(http, "chat", "anthropic/echo", {"seed": 1}, strict).status_code == 400
        assert ask(http, "chat", "lenient", {"seed": 1}, strict).status_code == 400
        assert dropped(ask(http, "chat", "strict", {"seed": 1}, DROPS)) == ["seed"], "the key has the first word"


def test_a_stream_names_what_was_left_out_in_its_head(http: httpx.Client) -> None:
    answer = ask(http, "chat", "lenient", {"seed": 1, "stream": True})
    assert dropped(answer) == ["seed"]
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.what)
def test_every_loss_is_documented_with_its_source(language: str, loss: Loss) -> None:
    page = read(language, "translation.md")
    for client, provider in loss.pairs:
        text = section(page, TOWARDS[language][SPEAKS[provider]])
        became = [last for names, last in rows(text) if f"`{loss.asks[client][0]}`" in names]
        assert became, f"towards {provider}"
        refused = [last.startswith(REFUSED[language]) for last in became]
        assert loss.refused in refused, f"towards {provider} it is {became}"
        assert SOURCES[SPEAKS[provider]] in text


def rows(text: str) -> list[tuple[str, str]]:
    """Of a table of three columns, the last two: members, and what becomes of them."""
    return re.findall(r"^\|[^|\n]*\|([^|\n]*)\| *([^|\n]*)\|$", text, re.MULTILINE)


REFUSED = {"en": "refused", "zh": "拒绝"}
TOWARDS = {
    "en": {
        "responses": "Towards Responses providers",
        "chat": "Towards chat providers",
        "messages": "Towards Anthropic",
        "gemini": "Towards Gemini",
    },
    "zh": {
        "responses": "发往 Responses 接口的提供方",
        "chat": "发往 chat 接口的提供方",
        "messages": "发往 Anthropic",
        "gemini": "发往 Gemini",
    },
}
