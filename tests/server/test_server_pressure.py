"""A client that reads slowly holds up its own stream, and nothing else."""

import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.raw import Raw, get, post
from tests.support.running import SIM_ONLY, Running, wait_for

ENDLESS = b'{"model":"sim/lorem?fault=endless&size=2000","input":"%b","stream":true}'
STALLING = f'{SIM_ONLY}timeouts = {{ send_stall = "500ms" }}\n'
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def stalling() -> Iterator[Running]:
    """A gateway whose clients may refuse to read for half a second."""
    with Running(STALLING) as running:
        yield running


def waiting_bytes(gateway: Running) -> int:
    """What the gateway holds for its clients."""

    def count() -> int:
        transports = [getattr(one, "_transport", None) for one in gateway.server.server_state.connections]
        return sum(one.get_write_buffer_size() for one in transports if one is not None)

    return gateway.call(count)


def provider_is_held_up(gateway: Running) -> bool:
    """Whether the simulator cannot get rid of its frames."""
    return any(one._paused for one in gateway.sim._house.open)


@pytest.mark.fault("FAULT-SLOW-READER")
def test_a_client_that_does_not_read_stops_the_reading_from_the_provider(gateway: Running) -> None:
    with Raw(gateway, receive_buffer=65536) as client:
        client.send(post(ENDLESS % b"held"))
        assert wait_for(lambda: provider_is_held_up(gateway), 10)
        held = waiting_bytes(gateway)
        assert held < MIB
        time.sleep(0.3)
        assert waiting_bytes(gateway) == held
        # It goes on where it stopped, with no frame lost.
        client.response(head_only=True)
        body = b""
        while len(body) < 16 * MIB:
            body += client.chunk()
        numbers = [int(one) for one in re.findall(rb'"sequence_number":(\d+)', body)]
        assert numbers == list(range(len(numbers)))
        client.reset()
    assert wait_for(lambda: not provider_is_held_up(gateway))


@pytest.mark.fault("FAULT-SLOW-READER")
@pytest.mark.security("SEC-API4-SLOW")
def test_a_client_that_refuses_to_read_is_dropped_and_no_other(stalling: Running) -> None:
    with Raw(stalling, receive_buffer=65536) as stuck, Raw(stalling) as other:
        started = time.monotonic()
        stuck.send(post(ENDLESS % b"stuck", "x-request-id: stuck"))
        other.send(post(b'{"model":"sim/lorem?chunks=12&gap=100","input":"x","stream":true}', "x-request-id: other"))
        assert stalling.usage("stuck", 5)["ending"] == "client_gone"
        assert 0.5 < time.monotonic() - started < 4
        (call,) = [one for one in stalling.sim.requests if b"stuck" in one.body]
        assert wait_for(lambda: call.closed_by_peer_at)
        assert b"response.completed" in other.response().body
        assert stalling.usage("other")["ending"] == "completed"


@pytest.mark.fault("FAULT-SLOW-READER")
def test_a_client_that_reads_slowly_is_served(stalling: Running) -> None:
    """Half a second without a byte is a stall, nearly two seconds of slow reading are none."""
    with Raw(stalling, receive_buffer=65536) as client:
        client.send(post(ENDLESS % b"slow", "x-request-id: slow"))
        until = time.monotonic() + 1.8
        while time.monotonic() < until:
            time.sleep(0.05)
            assert client.sock.recv(65536)
        assert not [one for one in stalling.log_lines if one.get("request_id") == "slow"]


def test_a_long_answer_in_one_body_reaches_a_slow_client_whole(tight: Running) -> None:
    """The answer has been given when its last byte is in our buffer; the clock of an idle connection is not for it."""
    with Raw(tight, receive_buffer=65536) as client:
        client.send(post(b'{"model":"sim/lorem?chunks=2000&size=4000","input":"x"}'))
        time.sleep(1.5)
        answer = client.response()
        assert len(answer.body) > 8_000_000
        assert answer.json["status"] == "completed"


def test_answers_to_pipelined_requests_do_not_pile_up_for_a_client_that_does_not_read(gateway: Running) -> None:
    big = post(b'{"model":"sim/lorem?chunks=1000&size=4000","input":"piled"}')
    with Raw(gateway, receive_buffer=65536) as client:
        client.send(big * 8)
        time.sleep(0.7)
        assert waiting_bytes(gateway) < 3 * 4_200_000
        for _ in range(8):
            assert client.response().json["status"] == "completed"


def test_the_kernel_takes_little_for_a_client_that_does_not_read(gateway: Running) -> None:
    if not hasattr(socket, "TCP_NOTSENT_LOWAT"):
        pytest.skip("the system has no such limit")
    with Raw(gateway) as client:
        client.ask(get("/healthz"))
        peer = client.sock.getsockname()

        def limits() -> list[int]:
            transports = [getattr(one, "_transport", None) for one in gateway.server.server_state.connections]
            return [
                one.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
                for one in transports
                if one is not None and one.get_extra_info("peername") == peer
            ]

        assert gateway.call(limits) == [128 * 1024]
