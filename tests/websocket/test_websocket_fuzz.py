"""Bytes that no client would send: whatever comes, the connection goes on or is closed, and nothing breaks."""

import json
import random
from collections.abc import Iterator

import pytest
from websockets.frames import OP_CONT, OP_PING, OP_TEXT, Frame

from tests.support.running import SIM_ONLY, Running, wait_for
from tests.support.sockets import Bare, Socket

EVENTS = [
    {"type": "response.create", "model": "sim/echo", "input": "x", "store": False},
    {"type": "response.create", "model": "sim/echo", "input": [{"role": "user", "content": "x"}], "stream_id": "a"},
    {"type": "response.create", "generate": False, "input": []},
    {"type": "response.create", "model": "sim/echo", "previous_response_id": "resp_1", "input": "y"},
    {"type": "response.create", "input": [{"type": "item_reference", "id": "msg_1"}]},
    {"type": "response.steer", "previous_response_id": "resp_1", "input": "z"},
]
JUNK = [
    b"\x00",
    b"\xff",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b":",
    b"true",
    b"\x80",
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    short = SIM_ONLY.replace("[server]", '[server]\nbody_timeout = "300ms"\nwebsocket_ping = "300ms"')
    with Running(short) as running:
        yield running


def mutated(chance: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(3):
            case 0:
                found[at:at] = chance.choice(JUNK)
            case 1:
                del found[at : at + chance.randint(1, 8)]
            case _ if found:
                found[at % len(found)] ^= 1 << chance.randrange(8)
    return bytes(found)


def frames(chance: random.Random) -> bytes:
    """Some messages, whole and in pieces, right and wrong."""
    out = b""
    for _ in range(chance.randint(1, 5)):
        text = json.dumps(chance.choice(EVENTS)).encode()
        text = mutated(chance, text) if chance.random() < 0.7 else text
        if chance.random() < 0.3:
            cut = chance.randrange(len(text) + 1)
            pieces = [Frame(OP_TEXT, text[:cut], False), Frame(OP_PING, b"p"), Frame(OP_CONT, text[cut:])]
        else:
            pieces = [Frame(OP_TEXT, text)]
        out += b"".join(piece.serialize(mask=True) for piece in pieces)
    return mutated(chance, out) if chance.random() < 0.4 else out


@pytest.mark.security("SEC-DOS-FUZZ")
@pytest.mark.parametrize("seed", range(4))
def test_nothing_breaks_whatever_comes(gateway: Running, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        with Bare(gateway) as client:
            data = frames(chance)
            for start in range(0, len(data), size := chance.choice((1, 7, 50, 5000))):
                client.send(data[start : start + size])
            client.finish_sending()
            client.rest()
    inside = gateway.server.config.app.gateway  # type: ignore[union-attr]
    assert wait_for(lambda: gateway.call(lambda: (inside.websockets, len(inside.exchanges))) == (0, 0))
    assert [line for line in gateway.log_lines if line["level"] == "error"] == []
    assert not [line for line in gateway.log_lines if line.get("status") == 500]
    with Socket(gateway) as client:
        assert client.response(input="fine")
