"""Faults as a table: each is met on many lanes, all of them at once, and then judged cell by cell.

A lane is a client's API, the dialect in which its provider is asked, and whether the answer streams. Every lane has a
provider of its own, so that its connections, its entries in the ledger and its metrics are told from all others.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import httpx
import msgspec
import pytest

from tests.access.books import Books
from tests.faults.clients import Answer, Verdict, ask, judge
from tests.faults.witnesses import CLOSED_WITHIN_S, TICK_S, Witnesses
from tests.support.running import Running, wait_for
from tidegate.sim.connection import SimRequest
from tidegate.storage.records import Usage

__all__ = [
    "AUDIO",
    "BRIDGED",
    "LANES",
    "PATIENT_MS",
    "SAME",
    "TEXT",
    "VECTORS",
    "Cell",
    "Expected",
    "Lane",
    "Played",
    "Seen",
    "broken",
    "check",
    "check_all",
    "check_metrics",
    "fine",
    "fine_on",
    "metrics",
    "play",
    "reached",
    "refused",
    "row_of",
    "stage",
]

CLOCK_MS: Final = 600
"""The clocks for the first event and for silence, where a lane names no other."""

TOTAL_MS: Final = 5000
PATIENT_MS: Final = 5000

OVERLOADED: Final = 529

ACROSS: Final = 24
"""So many lanes are played at once."""


class Lane(NamedTuple):
    """One way of an answer through the gateway."""

    client: str
    speaks: str
    """The dialect of its provider."""
    stream: bool
    at: str = ""
    """Where its provider is, if that is not the simulator."""

    @property
    def name(self) -> str:
        """Also that of its provider."""
        return f"{self.client}-{self.speaks}-{'stream' if self.stream else 'whole'}{self.at and '-'}{self.at}"

    @property
    def bridged(self) -> bool:
        return self.client != self.speaks

    @property
    def members(self) -> dict[str, Any]:
        """What its requests have besides."""
        return {"voice": "Kore"} if self.client == "speech" and self.speaks == "gemini" else {}

    def toml(self, more: str = "", url: str = "{sim}") -> str:
        """The provider's table."""
        kind, place, rest = _PROVIDERS[self.speaks]
        return f'[providers.{self.name}]\nkind = "{kind}"\nbase_url = "{url}{place}"\n{rest}\n{more}\n'


_PROVIDERS: Final = {
    "responses": ("openai", "", 'speaks = ["responses"]\ncredentials = ["sk-of-the-provider-0123456789"]'),
    "chat": ("openai-compatible", "", 'speaks = ["chat"]'),
    "completions": ("openai-compatible", "", 'speaks = ["completions"]'),
    "messages": ("anthropic", "", 'credentials = ["sk-ant-of-the-provider"]'),
    "gemini": ("gemini", "beta", 'credentials = ["AIza-of-the-provider"]'),
    "speech": ("sim", "", ""),
    "transcription": ("sim", "", ""),
    "embeddings": ("sim", "", ""),
}

_SAME: Final = ("responses", "chat", "completions", "messages", "gemini")
_BRIDGED: Final = (
    ("responses", "chat"),
    ("responses", "messages"),
    ("responses", "gemini"),
    ("chat", "responses"),
    ("chat", "messages"),
    ("completions", "chat"),
    ("messages", "responses"),
    ("messages", "chat"),
    ("gemini", "chat"),
)

SAME: Final = [Lane(one, one, stream) for one in _SAME for stream in (True, False)]
BRIDGED: Final = [Lane(*pair, stream) for pair in _BRIDGED for stream in (True, False)]
TEXT: Final = [*SAME, *BRIDGED]
AUDIO: Final = [
    Lane(client, speaks, stream)
    for client in ("speech", "transcription")
    for speaks in (client, "gemini")
    for stream in (True, False)
]
VECTORS: Final = [Lane("embeddings", speaks, False) for speaks in ("embeddings", "gemini")]
LANES: Final = [*TEXT, *AUDIO, *VECTORS]


