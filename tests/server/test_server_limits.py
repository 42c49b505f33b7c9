"""Every buffer has a cap and every wait a deadline (promise P4), on the way in too."""

import time
from collections.abc import Iterator

import pytest

from tests.server.conftest import TIGHT
from tests.support.raw import HELLO, Raw, chunk, get, post
from tests.support.running import Running, wait_for

H = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
MIB = 1024 * 1024


# -- heads ------------------------------------------------------------------------------------------------------


def many_headers() -> Iterator[bytes]:
    yield H
    for number in range(2000):
        yield b"X-%d: 0123456789\r\n" % number


def one_long_header() -> Iterator[bytes]:
    yield H + b"X-Long: "
    for _ in range(200):
        yield b"a" * 1000


def one_long_name() -> Iterator[bytes]:
    yield H
    for _ in range(200):
        yield b"a" * 1000


@pytest.mark.security("SEC-API4-HEAD")
@pytest.mark.parametrize("parts", [many_headers, one_long_header, one_long_name])
@pytest.mark.parametrize("whole", [True, False], ids=["in one write", "in many writes"])
def test_a_head_over_the_cap_is_refused_while_it_comes(tight: Running, parts: object, whole: bool) -> None:
    assert callable(parts)
    with Raw(tight) as client:
        for part in [b"".join(parts())] if whole else parts():
            client.send(part)
        refusal = client.response()
        assert refusal.status == 431
        assert refusal.code == "headers_too_large"
        assert "8192" in refusal.error["message"]
        assert refusal.closes
        assert client.rest() == b""


def test_a_head_just_under_the_cap_is_read(tight: Running) -> None:
    with Raw(tight) as client:
        assert client.ask(get("/healthz", "X-Long: " + "a" * 8000)).status == 200
        assert client.ask(get("/healthz", "X-Long: " + "a" * 8000)).status == 200


