"""Who may call: open mode, and keys in every form that clients send them."""

import json
from pathlib import Path

import pytest

from tests.server.conftest import KEY
from tests.support.raw import HELLO, Raw, get, post, request
from tests.support.running import SIM_ONLY, Running, wait_for

OTHER = "sk-test-ffffffffffffffffffffffffffffffff"


@pytest.mark.row("S8", "S9")
@pytest.mark.parametrize(
    "headers", [(), ("Authorization: Bearer anything",), ("Authorization: Basic eDp5",), ("x-api-key: unused",)]
)
def test_without_keys_authorization_is_optional_and_not_looked_at(gateway: Running, headers: tuple[str, ...]) -> None:
    with Raw(gateway) as client:
        assert client.ask(post(HELLO, *headers)).status == 200
        assert client.ask(get("/v1/models", *headers)).status == 200


@pytest.mark.row("S7", "S10")
@pytest.mark.parametrize(
    "header",
    [
        f"Authorization: Bearer {KEY}",
        f"authorization: bearer {KEY}",
        f"AUTHORIZATION: BEARER {KEY}",
        f"Authorization: bEaReR {KEY}",
        f"Authorization:   Bearer    {KEY}   ",
        f"Authorization:\tBearer {KEY}\t",
        f"x-api-key: {KEY}",
        f"X-Api-Key:  {KEY} ",
        f"api-key: {KEY}",
    ],
)
def test_a_known_key_is_taken_in_every_form(keyed: Running, header: str) -> None:
    with Raw(keyed) as client:
        assert client.ask(post(HELLO, header)).status == 200
        assert client.ask(get("/v1/models", header)).status == 200


@pytest.mark.security("SEC-API2-MALFORMED")
@pytest.mark.row("S7", "S10")
@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ((), "did not provide"),
        (("Authorization: Bearer",), "did not provide"),
        (("Authorization: Bearer ",), "did not provide"),
        (("Authorization:",), "Bearer"),
        ((f"Authorization: Bearer {OTHER}",), "not known"),
        ((f"Authorization: Bearer {KEY}x",), "not known"),
        ((f"Authorization: Bearer {KEY[:-1]}",), "not known"),
        ((f"Authorization: Bearer {KEY} {KEY}",), "not known"),
        ((f"Authorization: Bearer{KEY}",), "scheme Bearer"),
        ((f"Authorization: {KEY}",), "scheme Bearer"),
        ((f"Authorization: Basic {KEY}",), "scheme Bearer"),
        (("Authorization: Bearer \xff\xfe",), "not known"),
        (("Authorization: Bearer ' OR 1=1 --",), "not known"),
        (("x-api-key: ",), "did not provide"),
        ((f"x-api-key: {OTHER}",), "not known"),
        ((f"Authorization: Bearer {KEY}", f"x-api-key: {OTHER}"), "two different"),
        ((f"Authorization: Bearer {OTHER}", f"api-key: {KEY}"), "two different"),
        ((f"x-api-key: {KEY}", f"api-key: {OTHER}"), "two different"),
        (("Cookie: key=" + KEY,), "did not provide"),
    ],
)
def test_anything_else_gets_a_401_that_helps(keyed: Running, headers: tuple[str, ...], says: str) -> None:
    before = [one for one in keyed.sim.requests if one.method == "POST"]
    for sent in (post(HELLO, *headers), get("/v1/models", *headers), get("/v1/models/sim/echo", *headers)):
        with Raw(keyed) as client:
            refusal = client.ask(sent)
            assert refusal.status == 401
            assert refusal.code == "invalid_api_key"
            assert refusal.error["type"] == "invalid_request_error"
            assert refusal.error["param"] is None
            assert refusal["www-authenticate"] == "Bearer"
            message = refusal.error["message"]
            assert says in message
            assert "Authorization: Bearer <key>" in message
            assert KEY not in message
            assert OTHER not in message
    assert [one for one in keyed.sim.requests if one.method == "POST"] == before


