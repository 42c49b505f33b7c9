"""Answers that are odd and still whole, through every API: nothing of them is lost, doubled or made up."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.playing import (
    BRIDGED,
    SAME,
    TEXT,
    Cell,
    Expected,
    Lane,
    Played,
    check_all,
    check_metrics,
    fine_on,
    play,
    refused,
    row_of,
    stage,
)
from tests.faults.witnesses import Witnesses
from tidegate.sim.scripts import ZH

SAID = "".join(f" {at} lorem ipsum d" for at in range(4))
STREAMS = [lane for lane in TEXT if lane.stream]

SCHEMA = {"type": "object", "properties": {"harbour": {"type": "string"}}, "required": ["harbour"]}
CALLS = [("tide", {"harbour": "sim 0"}), ("wind", {"harbour": "sim 1"})]


def tools(client: str) -> dict[str, Any]:
    """Two tools, offered in the API's own form."""
    names = ("tide", "wind")
    match client:
        case "responses":
            return {"tools": [{"type": "function", "name": name, "parameters": SCHEMA} for name in names]}
        case "chat":
            of = [{"name": name, "parameters": SCHEMA} for name in names]
            return {"tools": [{"type": "function", "function": function} for function in of]}
        case "messages":
            return {"tools": [{"name": name, "input_schema": SCHEMA} for name in names]}
        case _:
            return {"tools": [{"functionDeclarations": [{"name": name, "parameters": SCHEMA} for name in names]}]}


def whole(lane: Lane, **more: Any) -> Expected:
    return fine_on(lane, **more)


def framed(lane: Lane, form: str) -> Expected:
    # What the simulator has said in such forms it cannot read again itself.
    unread = form in ("split=1", "fault=cr_only", "fault=multiline")
    return whole(lane, text=SAID, connection="any", usage="some" if unread else "claimed")


def called(lane: Lane) -> Expected:
    return whole(lane, text="")


def disordered(lane: Lane, fault: str) -> Expected:
    same = lane.stream and not lane.bridged
    if fault == "headless" and same and lane.client == "messages":
        # No official client reads a message that never began; nothing has gone out, so that another may answer.
        return refused(502, "upstream_broken", connection="closed", says="message_start")
    if fault == "dup_finish" and same and lane.client in ("chat", "completions", "gemini"):
        return whole(lane, text=SAID, finishes=2)  # the frames are the provider's own
    return whole(lane, text=SAID)


CELLS = [
    *(
        Cell("FAULT-DISORDER", lane, f"lorem?chunks=4&fault={fault}", disordered(lane, fault))
        for fault in ("dup_role", "dup_finish", "headless", "seq_jump", "seq_stuck", "unknown")
        for lane in TEXT
    ),
    *(
        Cell("FAULT-MALFORMED-SSE", lane, f"lorem?chunks=4&{form}", framed(lane, form))
        for form in (
            *(f"fault={fault}" for fault in ("bom", "cr_only", "no_space", "more_fields", "multiline", "no_blank_line")),
            *("crlf=1", "comments=3", "done=0", "framing=close", "framing=length", "events=0", "seq=0", "split=1"),
        )
        for lane in STREAMS
    ),
    *(
        Cell("FAULT-MALFORMED-SSE", lane, "lorem?chunks=4&fault=extra_after_end", whole(lane, text=SAID, connection="any"))
        for lane in STREAMS
        if lane.speaks != "gemini"  # which has no ending to be behind
    ),
    *(Cell("FAULT-UTF8", lane, f"zh?split={size}", whole(lane, text=ZH, usage="some")) for size in (1, 2) for lane in SAME),
    *(Cell("FAULT-UTF8", lane, "zh?split=2", whole(lane, text=ZH, usage="some")) for lane in BRIDGED),
    *(
        Cell("FAULT-USAGE", lane, f"lorem?chunks=4&usage={usage}", whole(lane, text=SAID, usage=told))
        for usage, told in (("absent", "estimated"), ("zero", "estimated"), ("inline", "claimed"), ("always", "claimed"))
        for lane in TEXT
    ),
    *(
        Cell("FAULT-USAGE", lane, "lorem?chunks=4&finish=length", whole(lane, ending="incomplete", text=SAID))
        for lane in TEXT
    ),
    *(
        Cell("FAULT-TOOL-CALLS", lane, f"tools?parallel=2&{form}", called(lane), tools(lane.client))
        for form in ("chunks=1", "chunks=9")
        for lane in TEXT
        if "completions" not in (lane.client, lane.speaks)
    ),
    *(
        Cell("FAULT-TOOL-CALLS", lane, f"tools?parallel=2&fault=call_{fault}", whole(lane, text=""), tools(lane.client))
        for fault in ("no_id", "no_index", "same_index", "interleaved", "whole")
        for lane in STREAMS
        if lane.speaks == "chat" and lane.bridged and lane.client != "completions"
    ),
    *(
        Cell("FAULT-ODD-200", lane, f"lorem?chunks=4&fault={fault}", whole(lane, text=SAID, asked=1 + (fault == "stale")))
        for fault in ("wrong_type", "no_type", "head_slow", "continue100", "stale")
        for lane in TEXT
    ),
    *(
        Cell("FAULT-BOMB", lane, "lorem?chunks=4&fault=gzip", whole(lane, text=SAID, usage="some"))
        for lane in TEXT
    ),
    *(
        Cell("FAULT-CUT", lane, f"lorem?chunks=4&fault={fault}", whole(lane, text=SAID, connection="closed", usage="some"))
        for fault in ("close_keepalive", "unsolicited")
        for lane in TEXT
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with stage(tmp_path_factory.mktemp("ledger"), clock_ms=2000) as gateway:
        yield play(gateway, CELLS)


@pytest.mark.fault("FAULT-DISORDER")
@row_of(CELLS, "FAULT-DISORDER")
def test_what_comes_twice_or_not_at_all_changes_no_answer(
    played: Played, cells: list[Cell], witnesses: Witnesses
) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-MALFORMED-SSE")
@row_of(CELLS, "FAULT-MALFORMED-SSE")
def test_every_form_of_an_event_stream_is_read(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-UTF8")
@row_of(CELLS, "FAULT-UTF8")
def test_a_character_may_come_in_several_reads(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-USAGE")
@row_of(CELLS, "FAULT-USAGE")
def test_usage_is_the_providers_or_an_estimate_that_says_so(
    played: Played, cells: list[Cell], witnesses: Witnesses
) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-TOOL-CALLS")
@row_of(CELLS, "FAULT-TOOL-CALLS")
def test_calls_arrive_whole_and_apart(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    for verdict in check_all(played, cells, witnesses):
        assert [(name, json.loads(arguments)) for name, arguments in verdict.calls] == CALLS


@pytest.mark.fault("FAULT-ODD-200")
@row_of(CELLS, "FAULT-ODD-200")
def test_an_odd_head_is_still_a_head(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-BOMB")
@row_of(CELLS, "FAULT-BOMB")
def test_what_was_compressed_unasked_is_read(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-CUT")
@row_of(CELLS, "FAULT-CUT")
def test_a_connection_that_breaks_behind_the_answer_changes_nothing(
    played: Played, cells: list[Cell], witnesses: Witnesses
) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-DISORDER", "FAULT-MALFORMED-SSE", "FAULT-USAGE", "FAULT-TOOL-CALLS")
def test_metrics_have_counted_all_of_it(played: Played) -> None:
    check_metrics(played)
