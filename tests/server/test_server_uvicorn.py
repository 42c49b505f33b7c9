"""The surface of uvicorn that the server stands on. When one of these fails, read uvicorn's changes, then move the pin."""

import asyncio
import inspect
import signal
import socket
import tomllib
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from tests.support.running import Running
from tidegate.server.compose import Server
from tidegate.server.connection import Connection

ROOT = Path(__file__).resolve().parents[2]


def test_uvicorn_is_pinned_to_the_minor_version_that_was_read() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "uvicorn>=0.54,<0.55" in dependencies
    assert uvicorn.__version__.startswith("0.54.")


def test_the_server_state_has_the_fields_that_we_use_and_no_others() -> None:
    assert {name: type(value) for name, value in vars(ServerState()).items()} == {
        "total_requests": int,
        "connections": set,
        "tasks": set,
        "default_headers": list,
    }


def test_the_configuration_takes_what_we_give() -> None:
    given = {
        "app", "http", "ws", "lifespan", "loop", "interface", "log_config", "access_log", "proxy_headers",
        "server_header", "date_header", "backlog",
    }  # fmt: skip
    assert given <= set(inspect.signature(uvicorn.Config).parameters)


def test_the_server_is_started_stopped_and_told_to_exit_as_we_do_it() -> None:
    server = uvicorn.Server(uvicorn.Config("unused"))
    assert isinstance(server.server_state, ServerState)
    assert (server.should_exit, server.force_exit) == (False, False)
    for method in (uvicorn.Server.serve, uvicorn.Server.startup, uvicorn.Server.shutdown):
        assert inspect.iscoroutinefunction(method)
        assert list(inspect.signature(method).parameters) == ["self", "sockets"]
    assert list(inspect.signature(uvicorn.Server.run).parameters) == ["self", "sockets"]
    for name in ("startup", "shutdown"):
        assert list(inspect.signature(getattr(Server, name)).parameters) == ["self", "sockets"]


def test_what_our_own_way_to_stop_leans_on_is_there() -> None:
    config = uvicorn.Config(lambda *_: None, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    assert {"server_state", "should_exit", "force_exit", "_captured_signals"} <= vars(server).keys()
    assert list(inspect.signature(server.shutdown).parameters) == ["sockets"]
    assert asyncio.run(server.on_tick(0)) is False
    assert [name for name, _ in server.server_state.default_headers][:1] == [b"date"]
    # As ours calls it. (A library of the tests' may have put a wrapper round it, so that its signature says nothing.)
    server.handle_exit(signal.SIGTERM, None)
    assert server._captured_signals == [signal.SIGTERM]
    assert (server.should_exit, server.force_exit) == (True, False)


def test_a_protocol_class_is_made_and_drained_as_ours_expects() -> None:
    """A real server with a protocol that only keeps what it is given."""
    calls: list[Any] = []

    class Recorder(asyncio.Protocol):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            calls.append((arguments, named))

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            calls[0][1]["server_state"].connections.add(self)

        def connection_lost(self, exc: Exception | None) -> None:
            calls[0][1]["server_state"].connections.discard(self)

        def shutdown(self) -> None:
            calls.append("shutdown")
            self.transport.close()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the protocol serves nothing")

    async def main() -> uvicorn.Server:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=Recorder, lifespan="off", log_config=None, server_header=False)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[sock]))
        for _ in range(500):
            if server.started:
                break
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        for _ in range(500):
            if calls:
                break
            await asyncio.sleep(0.01)
        headers = server.server_state.default_headers
        assert [name for name, _ in headers] == [b"date"]
        server.should_exit = True
        assert await reader.read() == b""
        writer.close()
        await running
        return server

    server = asyncio.run(main())
    (arguments, named), *rest = calls
    assert arguments == ()
    assert set(named) == {"config", "server_state", "app_state", "_loop"}
    assert set(named) == set(inspect.signature(Connection).parameters)
    assert named["config"] is server.config
    assert named["config"].app is app
    assert named["server_state"] is server.server_state
    assert rest == ["shutdown"]


def test_the_date_header_is_a_new_object_whenever_it_is_renewed(gateway: Running) -> None:
    """Our connections keep the rendered line for as long as the object is the same."""
    state = gateway.server.server_state
    before = state.default_headers
    until = gateway.loop.time() + 3
    while state.default_headers is before and gateway.loop.time() < until:
        pass
    assert state.default_headers is not before