def test_the_same_key_in_two_headers_is_one_key(keyed: Running) -> None:
    with Raw(keyed) as client:
        assert (
            client.ask(post(HELLO, f"Authorization: Bearer {KEY}", f"x-api-key: {KEY}", f"api-key: {KEY}")).status
            == 200
        )


@pytest.mark.security("SEC-API2-ORDER")
def test_the_401_comes_before_the_body(keyed: Running) -> None:
    """Who has no key cannot make us hold a body."""
    with Raw(keyed) as client:
        refusal = client.ask(request("POST", "/v1/responses", "Content-Length: 30000000"))
        assert refusal.status == 401
        assert refusal.closes


@pytest.mark.parametrize(
    ("sent", "status", "endpoint", "error"),
    [
        (post(HELLO, path="/v1/chat/completions"), 401, "chat", "invalid_api_key"),
        (post(HELLO, path="/v1/messages"), 401, "messages", "invalid_api_key"),
        (get("/", "x: " + "y" * 70_000), 431, "", "headers_too_large"),
        (get("/", host=None), 400, "", "missing_host"),
    ],
)
def test_a_request_that_is_refused_by_its_head_leaves_an_entry(
    keyed: Running, sent: bytes, status: int, endpoint: str, error: str
) -> None:
    with Raw(keyed) as client:
        reply = client.ask(sent)
    assert reply.status == status
    entry = keyed.usage(reply["x-request-id"])
    assert (entry["status"], entry["ending"], entry["error"]) == (status, "refused", error)
    assert entry.get("endpoint", "") == endpoint
    with Raw(keyed) as client:
        metrics = client.ask(get("/metrics")).body.decode()
    assert f'tidegate_requests_total{{endpoint="{endpoint}",provider="",status="{status}"}}' in metrics


def test_health_needs_no_key(keyed: Running) -> None:
    with Raw(keyed) as client:
        for path in ("/healthz", "/readyz", "/openapi.json", "/metrics", "/"):
            assert client.ask(get(path)).status == 200


@pytest.mark.security("SEC-CRED-CLIENT")
def test_a_key_does_not_reach_the_provider(keyed: Running) -> None:
    with Raw(keyed) as client:
        marker = b'{"model":"sim/echo","input":"whose key is it"}'
        assert client.ask(post(marker, f"Authorization: Bearer {KEY}")).status == 200
    (call,) = [one for one in keyed.sim.requests if b"whose key" in one.body]
    assert KEY not in str(call.headers)


@pytest.mark.security("SEC-API2-REQUEST")
@pytest.mark.parametrize("headers", [(), (f"Authorization: Bearer {OTHER}",), (f"Authorization: Bearer {KEY}x",)])
def test_a_key_counts_for_its_own_request_only(keyed: Running, headers: tuple[str, ...]) -> None:
    with Raw(keyed) as client:
        for _ in range(3):
            assert client.ask(post(HELLO, f"Authorization: Bearer {KEY}")).status == 200
        assert client.ask(post(HELLO, *headers)).status == 401


