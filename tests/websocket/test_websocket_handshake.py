"""Who may open a WebSocket, and how. All of it is decided before the connection is given away."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import OP_TEXT, Frame

from tests.support.raw import Raw, Response, get, post, request
from tests.support.running import SIM_ONLY, Running
from tests.support.sockets import Socket

KEY = "sk-test-0123456789abcdef0123456789abcdef"
HEADERS = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
CREATE = json.dumps({"type": "response.create", "model": "sim/echo", "input": "x"}).encode()


def without(name: str, *more: str) -> tuple[str, ...]:
    return (*(line for line in HEADERS if not line.startswith(f"{name}:")), *more)


def opening(*headers: str, path: str = "/v1/responses") -> bytes:
    return get(path, *(headers or HEADERS))


def masked(data: bytes) -> bytes:
    """One text message of a client."""
    return Frame(OP_TEXT, data).serialize(mask=True)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Running]:
    with Running(f'{SIM_ONLY}\n[[keys]]\nname = "app"\nsecret = "{KEY}"\n') as running:
        yield running


def refused(gateway: Running, data: bytes) -> Response:
    """The HTTP answer that refuses the upgrade; the connection ends with it."""
    with Raw(gateway) as client:
        answer = client.ask(data)
        assert answer.closes
        assert client.rest() == b""
    return answer


def test_the_handshake_is_the_one_of_the_rfc(gateway: Running) -> None:
    with Raw(gateway) as client:
        answer = client.send(opening(*HEADERS, "X-Request-Id: mine")).response(head_only=True)
        assert answer.status == 101
        assert answer["upgrade"] == "websocket"
        assert answer["connection"] == "Upgrade"
        assert answer["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
        assert answer["x-request-id"] == "mine"
        assert answer["date"]
        assert not answer.all("sec-websocket-extensions")
        assert not answer.all("content-length")


def test_no_compression_is_agreed_on(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(opening(*HEADERS, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
        answer = client.response(head_only=True)
        assert answer.status == 101
        assert not answer.all("sec-websocket-extensions")


def test_what_comes_with_the_handshake_is_not_lost(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(opening() + masked(CREATE))
        assert client.response(head_only=True).status == 101
        client.until(b"response.completed")


def test_a_connection_may_have_served_requests_before(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(post()).status == 200
        assert client.ask(get("/healthz")).status == 200
        client.send(opening())
        assert client.response(head_only=True).status == 101
        client.send(masked(CREATE)).until(b"response.completed")


def test_it_does_not_begin_before_the_requests_before_it_have_been_answered(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(post(b'{"model":"sim/echo?delay=200","input":"x"}') + opening())
        assert client.response().status == 200
        refusal = client.response()
        assert refusal.status == 426
        assert "have been answered" in refusal.error["message"]
        assert client.rest() == b""


def test_in_single_bytes_it_is_the_same(gateway: Running) -> None:
    with Raw(gateway) as client:
        for byte in opening() + masked(CREATE):
            client.send(bytes((byte,)))
        assert client.response(head_only=True).status == 101
        client.until(b"response.completed")


def test_a_query_does_not_change_the_path(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.send(opening(path="/v1/responses?a=b")).response(head_only=True).status == 101


# -- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.security("SEC-API5-ROUTE")
@pytest.mark.parametrize(
    "headers", [(), ("Authorization: Bearer sk-wrong",), ("Authorization: Basic eDp5",), ("X-Api-Key: sk-wrong",)]
)
def test_without_a_key_that_is_known_there_is_no_websocket(keyed: Running, headers: tuple[str, ...]) -> None:
    answer = refused(keyed, opening(*HEADERS, *headers))
    assert answer.status == 401
    assert answer.code == "invalid_api_key"
    assert answer["www-authenticate"] == "Bearer"
    entry = keyed.usage(answer["x-request-id"])
    assert (entry["ending"], entry["status"]) == ("refused", 401)


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {KEY}"}, {"X-Api-Key": KEY}])
def test_the_key_stands_where_it_does_over_http(keyed: Running, headers: dict[str, str]) -> None:
    with Socket(keyed, headers=headers) as client:
        first = client.turn(input="x")[0]
    assert keyed.usage(first["headers"]["x-request-id"])["key"] == "app"


@pytest.mark.security("SEC-API8-ORIGIN")
def test_in_open_mode_no_foreign_page_gets_one(gateway: Running) -> None:
    calls = len(gateway.sim.requests)
    answer = refused(gateway, opening(*HEADERS, "Origin: https://evil.example.com") + masked(CREATE))
    assert answer.status == 403
    assert answer.code == "origin_not_allowed"
    assert len(gateway.sim.requests) == calls
    with pytest.raises(InvalidStatus):
        Socket(gateway, origin="https://evil.example.com")
    with Socket(gateway, origin=f"http://127.0.0.1:{gateway.port}") as client:
        assert client.response(input="x")


@pytest.mark.security("SEC-API8-HOST")
def test_in_open_mode_the_host_must_be_this_machine(gateway: Running) -> None:
    answer = refused(gateway, get("/v1/responses", *HEADERS, host="rebound.example.com"))
    assert (answer.status, answer.code) == (403, "host_not_allowed")


def test_an_allowed_page_gets_one() -> None:
    allowed = SIM_ONLY.replace("[server]", '[server]\ncors_origins = ["https://chat.example.com"]')
    with Running(allowed) as gateway, Socket(gateway, origin="https://chat.example.com") as client:
        assert client.response(input="x")


# -- what is no handshake ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (opening(*without("Sec-WebSocket-Key")), 400, "invalid_websocket_key"),
        (opening(*without("Sec-WebSocket-Key", "Sec-WebSocket-Key: eA==")), 400, "invalid_websocket_key"),
        (opening(*without("Sec-WebSocket-Key", "Sec-WebSocket-Key: !")), 400, "invalid_websocket_key"),
        (opening(*without("Sec-WebSocket-Key", "Sec-WebSocket-Key: \xff")), 400, "invalid_websocket_key"),
        (opening(*HEADERS, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "ambiguous_request"),
        (opening(*HEADERS, "Content-Length: 5") + b"hello", 400, "ambiguous_request"),
        (opening(*HEADERS, "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "ambiguous_request"),
        (opening(*HEADERS, "X-Long: " + "x" * 70_000), 431, "headers_too_large"),
        (opening(path="/v1/responses/" + "x" * 20_000), 414, "target_too_long"),
        (opening(path="/v1/realtime"), 426, "websocket_not_offered"),
        (opening(path="/v1/responses/"), 426, "websocket_not_offered"),
        (opening(path="/v1/%72esponses"), 426, "websocket_not_offered"),
        (request("POST", "/v1/responses", *HEADERS, body=b""), 426, "websocket_not_offered"),
        (opening().replace(b"HTTP/1.1", b"HTTP/1.0"), 426, "websocket_not_offered"),
    ],
)
def test_anything_else_is_refused_in_http(gateway: Running, data: bytes, status: int, code: str) -> None:
    answer = refused(gateway, data)
    assert answer.status == status
    assert answer.code == code


@pytest.mark.parametrize("version", ["8", "12", "14", "", "13, 8"])
def test_another_version_is_told_which_one_is_spoken(gateway: Running, version: str) -> None:
    answer = refused(gateway, opening(*without("Sec-WebSocket-Version", f"Sec-WebSocket-Version: {version}")))
    assert (answer.status, answer.code) == (426, "websocket_version_not_supported")
    assert answer["sec-websocket-version"] == "13"
    assert answer["upgrade"] == "websocket"


def test_without_an_upgrade_the_path_answers_as_ever(gateway: Running) -> None:
    with Raw(gateway) as client:
        for headers in ((), ("Upgrade: websocket",), ("Connection: upgrade",)):
            answer = client.ask(get("/v1/responses", *headers))
            assert (answer.status, answer.code) == (405, "method_not_allowed")
            assert answer["allow"] == "POST"
        assert client.ask(post()).status == 200


@pytest.mark.parametrize("name", ["websocket", "WebSocket", "h2c, websocket"])
def test_the_names_of_the_handshake_have_no_case(gateway: Running, name: str) -> None:
    with Raw(gateway) as client:
        headers: Any = without("Upgrade", f"Upgrade: {name}")
        assert client.send(opening(*headers)).response(head_only=True).status == 101
