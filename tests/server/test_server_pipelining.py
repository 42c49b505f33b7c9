"""Requests that do not wait for the answer to the one before (RFC 9112 §9.3.2)."""

import json
from collections.abc import Callable

import pytest

from tests.support.raw import Raw, chunk, frames, get, post
from tests.support.running import SIM_ONLY, Running, wait_for
from tidegate.sim.connection import SimRequest


def echo(text: str, *, stream: bool = False) -> bytes:
    return post(json.dumps({"model": "sim/echo", "input": text, "stream": stream}).encode())


def slow(marker: str) -> bytes:
    """A stream that does not end by itself within a test."""
    return post(json.dumps({"model": "sim/lorem?chunks=1000&gap=50", "input": marker, "stream": True}).encode())


def upstream_calls(gateway: Running, marker: str) -> list[SimRequest]:
    return [one for one in gateway.sim.requests if marker.encode() in one.body]


@pytest.mark.fault("FAULT-PIPELINED")
def test_sixteen_requests_behind_a_running_one_are_answered_in_order_on_both_lanes(gateway: Running) -> None:
    first = post(b'{"model":"sim/echo?delay=100","input":"first"}')
    batch = [get("/healthz") if number % 4 == 1 else echo(f"n{number}", stream=number % 2 == 0) for number in range(16)]
    with Raw(gateway) as client:
        client.send(first + b"".join(batch))
        assert client.response().json["output"][0]["content"][0]["text"] == "first"
        for number in range(16):
            answer = client.response()
            assert answer.status == 200
            if number % 4 == 1:
                assert answer.json == {"status": "ok"}
            elif number % 2 == 0:
                assert f'"n{number}"'.encode() in frames(answer.body)[-1]
            else:
                assert answer.json["output"][0]["content"][0]["text"] == f"n{number}"
        assert client.ask(get("/healthz")).status == 200


def test_the_order_holds_when_the_requests_come_in_small_pieces(gateway: Running) -> None:
    sent = b"".join(echo(f"n{number}") for number in range(10))
    with Raw(gateway) as client:
        for start in range(0, len(sent), 37):
            client.send(sent[start : start + 37])
        for number in range(10):
            assert client.response().json["output"][0]["content"][0]["text"] == f"n{number}"


@pytest.mark.fault("FAULT-PIPELINED")
@pytest.mark.security("SEC-API4-QUEUE")
def test_more_than_sixteen_waiting_requests_close_the_connection_after_the_last_of_them(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(
            post(b'{"model":"sim/echo?delay=100","input":"first"}') + b"".join(get("/healthz") for _ in range(30))
        )
        assert client.response().status == 200
        answers = [client.response() for _ in range(16)]
        assert [answer.status for answer in answers] == [200] * 16
        assert [answer.closes for answer in answers] == [False] * 15 + [True]
        assert client.rest() == b""


@pytest.mark.security("SEC-API4-QUEUE")
def test_more_than_a_mebibyte_of_waiting_requests_closes_the_connection(gateway: Running) -> None:
    with Raw(gateway) as client:
        big = echo("x" * 700_000)
        client.send(post(b'{"model":"sim/echo?delay=300","input":"first"}') + big + big)
        assert client.response().status == 200
        answer = client.response()
        assert answer.status == 200
        assert answer.closes
        assert client.rest() == b""


@pytest.mark.fault("FAULT-PIPELINED")
@pytest.mark.parametrize("leave", [Raw.reset, Raw.finish_sending])
def test_a_client_that_goes_is_noticed_while_its_pipelined_requests_wait(
    gateway: Running, leave: Callable[[Raw], None]
) -> None:
    marker = f"departure by {leave.__name__}"
    with Raw(gateway) as client:
        client.send(slow(marker) + slow(marker) + echo(marker))
        client.until(b"output_text.delta")
        left_at = gateway.call(gateway.loop.time)
        leave(client)
        wait_for(lambda: all(call.closed_by_peer_at for call in upstream_calls(gateway, marker)))
    (call,) = upstream_calls(gateway, marker)  # no request of a client that had gone was started
    assert call.closed_by_peer_at is not None
    assert call.closed_by_peer_at - left_at < 1


def test_a_bad_request_behind_good_ones_is_refused_in_its_turn(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(
            post(b'{"model":"sim/echo?delay=100","input":"first"}')
            + echo("second")
            + b"garbage\r\n\r\n"
            + echo("never")
        )
        assert client.response().json["output"][0]["content"][0]["text"] == "first"
        assert client.response().json["output"][0]["content"][0]["text"] == "second"
        refusal = client.response()
        assert refusal.status == 400
        assert refusal.code == "ambiguous_request"
        assert refusal.closes
        assert client.rest() == b""


def test_a_body_over_the_cap_behind_a_running_stream_is_refused_in_its_turn(tight: Running) -> None:
    with Raw(tight) as client:
        stream = post(b'{"model":"sim/lorem?chunks=3&gap=50","input":"x","stream":true}')
        client.send(stream + b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert b"response.completed" in client.response().body
        assert client.response().status == 413
        assert client.rest() == b""


def test_the_same_holds_for_a_chunked_body_of_any_size() -> None:
    """It is over the cap for bodies, and over that for what may wait."""
    toml = SIM_ONLY.replace("[server]", '[server]\nmax_body = "2MiB"')
    with Running(toml) as gateway, Raw(gateway) as client:
        client.send(post(b'{"model":"sim/lorem?chunks=3&gap=100","input":"x","stream":true}'))
        client.send(b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            client.send(chunk(b" " * 1024 * 1024))
        assert b"response.completed" in client.response().body
        assert client.response().status == 413
        assert client.rest() == b""


def test_what_comes_behind_connection_close_is_not_read(gateway: Running) -> None:
    with Raw(gateway) as client:
        client.send(post(b'{"model":"sim/echo?delay=50","input":"last"}', "Connection: close") + echo("never"))
        answer = client.response()
        assert answer.json["output"][0]["content"][0]["text"] == "last"
        assert answer.closes
        assert client.rest() == b""


def test_half_a_request_behind_a_running_one_has_its_own_clock(tight: Running) -> None:
    """The 300 ms for a head begin when its turn comes, not while it waits behind a stream of 600 ms."""
    with Raw(tight) as client:
        client.send(post(b'{"model":"sim/lorem?chunks=3&gap=200","input":"x","stream":true}') + b"GET /heal")
        assert b"response.completed" in client.response().body
        assert client.ask(b"thz HTTP/1.1\r\nHost: localhost\r\n\r\n").json == {"status": "ok"}
        client.send(post(b'{"model":"sim/lorem?chunks=2","input":"x","stream":true}') + b"GET /heal")
        assert b"response.completed" in client.response().body
        assert client.response().status == 408
        assert client.rest() == b""
