"""Open mode answers only this machine's own pages and names; other pages are named in `cors_origins`."""

import pytest

from tests.server.conftest import KEY
from tests.support.raw import HELLO, Raw, frames, get, post, request
from tests.support.running import SIM_ONLY, Running
from tidegate.server.admin.table import TABLE

PAGE = "https://chat.example.com"
STREAM = b'{"model":"sim/lorem?chunks=3","input":"x","stream":true}'
ALLOWING = SIM_ONLY.replace("[server]", f'[server]\ncors_origins = ["{PAGE}"]')


@pytest.fixture(scope="module", params=["open", "keyed"])
def allowing(request: pytest.FixtureRequest) -> object:
    toml = ALLOWING if request.param == "open" else f'{ALLOWING}\n[[keys]]\nname = "app"\nsecret = "{KEY}"\n'
    with Running(toml) as running:
        yield running


@pytest.mark.security("SEC-API8-HOST")
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.5",
        "0.0.0.0",
        "[::2]",
        "[fe80::1]",
        "",
    ],
)
def test_open_mode_refuses_a_foreign_host(gateway: Running, host: str) -> None:
    """A page of `host` that is made to resolve to 127.0.0.1 would otherwise read answers (DNS rebinding)."""
    for sent in (post(host=host), get("/v1/models", host=host), get("/healthz", host=host)):
        with Raw(gateway) as client:
            refusal = client.ask(sent)
            assert refusal.status == 403
            assert refusal.code == "host_not_allowed"
            assert "server.allow_open" in refusal.error["message"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.9.10:1", "[::1]", "[::1]:8080", "tidegate.localhost:8080"],
)
def test_open_mode_answers_to_every_name_of_this_machine(gateway: Running, host: str) -> None:
    with Raw(gateway) as client:
        assert client.ask(post(host=host)).status == 200


def test_open_mode_answers_an_old_client_that_names_no_host(gateway: Running) -> None:
    """No browser is one; load balancers' probes are."""
    with Raw(gateway) as client:
        assert client.ask(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


@pytest.mark.security("SEC-API8-ORIGIN")
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "file://",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://[",
        "chrome-extension://abc",
        "",
    ],
)
def test_open_mode_refuses_a_foreign_origin(gateway: Running, origin: str) -> None:
    for sent in (
        post(HELLO, f"Origin: {origin}"),
        post(HELLO, f"Origin: {origin}", "Content-Type: text/plain"),
        get("/v1/models", f"Origin: {origin}"),
    ):
        with Raw(gateway) as client:
            refusal = client.ask(sent)
            assert refusal.status == 403
            assert refusal.code == "origin_not_allowed"
            assert not refusal.all("access-control-allow-origin")


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1:8080", "https://[::1]:9", "http://app.localhost"]
)
def test_open_mode_answers_pages_of_this_machine(gateway: Running, origin: str) -> None:
    with Raw(gateway) as client:
        assert client.ask(post(HELLO, f"Origin: {origin}")).status == 200


def test_with_keys_neither_host_nor_origin_is_restricted(keyed: Running) -> None:
    """The page has no key, unless its user has given it one."""
    with Raw(keyed) as client:
        headers = (f"Authorization: Bearer {KEY}", "Origin: https://elsewhere.example")
        answer = client.ask(post(HELLO, *headers, host="gateway.example.com"))
        assert answer.status == 200
        assert not answer.all("access-control-allow-origin")


def test_an_allowed_page_may_read_answers_streams_and_errors_of_both_lanes(allowing: Running) -> None:
    key, origin = f"Authorization: Bearer {KEY}", f"Origin: {PAGE}"
    with Raw(allowing) as client:
        for sent, status in (
            (post(HELLO, key, origin), 200),
            (post(STREAM, key, origin), 200),
            (post(b"{", key, origin), 400),
            (get("/v1/models", key, origin), 200),
            (get("/nowhere", key, origin), 404),
            (request("PUT", "/v1/responses", key, origin), 405),
        ):
            answer = client.ask(sent)
            assert answer.status == status
            assert answer["access-control-allow-origin"] == PAGE
            assert {"x-request-id", "request-id"} <= set(answer["access-control-expose-headers"].split(", "))
            assert answer["vary"] == "origin"
            assert not answer.all("access-control-allow-credentials")
        assert frames(client.ask(post(STREAM, key, origin)).body)
        refusal = client.ask(post(b" " * 10, key, origin, "Expect: nothing"))
        assert refusal.status == 417
        assert refusal["access-control-allow-origin"] == PAGE


def test_a_preflight_of_an_allowed_page_needs_no_key(allowing: Running) -> None:
    asked = "authorization,content-type,x-stainless-os"
    with Raw(allowing) as client:
        for path in ("/v1/responses", "/v1/models", "/v1/chat/completions"):
            answer = client.ask(
                request(
                    "OPTIONS",
                    path,
                    f"Origin: {PAGE}",
                    "Access-Control-Request-Method: POST",
                    f"Access-Control-Request-Headers: {asked}",
                )
            )
            assert answer.status == 204
            assert answer["access-control-allow-origin"] == PAGE
            assert answer["access-control-allow-headers"] == asked
            assert {"POST", *(entry.method for entry in TABLE)} <= set(
                answer["access-control-allow-methods"].split(", ")
            )
            assert answer["access-control-max-age"] == "600"
            assert answer.all("vary") == ["access-control-request-headers", "origin"]
            assert not answer.all("content-length")
            assert answer["x-request-id"]


@pytest.mark.security("SEC-API8-CORS")
def test_an_unlisted_page_gets_no_leave(allowing: Running) -> None:
    for other in ("https://evil.example", f"{PAGE}.evil.example", f"{PAGE}:8443", "http://chat.example.com", "null"):
        with Raw(allowing) as client:
            answer = client.ask(
                request("OPTIONS", "/v1/responses", f"Origin: {other}", "Access-Control-Request-Method: POST")
            )
            assert answer.status in (403, 405)
            assert not answer.all("access-control-allow-origin")


def test_two_origins_are_refused(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(post(HELLO, "Origin: http://localhost", "Origin: https://evil.example")).status == 400
