"""What one WebSocket may take: sizes, times, and memory on behalf of a client that does not read."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import OP_CONT, OP_PING, OP_TEXT, Frame

from tests.support.running import SIM_ONLY, Running, wait_for
from tests.support.sockets import Bare, Close, Socket, check_error

ENDLESS = "sim/lorem?fault=endless&size=2000"
MIB = 1024 * 1024


def running(**settings: str) -> Running:
    lines = "".join(f'{name} = "{value}"\n' for name, value in settings.items())
    return Running(SIM_ONLY.replace("[server]", f"[server]\n{lines}"))


@pytest.fixture(scope="module")
def tight() -> Iterator[Running]:
    with running(max_body="64KiB", body_timeout="400ms", websocket_ping="500ms") as found:
        yield found


def waiting_bytes(gateway: Running) -> int:
    """What the gateway holds for its clients."""

    def count() -> int:
        transports = [getattr(one, "_transport", None) for one in gateway.server.server_state.connections]
        return sum(one.get_write_buffer_size() for one in transports if one is not None)

    return gateway.call(count)


def provider_is_held_up(gateway: Running) -> bool:
    return any(one._paused for one in gateway.sim._house.open)


def asked(gateway: Running, said: bytes) -> int:
    return sum(said in one.body for one in gateway.sim.requests)


def stands_still(gateway: Running) -> bool:
    """Whether the gateway holds something for its clients, and neither more nor less of it comes."""
    held = waiting_bytes(gateway)
    time.sleep(0.2)
    return held > 0 and waiting_bytes(gateway) == held


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 5])
def test_a_message_over_the_limit_is_told_so_before_the_close(tight: Running, pieces: int) -> None:
    event = json.dumps({"type": "response.create", "model": "sim/echo", "input": "x" * 70_000})
    with Socket(tight) as client:
        size = -(-len(event) // pieces)
        whole: Any = [event[at : at + size] for at in range(0, len(event), size)] if pieces > 1 else event
        with contextlib.suppress(ConnectionClosed):  # it may be refused before all of it is sent
            client.socket.send(whole)
        error = check_error(client.event())
        assert (error["status"], error["code"]) == (413, "body_too_large")
        assert "65536" in error["message"]
        assert client.close_of().code == 1009


def test_the_largest_message_is_taken(tight: Running) -> None:
    event = json.dumps({"type": "response.create", "model": "sim/echo", "input": "x"})
    with Socket(tight) as client:
        client.send(event + " " * (65536 - len(event)))
        assert client.rest()[-1]["type"] == "response.completed"


@pytest.mark.security("SEC-API4-BODY")
def test_a_message_that_is_far_too_large_is_not_read_into_memory(tight: Running) -> None:
    with Bare(tight) as client:
        client.send(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask")
        assert client.event()["error"]["code"] == "body_too_large"
        assert client.close_frame().code == 1009


@pytest.mark.security("SEC-API4-QUEUE")
def test_what_waits_in_a_lane_is_limited_in_bytes_too(tight: Running) -> None:
    with Socket(tight) as client:
        client.create("sim/lorem?chunks=1&delay=700", input="x")
        for _ in range(4):
            client.create(input="x" * 30_000, generate=False)
        codes = [check_error(client.event())["code"] for _ in range(2)]
        assert codes == ["too_many_pending_requests"] * 2
        ends = [client.rest()[-1]["type"] for _ in range(3)]
        assert ends == ["response.completed"] * 3


# -- what breaks the protocol -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Frame(OP_TEXT, b"{}").serialize(mask=False), 1002),
        (Frame(OP_CONT, b"{}").serialize(mask=True), 1002),
        (Frame(OP_TEXT, b"{", False).serialize(mask=True) + Frame(OP_TEXT, b"}").serialize(mask=True), 1002),
        (b"\xc1\x80mask", 1002),  # a reserved bit, as compression sets it
        (b"\x83\x80mask", 1002),  # an opcode that nobody has defined
        (b"\x89\xfe\x00\x7e" + b"mask" + b"x" * 126, 1002),  # a ping that is too long
        (Frame(OP_TEXT, b'{"type":"\xff"}').serialize(mask=True), 1007),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002),
    ],
    ids=["unmasked", "continuation", "interleaved", "reserved-bit", "opcode", "long-ping", "not-utf8", "http"],
)
def test_who_breaks_the_protocol_is_told_the_code_of_it(gateway: Running, data: bytes, code: int) -> None:
    with Bare(gateway) as client:
        client.create("sim/lorem?gap=500", input="broken protocol")
        assert client.event()["type"] == "response.created"
        call = gateway.sim.requests[-1]
        client.send(data)
        while (frame := client.frame())[0] != 8:
            assert frame[0] == OP_TEXT
        assert int.from_bytes(frame[1][:2], "big") == code
        assert client.rest() == b""
        assert wait_for(lambda: call.closed_by_peer_at, 1)


def test_a_ping_is_answered_also_between_the_pieces_of_a_message(gateway: Running) -> None:
    with Bare(gateway) as client:
        client.put(b'{"type":"respo', fin=False)
        client.put(b"are you there", OP_PING)
        assert client.frame() == (10, b"are you there")
        client.put(b'nse.create","model":"sim/echo","input":"x"}', OP_CONT)
        assert client.event()["type"] == "response.created"


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-SLOWLORIS")
@pytest.mark.parametrize(
    "begin",
    [
        Frame(OP_TEXT, b'{"type":', False).serialize(mask=True),
        Frame(OP_TEXT, b"", False).serialize(mask=True),
        Frame(OP_TEXT, b'{"type":"response.create"}').serialize(mask=True)[:-1],
        b"\x81",
    ],
    ids=["piece", "empty-piece", "last-byte", "head"],
)
def test_a_message_that_stalls_is_given_up(tight: Running, begin: bytes) -> None:
    with Bare(tight) as client:
        began = time.monotonic()
        client.send(begin)
        error = check_error(client.event())
        assert 0.4 <= time.monotonic() - began < 1.5
        assert (error["status"], error["code"]) == (408, "request_timeout")
        assert "server.body_timeout" in error["message"]
        assert client.frame()[1][:2] == (1008).to_bytes(2, "big")


@pytest.mark.fault("FAULT-SLOWLORIS")
@pytest.mark.security("SEC-API4-SLOW")
def test_a_message_that_trickles_is_given_up(tight: Running) -> None:
    with Bare(tight) as client:
        client.sock.settimeout(0.1)
        began = time.monotonic()
        data = b""
        while not data and time.monotonic() - began < 4:
            client.put(b"", OP_TEXT if not data and time.monotonic() - began < 0.05 else OP_CONT, fin=False)
            try:
                data = client.sock.recv(65536)
            except TimeoutError:
                continue
        assert b"request_timeout" in data
        assert time.monotonic() - began < 2


@pytest.mark.alone
def test_a_client_that_is_silent_is_asked_and_one_that_does_not_answer_is_left(tight: Running) -> None:
    with Bare(tight) as client:
        began = time.monotonic()
        assert client.frame() == (OP_PING, b"")
        assert 0.5 <= time.monotonic() - began < 1.1
        assert client.close_frame().code == 1011
        assert 1 <= time.monotonic() - began < 4


def test_a_client_that_answers_stays(tight: Running) -> None:
    with Socket(tight) as client:
        time.sleep(1.2)
        assert client.response(input="x")


def test_a_running_response_does_not_spare_the_client_from_being_there(tight: Running) -> None:
    with Bare(tight) as client:
        client.create("sim/lorem?chunks=200&gap=50", input="gone without a word")
        call = wait_for(lambda: [one for one in tight.sim.requests if b"without a word" in one.body])[0]
        until = time.monotonic() + 5
        while client.frame()[0] != 8:
            assert time.monotonic() < until
        assert wait_for(lambda: call.closed_by_peer_at, 1)


@pytest.mark.alone
def test_an_idle_connection_is_closed_and_one_that_works_is_not() -> None:
    with running(websocket_idle="400ms") as gateway, Socket(gateway) as idle, Socket(gateway) as busy:
        began = time.monotonic()
        busy.create("sim/lorem?chunks=4&gap=80", input="x")
        closed = idle.close_of()
        assert closed.code == 1001
        assert "server.websocket_idle" in closed.reason
        assert 0.4 <= time.monotonic() - began < 1.2
        assert busy.rest()[-1]["type"] == "response.completed"
        assert time.monotonic() - began > 0.6
        assert busy.response(input="still there")
        assert busy.close_of().code == 1001


def test_after_its_lifetime_a_connection_ends_what_it_has_and_takes_nothing_new() -> None:
    with running(websocket_lifetime="600ms") as gateway, Socket(gateway) as idle, Socket(gateway) as busy:
        busy.create("sim/lorem?chunks=14&gap=100", input="x")
        busy.create("sim/echo", input="was waiting", stream_id=...)
        error = check_error(idle.event())
        assert error["status"] == 400
        assert error["code"] == "websocket_connection_limit_reached"
        assert error["message"] == (
            "Responses websocket connection limit reached (0.01 minutes). "
            "Create a new websocket connection to continue."
        )
        assert idle.close_of().code == 1001
        time.sleep(0.3)  # clocks fire a quarter of a second late at most
        busy.create(input="too late", stream_id="late")
        events = [busy.event()]
        while sum("status" in event for event in events) < 2:
            events.append(busy.event())
        first, last = (event for event in events if "status" in event)
        assert (first["error"]["code"], first["stream_id"]) == ("websocket_connection_limit_reached", "late")
        assert last["error"]["code"] == "websocket_connection_limit_reached"
        assert [event["type"] for event in events].count("response.completed") == 2
        assert busy.close_of().code == 1001


def test_the_official_lifetime_is_the_default(gateway: Running) -> None:
    settings = gateway.server.config.app.gateway.snapshot.config.server  # type: ignore[union-attr]
    assert settings.websocket_lifetime == 60 * 60


# -- clients that do not read -----------------------------------------------------------------------------------------


@pytest.mark.fault("FAULT-SLOW-READER")
def test_a_client_that_does_not_read_stops_the_reading_from_every_provider(gateway: Running) -> None:
    with Bare(gateway, receive_buffer=65536) as client:
        for name in ("a", "b", "c"):
            client.create(ENDLESS, input="held", stream_id=name)
        assert wait_for(lambda: stands_still(gateway), 10)
        held = waiting_bytes(gateway)
        assert held < 2 * MIB
        time.sleep(0.3)
        assert waiting_bytes(gateway) == held
        # All go on where they stopped, with no event lost.
        numbers: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        while min(map(len, numbers.values())) < 500 and sum(map(len, numbers.values())) < 20_000:
            event = client.event()
            numbers[event["stream_id"]].append(event["sequence_number"])
        for found in numbers.values():
            assert found == list(range(len(found)))  # no lane starves
            assert len(found) >= 500
        client.reset()
    assert wait_for(lambda: not provider_is_held_up(gateway))


NARROW = """
[routing]
retries = 0
[providers.narrow]
kind = "sim"
base_url = "{sim}"
max_concurrent = 1
queue_timeout = "10s"
[models.late]
target = "sim/lorem?fault=error&after=2"
fallback = ["narrow/lorem?fault=endless&size=2000"]
"""


@pytest.mark.fault("FAULT-SLOW-READER")
def test_whoever_is_asked_while_the_client_does_not_read_is_not_read_either() -> None:
    """The stream has begun, with the envelope that is ours, and its next provider has a place for it only now."""
    with (
        Running(SIM_ONLY + NARROW) as gateway,
        Socket(gateway) as other,
        Bare(gateway, receive_buffer=65536) as client,
    ):
        other.create("narrow/echo?delay=1500", input="in the way")
        assert wait_for(lambda: asked(gateway, b"in the way"))
        client.create("late", input="waits", stream_id="b")
        assert wait_for(lambda: asked(gateway, b"waits"))
        client.create(ENDLESS, input="clogs", stream_id="a")
        assert wait_for(lambda: stands_still(gateway), 10)
        held = waiting_bytes(gateway)
        assert asked(gateway, b"waits") == 1
        assert other.rest()[-1]["type"] == "response.completed"
        assert wait_for(lambda: asked(gateway, b"waits") == 2)
        time.sleep(0.3)
        assert waiting_bytes(gateway) < held + MIB
        client.reset()
        assert wait_for(lambda: not provider_is_held_up(gateway))


def test_no_response_begins_while_the_client_does_not_read(gateway: Running) -> None:
    with Bare(gateway, receive_buffer=65536) as client:
        client.create(ENDLESS, input="first")
        assert wait_for(lambda: stands_still(gateway), 10)
        client.create("sim/echo", input="second, not begun", stream_id="b")
        time.sleep(0.3)
        assert not [one for one in gateway.sim.requests if b"not begun" in one.body]
        while client.event().get("stream_id") != "b":
            pass


@pytest.mark.fault("FAULT-SLOW-READER")
def test_a_client_that_refuses_to_read_is_dropped() -> None:
    stalling = f'{SIM_ONLY}timeouts = {{ send_stall = "300ms" }}\n'
    with Running(stalling) as gateway, Bare(gateway, receive_buffer=65536) as stuck, Socket(gateway) as other:
        began = time.monotonic()
        stuck.create(ENDLESS, input="stuck")
        other.create("sim/lorem?chunks=4&gap=100", input="x")
        call = wait_for(lambda: [one for one in gateway.sim.requests if b"stuck" in one.body])[0]
        assert wait_for(lambda: call.closed_by_peer_at, 5)
        assert 0.3 < time.monotonic() - began < 4
        assert other.rest()[-1]["type"] == "response.completed"


def test_answers_to_a_client_that_only_asks_do_not_pile_up(gateway: Running) -> None:
    pings = Frame(OP_PING, b"x" * 125).serialize(mask=True) * 500
    with Bare(gateway, receive_buffer=8192) as client:
        held = [0]

        def ask_on() -> None:
            while True:
                client.send(pings)
                held.append(waiting_bytes(gateway))

        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            ask_on()
        assert max(held) < 3 * MIB
    assert wait_for(lambda: waiting_bytes(gateway) == 0)


def test_a_client_that_sends_nothing_of_use_is_left(gateway: Running) -> None:
    useless: list[Any] = [
        "{",
        b"",
        {"type": "nonsense"},
        {"type": "response.steer", "previous_response_id": "r", "input": "x"},
    ]
    with Socket(gateway) as client:
        for number in range(90):
            client.send(useless[number % len(useless)])
            client.event()
        assert client.response(input="something of use")
        for number in range(100):
            client.send(useless[number % len(useless)])
            client.event()
        client.send("{")
        assert client.close_of() == Close(1008, "100 messages in a row that were of no use")


@pytest.mark.alone
def test_a_flood_of_small_frames_keeps_nobody_waiting(gateway: Running) -> None:
    flood = Frame(OP_PING, b"").serialize(mask=True) * 40_000
    with Bare(gateway) as client, Bare(gateway) as other:
        sender = threading.Thread(target=client.send, args=(flood,))
        reader = threading.Thread(target=lambda: [client.frame() for _ in range(40_000)])
        began = time.monotonic()
        sender.start()
        reader.start()
        longest = 0.0
        while reader.is_alive():
            asked = time.monotonic()
            other.create("sim/echo", input="x")
            while other.event()["type"] != "response.completed":
                pass
            longest = max(longest, time.monotonic() - asked)
        sender.join()
        reader.join()
        assert longest < max(0.5, (time.monotonic() - began) / 2)


@pytest.mark.fault("FAULT-SLOW-READER")
def test_the_clock_of_unread_answers_spares_a_slow_reader() -> None:
    stalling = f'{SIM_ONLY}timeouts = {{ send_stall = "300ms" }}\n'
    with Running(stalling) as gateway, Bare(gateway, receive_buffer=65536) as client:
        client.create(ENDLESS, input="slow")
        until = time.monotonic() + 0.8
        data = b""
        while time.monotonic() < until:
            time.sleep(0.05)
            data = client.sock.recv(65536)
            assert data
        assert re.search(rb"sequence_number", data)
