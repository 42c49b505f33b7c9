"""Providers that keep one waiting, through every API: the clock that fires is named, and the call is given up with it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.playing import (
    AUDIO,
    CLOCK_MS,
    LANES,
    TEXT,
    Cell,
    Expected,
    Lane,
    Played,
    broken,
    check,
    check_all,
    check_metrics,
    fine_on,
    play,
    refused,
    row_of,
    stage,
)
from tests.faults.witnesses import Witnesses

CLOCK_S = CLOCK_MS / 1000
LATE_S = 0.25 + 2.0
"""How much later a clock may fire, and what a busy machine may add."""

TOTAL_S = 0.9
STREAMS = [lane for lane in [*TEXT, *AUDIO] if lane.stream or lane.client == "speech"]
WHOLE = [lane for lane in LANES if lane not in STREAMS]


def gone(clock: str, after_s: float = CLOCK_S, **more: Any) -> Expected:
    """Nothing had come: a timeout that names the clock."""
    timing: dict[str, Any] = {"least_s": after_s, "most_s": after_s + LATE_S}
    said: dict[str, Any] = {"connection": "closed", "usage": "estimated", "says": f"{clock} clock"}
    return refused(504, "upstream_timeout", **{**said, **timing, **more})


def stalled(lane: Lane) -> Expected:
    timing: dict[str, Any] = {"least_s": CLOCK_S, "most_s": CLOCK_S + LATE_S}
    if lane.stream:
        return broken("upstream_timeout", says="idle clock", usage="estimated", **timing)
    if lane.client == "speech":
        return Expected(ending="cut", code="upstream_timeout", usage="estimated", **timing)
    return gone("idle")


def endless() -> Expected:
    return broken("upstream_timeout", says="total clock", usage="estimated", least_s=0.3, most_s=0.3 + LATE_S)


CELLS = [
    *(Cell("FAULT-SLOW-FIRST", lane, "lorem?fault=stall_head", gone("first_event")) for lane in STREAMS),
    # Comments are bytes and no event that anybody waits for, but whoever sends them is there.
    *(Cell("FAULT-SLOW-FIRST", lane, "lorem?chunks=2&fault=stall&after=0", gone("first_event")) for lane in STREAMS),
    *(Cell("FAULT-SLOW-FIRST", lane, "lorem?fault=stall_head", gone("total", TOTAL_S)) for lane in WHOLE),
    *(
        Cell("FAULT-SLOW-FIRST", lane, "lorem?chunks=2&delay=150", fine_on(lane, least_s=0.15))
        for lane in [*STREAMS, *WHOLE]
    ),
    # What goes on for ever is ended by nothing but the clock for all of it, which the client may set.
    *(
        Cell("FAULT-ENDLESS", lane, f"lorem?fault={fault}&gap=20", endless(), {"headers": ("tidegate-timeout: 300ms",)})
        for fault in ("endless", "ping")
        for lane in STREAMS
        if lane.stream
    ),
    *(Cell("FAULT-STALL", lane, "lorem?chunks=4&fault=stall", stalled(lane)) for lane in LANES),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with stage(tmp_path_factory.mktemp("ledger"), total_ms=int(TOTAL_S * 1000)) as gateway:
        yield play(gateway, CELLS)


@pytest.mark.fault("FAULT-SLOW-FIRST")
@row_of(CELLS, "FAULT-SLOW-FIRST")
def test_a_provider_that_does_not_begin_is_given_up(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-ENDLESS")
@row_of(CELLS, "FAULT-ENDLESS")
def test_a_stream_without_an_end_is_given_one(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-STALL")
@row_of(CELLS, "FAULT-STALL")
def test_a_provider_that_falls_silent_ends_the_answer(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-SLOW-FIRST", "FAULT-STALL")
def test_metrics_have_counted_all_of_it(played: Played) -> None:
    check_metrics(played)


# -- silence towards the client --------------------------------------------------------------------------------------

PATIENCE_S = 1.7
COMMENT = b": keepalive\n\n"
KEPT_ALIVE = {
    # what each client is sent, and takes for a sign of life
    "responses": (COMMENT, b"event: keepalive\ndata: "),
    "chat": (COMMENT,),
    "completions": (COMMENT,),
    "messages": (b'event: ping\ndata: {"type": "ping"}\n\n',),
    "gemini": (COMMENT,),
    "speech": (COMMENT,),
    "transcription": (COMMENT,),
}
SILENT = [lane for lane in [*TEXT, *AUDIO] if lane.stream]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    told = broken("upstream_timeout", says="idle clock", usage="estimated", least_s=PATIENCE_S)
    cells = [Cell("FAULT-STALL", lane, "lorem?chunks=4&fault=stall", told) for lane in SILENT]
    clock_ms = int(PATIENCE_S * 1000)
    with stage(tmp_path_factory.mktemp("ledger"), SILENT, clock_ms=clock_ms, server='stream_ping = "1s"') as gateway:
        yield play(gateway, cells)


@pytest.mark.fault("FAULT-STALL")
@pytest.mark.parametrize("lane", SILENT, ids=[lane.name for lane in SILENT])
def test_a_client_of_a_silent_stream_is_kept_alive_in_its_own_way(
    patient: Played, lane: Lane, witnesses: Witnesses
) -> None:
    cell = next(cell for cell in patient.cells if cell.lane == lane)
    check(patient, cell, witnesses)
    body = patient.seen[cell.name].answer.body
    for form in KEPT_ALIVE[lane.client]:
        assert form in body
    if lane.client != "messages":  # whose providers send a ping of their own
        assert b"ping" not in body
    if lane.client != "responses":
        assert b"event: keepalive" not in body
