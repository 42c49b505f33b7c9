"""How a WebSocket ends: the client leaves, the gateway stops, the configuration changes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.raw import Raw, get
from tests.support.running import SIM_ONLY, Running, wait_for
from tests.support.sockets import Bare, Socket, check_error


def draining(grace: str) -> Running:
    return Running(SIM_ONLY.replace("[server]", f'[server]\ndrain = "{grace}"'))


def stop(gateway: Running) -> float:
    """Begin draining; returns when that was."""
    gateway.server.should_exit = True
    assert wait_for(lambda: gateway.call(lambda: gateway.server.config.app.gateway.draining))  # type: ignore[union-attr]
    return time.monotonic()


def calls_saying(gateway: Running, text: bytes) -> list[Any]:
    return [one for one in gateway.sim.requests if text in one.body]


# -- the client leaves ------------------------------------------------------------------------------------------------

LEAVE: dict[str, Callable[[Bare], None]] = {
    "with a close frame": lambda client: client.put((1000).to_bytes(2, "big"), 8),  # type: ignore[arg-type]
    "with an empty close frame": lambda client: client.put(b"", 8),  # type: ignore[arg-type]
    "by closing the connection": lambda client: client.sock.close(),
    "by resetting it": lambda client: client.reset(),
    "by sending no more": lambda client: client.finish_sending(),
}


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.parametrize("leave", LEAVE.values(), ids=list(LEAVE))
@pytest.mark.parametrize("model", ["sim/lorem?chunks=500&gap=20", "sim/lorem?head_delay=60000"])
def test_all_calls_of_a_client_that_leaves_end_within_a_second(
    gateway: Running, model: str, leave: Callable[[Bare], None]
) -> None:
    mark = f"leaving {time.monotonic_ns()}"
    with Bare(gateway) as client:
        for name in ("a", "b", "c"):
            client.create(model, input=mark, stream_id=name)
        client.create(model, input=f"never asked {mark}", stream_id="a")
        calls = wait_for(lambda: found if len(found := calls_saying(gateway, mark.encode())) == 3 else [])
        assert len(calls) == 3
        left = gateway.call(gateway.loop.time)
        leave(client)
        assert wait_for(lambda: all(call.closed_by_peer_at for call in calls))
        assert max(call.closed_by_peer_at for call in calls) - left < 1
    assert not calls_saying(gateway, f"never asked {mark}".encode())


def test_a_client_that_closes_is_answered_in_kind(gateway: Running) -> None:
    with Bare(gateway) as client:
        client.put((1000).to_bytes(2, "big") + b"bye", 8)  # type: ignore[arg-type]
        assert client.close_frame() == (1000, "bye")


@pytest.mark.fault("FAULT-CLIENT-GONE")
def test_what_was_used_before_the_client_left_is_in_the_books(gateway: Running) -> None:
    with Socket(gateway) as client:
        client.create("sim/lorem?chunks=500&gap=20", input="x")
        request_id = client.event()["headers"]["x-request-id"]
        client.event()
    entry = gateway.usage(request_id)
    assert (entry["ending"], entry["error"]) == ("client_gone", "client_gone")


@pytest.mark.fault("FAULT-LEAK")
def test_nothing_is_left_of_a_connection(gateway: Running) -> None:
    def left() -> tuple[int, int]:
        inside = gateway.server.config.app.gateway  # type: ignore[union-attr]
        return len(inside.exchanges), inside.websockets

    assert wait_for(lambda: gateway.call(left) == (0, 0))
    open_connections = gateway.call(lambda: len(gateway.server.server_state.connections))
    clients = [Socket(gateway) for _ in range(5)]
    for client in clients:
        client.create("sim/lorem?chunks=500&gap=20", input="x")
        client.event()
    assert gateway.call(left) == (5, 5)
    with httpx.Client(base_url=gateway.origin, trust_env=False) as http:
        assert "tidegate_websockets_open 5.0" in http.get("/metrics").text
    for client in clients:
        client.socket.close()
    assert wait_for(lambda: gateway.call(left) == (0, 0))
    assert wait_for(lambda: gateway.call(lambda: len(gateway.server.server_state.connections)) <= open_connections + 1)


# -- the gateway stops ------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-SIGTERM")
def test_a_connection_on_which_nothing_runs_is_closed_at_once() -> None:
    with draining("20s") as gateway, Socket(gateway) as client:
        assert client.response(input="x")
        began = stop(gateway)
        assert client.close_of() == (1012, "the gateway is shutting down")
        gateway._thread.join(5)
        assert not gateway._thread.is_alive()
        assert time.monotonic() - began < 3


@pytest.mark.fault("FAULT-SIGTERM")
def test_what_runs_or_waits_is_answered_within_the_grace_period_and_nothing_new_begins() -> None:
    with draining("20s") as gateway, Socket(gateway) as client:
        client.create("sim/lorem?chunks=2&gap=80", input="runs")
        client.create("sim/echo", input="waits")
        client.event()
        began = stop(gateway)
        client.create(input="too late", stream_id="late")
        events = [client.event()]
        while sum(event["type"] == "response.completed" for event in events) < 2:
            events.append(client.event())
        (refusal,) = [check_error(event) for event in events if event["type"] == "error"]
        assert (refusal["status"], refusal["code"]) == (503, "gateway_shutting_down")
        assert refusal["stream_id"] == "late"
        assert client.close_of().code == 1012
        assert time.monotonic() - began < 4


@pytest.mark.fault("FAULT-SIGTERM")
def test_what_runs_out_of_grace_is_ended_in_its_own_form_and_then_the_connection() -> None:
    with draining("200ms") as gateway, Socket(gateway) as client:
        for name in ("a", "b"):
            client.create("sim/lorem?chunks=1000&gap=20", input="x", stream_id=name)
        client.create("sim/lorem?head_delay=60000", input="not begun", stream_id="c")
        client.create("sim/echo", input="waits", stream_id="a")
        assert wait_for(lambda: len(gateway.sim.requests) >= 3)
        began = stop(gateway)
        events: list[Any] = []
        ends = 0
        while ends < 4:
            events.append(client.event())
            ends += events[-1]["type"] == "response.failed" or "status" in events[-1]
        assert client.close_of() == (1012, "the gateway is shutting down")
        assert time.monotonic() - began < 3
    for name in ("a", "b"):
        kinds = [event["type"] for event in events if event.get("stream_id") == name and "status" not in event]
        assert kinds[-2:] == ["error", "response.failed"]
    refused = {event["stream_id"]: check_error(event) for event in events if "status" in event}
    assert set(refused) == {"a", "c"}
    assert {(error["status"], error["code"]) for error in refused.values()} == {(503, "gateway_shutting_down")}
    assert not calls_saying(gateway, b"waits")


UPGRADE = (
    "Connection: upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.mark.fault("FAULT-SIGTERM")
def test_during_the_delay_websockets_begin_and_go_on() -> None:
    toml = SIM_ONLY.replace("[server]", '[server]\ndrain = "20s"\ndrain_delay = "500ms"')
    with Running(toml) as gateway, Socket(gateway) as old:
        stop(gateway)
        with Socket(gateway) as new:
            for client in (old, new):
                assert client.response(input="x")["output"]
            assert old.close_of() == new.close_of() == (1012, "the gateway is shutting down")


@pytest.mark.fault("FAULT-SIGTERM")
def test_while_draining_no_websocket_begins() -> None:
    with draining("20s") as gateway, Socket(gateway) as busy, Bare(gateway) as idle:
        busy.create("sim/lorem?chunks=3&gap=80", input="x")
        busy.event()
        with Raw(gateway) as late:
            assert wait_for(lambda: gateway.call(lambda: len(gateway.server.server_state.connections)) == 3)
            stop(gateway)
            answer = late.ask(get("/v1/responses", *UPGRADE))
        assert (answer.status, answer.code) == (503, "gateway_shutting_down")
        assert answer["retry-after"] == "1"
        assert idle.close_frame().code == 1012
        assert busy.rest()[-1]["type"] == "response.completed"
        assert busy.close_of().code == 1012


# -- the configuration changes ----------------------------------------------------------------------------------------

OLD = "sk-old-0123456789abcdef0123456789abcdef"
KEYS = SIM_ONLY + '[[keys]]\nname = "app"\nsecret = "{key}"\n'


@pytest.mark.security("SEC-API2-REVOKED")
def test_a_key_that_was_withdrawn_is_of_no_use_on_a_connection_that_is_open(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    bearer = {"authorization": f"Bearer {OLD}"}
    with Running(KEYS.replace("{key}", OLD), path=file) as gateway, Socket(gateway, headers=bearer) as client:
        client.create("sim/lorem?chunks=3&gap=50", input="x")
        client.event()
        file.write_text(KEYS.replace("{key}", OLD[::-1]).replace("{sim}", gateway.sim.base_url), "utf-8")
        gateway.loop.call_soon_threadsafe(gateway.server._parts.reload)
        assert wait_for(lambda: [one for one in gateway.log_lines if one["event"] == "reloaded"])
        assert client.rest()[-1]["type"] == "response.completed"  # what has begun goes on
        error = client.error(input="x", stream_id="a")
        assert (error["status"], error["code"], error["stream_id"]) == (401, "invalid_api_key", "a")
        assert gateway.usage(error["headers"]["x-request-id"])["status"] == 401


def test_a_reload_reaches_connections_that_are_open(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    with Running(SIM_ONLY, path=file) as gateway, Socket(gateway) as client:
        first = client.response(input="x")
        alias = json.dumps("sim/lorem?text=the+new+one")
        file.write_text(
            SIM_ONLY.replace("{sim}", gateway.sim.base_url) + f"[models.fresh]\ntarget = {alias}\n", "utf-8"
        )
        gateway.loop.call_soon_threadsafe(gateway.server._parts.reload)
        assert wait_for(lambda: [one for one in gateway.log_lines if one["event"] == "reloaded"])
        second = client.response("fresh", input="x", previous_response_id=first["id"])
        assert second["output"][0]["content"][0]["text"] == "the new one"
