"""Another deployment answers, whatever befell the first one before it had said anything: through every API, and in no time."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.clients import ask, judge
from tests.faults.playing import (
    CLOCK_MS,
    LANES,
    PATIENT_MS,
    SAME,
    TEXT,
    Cell,
    Lane,
    Played,
    check_all,
    check_metrics,
    fine_on,
    play,
    row_of,
    stage,
)
from tests.faults.witnesses import Witnesses
from tests.support.running import Running

OTHER = {
    "responses": "chat",
    "chat": "messages",
    "completions": "chat",
    "messages": "responses",
    "gemini": "chat",
    "speech": "gemini",
    "transcription": "gemini",
    "embeddings": "gemini",
}
"""The dialect of the deployment that stands in for one of the client's own dialect, and for which that one stands in."""

GOOD = "lorem?chunks=4"
SAID = "".join(f" {at} lorem ipsum d" for at in range(4))
REFUSING = "http://127.0.0.1:9/v1"

FAULTS = [
    ("FAULT-RATE-LIMITED", "status=429&retry_after=1"),
    ("FAULT-STATUS", "status=503"),
    ("FAULT-CUT", "fault=close&after=0"),
    ("FAULT-CUT", "after=0&fault=reset"),
    ("FAULT-IN-BAND", "fault=error&after=0"),
    ("FAULT-IN-BAND", "fault=error&after=0&code=rate_limit_exceeded&type=rate_limit_error"),
    ("FAULT-ODD-200", "fault=json200"),
    ("FAULT-ODD-200", "fault=json200&code=rate_limit_exceeded&type=rate_limit_error"),
    ("FAULT-ODD-200", "fault=html200"),
    ("FAULT-ODD-200", "fault=empty200"),
    ("FAULT-BROKEN-JSON", "fault=garbage&after=0"),
    ("FAULT-UTF8", "fault=badutf8&after=0"),
    ("FAULT-ENDLESS", "fault=many_headers"),
    ("FAULT-BOMB", "fault=gzip_bomb&total=8000000"),
]
LATE = [
    ("FAULT-SLOW-FIRST", "fault=stall_head"),
    ("FAULT-SLOW-FIRST", "fault=stall&after=0"),
]
"""For streams: the clock for the first event fires."""

WHOLE = [
    ("FAULT-CUT", "fault=reset"),
    ("FAULT-STALL", "fault=stall"),
    ("FAULT-BROKEN-JSON", "fault=truncated_json"),
]
"""For answers in one body, of which nothing has gone out before all of it is there."""


CHARGED = ("fault=reset", "fault=truncated_json", "fault=garbage", "fault=badutf8")


def pair(lane: Lane) -> tuple[Lane, Lane]:
    """The deployment that fails, and the one that stands in."""
    other = lane._replace(speaks=OTHER[lane.client] if not lane.bridged else lane.client)
    return lane, other


PAIRS = [
    pair(lane) for lane in LANES if (not lane.bridged or OTHER[lane.client] == lane.speaks) and lane.client != "speech"
]


def cells() -> Iterator[Cell]:
    for first, second in PAIRS:
        by = f"{second.name}/{GOOD}"
        faults = [*FAULTS, *(LATE if first.stream else WHOLE)]
        for row, script in faults:
            told_of = script.partition("&")[0]
            # What a provider has read while its clock ran out, or has said before it broke off, it will charge for.
            charged = "stall" in script or (not first.stream and told_of in CHARGED)
            told = fine_on(
                second,
                by=by,
                attempts=2,
                asked=2,
                connection="any",
                text=SAID if first in TEXT else None,
                usage="estimated" if charged else fine_on(second).usage,
                least_s=CLOCK_MS / 1000 if "stall" in script else 0.0,
                most_s=CLOCK_MS / 1000 + 2.5,
            )
            yield Cell(row, first, f"{GOOD}&{script}", told, alias=f"{first.name}-{script}")
        refusing = first._replace(at="refused")
        told = fine_on(second, by=by, attempts=2, connection="any", text=SAID if first in TEXT else None)
        yield Cell("FAULT-CONNECT", refusing, "m", told, alias=f"{refusing.name}-m")


CELLS = list(cells())
ALIASES = "".join(
    f'[models."{cell.alias}"]\ntarget = "{cell.lane.name}/{cell.script}"\nfallback = ["{cell.expected.by}"]\n'
    for cell in CELLS
)
PLACES = {"refused": (REFUSING, PATIENT_MS)}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    lanes = list(dict.fromkeys([*LANES, *(cell.lane for cell in CELLS)]))
    with stage(tmp_path_factory.mktemp("ledger"), lanes, places=PLACES, more=ALIASES) as gateway:
        yield play(gateway, CELLS)


