"""Clients that all leave at once hold up nobody: a few at a time are done with, and everybody else has their turn in between."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.raw import Raw, post
from tests.support.running import Running, wait_for
from tests.support.sockets import Bare
from tidegate.gateway.gateway import DEPARTURES
from tidegate.gateway.turns import Turns

CLIENTS = 5 * DEPARTURES
ENDLESS = "sim/lorem?head_delay=60000"
"""Its provider says nothing, so that only those who leave give the loop something to do."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with Running() as running:
        yield running


def over_http(gateway: Running) -> Raw:
    client = Raw(gateway)
    client.send(post(b'{"model":"%b","input":"x","stream":true}' % ENDLESS.encode()))
    return client


def over_websocket(gateway: Running) -> Raw:
    client = Bare(gateway)
    client.create(ENDLESS, input="x")
    return client


def finish(client: Raw) -> None:
    client.sock.close()


def under_way(gateway: Running) -> int:
    parts = gateway.server._parts.gateway
    assert parts is not None
    return len(parts.exchanges)


@pytest.mark.fault("FAULT-CLIENT-GONE")
@pytest.mark.fault("FAULT-LOOP-BLOCKED")
@pytest.mark.parametrize("begin", [over_http, over_websocket])
@pytest.mark.parametrize("leave", [finish, Raw.reset])
def test_a_crowd_leaves_a_few_at_a_time(
    gateway: Running, begin: Callable[[Running], Raw], leave: Callable[[Raw], None]
) -> None:
    calls = len(gateway.sim.requests)
    clients = [begin(gateway) for _ in range(CLIENTS)]
    assert wait_for(lambda: len(gateway.sim.requests) == calls + CLIENTS)
    assert gateway.call(lambda: under_way(gateway)) == CLIENTS
    counts: list[int] = []
    all_left = threading.Event()

    def turn() -> None:
        counts.append(under_way(gateway))
        if counts[-1]:
            gateway.loop.call_soon(turn)

    def stand_still() -> None:
        all_left.wait(10)
        turn()

    gateway.loop.call_soon_threadsafe(stand_still)
    for client in clients:
        leave(client)
    all_left.set()
    assert wait_for(lambda: bool(counts) and not counts[-1])
    ended = [before - after for before, after in itertools.pairwise(counts)]
    assert sum(ended) == CLIENTS
    assert max(ended) <= DEPARTURES
    upstreams = list(gateway.sim.requests)[calls:]
    assert wait_for(lambda: all(one.closed_by_peer_at is not None for one in upstreams))


def test_an_answer_that_ends_between_the_departure_and_its_turn_leaves_nothing_behind(gateway: Running) -> None:
    """The client's end has been seen by then: nothing would ever come again that closes the connection."""
    connections = gateway.server.server_state.connections
    assert wait_for(lambda: not gateway.call(lambda: len(connections)))
    with Raw(gateway) as client:
        client.send(post(b'{"model":"%b","input":"x","stream":true}' % ENDLESS.encode()))
        assert wait_for(lambda: gateway.call(lambda: under_way(gateway)) == 1)

        def depart_late() -> None:
            connection: Any = next(iter(connections))
            exchange = connection._running
            assert connection.eof_received()
            exchange.cancel()

        gateway.call(depart_late)
        assert wait_for(lambda: not gateway.call(lambda: len(connections)), 1), "it waits for a client that has left"
        assert not gateway.call(lambda: under_way(gateway))


def test_whoever_fails_in_a_turn_does_not_keep_the_others_from_theirs() -> None:
    done: list[int] = []
    told: list[str] = []

    async def take_turns() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        turns = Turns(loop, 2)

        def act(number: int) -> None:
            if number == 1:
                raise RuntimeError("one of five")
            done.append(number)
            if number == 4:
                turns.wait(partial(act, 5))

        for number in range(5):
            turns.wait(partial(act, number))
        for expected in ([], [0], [0, 2, 3], [0, 2, 3, 4], [0, 2, 3, 4, 5]):
            assert done == expected
            await asyncio.sleep(0)

    asyncio.run(take_turns())
    assert told == ["one of five"]