UNCOUNTED: Final = (Lane("embeddings", "gemini", False), Lane("speech", "speech", False))


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What everybody is to see of one cell."""

    ending: Literal["refused", "completed", "incomplete", "failed", "cut"]
    """For the client (see `Verdict`)."""
    status: int = 200
    code: str = ""
    """The error's, ours or the provider's, for the client and in the ledger."""
    says: str = ""
    """What the error's message has in it."""
    connection: Literal["kept", "closed", "any"] = "closed"
    """What becomes of the connection to the provider: the lane's next request comes on it, or it is gone within a second."""
    usage: Literal["none", "claimed", "estimated", "some"] = "none"
    """`claimed`: exactly what the provider said. `some`: not nothing."""
    attempts: int = 1
    asked: int = 1
    """Requests that reach the provider."""
    finishes: int = 1
    by: str = ""
    """The deployment that answers, if it is not the first one."""
    text: str | None = None
    """What the client has read; None: anything but nothing where the answer had begun."""
    headers: Mapping[str, str | None] = {}
    """Those of the answer; None: not there."""
    least_s: float = 0.0
    most_s: float = 10.0
    """How long the whole answer takes."""

    @property
    def booked(self) -> str:
        """The ending in the ledger: what is the request's own fault is refused there, too."""
        if self.ending in ("completed", "incomplete"):
            return self.ending
        return "refused" if self.ending == "refused" and self.status < 500 and self.status != 429 else "failed"


def fine_on(lane: Lane, **more: Any) -> Expected:
    """The same, where nobody may count tokens."""
    return fine(**{**({"usage": "estimated"} if lane in UNCOUNTED else {}), **more})


def refused(status: int, code: str, **more: Any) -> Expected:
    """An error status."""
    return Expected(ending="refused", status=status, code=code, **{"connection": "kept", **more})


def broken(code: str, **more: Any) -> Expected:
    """A stream that had begun and ends with an error."""
    return Expected(ending="failed", code=code, **{"usage": "some", **more})


def fine(**more: Any) -> Expected:
    """A whole answer in spite of all."""
    return Expected(**{"ending": "completed", "connection": "kept", "usage": "claimed", **more})


class Cell(NamedTuple):
    """One fault on one lane."""

    row: str
    """Its id in the fault matrix."""
    lane: Lane
    script: str
    """Of the simulator: what the provider does."""
    expected: Expected
    more: Mapping[str, Any] = {}
    """Further members of the request."""
    alias: str = ""
    """What the client asks for, if not for the deployment itself."""

    @property
    def name(self) -> str:
        return f"{self.row}-{self.lane.name}-{self.script}"

    @property
    def model(self) -> str:
        return self.alias or f"{self.lane.name}/{self.script}"

    @property
    def by(self) -> str:
        """The deployment whose answer it is."""
        return self.expected.by or f"{self.lane.name}/{self.script}"

    @property
    def status(self) -> int:
        """What the client sees: an overload has a status of its own in Anthropic's API (protocol §5.3)."""
        status = self.expected.status
        return OVERLOADED if status == 503 and self.lane.client == "messages" else status


class Seen(NamedTuple):
    """What was seen of one cell."""

    answer: Answer
    took: float
    ended_at: float
    """When the client had all of the answer, on the clock of the simulator."""
    requests: list[SimRequest]
    """What reached the provider."""
    after: SimRequest | None
    """The lane's next request."""
    row: Usage
    """Of the ledger."""


class Played(NamedTuple):
    """All cells of a table, played."""

    cells: Sequence[Cell]
    seen: dict[str, Seen]
    gateway: Running
    before: "Counter[tuple[str, ...]]"
    after: "Counter[tuple[str, ...]]"
    closing: Sequence[Usage]
    """The rows of the requests that came last on each lane and met no fault."""
    miscounted: "list[dict[tuple[str, ...], tuple[int, int]]]"
    """What the metrics counted otherwise than expected, as soon as that was looked for."""


STAGE: Final = """
[server]
port = 0
data_dir = "{data}"
{server}
[routing]
retries = {retries}
retry_budget = 1
eject_after = 0
"""