def test_a_request_target_over_the_cap_is_refused(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert client.ask(get("/healthz?" + "a" * 16000)).status == 200
        refusal = client.ask(get("/healthz?" + "a" * 17000))
        assert refusal.status == 414
        assert refusal.code == "target_too_long"
        assert refusal.closes


@pytest.mark.security("SEC-API4-HEAD")
def test_a_request_target_without_end_is_refused(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(b"GET /")
        for _ in range(100):
            client.send(b"a" * 1000)
        assert client.response().status == 414


# -- bodies -----------------------------------------------------------------------------------------------------


def test_a_body_that_is_announced_over_the_cap_is_refused_before_it_comes(tight: Running) -> None:
    with Raw(tight) as client:
        refusal = client.ask(H + b"Content-Length: 65537\r\n\r\n")
        assert refusal.status == 413
        assert refusal.code == "body_too_large"
        assert "65536" in refusal.error["message"]
        assert refusal.closes


@pytest.mark.security("SEC-API4-BODY")
def test_a_chunked_body_is_refused_as_soon_as_it_is_over_the_cap(tight: Running) -> None:
    with Raw(tight) as client:
        client.send(H + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(65):
            client.send(chunk(b" " * 1024))
        refusal = client.response()
        assert refusal.status == 413
        assert refusal.closes


def test_a_body_of_exactly_the_cap_is_read(tight: Running) -> None:
    body = HELLO + b" " * (65536 - len(HELLO))
    with Raw(tight) as client:
        assert client.ask(post(body)).status == 200
        assert client.ask(H + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(body) + b"0\r\n\r\n").status == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "chunked"])
def test_a_client_that_sends_everything_before_it_reads_still_sees_the_413(tight: Running, chunked: bool) -> None:
    """Without lingering the connection would be reset under its upload, and the answer lost (RFC 9112 §9.6)."""
    upload = 48 * MIB
    with Raw(tight, timeout=20) as client:
        client.send(H + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % upload))
        piece = chunk(b" " * MIB) if chunked else b" " * MIB
        for _ in range(upload // MIB):
            client.send(piece)
        refusal = client.response()
        assert refusal.status == 413
        assert client.rest() == b""


def test_a_refused_client_that_never_stops_sending_is_left_after_a_while(tight: Running) -> None:
    with Raw(tight) as client:
        assert client.ask(H + b"Content-Length: 100000\r\n\r\n").status == 413
        assert client.rest() == b""
        # It keeps its own side open and says nothing: two seconds of silence are enough.
        assert wait_for(lambda: not tight.server.server_state.connections, 4)


@pytest.mark.security("SEC-API4-BODY")
def test_chunk_extensions_do_not_go_round_the_cap(tight: Running) -> None:
    with Raw(tight) as client:
        client.send(H + b"Transfer-Encoding: chunked\r\n\r\n2;")
        for _ in range(100):
            client.send(b"a" * 1000)
        assert client.response().status == 413


@pytest.mark.security("SEC-API4-BODY")
def test_trailers_do_not_go_round_the_cap(tight: Running) -> None:
    for parts in ([b"X-%d: 0123456789\r\n" % number for number in range(2000)], [b"X: ", *[b"a" * 1000] * 100]):
        with Raw(tight) as client:
            client.send(H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
            for part in parts:
                client.send(part)
            assert client.response().status in (413, 431)


def test_chunks_of_one_byte_are_no_abuse(tight: Running) -> None:
    body = HELLO + b" " * 3000
    with Raw(tight) as client:
        client.send(H + b"Transfer-Encoding: chunked\r\n\r\n")
        client.send(b"".join(chunk(body[n : n + 1]) for n in range(len(body))) + b"0\r\n\r\n")
        assert client.response().status == 200


# -- deadlines --------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-SLOWLORIS")
def test_a_head_that_comes_too_slowly_is_refused(tight: Running) -> None:
    with Raw(tight) as client:
        started = time.monotonic()
        client.send(b"POST /v1/resp")
        refusal = client.response()
        assert refusal.status == 408
        assert refusal.code == "request_timeout"
        assert "server.header_timeout" in refusal.error["message"]
        assert refusal.closes
        assert 0.25 < time.monotonic() - started < 1.5
        assert client.rest() == b""


@pytest.mark.fault("FAULT-SLOWLORIS")
@pytest.mark.security("SEC-API4-SLOW")
def test_a_head_that_drips_is_refused(tight: Running) -> None:
    with Raw(tight) as client:
        client.send(H)
        for number in range(100):
            if not client.silent(0.05):
                break
            client.send(b"X-%d: 1\r\n" % number)
        assert client.response().status == 408
        assert number < 40


@pytest.mark.fault("FAULT-SLOWLORIS")
def test_a_connection_that_says_nothing_is_closed_after_the_time_for_a_head(tight: Running) -> None:
    with Raw(tight) as client:
        started = time.monotonic()
        assert client.rest() == b""
        assert 0.25 < time.monotonic() - started < 1.5


@pytest.mark.fault("FAULT-SLOWLORIS")
def test_a_body_that_stalls_is_refused(tight: Running) -> None:
    with Raw(tight) as client:
        refusal = client.ask(H + b'Content-Length: 100\r\n\r\n{"model":')
        assert refusal.status == 408
        assert "server.body_timeout" in refusal.error["message"]
        assert refusal.closes


@pytest.mark.fault("FAULT-SLOWLORIS")
@pytest.mark.security("SEC-API4-SLOW")
def test_a_body_that_trickles_below_the_least_rate_is_refused(tight: Running) -> None:
    with Raw(tight) as client:
        client.send(H + b"Content-Length: 60000\r\n\r\n")
        started = time.monotonic()
        while client.silent(0.05):
            client.send(b" ")
            assert time.monotonic() - started < 5
        assert client.response().status == 408


def test_a_slow_body_above_the_least_rate_is_read(tight: Running) -> None:
    body = HELLO + b" " * 3000
    with Raw(tight) as client:
        client.send(H + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 300):
            assert client.silent(0.1)
            client.send(body[start : start + 300])
        assert client.response().status == 200


def test_the_time_for_a_body_counts_even_when_that_for_a_head_is_long() -> None:
    with (
        Running(TIGHT.replace('header_timeout = "300ms"', 'header_timeout = "60s"')) as gateway,
        Raw(gateway) as client,
    ):
        started = time.monotonic()
        assert client.ask(H + b"Content-Length: 100\r\n\r\n{").status == 408
        assert time.monotonic() - started < 2


def test_an_idle_connection_is_closed_without_a_word(tight: Running) -> None:
    with Raw(tight) as client:
        assert client.ask(get("/healthz")).status == 200
        started = time.monotonic()
        assert client.rest() == b""
        assert 0.4 < time.monotonic() - started < 2


def test_without_keep_alive_every_answer_closes() -> None:
    with Running(TIGHT.replace('keep_alive = "500ms"', 'keep_alive = "0s"')) as gateway, Raw(gateway) as client:
        assert client.ask(get("/healthz")).closes
        assert client.rest() == b""


def test_no_clock_of_the_request_runs_while_its_answer_is_under_way(tight: Running) -> None:
    with Raw(tight) as client:
        answer = client.ask(post(b'{"model":"sim/echo?delay=1500","input":"Hello"}'))
        assert answer.status == 200


def test_a_path_that_takes_no_body_does_not_collect_one(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(65):
            client.send(chunk(b" " * 1024))
        refusal = client.response()
        assert refusal.status == 413
        assert refusal.closes


@pytest.mark.security("SEC-API4-BODY")
def test_a_body_in_tiny_chunks_is_kept_as_one_buffer(gateway: Running) -> None:
    before = _resident()
    body = b'{"model": "sim/echo", "input": "%b"}' % (b"x" * 3_000_000)
    chunks = b"".join(b"2\r\n%b\r\n" % body[at : at + 2] for at in range(0, len(body) - len(body) % 2, 2))
    with Raw(gateway) as client:
        client.send(b"POST /v1/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        assert client.response().status == 404
        client.send(H + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        time.sleep(0.5)
        assert _resident() - before < 60_000_000


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