@pytest.mark.fault("FAULT-CONNECT")
@row_of(CELLS, "FAULT-CONNECT")
def test_for_one_that_cannot_be_reached(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-RATE-LIMITED")
@row_of(CELLS, "FAULT-RATE-LIMITED")
def test_for_one_that_is_limited(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-STATUS")
@row_of(CELLS, "FAULT-STATUS")
def test_for_one_that_refuses(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-IN-BAND")
@row_of(CELLS, "FAULT-IN-BAND")
def test_for_one_whose_error_hides_in_a_stream(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-ODD-200")
@row_of(CELLS, "FAULT-ODD-200")
def test_for_one_whose_success_is_none(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-CUT")
@row_of(CELLS, "FAULT-CUT")
def test_for_one_that_breaks_off(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-SLOW-FIRST")
@row_of(CELLS, "FAULT-SLOW-FIRST")
def test_for_one_that_does_not_begin(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-STALL")
@row_of(CELLS, "FAULT-STALL")
def test_for_one_that_falls_silent(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-BROKEN-JSON")
@row_of(CELLS, "FAULT-BROKEN-JSON")
def test_for_one_whose_json_is_none(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-UTF8")
@row_of(CELLS, "FAULT-UTF8")
def test_for_one_whose_text_is_none(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-ENDLESS")
@row_of(CELLS, "FAULT-ENDLESS")
def test_for_one_whose_head_is_too_long(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-BOMB")
@row_of(CELLS, "FAULT-BOMB")
def test_for_one_whose_body_swells(played: Played, cells: list[Cell], witnesses: Witnesses) -> None:
    check_all(played, cells, witnesses)


@pytest.mark.fault("FAULT-CONNECT", "FAULT-STATUS", "FAULT-IN-BAND", "FAULT-ODD-200")
def test_metrics_have_counted_all_of_it(played: Played) -> None:
    check_metrics(played)


# -- how soon --------------------------------------------------------------------------------------------------------


STREAMS = [lane for lane in SAME if lane.stream]


def soonest_of(lane: Lane) -> list[str]:
    """Three targets, of which the second one begins soonest."""
    return [f"{lane.name}/{GOOD}&delay={delay}" for delay in (60, 1, 80)]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    aliases = "".join(
        f'[models."around-{lane.name}"]\ntarget = "{lane.name}-refused/m"\nfallback = ["{lane.name}/{GOOD}"]\n'
        f'[models."late-{lane.name}"]\ntarget = "{lane.name}/{GOOD}&fault=stall_head"\nfallback = ["{lane.name}/{GOOD}"]\n'
        for lane in SAME
    )
    for lane in STREAMS:
        targets = ", ".join(f'{{ model = "{target}" }}' for target in soonest_of(lane))
        aliases += f'[models."soon-{lane.name}"]\ntargets = [{targets}]\nstrategy = "lowest-latency"\nsticky = false\n'
    lanes = [*SAME, *(lane._replace(at="refused") for lane in SAME)]
    with stage(tmp_path_factory.mktemp("ledger"), lanes, places=PLACES, more=aliases) as gateway:
        yield gateway


def timed(gateway: Running, lane: Lane, model: str) -> float:
    began = time.monotonic()
    answer = ask(gateway, lane.client, model, "how soon", stream=lane.stream)
    took = time.monotonic() - began
    assert judge(lane.client, answer, stream=lane.stream).ending == "completed"
    return took


@pytest.mark.alone
@pytest.mark.fault("FAULT-CONNECT")
@pytest.mark.parametrize("lane", SAME, ids=[lane.name for lane in SAME])
def test_a_deployment_that_refuses_costs_less_than_50_ms(quick: Running, lane: Lane) -> None:
    direct = min(timed(quick, lane, f"{lane.name}/{GOOD}") for _ in range(4))
    around = min(timed(quick, lane, f"around-{lane.name}") for _ in range(4))
    assert around - direct < 0.05


@pytest.mark.alone
@pytest.mark.fault("FAULT-SLOW-FIRST")
@pytest.mark.parametrize("lane", STREAMS, ids=[lane.name for lane in STREAMS])
def test_a_deployment_that_stalls_costs_its_clock(quick: Running, lane: Lane) -> None:
    took = timed(quick, lane, f"late-{lane.name}")
    assert CLOCK_MS / 1000 <= took < CLOCK_MS / 1000 + 0.25 + 0.1  # the clock, a bucket of the wheel, and the machine


@pytest.mark.parametrize("lane", STREAMS, ids=[lane.name for lane in STREAMS])
def test_the_target_that_begins_soonest_gets_the_requests(quick: Running, lane: Lane) -> None:
    """Measured at the streams that go by; one of which nothing is known is tried."""
    asked = Counter(
        ask(quick, lane.client, f"soon-{lane.name}", "soonest", stream=True).headers["tidegate-deployment"]
        for _ in range(40)
    )
    slow, soon, slowest = soonest_of(lane)
    assert set(asked) <= {slow, soon, slowest}
    assert asked[soon] >= 25
    assert asked[slow] >= 1
    assert asked[slowest] >= 1