@contextmanager
def stage(
    folder: Path,
    lanes: Iterable[Lane] = LANES,
    *,
    clock_ms: int = CLOCK_MS,
    total_ms: int = TOTAL_MS,
    places: Mapping[str, tuple[str, int]] | None = None,
    server: str = "",
    retries: int = 0,
    clocks: str = "",
    more: str = "",
) -> Iterator[Running]:
    """A gateway with those lanes. `total_ms` holds for answers in one body; `places` are the base
    URLs of those providers that are not the simulator, and their clocks for the connection; `clocks` are further ones
    of all."""
    toml = STAGE.replace("{data}", str(folder)).replace("{server}", server).replace("{retries}", str(retries))
    for lane in lanes:
        total = "" if lane.stream else f', total = "{total_ms}ms"'
        url, connect_ms = (places or {})[lane.at] if lane.at else ("{sim}", PATIENT_MS)
        own = f'connect = "{connect_ms}ms", first_event = "{clock_ms}ms", idle = "{clock_ms}ms"{total}{clocks}'
        toml += lane.toml(f"timeouts = {{ {own} }}", url)
    with Running(toml + more) as running:
        yield running


def play(gateway: Running, cells: Sequence[Cell]) -> Played:
    """Every cell once: lanes side by side, the cells of a lane one after the other."""
    names = Counter(cell.name for cell in cells)
    assert not (twice := [name for name, count in names.items() if count > 1]), twice
    lanes: dict[Lane, list[Cell]] = {}
    for cell in cells:
        lanes.setdefault(cell.lane, []).append(cell)
    since = time.time() - 1
    before = metrics(gateway)
    with ThreadPoolExecutor(ACROSS) as pool:
        played = [pool.submit(_play_lane, gateway, lane, each) for lane, each in lanes.items()]
        found = [one.result() for one in played]
    books = Books(gateway)
    try:
        rows = wait_for(lambda: _settled(books, since), 10)
    finally:
        books.close()
    seen: dict[str, Seen] = {}
    closing = []
    for told, last in found:
        for name, (answer, took, ended_at, requests, after) in told.items():
            row = rows[answer.headers["x-request-id"]]
            seen[name] = Seen(answer, took, ended_at, requests, after, row)
        if last:
            closing.append(rows[last])
    return Played(cells, seen, gateway, before, metrics(gateway), closing, [])


def _settled(books: Books, since: float) -> dict[str, Usage]:
    rows = books.rows(since)
    return {row.entry.request_id: row for row in rows} if all(row.settled_at for row in rows) else {}


_Told = tuple[Answer, float, float, list[SimRequest], SimRequest | None]


def _play_lane(gateway: Running, lane: Lane, cells: list[Cell]) -> tuple[dict[str, _Told], str]:
    found: dict[str, list[Any]] = {}
    for at, cell in enumerate(cells):
        marker = f"cell-{lane.name}-{at}"
        began = time.monotonic()
        answer = ask(gateway, lane.client, cell.model, marker, stream=lane.stream, **lane.members, **cell.more)
        took = time.monotonic() - began
        found[cell.name] = [answer, took, time.monotonic(), reached(gateway, marker), None]
    if lane.at:  # there is nothing that could answer
        return {name: (one[0], one[1], one[2], one[3], None) for name, one in found.items()}, ""
    marker = f"cell-{lane.name}-last"
    last = ask(gateway, lane.client, f"{lane.name}/lorem", marker, stream=lane.stream, **lane.members)
    after = reached(gateway, marker)
    assert judge(lane.client, last, stream=lane.stream).ending == "completed", last.body
    for one in reversed(found.values()):
        one[4] = after[0] if after else None
        after = one[3] or after
    told = {name: (one[0], one[1], one[2], one[3], one[4]) for name, one in found.items()}
    return told, last.headers["x-request-id"]


def reached(gateway: Running, marker: str) -> list[SimRequest]:
    """The requests with that text that reached the provider."""
    text = marker.encode() + b'"'

    def look() -> list[SimRequest]:
        return [one for one in gateway.sim.requests if _says(one, marker, text)]

    return gateway.call(look)


def _says(request: SimRequest, marker: str, text: bytes) -> bool:
    if request.upload is not None:
        return request.upload.field("prompt") == marker
    return text in request.body


# -- judging ---------------------------------------------------------------------------------------------------------


