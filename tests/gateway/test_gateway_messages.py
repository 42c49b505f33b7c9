"""What only clients of Anthropic's API have: headers that go on to the provider, and token counts."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.support.raw import Raw, post, request
from tests.support.running import Running
from tidegate.sim.connection import SimRequest

TOML = """
[server]
port = 0
[providers.claude]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789"]
[providers.ours]
kind = "anthropic"
base_url = "{sim}"
credentials = ["sk-ant-0123456789"]
headers = { anthropic-beta = "of-the-operator" }
[providers.chatty]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
[providers.openai]
base_url = "{sim}"
credentials = ["sk-0123456789"]
[providers.google]
kind = "gemini"
base_url = "{sim}"
credentials = ["AIzaSyD-0123456789abcdefghijklmnopqrst"]
"""
OTHERS = ["chatty", "openai", "google"]
COUNT = "/v1/messages/count_tokens"
SAID = [{"role": "user", "content": "x"}]
CONTENTS = [{"parts": [{"text": "x"}]}]
VERSION = "2023-06-01"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running(TOML) as running:
        yield running


@pytest.fixture(scope="module")
def claude(gateway: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.origin, api_key="unused", max_retries=0, timeout=20) as made:
        yield made


def ask(gateway: Running, model: str, *headers: str, path: str = "/v1/messages", **members: Any) -> SimRequest:
    """One request; what of it reached the provider."""
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **members}
    if path == "/v1/messages":
        asked["max_tokens"] = 100
    with Raw(gateway) as client:
        answer = client.ask(post(json.dumps(asked).encode(), *headers, path=path))
        assert answer.status == 200, answer.body
    return gateway.sim.requests[-1]


# -- headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_beta_and_version_reach_a_provider_of_the_same_api(gateway: Running, stream: bool) -> None:
    seen = ask(
        gateway,
        "claude/echo",
        "Anthropic-Beta: context-management-2025-06-27,effort-2025-11-24",
        "anthropic-version: 2024-01-01",
        "x-api-key: of-the-client",
        "anthropic-dangerous-direct-browser-access: true",
        stream=stream,
    )
    assert seen.headers["anthropic-beta"] == "context-management-2025-06-27,effort-2025-11-24"
    assert seen.headers["anthropic-version"] == "2024-01-01"
    assert seen.headers["x-api-key"] == "sk-ant-0123456789"
    assert not [name for name in seen.headers if "dangerous" in name]


def test_without_them_the_provider_gets_its_own_version(gateway: Running) -> None:
    seen = ask(gateway, "claude/echo")
    assert seen.headers["anthropic-version"] == VERSION
    assert "anthropic-beta" not in seen.headers


def test_a_list_in_several_lines_is_one_list(gateway: Running) -> None:
    seen = ask(gateway, "claude/echo", "anthropic-beta: one", "anthropic-beta: two,three")
    assert seen.headers["anthropic-beta"] == "one,two,three"


def test_the_operators_header_wins(gateway: Running) -> None:
    seen = ask(gateway, "ours/echo", "anthropic-beta: of-the-client", "anthropic-version: 2024-01-01")
    assert (seen.headers["anthropic-beta"], seen.headers["anthropic-version"]) == ("of-the-operator", "2024-01-01")


@pytest.mark.parametrize("provider", OTHERS)
def test_they_do_not_reach_a_provider_of_another_api(gateway: Running, provider: str) -> None:
    seen = ask(gateway, f"{provider}/echo", "anthropic-beta: one", f"anthropic-version: {VERSION}")
    assert not [name for name in seen.headers if name.startswith("anthropic")]


def test_they_do_not_travel_with_requests_of_another_api(gateway: Running) -> None:
    with Raw(gateway) as client:
        body = b'{"model":"claude/echo","input":"Hello"}'
        assert client.ask(post(body, "anthropic-beta: one", "anthropic-version: 1")).status == 200
    seen = gateway.sim.requests[-1]
    assert "anthropic-beta" not in seen.headers
    assert seen.headers["anthropic-version"] == VERSION


@pytest.mark.security("SEC-INJ-RELAYED")
@pytest.mark.parametrize("value", ["caf\xe9", "a\tb", "x" * 5000])
def test_a_header_that_cannot_go_on_is_refused(gateway: Running, value: str) -> None:
    asked = {"model": "claude/echo", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
    with Raw(gateway) as client:
        answer = client.ask(post(json.dumps(asked).encode(), f"anthropic-beta: {value}", path="/v1/messages"))
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert "anthropic-beta" in answer.json["error"]["message"]


def test_a_folded_header_adds_no_line(gateway: Running) -> None:
    asked = json.dumps(
        {"model": "claude/echo", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    ).encode()
    calls = len(gateway.sim.requests)
    for value in ("one\r\n x-evil: 1", "one\rx-evil: 1", "one\nx-evil: 1"):
        with Raw(gateway) as client:
            client.ask(post(asked, f"anthropic-beta: {value}", path="/v1/messages"))
    assert not [one for one in list(gateway.sim.requests)[calls:] if "x-evil" in one.headers]


# -- counts -----------------------------------------------------------------------------------------------------


def test_a_provider_of_the_same_api_counts_itself(gateway: Running, claude: anthropic.Anthropic) -> None:
    asked: Any = [{"role": "user", "content": "潮汐 " * 100}]
    answer = claude.beta.messages.with_raw_response.count_tokens(
        model="claude/echo", messages=asked, system="Be brief", betas=["token-counting-2024-11-01"]
    )
    assert "tidegate-usage" not in answer.headers
    assert answer.headers["tidegate-deployment"] == "claude/echo"
    seen = gateway.sim.requests[-1]
    assert seen.path.partition("?")[0] == COUNT
    assert seen.headers["anthropic-beta"].startswith("token-counting-2024-11-01")
    assert json.loads(seen.body) == {"model": "echo", "messages": asked, "system": "Be brief"}
    assert answer.parse().input_tokens > 50
    entry = gateway.usage(answer.headers["x-request-id"])
    assert (entry["endpoint"], entry["attempts"]) == ("messages/count_tokens", 1)
    assert (entry["input_tokens"], entry["output_tokens"], entry["estimated"]) == (0, 0, False)


@pytest.mark.parametrize("provider", OTHERS)
def test_for_any_other_it_is_estimated(gateway: Running, claude: anthropic.Anthropic, provider: str) -> None:
    calls = len(gateway.sim.requests)
    tool: Any = {"name": "tide", "input_schema": {"type": "object"}}
    answer = claude.messages.with_raw_response.count_tokens(
        model=f"{provider}/echo", messages=[{"role": "user", "content": "tide " * 1000}], tools=[tool]
    )
    assert answer.headers["tidegate-usage"] == "estimated"
    assert answer.headers["tidegate-attempts"] == "0"
    assert 1200 < answer.parse().input_tokens < 1400
    assert len(gateway.sim.requests) == calls
    entry = gateway.usage(answer.headers["x-request-id"])
    assert (entry["status"], entry["ending"], entry["estimated"]) == (200, "completed", True)
    assert (entry["input_tokens"], entry["deployment"]) == (0, f"{provider}/echo")


@pytest.mark.parametrize(
    ("path", "ask", "names"),
    [
        (COUNT, {"messages": SAID, "max_tokens": 5, "mcp_servers": [], "thinking": None}, "max_tokens, mcp_servers"),
        ("/v1/responses/input_tokens", {"input": "x", "max_output_tokens": 5, "tidal": 1}, "max_output_tokens, tidal"),
        (
            "/v1beta/models/chatty/echo:countTokens",
            {"generate_content_request": {"model": "m", "contents": CONTENTS, "tidal": 1}, "wave": 2},
            "wave, generateContentRequest.tidal",
        ),
    ],
)
def test_members_that_no_estimate_looks_at_are_named(
    gateway: Running, path: str, ask: dict[str, Any], names: str
) -> None:
    body = ask if "models" in path else {"model": "chatty/echo", **ask}
    with Raw(gateway) as client:
        answer = client.ask(post(json.dumps(body).encode(), path=path))
        assert (answer.status, answer["tidegate-usage"]) == (200, "estimated")
        assert answer["tidegate-dropped"] == names


def test_images_and_documents_do_not_count_by_their_bytes(claude: anthropic.Anthropic) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 80_000}}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image, {"type": "text", "text": "seen"}]}
    messages: Any = [
        {"role": "user", "content": [image, pdf]},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    counted = claude.messages.count_tokens(model="chatty/echo", messages=messages).input_tokens
    assert 5200 < counted < 5500


def test_errors_are_anthropics(gateway: Running, claude: anthropic.Anthropic) -> None:
    said: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        claude.messages.count_tokens(model="nobody/echo", messages=said)
    for model in ("chatty/echo", "claude/echo"):
        with pytest.raises(anthropic.BadRequestError, match="messages"):
            claude.messages.count_tokens(model=model, messages=[])
        with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\].input_schema"):
            claude.messages.count_tokens(model=model, messages=said, tools=[{"name": "t"}])  # type: ignore[list-item]


def test_a_body_of_the_size_that_agents_send(gateway: Running) -> None:
    seen = ask(gateway, "claude/echo", path=COUNT, system=[{"type": "text", "text": "x" * 1000}] * 100)
    assert len(seen.body) > 100_000


# -- the id of a request ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["claude", "chatty"])
def test_clients_find_the_id_of_a_request_where_anthropic_puts_it(claude: anthropic.Anthropic, provider: str) -> None:
    said: Any = [{"role": "user", "content": "Hello"}]
    whole = claude.messages.with_raw_response.create(model=f"{provider}/echo", max_tokens=9, messages=said)
    assert whole.parse()._request_id == whole.headers["x-request-id"]
    with claude.messages.stream(model=f"{provider}/echo", max_tokens=9, messages=said) as stream:
        assert stream.request_id == stream.response.headers["x-request-id"]
    with pytest.raises(anthropic.APIStatusError) as refused:
        claude.messages.create(model=f"{provider}/echo?status=400", max_tokens=9, messages=said)
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]
    assert refused.value.body["request_id"] == refused.value.request_id  # type: ignore[index]
    counted = claude.messages.count_tokens(model=f"{provider}/echo", messages=said)
    assert counted._request_id
    assert claude.models.list()._request_id


@pytest.mark.parametrize("provider", ["claude", "chatty"])
def test_an_error_within_a_stream_has_the_id_of_the_request(claude: anthropic.Anthropic, provider: str) -> None:
    said: Any = [{"role": "user", "content": "Hello"}]
    with (
        claude.messages.stream(model=f"{provider}/lorem?fault=error&after=4", max_tokens=9, messages=said) as stream,
        pytest.raises(anthropic.APIStatusError) as broken,
    ):
        stream.until_done()
    assert broken.value.body["request_id"] == stream.request_id  # type: ignore[index]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/messages", 405), ("DELETE", "/v1/messages?beta=true", 405), ("POST", "/v1/messages/batches", 404)],
)
def test_so_they_do_where_nothing_is_relayed(gateway: Running, method: str, path: str, status: int) -> None:
    with Raw(gateway) as client:
        answer = client.ask(request(method, path))
        assert answer.status == status
        assert answer["request-id"] == answer["x-request-id"] == answer.json["request_id"]
        assert not client.ask(request(method, "/v1/messagesx")).all("request-id")


def test_other_clients_find_it_only_where_theirs_look(gateway: Running) -> None:
    with Raw(gateway) as client:
        answer = client.ask(post(b'{"model":"claude/echo","input":"Hello"}'))
        assert answer["x-request-id"]
        assert not answer.all("request-id")
