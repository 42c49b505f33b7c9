"""A mistake of ours inside a parser callback is a 500 in the envelope and a log line, never a hang or a 400.

The mistakes are put in where the server is put together: a route table, a dialect, an application.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.raw import HELLO, Raw, get, post
from tests.support.running import Running, wait_for
from tidegate.dialects.dialect import Dialect
from tidegate.dialects.responses import ResponsesDialect
from tidegate.server.app import Application


class BrokenTable(dict[bytes, Dialect]):
    def get(self, key: bytes, default: Any = None) -> Any:
        raise RuntimeError("broken table")


class BrokenParse(ResponsesDialect):
    def parse_plain(self, body: bytes) -> Any:
        raise RuntimeError("broken parse")

    parse = parse_plain


class BrokenRequest(ResponsesDialect):
    """Gives requests that break later, at `broken`."""

    def __init__(self, broken: str) -> None:
        self.broken = broken

    def parse_plain(self, body: bytes) -> None:
        return None

    def parse(self, body: bytes) -> Any:
        return _Broken(super().parse(body), self.broken)


class _Broken:
    """Everything that `inner` has, but one thing."""

    def __init__(self, inner: Any, broken: str) -> None:
        self._inner = inner
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        if name == self._broken:
            raise RuntimeError(f"broken {name}")
        if name == "open":
            return lambda call: _Broken(self._inner.open(call), self._broken)
        return getattr(self._inner, name)


@pytest.fixture(scope="module")
def own() -> Iterator[Running]:
    with Running() as running:
        yield running


@pytest.fixture
def put(own: Running) -> Iterator[Any]:
    """`put(table)` replaces the hot routes."""
    application: Any = own.server.config.app
    assert isinstance(application, Application)
    hot = application.hot

    def replace(table: Mapping[bytes, Dialect]) -> Running:
        application.hot = table
        return own

    yield replace
    application.hot = hot


def failures(gateway: Running, text: str) -> list[dict[str, Any]]:
    return wait_for(lambda: [one for one in gateway.log_lines if text in one.get("exception", "")])


def test_a_bug_while_a_head_is_read(put: Any) -> None:
    gateway = put(BrokenTable())
    for pieces in ([post()], [post()[:30], post()[30:]]):
        with Raw(gateway) as client:
            for piece in pieces:
                client.send(piece)
            answer = client.response()
            assert answer.status == 500
            assert answer.code == "internal_error"
            assert "broken" not in answer.error["message"]
            assert answer.closes
            assert client.rest() == b""
    assert failures(gateway, "broken table")
    with Raw(gateway) as client:
        assert client.ask(get("/healthz")).status == 200


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (BrokenParse(), "broken parse"),
        (BrokenRequest("model"), "broken model"),
        (BrokenRequest("forward"), "broken forward"),
        (BrokenRequest("complete"), "broken complete"),
    ],
)
def test_a_bug_while_a_request_is_answered(put: Any, dialect: Dialect, text: str) -> None:
    gateway = put({b"/v1/responses": dialect})
    with Raw(gateway) as client:
        answer = client.ask(post())
        assert answer.status == 500
        assert answer.code == "internal_error"
        assert "broken" not in answer.error["message"]
    assert failures(gateway, text)


@pytest.mark.parametrize("broken", ["open", "attempt", "feed", "usage", "outcome"])
def test_a_bug_in_a_stream(put: Any, broken: str) -> None:
    gateway = put({b"/v1/responses": BrokenRequest(broken)})
    with Raw(gateway) as client:
        client.send(post(b'{"model":"sim/lorem?chunks=3&gap=10","input":"x","stream":true}'))
        assert client.until(b"\r\n\r\n").startswith((b"HTTP/1.1 500 ", b"HTTP/1.1 200 "))
        client.finish_sending()
        client.rest()
    assert failures(gateway, f"broken {broken}")
    assert wait_for(lambda: not gateway.server.server_state.connections)
    assert wait_for(lambda: not gateway.server.config.app.gateway.exchanges)


def test_a_pipelined_request_is_answered_after_a_bug(put: Any) -> None:
    gateway = put({b"/v1/responses": BrokenParse()})
    with Raw(gateway) as client:
        client.send(post(HELLO) + get("/healthz"))
        assert client.response().status == 500
        assert client.response().json == {"status": "ok"}