def row_of(cells: Iterable[Cell], row: str) -> pytest.MarkDecorator:
    """The cells of one row of the matrix as a test's parameters, those of each lane together."""
    lanes: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.row == row:
            lanes.setdefault(cell.lane.name, []).append(cell)
    assert lanes, row
    return pytest.mark.parametrize("cells", lanes.values(), ids=lanes)


def check_all(played: Played, cells: Iterable[Cell], witnesses: Witnesses) -> list[Verdict]:
    """Check each, and tell all that is wrong."""
    verdicts, wrong = [], []
    for cell in cells:
        try:
            verdicts.append(check(played, cell, witnesses))
        except AssertionError as error:
            wrong.append(f"{cell.script}: {error}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
    return verdicts


def check(played: Played, cell: Cell, witnesses: Witnesses) -> Verdict:
    """Hear all four of one cell; of the metrics those that tell of its provider."""
    seen, expected = played.seen[cell.name], cell.expected
    with witnesses.hearing("client"):
        verdict = _check_client(cell, seen)
        assert expected.least_s - TICK_S <= seen.took <= expected.most_s
    with witnesses.hearing("upstream"):
        _check_upstream(played.gateway, cell, seen)
    with witnesses.hearing("ledger"):
        _check_row(cell, seen)
    with witnesses.hearing("metrics"):
        assert not {key: told for key, told in _miscounted(played).items() if cell.lane.name in key}
    return verdict


def _check_client(cell: Cell, seen: Seen) -> Verdict:
    lane, expected, answer = cell.lane, cell.expected, seen.answer
    verdict = judge(lane.client, answer, stream=lane.stream)
    assert (answer.status, verdict.ending) == (cell.status, expected.ending), answer.body[-500:]
    if lane.client != "messages" and verdict.ending != "cut":  # Anthropic's errors have no code
        assert verdict.code == expected.code, answer.body[-500:]
    assert expected.says in verdict.message
    if expected.text is not None:
        assert verdict.text == expected.text
    elif verdict.ending != "refused":
        assert verdict.text, "nothing was said"
    if verdict.ending in ("completed", "incomplete"):
        assert verdict.finishes == expected.finishes
    for name, value in expected.headers.items():
        assert answer.headers.get(name) == value, name
    assert answer.headers["tidegate-attempts"] == str(expected.attempts)
    assert answer.headers["tidegate-deployment"] == cell.by
    if lane.stream and answer.status == 200:
        assert answer.headers["x-accel-buffering"] == "no"
    return verdict


def _check_upstream(gateway: Running, cell: Cell, seen: Seen) -> None:
    expected = cell.expected
    assert len(seen.requests) == expected.asked
    if not seen.requests:
        return
    *before, last = seen.requests
    for each in before:
        if each.finished_at is None:
            assert each.closed_by_peer_at is not None, "the provider before this one still answers"
            assert each.closed_by_peer_at - seen.ended_at < CLOSED_WITHIN_S
    if expected.connection == "kept":
        assert seen.after is not None
        assert seen.after.connection_id == last.connection_id, "the connection was not used again"
    elif expected.connection == "closed":
        wait_for(lambda: last.lost_at is not None, CLOSED_WITHIN_S)
        assert last.lost_at is not None, "the connection is still open"
        assert last.lost_at - seen.ended_at < CLOSED_WITHIN_S
        assert seen.after is None or seen.after.connection_id != last.connection_id


def _check_row(cell: Cell, seen: Seen) -> None:
    lane, expected, entry = cell.lane, cell.expected, seen.row.entry
    assert seen.row.provider == cell.by.partition("/")[0]
    assert entry.deployment == cell.by
    streams = lane.stream or lane.client == "speech"  # raw audio is relayed as it comes, too
    assert (entry.status, entry.endpoint, entry.stream) == (cell.status, lane.client, streams)
    assert entry.ending == expected.booked
    assert (entry.error, entry.attempts) == (expected.code, expected.attempts)
    assert (entry.first_event_ms is not None) == (expected.status == 200)
    used = (entry.input_tokens, entry.output_tokens)
    match expected.usage:
        case "none":
            assert (used, entry.estimated) == ((0, 0), False)
        case "claimed":
            claim = seen.requests[-1].claim
            assert claim is not None
            assert (used, entry.estimated) == ((claim.input_tokens, claim.output_tokens), False)
        case "estimated":
            assert entry.estimated
            assert sum(used) > 0
        case "some":
            assert sum(used) > 0


def metrics(gateway: Running) -> "Counter[tuple[str, ...]]":
    """The counters of `/metrics` that tell of requests, by name and labels."""
    found: Counter[tuple[str, ...]] = Counter()
    text = httpx.get(f"{gateway.origin}/metrics", trust_env=False).text
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        if name not in _COUNTED:
            continue
        labels, _, value = rest.partition("} ")
        values = dict(one.split("=", 1) for one in labels.split(","))
        key = (name, *(values[label].strip('"') for label in sorted(values)))
        found[key] += round(float(value))
    return found


_COUNTED: Final = frozenset(
    {
        "tidegate_requests_total",
        "tidegate_endings_total",
        "tidegate_attempts_total",
        "tidegate_retries_total",
        "tidegate_tokens_total",
        "tidegate_estimated_usage_total",
        "tidegate_request_seconds_count",
        "tidegate_first_event_seconds_count",
    }
)


def check_metrics(played: Played) -> None:
    """The metrics have moved by exactly what the table expects of all its cells, and count tokens as the ledger does."""
    assert not _miscounted(played), "what /metrics counted, and what was expected"


def _miscounted(played: Played) -> "dict[tuple[str, ...], tuple[int, int]]":
    """What `/metrics` counted otherwise than expected, and both figures."""
    if played.miscounted:
        return played.miscounted[0]
    expected: Counter[tuple[str, ...]] = Counter()
    for cell in played.cells:
        of, row = (cell.lane.client, cell.by.partition("/")[0]), played.seen[cell.name].row.entry
        ending = cell.expected.booked
        expected["tidegate_requests_total", *of, str(cell.status)] += 1
        expected["tidegate_endings_total", ending, *of] += 1
        _count_attempts(expected, cell)
        if not cell.expected.by:
            expected["tidegate_retries_total", of[1]] += cell.expected.attempts - 1
        expected["tidegate_estimated_usage_total", *of] += row.estimated
        expected["tidegate_request_seconds_count", *of] += 1
        expected["tidegate_first_event_seconds_count", *of] += cell.expected.status == 200
        _count_tokens(expected, played.seen[cell.name].row)
    for last in played.closing:
        of, row = (last.entry.endpoint, last.provider), last.entry
        expected["tidegate_requests_total", *of, "200"] += 1
        expected["tidegate_endings_total", "completed", *of] += 1
        expected["tidegate_attempts_total", of[0], "answered", of[1]] += 1
        expected["tidegate_estimated_usage_total", *of] += row.estimated
        expected["tidegate_request_seconds_count", *of] += 1
        expected["tidegate_first_event_seconds_count", *of] += 1
        _count_tokens(expected, last)
    moved = played.after - played.before
    wrong = {key: (moved[key], expected[key]) for key in moved.keys() | +expected if moved[key] != expected[key]}
    played.miscounted.append(wrong)
    return wrong


def _count_attempts(expected: "Counter[tuple[str, ...]]", cell: Cell) -> None:
    """Each where it was made: the last one at the deployment that answered, those before it at the first one."""
    told, booked = cell.expected, cell.expected.booked
    expected["tidegate_attempts_total", cell.lane.client, "failed", cell.lane.name] += told.attempts - 1
    last = booked if booked in ("refused", "failed") else "answered"
    expected["tidegate_attempts_total", cell.lane.client, last, cell.by.partition("/")[0]] += 1


def _count_tokens(expected: "Counter[tuple[str, ...]]", usage: Usage) -> None:
    """Each where it was used: what the parts do not name, at the deployment that was asked last."""
    row, provider = usage.entry, usage.entry.deployment.partition("/")[0]
    for kind in ("input", "cached", "output", "reasoning"):
        of = (row.endpoint, kind)
        expected["tidegate_tokens_total", *of, provider] += getattr(row, f"{kind}_tokens")
        for part in usage.parts:
            used = getattr(part, f"{kind}_tokens")
            expected["tidegate_tokens_total", *of, provider] -= used
            expected["tidegate_tokens_total", *of, part.provider] += used
