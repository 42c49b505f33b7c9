"""Error statuses of a provider, through every API: one mapping, the rest it asks for, and nothing that is not the client's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote_plus

import pytest

from tests.faults.playing import (
    LANES,
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

STATUSES = [
    # the provider's status, the client's, the code
    (400, 400, ""),
    (401, 502, "upstream_auth"),
    (403, 502, "upstream_denied"),  # a page of HTML is what keeps a whole network out
    (404, 404, "model_not_found"),
    (405, 502, "upstream_refused"),
    (408, 504, "upstream_timeout"),
    (409, 503, "server_error"),
    (413, 413, ""),
    (422, 400, ""),
    (500, 502, "server_error"),
    (502, 502, "server_error"),
    (503, 503, "server_is_overloaded"),
    (504, 504, "upstream_timeout"),
    (529, 503, "server_is_overloaded"),
]


def _date(seconds: float) -> str:
    return quote_plus(format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True))


WAITS: list[tuple[str, str | None]] = [
    # what the provider says of when to come again, and what the client is told
    ("retry_after=7", "7"),
    ("retry_after=0.2", "1"),
    ("retry_after_ms=1500", "2"),
    ("retry_after=9&retry_after_ms=250", "1"),
    (f"retry_after={_date(-300)}", "0"),
    (f"retry_after={_date(30 * 86400)}", "3600"),
    ("retry_after=99999999", "3600"),
    ("retry_after=1e999", "3600"),
    ("retry_after=soon", None),
    ("retry_after=", None),
    ("code=rate_limit_exceeded", None),
]

REFUSALS = [
    # the provider's code, and what it is told as
    "context_length_exceeded",
    "content_filter",
    "content_policy_violation",
]

CELLS = [
    *(
        Cell("FAULT-STATUS", lane, f"lorem?status={given}&body=html", refused(told, code))
        for given, told, code in STATUSES
        for lane in LANES
    ),
    *(
        Cell(
            "FAULT-RATE-LIMITED",
            lane,
            f"lorem?status=429&body=text&{wait}",
            refused(429, "rate_limit_exceeded", headers={"retry-after": told}),
        )
        for wait, told in WAITS
        for lane in LANES
    ),
    *(
        Cell(
            "FAULT-TYPED-400",
            lane,
            f"lorem?status=400&code={code}&type=invalid_request_error&message=Too+much.",
            refused(400, code, says="Too much.", headers={"x-should-retry": None}),
        )
        for code in REFUSALS
        for lane in TEXT
        if lane.speaks not in ("messages", "gemini")  # their errors have no code but in words
    ),
    *(
        Cell(
            "FAULT-TYPED-400",
            lane,
            f"lorem?status=400&type=invalid_request_error&message={said}",
            refused(400, "context_length_exceeded"),
        )
        for speaks, said in (
            ("messages", "prompt+is+too+long:+9+tokens+%3E+8+maximum"),
            ("gemini", "The+input+token+count+(9)+exceeds+the+maximum+number+of+tokens+allowed+(8)."),
        )
        for lane in TEXT
        if lane.speaks == speaks
    ),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with stage(tmp_path_factory.mktemp("ledger")) as gateway:
        yield play(gateway, CELLS)


@pytest.mark.fault("FAULT-STATUS")
@row_of(CELLS, "FAULT-STATUS")
def test_a_status_means_the_same_to_every_api(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-RATE-LIMITED")
@row_of(CELLS, "FAULT-RATE-LIMITED")
def test_a_rate_limit_is_told_with_its_time_to_wait(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-TYPED-400")
@row_of(CELLS, "FAULT-TYPED-400")
def test_a_refusal_keeps_its_code(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-STATUS", "FAULT-RATE-LIMITED", "FAULT-TYPED-400")
def test_metrics_have_counted_all_of_it(played: Played) -> None:
    check_metrics(played)


# -- once more -------------------------------------------------------------------------------------------------------

SAID = "".join(f" {at} lorem ipsum d" for at in range(4))
PASSING = ["status=503", "status=500", "status=409", "fault=close&after=0", "fault=json200", "fault=garbage&after=0"]
"""What may be over a moment later."""

FINAL = [
    # what a second attempt would not mend; the client's status, and the code
    ("status=400&body=html", 400, ""),
    ("status=413&body=html", 413, ""),
    ("status=429&body=html", 429, "rate_limit_exceeded"),
]


def mended(lane: Lane) -> Expected:
    # What broke off in the middle of a body is charged for, too.
    return fine_on(lane, attempts=2, asked=2, connection="any", text=SAID if lane in TEXT else None)


AGAIN = [
    *(
        Cell("FAULT-STATUS", lane, f"lorem?chunks=4&{fault}&times=1&message={lane.name}", mended(lane))
        for fault in PASSING
        for lane in LANES
        if "garbage" not in fault or lane.stream
    ),
    *(
        Cell("FAULT-STATUS", lane, f"lorem?{fault}&times=1&message={lane.name}", refused(status, code))
        for fault, status, code in FINAL
        for lane in LANES
    ),
]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with stage(tmp_path_factory.mktemp("ledger"), retries=1) as gateway:
        yield play(gateway, AGAIN)


@pytest.mark.fault("FAULT-STATUS")
@row_of(AGAIN, "FAULT-STATUS")
def test_what_may_pass_is_asked_once_more_and_nothing_else(
    again: Played, cells: list[Cell], witnesses: Witnesses
) -> None:
    check_all(again, cells, witnesses)


@pytest.mark.fault("FAULT-STATUS")
def test_metrics_have_counted_both_attempts(again: Played) -> None:
    check_metrics(again)