@pytest.mark.fault("FAULT-KEY-REVOKED")
@pytest.mark.security("SEC-API2-REVOKED")
def test_a_key_that_a_reload_takes_away_is_refused_on_open_connections(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    keys = '{}\n[[keys]]\nname = "app"\nsecret = "{}"\n'
    with Running(keys.format(SIM_ONLY, KEY), path=path) as gateway, Raw(gateway) as client:
        for _ in range(2):
            assert client.ask(post(HELLO, f"Authorization: Bearer {KEY}")).status == 200
        path.write_text(keys.format(SIM_ONLY, f"{KEY}0").replace("{sim}", gateway.sim.base_url), "utf-8")
        gateway.call(gateway.server._parts.reload)
        assert wait_for(lambda: [line for line in gateway.log_lines if line["event"] == "reloaded"]), gateway.log_lines
        assert client.ask(post(HELLO, f"Authorization: Bearer {KEY}")).status == 401


GEMINI = "/v1beta/models/sim/echo:generateContent"
CONTENTS = b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'


@pytest.mark.security("SEC-API2-REQUEST")
@pytest.mark.parametrize("header", ["x-goog-api-key", "x-api-key", "api-key"])
@pytest.mark.parametrize(("path", "body"), [("/v1/responses", HELLO), (GEMINI, CONTENTS)])
def test_no_request_is_let_in_by_the_key_of_another_one_on_its_connection(
    keyed: Running, header: str, path: str, body: bytes
) -> None:
    """A proxy in front of us sends the requests of many clients over one connection."""
    good, bad = f"{header}: {KEY}", f"{header}: {OTHER}"
    for later in ((), (bad,), (f"Authorization: Bearer {KEY}", bad)):
        with Raw(keyed) as client:
            assert client.ask(post(body, good, path=path)).status == 200
            assert client.ask(post(body, *later, path=path)).status == 401
        with Raw(keyed) as client:
            assert client.ask(post(body, f"Authorization: Bearer {KEY}", path=path)).status == 200
            assert client.ask(post(body, *later, path=path)).status == 401


def test_the_key_of_an_address_is_for_that_address_alone(keyed: Running) -> None:
    with Raw(keyed) as client:
        assert client.ask(post(CONTENTS, path=f"{GEMINI}?key={KEY}")).status == 200
        assert client.ask(post(CONTENTS, path=GEMINI)).status == 401


@pytest.mark.parametrize("query", ["key=%ff", "alt=%ff", "%ff=1", "key=%e4%bd%a0", "key", "key=&key="])
def test_any_bytes_in_a_query_are_a_key_or_none(keyed: Running, query: str) -> None:
    for sent in (post(CONTENTS, path=f"{GEMINI}?{query}"), get(f"/v1/models?{query}")):
        with Raw(keyed) as client:
            assert client.ask(sent).status == 401


@pytest.mark.security("SEC-API2-TWO-KEYS")
@pytest.mark.parametrize(("given", "header"), [(KEY, OTHER), (OTHER, KEY)])
def test_a_key_in_the_address_and_another_one_in_a_header_are_two(keyed: Running, given: str, header: str) -> None:
    for sent in (
        post(CONTENTS, f"x-goog-api-key: {header}", path=f"{GEMINI}?key={given}"),
        get(f"/v1/models?key={given}", f"x-goog-api-key: {header}"),
    ):
        with Raw(keyed) as client:
            refusal = client.ask(sent)
        assert refusal.status == 401
        assert b"two different" in refusal.body


@pytest.mark.security("SEC-API2-TWO-KEYS")
@pytest.mark.parametrize("second", [KEY, OTHER])
def test_two_keys_in_one_address_are_ambiguous(keyed: Running, second: str) -> None:
    for path in (GEMINI, "/v1beta/models/sim/echo:countTokens", "/v1beta/models", "/v1/models"):
        query = f"{path}?key={KEY}&key={second}"
        with Raw(keyed) as client:
            refusal = client.ask(post(CONTENTS, path=query) if ":" in path else get(query))
        assert refusal.status == 400
        error = json.loads(refusal.body)["error"]
        assert error["message"] == "The query parameter 'key' is there more than once."
        if ":" in path:
            assert error["status"] == "INVALID_ARGUMENT"


@pytest.mark.security("SEC-API5-ROUTE")
@pytest.mark.row("S7")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        GEMINI,
        "/v1beta/models/sim/echo:streamGenerateContent?alt=sse",
        "/v1beta/models/sim/echo:countTokens",
    ],
)
@pytest.mark.parametrize("headers", [(), (f"Authorization: Bearer {OTHER}",)])
def test_no_endpoint_is_open_once_there_is_a_key(keyed: Running, path: str, headers: tuple[str, ...]) -> None:
    body = (
        CONTENTS if "v1beta" in path else b'{"model":"sim/echo","input":"x","prompt":"x","max_tokens":5,"messages":[]}'
    )
    with Raw(keyed) as client:
        assert client.ask(post(body, *headers, path=path)).status == 401
    with Raw(keyed) as client:
        assert client.ask(post(body, f"Authorization: Bearer {KEY}", path=path)).status != 401
