"""Answers that break, and answers that are none, through every API: an honest ending, whatever the provider did."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.clients import receive
from tests.faults.playing import (
    LANES,
    SAME,
    TEXT,
    VECTORS,
    Cell,
    Expected,
    Lane,
    Played,
    broken,
    check_all,
    check_metrics,
    play,
    refused,
    row_of,
    stage,
)
from tests.faults.witnesses import Witnesses
from tests.support.raw import Raw, post

Told = Callable[[Lane], Expected]


def early(code: str, status: int = 502, **more: Any) -> Told:
    """Nothing had been said: an error status, whether it was to stream or not."""
    return lambda _lane: refused(status, code, **{"connection": "closed", **more})


def late(code: str, **more: Any) -> Told:
    """A stream had begun, and ends with the error; raw audio is cut; what is one body becomes an error status."""

    def told(lane: Lane) -> Expected:
        if lane.client == "speech" and not lane.stream:
            return Expected(ending="cut", code=code, **{"usage": "estimated", **more})
        if lane.stream:
            return broken(code, **{"usage": "estimated", **more})
        return refused(502, code, **{"connection": "closed", "usage": "estimated", **more})

    return told


def in_band(late_one: bool) -> Told:
    """An error among the events, which is a status of its own where the answer is one body."""

    def told(lane: Lane) -> Expected:
        overloaded = lane.speaks == "messages" and lane.stream  # Anthropic's own error in streams
        code, status = ("server_is_overloaded", 503) if overloaded else ("server_error", 502)
        if not lane.stream and not (lane.client == "speech" and lane.bridged):
            return refused(502, "server_error", connection="kept")
        return late(code)(lane) if late_one else early(code, status)(lane)

    return told


def by_stream(stream: Told, whole: Told) -> Told:
    return lambda lane: stream(lane) if lane.stream else whole(lane)


BROKEN = "upstream_broken"
KEPT: dict[str, Any] = {"connection": "kept"}
RAW = [lane for lane in LANES if lane.client == "speech" and not lane.stream and not lane.bridged]
"""Raw audio that is relayed as it is: neither its frames nor a clean end can be wrong."""
FRAMED = [lane for lane in LANES if lane not in RAW]
SPEAKING = [lane for lane in FRAMED if lane not in VECTORS]

FAULTS: list[tuple[str, str, Told, list[Lane]]] = [
    ("FAULT-CUT", "fault=eof&after=0", early(BROKEN, **KEPT), LANES),
    # A kept connection on which nothing comes back is replaced once.
    ("FAULT-CUT", "fault=close_head", early(BROKEN, asked=2), LANES),
    ("FAULT-CUT", "fault=reset&after=0", early(BROKEN), LANES),
    ("FAULT-CUT", "fault=close&after=0", early(BROKEN), LANES),
    ("FAULT-CUT", "fault=reset", late(BROKEN), LANES),
    ("FAULT-CUT", "fault=close", late(BROKEN), LANES),
    ("FAULT-CUT", "fault=cut", late(BROKEN), LANES),
    ("FAULT-CUT", "fault=eof", late(BROKEN, **KEPT), FRAMED),
    ("FAULT-CUT", "fault=bad_chunk_size", late(BROKEN), LANES),
    ("FAULT-CUT", "framing=length&fault=cut", late(BROKEN), LANES),
    ("FAULT-CUT", "framing=close&fault=close", late(BROKEN), TEXT),
    ("FAULT-CUT", "burst=1&fault=eof", late(BROKEN, **KEPT), TEXT),
    ("FAULT-IN-BAND", "fault=error&after=0", in_band(late_one=False), SPEAKING),
    ("FAULT-IN-BAND", "fault=error", in_band(late_one=True), SPEAKING),
    ("FAULT-IN-BAND", "burst=1&fault=error", in_band(late_one=True), TEXT),
    ("FAULT-ODD-200", "fault=json200", early("server_error", **KEPT), LANES),
    (
        "FAULT-ODD-200",
        "fault=json200&code=rate_limit_exceeded&type=rate_limit_error",
        early("rate_limit_exceeded", 429, **KEPT),
        [lane for lane in LANES if lane.speaks not in ("messages", "gemini")],
    ),
    (
        "FAULT-ODD-200",
        "fault=json200&type=overloaded_error",
        early("server_is_overloaded", 503, **KEPT),
        [lane for lane in TEXT if lane.speaks == "messages"],
    ),
    ("FAULT-ODD-200", "fault=html200", early(BROKEN, **KEPT), LANES),
    ("FAULT-ODD-200", "fault=redirect", early(BROKEN, **KEPT), LANES),
    ("FAULT-ODD-200", "fault=empty200", early(BROKEN, **KEPT), LANES),
    ("FAULT-ODD-200", "fault=not_http", early(BROKEN), LANES),
    ("FAULT-ODD-200", "fault=both_lengths", early(BROKEN), LANES),
    ("FAULT-BROKEN-JSON", "fault=garbage", by_stream(late(BROKEN), late(BROKEN, **KEPT)), [*TEXT, *VECTORS]),
    ("FAULT-BROKEN-JSON", "fault=truncated_json", late(BROKEN, **KEPT), FRAMED),
    ("FAULT-UTF8", "fault=badutf8", by_stream(late(BROKEN), late(BROKEN, **KEPT)), TEXT),
    ("FAULT-ENDLESS", "fault=many_headers", early(BROKEN), LANES),
    ("FAULT-ENDLESS", "fault=longline&total=9000000", late(BROKEN), [lane for lane in SAME if lane.stream]),
    ("FAULT-BOMB", "fault=gzip_bomb&total=8000000", early(BROKEN), LANES),
]

CELLS = [
    Cell(row, lane, f"lorem?chunks=4&{script}", told(lane))
    for row, script, told, lanes in FAULTS
    for lane in LANES
    if lane in lanes
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with stage(tmp_path_factory.mktemp("ledger"), clock_ms=2000) as gateway:
        yield play(gateway, CELLS)


@pytest.mark.fault("FAULT-CUT")
@row_of(CELLS, "FAULT-CUT")
def test_a_connection_that_breaks_is_no_ending(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-IN-BAND")
@row_of(CELLS, "FAULT-IN-BAND")
def test_an_error_among_the_events_is_told_as_one(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-ODD-200")
@row_of(CELLS, "FAULT-ODD-200")
def test_what_is_no_answer_is_no_success(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-BROKEN-JSON")
@row_of(CELLS, "FAULT-BROKEN-JSON")
def test_json_that_is_none_ends_the_answer(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-UTF8")
@row_of(CELLS, "FAULT-UTF8")
def test_bytes_that_are_no_text_end_the_answer(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)
    for cell in cells:
        assert "\N{REPLACEMENT CHARACTER}".encode() not in played.seen[cell.name].answer.body


@pytest.mark.fault("FAULT-ENDLESS")
@row_of(CELLS, "FAULT-ENDLESS")
def test_what_has_no_end_has_a_cap(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-BOMB")
@row_of(CELLS, "FAULT-BOMB")
def test_a_body_that_swells_is_not_read(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-CUT", "FAULT-IN-BAND", "FAULT-ODD-200", "FAULT-BROKEN-JSON")
def test_metrics_have_counted_all_of_it(played: Played) -> None:
    check_metrics(played)


@pytest.mark.fault("FAULT-CUT", "FAULT-IN-BAND")
@pytest.mark.parametrize("speaks", ["gemini", "chat"])
@pytest.mark.parametrize("fault", ["cut", "reset", "eof", "error", "garbage"])
def test_an_array_of_chunks_ends_with_the_error(played: Played, speaks: str, fault: str) -> None:
    """Google streams one JSON array where nobody asks for events: whatever happens, the array is whole."""
    path = f"/v1beta/models/gemini-{speaks}-stream/lorem%3Fchunks=4&fault={fault}:streamGenerateContent"
    body = b'{"contents": [{"role": "user", "parts": [{"text": "array"}]}]}'
    with Raw(played.gateway) as raw:
        answer = receive(raw.send(post(body, path=path)))
    assert (answer.status, answer.whole) == (200, True)
    *chunks, last = json.loads(answer.body)
    assert chunks
    assert list(last) == ["error"]
    assert not [one for chunk in chunks for one in chunk["candidates"] if one.get("finishReason")]
