"""After many clients have come and gone in every way, nothing of them is left."""

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.frames import OP_CLOSE

from tests.support.raw import HELLO, Raw, get, post
from tests.support.running import SIM_ONLY, Running, wait_for
from tests.support.sockets import HANDSHAKE, Bare, Socket
from tidegate.gateway.chains import Chains
from tidegate.server.connection import Connection
from tidegate.server.reader import Reader
from tidegate.server.session import Session
from tidegate.server.turn import Turn
from tidegate.server.websocket import WebSocket
from tidegate.wire.errors import TidegateError

STREAM = b'{"model":"sim/lorem?chunks=50&gap=5","input":"x","stream":true}'


def over_websocket(gateway: Running, number: int) -> None:
    """The same on WebSockets."""
    with Bare(gateway) as client:
        match number % 6:
            case 0:
                client.create(input="x", store=False)
                client.event()
            case 1:
                client.create("sim/lorem?chunks=50&gap=5", input="x", stream_id="a")
                client.event()
                client.reset()
            case 2:
                for name in ("a", "b", "a"):
                    client.create("sim/lorem?head_delay=60000", input="x", stream_id=name)
            case 3:
                client.put(b'{"type":', fin=False)
                client.finish_sending()
            case 4:
                client.send(b"garbage of no frame")
                client.close_frame()
            case _:
                client.put(b"\x03\xe8", OP_CLOSE)


def come_and_go(gateway: Running, times: int) -> None:
    """Clients that leave at every moment."""
    for number in range(times):
        with Raw(gateway) as client:
            match number % 9:
                case 0:
                    client.ask(post())
                case 1:
                    client.ask(get("/healthz"))
                case 2:
                    client.send(post(STREAM)).until(b"response.created")
                    client.reset()
                case 3:
                    client.send(post(STREAM)).reset()
                case 4:
                    client.send(post(STREAM)[:-10]).finish_sending()
                case 5:
                    client.send(b"POST /v1/resp")
                case 6:
                    client.ask(b"garbage\r\n\r\n")
                case 7:
                    client.send(post(STREAM) * 5).until(b"response.created")
                case _:
                    client.send(get("/v1/models") + post(HELLO) + get("/healthz"))


def counts(gateway: Running) -> dict[str, int]:
    def look() -> dict[str, int]:
        gc.collect()
        app: Any = gateway.server.config.app
        kept = gc.get_objects()
        return {
            "connections": len(gateway.server.server_state.connections),
            "cold tasks": len(gateway.server.server_state.tasks),
            "tasks": len(asyncio.all_tasks()),
            "exchanges": len(app.gateway.exchanges),
            "objects": sum(isinstance(one, Connection | Reader | WebSocket | Session | Turn | Chains) for one in kept),
            "watched": sum(
                isinstance(one, Connection | WebSocket)
                for bucket in app.gateway.wheel._buckets.values()
                for one in bucket
            ),
        }

    return gateway.call(look)


@pytest.mark.fault("FAULT-LEAK")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count files")
def test_nothing_is_left_of_clients_that_have_gone() -> None:
    with Running() as gateway:
        with Raw(gateway) as client:
            client.ask(get("/v1/models"))  # comes when the providers have been asked
        wait_for(lambda: not gateway.server.server_state.connections)
        idle = counts(gateway)
        come_and_go(gateway, 90)
        for number in range(36):
            over_websocket(gateway, number)
        assert wait_for(lambda: counts(gateway) == idle, 5), (counts(gateway), idle)
        files = len(os.listdir("/proc/self/fd")) - gateway.sim.connections * 2
        come_and_go(gateway, 270)
        assert wait_for(lambda: counts(gateway) == idle, 5), (counts(gateway), idle)
        assert len(os.listdir("/proc/self/fd")) - gateway.sim.connections * 2 <= files


def test_what_has_ended_needs_no_garbage_collector(tmp_path: Path) -> None:
    """It comes by rarely. What waits for it keeps whole requests, and the snapshots that they were judged by, and leaves holes
    in the memory."""
    toml = SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{tmp_path}"\n')
    toml += (
        '[[keys]]\nname = "app"\nsecret = "key-0123456789abcdef0123456789abcd"\nlimits = { cost = { day = 0.01 } }\n'
    )
    key = {"authorization": "Bearer key-0123456789abcdef0123456789abcd"}
    recording = {"file": ("a.wav", b"no recording at all", "audio/wav")}
    gc.collect()
    gc.disable()
    try:
        with Running(toml) as gateway:
            sent = "Authorization: Bearer key-0123456789abcdef0123456789abcd"
            with httpx.Client(base_url=gateway.origin, headers=key) as client:
                client.get("/v1/models")
                for store in (True, False):
                    for options in ("", "?fault=cut", "?status=500", "?status=400", "?fault=garbage"):
                        for more in ({}, {"stream": True}, {"background": True} if store else {}):
                            body = {"model": f"sim/echo{options}", "input": "x", "store": store, **more}
                            client.post("/v1/responses", json=body)
                            client.post("/v1/responses", json=body, headers={"idempotency-key": f"{options}{more}"})
                client.post("/v1/audio/transcriptions", data={"model": "sim/echo"}, files=recording)
            for request in (STREAM, HELLO, b"{", b'{"model":"no/such","input":"x"}'):
                with Raw(gateway) as raw:
                    raw.send(post(request, sent)).response(head_only=True)
                    raw.reset()
                with Raw(gateway) as raw:
                    raw.send(post(request, "Authorization: Bearer wrong")).response()
            for store in (True, False):
                with Socket(gateway, headers=key) as socket:
                    socket.response(input="x", store=store)
            app: Any = gateway.server.config.app
            assert wait_for(lambda: not app.gateway.exchanges and not gateway.server.server_state.connections)
            assert wait_for(lambda: not gateway.server.server_state.tasks)
            found = gateway.call(_unreachable)
    finally:
        gc.enable()
    assert not found, found


def _unreachable() -> dict[str, int]:
    """What of ours only the garbage collector can remove."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        names = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return {name: count for name, count in names.items() if name.startswith("tidegate.")}


def test_nothing_is_left_of_requests_that_were_refused() -> None:
    """Nobody who has no key may fill the memory."""

    def refusals() -> int:
        gc.collect()
        return sum(isinstance(one, TidegateError) for one in gc.get_objects())

    toml = SIM_ONLY + '[[keys]]\nname = "app"\nsecret = "key-0123456789abcdef0123456789abcd"\n'
    with Running(toml) as gateway:
        for number in range(60):
            with Raw(gateway) as client:
                match number % 4:
                    case 0:
                        client.ask(post())
                    case 1:
                        client.ask(post(HELLO, "Authorization: Bearer wrong", path="/v1/messages"))
                    case 2:
                        client.ask(post(HELLO, "Content-Encoding: gzip"))
                    case _:
                        client.send(HANDSHAKE).response(head_only=True)
        assert wait_for(lambda: gateway.call(refusals) == 0) or gateway.call(refusals) == 0


def test_what_the_garbage_collector_does_not_see_holds_no_error() -> None:
    """An error that was raised refers to frames, and they to what holds it: a circle that nobody could undo."""

    def below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    ours = [one for one in below(msgspec.Struct) if one.__module__.startswith("tidegate.")]
    unseen = [one for one in ours if not one.__struct_config__.gc]
    assert len(unseen) > 20
    for one in unseen:
        assert not any("Error" in str(told) for told in one.__annotations__.values()), one
