"""`Expect: 100-continue` (RFC 9110 §10.1.1): the body is only asked for when it is wanted."""

import pytest

from tests.server.conftest import KEY
from tests.support.raw import HELLO, Raw, get, post, request
from tests.support.running import Running

EXPECT = "Expect: 100-continue"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(*headers: str, length: int = len(HELLO), path: str = "/v1/responses", host: str = "localhost") -> bytes:
    return request("POST", path, *headers, EXPECT, f"Content-Length: {length}", host=host)


def test_a_body_that_is_wanted_is_asked_for_once(gateway: Running) -> None:
    with Raw(gateway) as client:
        for _ in range(2):
            client.send(head())
            assert client.until(b"\r\n\r\n") == CONTINUE
            client.send(HELLO[:10])
            assert client.silent(0.05)
            assert client.ask(HELLO[10:]).status == 200
        client.send(request("POST", "/v1/responses", "expect: 100-CONTINUE", "Transfer-Encoding: chunked"))
        assert client.until(b"\r\n\r\n") == CONTINUE
        assert client.ask(b"%x\r\n%b\r\n0\r\n\r\n" % (len(HELLO), HELLO)).status == 200


def test_a_body_that_is_already_there_is_not_asked_for(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(head() + HELLO).status == 200
        client.send(head() + HELLO[:5])
        assert client.silent(0.05)
        assert client.ask(HELLO[5:]).status == 200
        assert client.ask(get("/healthz", EXPECT)).status == 200


def test_a_body_of_a_cold_route_is_asked_for_too(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(head(path="/nowhere"))
        assert client.until(b"\r\n\r\n") == CONTINUE
        assert client.ask(HELLO).status == 404


@pytest.mark.security("SEC-API2-ORDER")
@pytest.mark.parametrize(
    ("headers", "status"),
    [((), 401), (("Authorization: Bearer wrong",), 401), ((f"Authorization: Bearer {KEY}",), 100)],
)
def test_the_key_is_looked_at_first(keyed: Running, headers: tuple[str, ...], status: int) -> None:
    with Raw(keyed) as client:
        answer = client.ask(head(*headers))
        assert answer.status == status
        if status != 100:
            assert answer.closes
            assert client.rest() == b""


def test_the_size_is_looked_at_first(tight: Running) -> None:
    with Raw(tight) as client:
        answer = client.ask(head(length=65537))
        assert answer.status == 413
        assert answer.closes
        assert client.rest() == b""


def test_the_host_is_looked_at_first(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(head(host="example.com")).status == 403


@pytest.mark.parametrize("expectation", ["200-ok", "100-continue, 200-ok", "a=b"])
def test_any_other_expectation_gets_417(gateway: Running, expectation: str) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(HELLO, f"Expect: {expectation}"))
        assert refusal.status == 417
        assert refusal.code == "expectation_failed"
        assert refusal.closes


def test_http_1_0_knows_no_expectations(gateway: Running) -> None:
    with Raw(gateway) as client:
        head = b"POST /v1/responses HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(HELLO)
        client.send(head)
        assert client.silent(0.05)
        assert client.ask(HELLO).status == 200


def test_a_pipelined_body_is_asked_for_when_its_turn_comes(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(post(b'{"model":"sim/echo?delay=100","input":"first"}') + head())
        assert client.response().json["output"][0]["content"][0]["text"] == "first"
        assert client.until(b"\r\n\r\n") == CONTINUE
        assert client.ask(HELLO).status == 200
