"""How long a connection lasts, and how the end of an answer is told."""

import re
from collections.abc import Callable

import pytest

from tests.support.raw import HELLO, Raw, frames, get, post, request
from tests.support.running import Running, wait_for
from tidegate.sim.connection import SimRequest

STREAM = b'{"model":"sim/lorem?chunks=3","input":"x","stream":true}'


def test_a_connection_serves_one_request_after_another_on_both_lanes(gateway: Running) -> None:
    with Raw(gateway) as client:
        for _ in range(3):
            answer = client.ask(post())
            assert answer.status == 200
            assert not answer.all("connection")
            stream = client.ask(post(STREAM))
            assert stream["transfer-encoding"] == "chunked"
            assert b"response.completed" in frames(stream.body)[-1]
            assert client.ask(get("/healthz")).json == {"status": "ok"}
            assert client.ask(post(b"{")).status == 400


def test_connection_close_is_obeyed_and_announced(gateway: Running) -> None:
    for sent in (
        post(HELLO, "Connection: close"),
        post(STREAM, "Connection: close"),
        get("/healthz", "Connection: close"),
    ):
        with Raw(gateway) as client:
            answer = client.ask(sent)
            assert answer.status == 200
            assert answer.closes
            assert client.rest() == b""


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(gateway: Running) -> None:
    with Raw(gateway) as client:
        sent = b"POST /v1/responses HTTP/1.0\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%b" % (
            len(STREAM),
            STREAM,
        )
        answer = client.ask(sent)
        assert answer.status == 200
        assert answer.closes
        assert not answer.all("transfer-encoding")
        assert not answer.all("content-length")
        assert frames(answer.body)[0].startswith(b"event: response.created\n")
        assert frames(answer.body)[-1].startswith(b"event: response.completed\n")


def test_http_1_0_gets_whole_answers_with_a_length(gateway: Running) -> None:
    for sent in (
        b"POST /v1/responses HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(HELLO), HELLO),
        b"GET /healthz HTTP/1.0\r\n\r\n",
    ):
        with Raw(gateway) as client:
            answer = client.ask(sent)
            assert answer.status == 200
            assert answer.closes
            assert int(answer["content-length"]) == len(answer.body)
            assert client.rest() == b""


def test_head_gets_the_head_that_get_would_get_and_no_body(gateway: Running) -> None:
    with Raw(gateway) as client:
        for path in ("/healthz", "/openapi.json", "/v1/models"):
            whole = client.ask(get(path))
            head = client.ask(request("HEAD", path))
            assert head.status == 200
            assert head["content-length"] == whole["content-length"]
            assert not head.all("connection")
        assert client.ask(request("HEAD", "/nowhere")).status == 404
        assert client.ask(request("HEAD", "/v1/responses")).status == 405
        assert client.buffer == b""
        refusal = client.ask(request("HEAD", "/healthz", host="example.com"))
        assert refusal.status == 403
        assert client.rest() == b""


def test_every_answer_has_a_date(gateway: Running) -> None:
    with Raw(gateway) as client:
        for sent in (post(), post(STREAM), get("/healthz"), get("/nowhere"), b"garbage\r\n\r\n"):
            date = client.ask(sent)["date"]
            assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)


def test_nothing_of_the_server_is_told(gateway: Running) -> None:
    with Raw(gateway) as client:
        assert not client.ask(get("/healthz")).all("server")


@pytest.mark.parametrize(
    "options", ["fault=stall_head", "chunks=1000&gap=20"], ids=["before the first event", "in the stream"]
)
@pytest.mark.parametrize("leave", [Raw.reset, Raw.finish_sending])
def test_a_client_that_goes_ends_its_upstream_call(
    gateway: Running, options: str, leave: Callable[[Raw], None]
) -> None:
    marker = f"{options} {leave.__name__}".encode()

    def calls() -> list[SimRequest]:
        return [one for one in gateway.sim.requests if marker in one.body]

    with Raw(gateway) as client:
        client.send(post(b'{"model":"sim/lorem?%b","input":"%b","stream":true}' % (options.encode(), marker)))
        (call,) = wait_for(calls)
        if "gap" in options:
            client.until(b"output_text.delta")
        left_at = gateway.call(gateway.loop.time)
        leave(client)
        wait_for(lambda: call.closed_by_peer_at)
        assert call.closed_by_peer_at is not None
        assert call.closed_by_peer_at - left_at < 1
