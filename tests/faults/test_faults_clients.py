"""Clients that leave, do not read, do not finish sending, push ahead or ask twice: through every API, and all at once."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.faults.clients import CLIENTS, Answer, ask, ended, judge, receive, request
from tests.faults.playing import AUDIO, LANES, SAME, TEXT, Lane, reached, stage
from tests.faults.witnesses import TICK_S, Booked, Since, Witnesses, calls_made, entries_in
from tests.support.raw import Raw
from tests.support.running import Running, wait_for

STALL_S = 0.5
SLOW_S = 0.3

STREAMS = [lane for lane in [*TEXT, *AUDIO] if lane.stream]
REPEATING = [lane for lane in TEXT if lane.client in ("responses", "chat", "messages")]
QUICK = next(lane for lane in SAME if lane.stream)

Way = TypeVar("Way")
Told = TypeVar("Told")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger")


@pytest.fixture(scope="module")
def front(folder: Path) -> Iterator[Running]:
    server = f'header_timeout = "{SLOW_S}s"\nbody_timeout = "{SLOW_S}s"'
    clocks = f', send_stall = "{STALL_S}s"'
    with stage(folder, clock_ms=20_000, total_ms=20_000, server=server, clocks=clocks) as gateway:
        yield gateway


@pytest.fixture
def since(front: Running, folder: Path) -> Since:
    return Since(front, lambda: entries_in(folder))


def across(ways: Iterable[Way], play: Callable[[Way], Told]) -> dict[Way, Told]:
    """What each of them has to tell, all of them played at once."""
    ways = list(ways)
    with ThreadPoolExecutor(len(ways)) as pool:
        return dict(zip(ways, pool.map(play, ways), strict=True))


def booked(lane: Lane, ending: str, status: int = 200, **more: Any) -> Booked:
    return Booked(ending, status, endpoint=lane.client, provider=lane.name, **more)


def asked(lane: Lane, script: str, marker: str, **more: Any) -> bytes:
    return request(lane.client, f"{lane.name}/{script}", marker, stream=lane.stream, **lane.members, **more)


class Left(NamedTuple):
    """A client that has gone."""

    at: float
    read: bytes
    """What it had read by then, without the head."""


@pytest.mark.fault("FAULT-CLIENT-GONE")
def test_a_client_that_leaves_takes_its_call_with_it(front: Running, since: Since, witnesses: Witnesses) -> None:
    def leave(lane: Lane) -> Left:
        marker, body = f"gone-{lane.name}", b""
        with Raw(front) as raw:
            raw.send(asked(lane, "lorem?chunks=4&fault=stall" if lane.stream else "lorem?fault=stall_head", marker))
            assert wait_for(lambda: reached(front, marker))
            if lane.stream:
                raw.until(b"\r\n\r\n")
                while (b"ipsum" if lane in TEXT else b"data: ") not in body:
                    body += raw.chunk()
            left = Left(time.monotonic(), body + raw.buffer)
        assert wait_for(lambda: reached(front, marker)[0].lost_at)
        return left

    seen = across(LANES, leave)
    for lane, left in seen.items():
        with witnesses.hearing("client"):
            assert not ended(left.read), lane
            assert lane.stream or left.read == b"", lane
        witnesses.upstream(reached(front, f"gone-{lane.name}"), closed=1, since=left.at)
    told = [
        booked(lane, "client_gone", 200 if lane.stream else 499, error="client_gone", estimated=True) for lane in LANES
    ]
    witnesses.ledger(since.entries(len(LANES)), *told)
    witnesses.metrics(
        since.before,
        since.after,
        *told,
        attempts={calls_made(lane.client, "left", lane.name): 1 for lane in LANES},
        more={"tidegate_exchanges_running": 0},
    )


@pytest.mark.fault("FAULT-SLOW-READER")
@pytest.mark.alone
def test_a_client_that_takes_nothing_is_dropped_and_no_other(
    front: Running, since: Since, witnesses: Witnesses
) -> None:
    def refuse(lane: Lane) -> bytes:
        marker = f"stuck-{lane.name}"
        with Raw(front, receive_buffer=65536) as raw:
            raw.send(asked(lane, "lorem?fault=endless&size=2000", marker))
            assert wait_for(lambda: [one for one in reached(front, marker) if one.lost_at], 8)
            return raw.rest()

    def read(lane: Lane) -> Answer:
        return ask(front, lane.client, f"{lane.name}/lorem?chunks=10&gap=100", "quick-reader", stream=True)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(read, QUICK)
        stuck = across(STREAMS, refuse)
        answer = other.result()
    with witnesses.hearing("client"):
        assert not [lane.name for lane, body in stuck.items() if ended(body)]
        assert all(len(body) < 4 * 1024 * 1024 for body in stuck.values())
        assert judge(QUICK.client, answer, stream=True).ending == "completed"
    entries = {(entry.booked.provider, entry.booked.ending): entry for entry in since.entries(len(STREAMS) + 1)}
    for lane in STREAMS:
        calls = reached(front, f"stuck-{lane.name}")
        lasted = entries[lane.name, "client_gone"].duration_ms / 1000
        assert lasted >= STALL_S - TICK_S
        witnesses.upstream(calls, closed=1, since=calls[0].started_at + lasted)
    witnesses.upstream(reached(front, "quick-reader"), answered=1)
    told = [booked(lane, "client_gone", error="client_gone", estimated=True) for lane in STREAMS]
    told.append(booked(QUICK, "completed"))
    witnesses.ledger(entries.values(), *told)
    made = {calls_made(lane.client, "left", lane.name): 1 for lane in STREAMS}
    made[calls_made(QUICK.client, "answered", QUICK.name)] = 1
    witnesses.metrics(since.before, since.after, *told, attempts=made)


@pytest.mark.fault("FAULT-SLOWLORIS")
def test_what_does_not_come_is_refused_in_the_form_of_its_api(
    front: Running, since: Since, witnesses: Witnesses
) -> None:
    """Bodies that stall, and a head that drips."""

    def stall(client: str) -> None:
        sent = request(client, "chat-chat-stream/lorem", f"slow-{client}", stream=False)
        began = time.monotonic()
        with Raw(front) as raw:
            answer = receive(raw.send(sent[:-2]))
            assert SLOW_S - TICK_S <= time.monotonic() - began < SLOW_S + 2
            verdict = judge(client, answer, stream=False)
            assert (answer.status, verdict.ending) == (408, "refused"), client
            assert client == "messages" or verdict.code == "request_timeout"
            assert "server.body_timeout" in verdict.message
            assert raw.rest() == b""

    def drip() -> None:
        began = time.monotonic()
        with Raw(front) as raw:
            raw.send(b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n")
            while raw.silent(0.05):
                raw.send(b"X: 1\r\n")
            assert time.monotonic() - began < SLOW_S + 2
            refusal = raw.response()
            assert (refusal.status, refusal.code, refusal.closes) == (408, "request_timeout", True)
            assert raw.rest() == b""

    calls = len(front.sim.requests)
    with witnesses.hearing("client"), ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip)
        across(CLIENTS, stall)
        dripping.result()
    witnesses.upstream(list(front.sim.requests)[calls:])
    told = [Booked("refused", 408, endpoint=client, provider="", attempts=0) for client in (*CLIENTS, "")]
    witnesses.metrics(since.before, since.after, *told)
    witnesses.ledger(since.entries(0))


@pytest.mark.fault("FAULT-PIPELINED")
def test_requests_on_one_connection_are_answered_in_their_order(
    front: Running, since: Since, witnesses: Witnesses
) -> None:
    def push(lane: Lane) -> list[Answer]:
        with Raw(front) as raw:
            # They are told by how much they say: not every API lets one see what one asked.
            for at in range(3):
                raw.send(asked(lane, f"lorem?chunks={at + 1}", f"pushed-{lane.name}-{at}"))
            return [receive(raw) for _ in range(3)]

    seen = across(LANES, push)
    for lane, answers in seen.items():
        with witnesses.hearing("client"):
            verdicts = [judge(lane.client, answer, stream=lane.stream) for answer in answers]
            assert [verdict.ending for verdict in verdicts] == ["completed"] * 3
            if lane in TEXT:
                assert [verdict.text.count("ipsum") for verdict in verdicts] == [1, 2, 3]
        calls = [call for at in range(3) for call in reached(front, f"pushed-{lane.name}-{at}")]
        witnesses.upstream(calls, answered=3)
        ends = [call.finished_at or 0 for call in calls]
        assert all(end <= call.started_at for end, call in zip(ends, calls[1:], strict=False)), "one began too early"
    entries = since.entries(3 * len(LANES))
    uncounted = {entry.booked.provider for entry in entries if entry.booked.estimated}
    told = [booked(lane, "completed", estimated=lane.name in uncounted) for lane in LANES] * 3
    ids = [answer.headers["x-request-id"] for answers in seen.values() for answer in answers]
    witnesses.ledger(entries, *told, ids=ids)
    witnesses.metrics(since.before, since.after, *told)


@pytest.mark.fault("FAULT-PIPELINED", "FAULT-CLIENT-GONE")
def test_what_waits_on_a_connection_is_not_begun_for_a_client_that_left(
    front: Running, since: Since, witnesses: Witnesses
) -> None:
    def hang_up(lane: Lane) -> Left:
        marker = f"hung-up-{lane.name}"
        with Raw(front) as raw:
            raw.send(asked(lane, "lorem?fault=stall_head", marker) * 3)
            assert wait_for(lambda: reached(front, marker))
            left = Left(time.monotonic(), raw.buffer)
            raw.reset()
        assert wait_for(lambda: reached(front, marker)[0].lost_at)
        return left

    for lane, left in across(LANES, hang_up).items():
        with witnesses.hearing("client"):
            assert left.read == b""
        witnesses.upstream(reached(front, f"hung-up-{lane.name}"), closed=1, since=left.at)
    told = [booked(lane, "client_gone", 499, error="client_gone", estimated=True) for lane in LANES]
    witnesses.ledger(since.entries(len(LANES)), *told)
    made = {calls_made(lane.client, "left", lane.name): 1 for lane in LANES}
    witnesses.metrics(since.before, since.after, *told, attempts=made, more={"tidegate_exchanges_running": 0})


@pytest.mark.fault("FAULT-REPEATED")
def test_the_same_request_is_run_once_and_booked_as_often_as_it_came(
    front: Running, since: Since, witnesses: Witnesses
) -> None:
    """Two at the same time, and one afterwards."""

    def repeat(lane: Lane) -> list[Answer]:
        marker = f"again-{lane.name}"

        def once(_: int) -> Answer:
            model, key = f"{lane.name}/lorem?chunks=4&gap=20", (f"idempotency-key: {marker}",)
            return ask(front, lane.client, model, marker, stream=lane.stream, headers=key)

        return [*across(range(2), once).values(), once(2)]

    seen = across(REPEATING, repeat)
    for lane, answers in seen.items():
        with witnesses.hearing("client"):
            endings = [judge(lane.client, answer, stream=lane.stream).ending for answer in answers]
            assert endings == ["completed"] * 3
            assert len({answer.body for answer in answers}) == 1
            assert sum("tidegate-repeated" in answer.headers for answer in answers) == 2
        witnesses.upstream(reached(front, f"again-{lane.name}"), answered=1)
    told = []
    for lane in REPEATING:
        told.append(booked(lane, "completed"))
        told += [Booked("repeated", endpoint=lane.client, provider="", attempts=0, used=False)] * 2
    ids = [answer.headers["x-request-id"] for answers in seen.values() for answer in answers]
    witnesses.ledger(since.entries(len(told)), *told, ids=ids)
    witnesses.metrics(since.before, since.after, *told)
