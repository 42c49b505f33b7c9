"""Providers that cannot be reached, or that have no connection left, through every API."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.access.books import Books
from tests.faults.clients import ask, judge
from tests.faults.playing import (
    AUDIO,
    CLOCK_MS,
    LANES,
    PATIENT_MS,
    SAME,
    VECTORS,
    Cell,
    Lane,
    Played,
    check_all,
    check_metrics,
    metrics,
    play,
    reached,
    refused,
    row_of,
    stage,
)
from tests.faults.servers import FaultServer, hold, read, tls, unaccepting
from tests.faults.witnesses import Witnesses
from tests.support.running import Running, wait_for

OWN = [lane for lane in [*SAME, *AUDIO, *VECTORS] if not lane.bridged]

UNREACHABLE: list[tuple[str, int, str, str, float]] = [
    # where the provider is; status, code and words for the client; how long it takes
    ("refused", 502, "upstream_unreachable", "refused", 0.0),
    ("unnamed", 502, "upstream_unreachable", "nowhere.invalid", 0.0),
    ("untrusted", 502, "upstream_unreachable", "certificate", 0.0),
    ("no-tls", 502, "upstream_unreachable", "TLS", 0.0),
    ("tls-silent", 504, "upstream_timeout", "connect clock", CLOCK_MS / 1000),
    ("full", 504, "upstream_timeout", "connect clock", CLOCK_MS / 1000),
]
CELLS = [
    Cell(
        "FAULT-CONNECT",
        lane._replace(at=at),
        "m",
        refused(status, code, says=says, asked=0, least_s=least_s, most_s=least_s + 2.5),
    )
    for at, status, code, says, least_s in UNREACHABLE
    for lane in OWN
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with ExitStack() as stack:
        untrusted = stack.enter_context(FaultServer(tls("localhost"), read()))
        silent = stack.enter_context(FaultServer(hold()))
        places = {
            "refused": ("http://127.0.0.1:9/v1", PATIENT_MS),
            "unnamed": ("http://nowhere.invalid/v1", PATIENT_MS),
            "untrusted": (f"https://localhost:{untrusted.port}/v1", PATIENT_MS),
            "no-tls": (f"https://localhost:{stack.enter_context(FaultServer()).port}/v1", PATIENT_MS),
            "tls-silent": (f"https://localhost:{silent.port}/v1", CLOCK_MS),
            "full": (f"http://127.0.0.1:{stack.enter_context(unaccepting())}/v1", CLOCK_MS),
        }
        lanes = [cell.lane for cell in CELLS]
        with stage(tmp_path_factory.mktemp("ledger"), lanes, places=places) as gateway:
            yield play(gateway, CELLS)
            assert not any(peer.asked for peer in untrusted.peers), "a request for somebody whom nobody vouches for"
            assert wait_for(lambda: all(peer.gone_at for peer in silent.peers))


@pytest.mark.fault("FAULT-CONNECT")
@row_of(CELLS, "FAULT-CONNECT")
def test_who_cannot_be_reached_is_named_with_the_reason(
    played: Played, cells: list[Cell], witnesses: Witnesses
) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-CONNECT")
def test_metrics_have_counted_all_of_it(played: Played) -> None:
    check_metrics(played)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Every provider may have one connection."""
    with stage(tmp_path_factory.mktemp("ledger"), LANES, clock_ms=5000) as gateway:
        yield gateway


@pytest.mark.fault("FAULT-POOL")
@pytest.mark.parametrize("lane", OWN, ids=[lane.name for lane in OWN])
def test_where_all_connections_are_in_use_one_is_told_when_to_come_again(
    narrow: Running, lane: Lane, witnesses: Witnesses
) -> None:
    pool = _pool(narrow, lane)
    narrow.call(lambda: setattr(pool, "_limit", pool.open_count))
    before = metrics(narrow)
    more: dict[str, Any] = {"stream": lane.stream, **lane.members}
    with ExitStack() as stack:
        # Whatever is idle is taken; then there is no further one.
        taken = narrow.call(lambda: [pool.take() for _ in range(pool.idle_count)])
        stack.callback(lambda: narrow.call(lambda: [pool.put(one) for one in taken if one is not None]))
        answer = ask(narrow, lane.client, f"{lane.name}/lorem", f"full-{lane.name}", **more)
    narrow.call(lambda: setattr(pool, "_limit", 100))
    after = ask(narrow, lane.client, f"{lane.name}/lorem", f"free-{lane.name}", **more)
    status = 529 if lane.client == "messages" else 503
    with witnesses.hearing("client"):
        verdict = judge(lane.client, answer, stream=lane.stream)
        assert (answer.status, verdict.ending) == (status, "refused")
        assert lane.client == "messages" or verdict.code == "gateway_overloaded"
        assert answer.headers["retry-after"] == "1"
        assert "x-should-retry" not in answer.headers
        assert judge(lane.client, after, stream=lane.stream).ending == "completed"
    witnesses.upstream(reached(narrow, f"full-{lane.name}"))
    witnesses.upstream(reached(narrow, f"free-{lane.name}"), answered=1)
    books = Books(narrow)
    entry = books.row(answer.headers["x-request-id"]).entry
    books.row(after.headers["x-request-id"])
    books.close()
    with witnesses.hearing("ledger"):
        assert (entry.status, entry.ending, entry.error) == (status, "failed", "gateway_overloaded")
        assert (entry.input_tokens, entry.output_tokens, entry.estimated) == (0, 0, False)
    moved = metrics(narrow) - before
    with witnesses.hearing("metrics"):
        assert moved["tidegate_requests_total", lane.client, lane.name, str(status)] == 1
        assert moved["tidegate_endings_total", "failed", lane.client, lane.name] == 1
        assert moved["tidegate_endings_total", "completed", lane.client, lane.name] == 1


def _pool(gateway: Running, lane: Lane) -> Any:
    parts = gateway.server._parts.gateway
    assert parts is not None
    return parts.snapshot.upstreams[lane.name].pool
