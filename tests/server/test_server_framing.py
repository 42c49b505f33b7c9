"""Requests that two servers could read differently are refused, and nothing behind them is read (RFC 9112 §11.2)."""

import pytest

from tests.support.raw import HELLO, Raw, chunk, get, post, request
from tests.support.running import Running

H = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = H + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = get("/healthz")

AMBIGUOUS = {
    "length then coding": H + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding then length": H + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "same length twice": H + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\n{}{}",
    "two lengths": H + b"Content-Length: 4\r\nContent-Length: 2\r\n\r\n{}{}",
    "list of lengths": H + b"Content-Length: 4, 4\r\n\r\n{}{}",
    "length with a plus": H + b"Content-Length: +4\r\n\r\n{}{}",
    "negative length": H + b"Content-Length: -4\r\n\r\n{}{}",
    "hexadecimal length": H + b"Content-Length: 0x4\r\n\r\n{}{}",
    "length with a gap": H + b"Content-Length: 4 4\r\n\r\n{}{}",
    "empty length": H + b"Content-Length:\r\n\r\n",
    "length beyond 64 bits": H + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "length of many digits": H + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "coding gzip": H + b"Transfer-Encoding: gzip\r\n\r\n",
    "coding gzip, chunked": H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding chunked, identity": H + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "coding identity": H + b"Transfer-Encoding: identity\r\n\r\n",
    "coding empty": H + b"Transfer-Encoding:\r\n\r\n",
    "coding xchunked": H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding quoted": H + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding behind a control byte": H + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "coding twice": H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding in HTTP/1.0": b"POST /v1/responses HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded header": H + b"X-A: a\r\n b\r\n\r\n",
    "folded coding": H + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunk size no number": CHUNKED + b"zz\r\n",
    "chunk size negative": CHUNKED + b"-1\r\n",
    "chunk size with 0x": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"f" * 17 + b"\r\n{}",
    "chunk size with a space": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "chunk size empty": CHUNKED + b"\r\n{}",
    "chunk with bare line feeds": CHUNKED + b"2\n{}\n0\n\n",
    "chunk extension with a bare line feed": CHUNKED + b"2;a\nx\r\n{}\r\n0\r\n\r\n",
    "chunk longer than it says": CHUNKED + b"2\r\n{}X0\r\n\r\n",
    "bare line feeds": b"POST /v1/responses HTTP/1.1\nHost: localhost\n\n",
    "one bare line feed": b"POST /v1/responses HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n",
    "bare carriage return": b"POST /v1/responses HTTP/1.1\r\nHost: localhost\rX-A: b\r\n\r\n",
    "carriage return in a value": H + b"X-A: a\rb\r\n\r\n",
    "NUL in a value": H + b"X-A: a\0b\r\n\r\n",
    "control byte in a value": H + b"X-A: a\x01b\r\n\r\n",
    "DEL in a value": H + b"X-A: a\x7fb\r\n\r\n",
    "space before the colon": H + b"Content-Length : 4\r\n\r\n{}{}",
    "tab before the colon": H + b"Content-Length\t: 4\r\n\r\n{}{}",
    "space before the first header": b"POST /v1/responses HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "header without a name": H + b": x\r\n\r\n",
    "header without a colon": H + b"abc\r\n\r\n",
    "NUL in a name": H + b"a\0b: x\r\n\r\n",
    "name beyond ASCII": H + b"a\xffb: x\r\n\r\n",
    "no host": b"POST /v1/responses HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "two hosts": H + b"Host: example.com\r\nContent-Length: 2\r\n\r\n{}",
    "the same host twice": H + b"Host: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "host that is a path": b"GET /healthz HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "host with a space": b"GET /healthz HTTP/1.1\r\nHost: local host\r\n\r\n",
    "host with a user": b"GET /healthz HTTP/1.1\r\nHost: localhost@example.com\r\n\r\n",
    "two authorizations": H + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/0.9 by name": b"GET /healthz HTTP/0.9\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower case version": b"GET /healthz http/1.1\r\nHost: localhost\r\n\r\n",
    "target without a slash": b"GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "target with a space": b"GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "target with NUL": b"GET /health\0z HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "target beyond ASCII": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "target of another scheme": b"GET ftp://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "target of another host": b"GET http://example.com/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "target with a user": b"GET http://a@localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk for GET": b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown method": b"BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "garbage": b"hello world\r\n\r\n",
    "RTSP": b"DESCRIBE rtsp://localhost/ RTSP/1.0\r\n\r\n",
}


@pytest.mark.security("SEC-SMUGGLE-FRAMING")
@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_read(gateway: Running, sent: bytes) -> None:
    before = [one for one in gateway.sim.requests if one.method == "POST"]
    with Raw(gateway) as client:
        refusal = client.send(sent + SMUGGLED).response()
        assert refusal.status == 400
        assert refusal.closes
        assert refusal.error["type"] == "invalid_request_error"
        assert client.rest() == b""
    assert [one for one in gateway.sim.requests if one.method == "POST"] == before


@pytest.mark.security("SEC-SMUGGLE-FRAMING")
@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_the_same_refusal_comes_when_the_bytes_come_one_by_one(gateway: Running, sent: bytes) -> None:
    with Raw(gateway) as client:
        for number in range(min(len(sent), 200)):
            client.send(sent[number : number + 1])
        client.send(sent[200:] + SMUGGLED)
        assert client.response().status == 400
        assert client.rest() == b""


def test_a_chunked_body_is_read(gateway: Running) -> None:
    body = b"".join(chunk(HELLO[n : n + 7]) for n in range(0, len(HELLO), 7)) + b"0\r\n\r\n"
    with Raw(gateway) as client:
        first = client.ask(CHUNKED + body)
        assert first.status == 200
        assert first.json["output"][0]["content"][0]["text"] == "Hello"
        # The coding's name knows no case, a chunk may have extensions; both are there to be ignored (RFC 9112 §7.1.1).
        second = client.ask(
            H + b"Transfer-Encoding: CHUNKED\r\n\r\n" + b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(HELLO), HELLO)
        )
        assert second.status == 200


@pytest.mark.security("SEC-SMUGGLE-TRAILER")
def test_a_trailer_is_never_taken_for_a_header(keyed: Running) -> None:
    """Else it would come past whatever a proxy in front has checked (RFC 9110 §6.5.1)."""
    trailer = b"0\r\nAuthorization: Bearer sk-test-0123456789abcdef0123456789abcdef\r\n\r\n"
    with Raw(keyed) as client:
        head = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert client.ask(head + trailer).status == 401


def test_an_absolute_target_is_served_like_its_path(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(get("http://LOCALHOST/healthz")).json == {"status": "ok"}
        assert client.ask(post(path="http://localhost/v1/responses?a=b")).status == 200
        assert client.ask(get("http://localhost")).json["name"] == "tidegate"


@pytest.mark.security("SEC-SMUGGLE-CONNECT")
def test_connect_is_refused(gateway: Running) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(request("CONNECT", "example.com:443"))
        assert refusal.status == 405
        assert refusal["allow"] == "GET, HEAD, POST, OPTIONS"
        assert refusal.code == "method_not_allowed"
        assert refusal.closes


def test_options_of_the_whole_server_is_answered_in_the_envelope(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(request("OPTIONS", "*")).code == "unknown_path"


@pytest.mark.security("SEC-SMUGGLE-UPGRADE")
def test_an_offer_of_http2_is_passed_over_and_its_body_read(gateway: Running) -> None:
    """Java's client and `curl --http2` offer it with every request (RFC 9110 §7.8)."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    with Raw(gateway) as client:
        for _ in range(2):
            answer = client.ask(post(HELLO, *offer))
            assert answer.status == 200
            assert answer.json["output"][0]["content"][0]["text"] == "Hello"
        assert client.ask(get("/healthz", *offer)).json == {"status": "ok"}
        # In pieces, with the next request right behind it.
        sent = post(HELLO, *offer) + get("/healthz")
        for start in range(0, len(sent), 50):
            client.send(sent[start : start + 50])
        assert client.response().status == 200
        assert client.response().json == {"status": "ok"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/realtime"])
def test_a_websocket_is_refused_with_426_where_there_is_none(gateway: Running, path: str) -> None:
    headers = (
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    )
    with Raw(gateway) as client:
        refusal = client.ask(get(path, *headers))
        assert refusal.status == 426
        assert refusal.code == "websocket_not_offered"
        assert refusal["upgrade"] == "HTTP/1.1"
        assert refusal.all("connection") == ["upgrade", "close"]


def test_an_upgrade_that_connection_does_not_name_is_no_offer(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(get("/healthz", "Upgrade: websocket")).json == {"status": "ok"}


@pytest.mark.security("SEC-BOMB-COMPRESSED")
def test_a_compressed_body_is_refused(gateway: Running) -> None:
    with Raw(gateway) as client:
        refusal = client.ask(post(b"\x1f\x8b", "Content-Encoding: gzip"))
        assert refusal.status == 415
        assert refusal.code == "unsupported_content_encoding"


def test_empty_lines_before_a_request_are_passed_over(gateway: Running) -> None:
    """RFC 9112 §2.2: some clients send one after a body."""
    with Raw(gateway) as client:
        assert client.ask(post() + b"\r\n").status == 200
        assert client.ask(b"\r\n\r\n" + get("/healthz")).status == 200
