"""The four who are heard on every row of the fault matrix: the client, the provider, the ledger and the metrics.

A test that takes the fixture `witnesses` fails unless it has heard all four, and every row has such a test
(`scripts/matrix.py`). Who has nothing to tell is heard as well: no call was made, nothing was booked, nothing counted.
"""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from tests.support.raw import Listening
from tests.support.running import wait_for
from tidegate.sim.connection import SimRequest

__all__ = [
    "CLOSED_WITHIN_S",
    "QUERY",
    "TICK_S",
    "Booked",
    "Entry",
    "Figures",
    "Since",
    "Witnesses",
    "calls_made",
    "entries_in",
    "entry_of",
    "fetch",
    "figures",
    "settled",
]

Witness = Literal["client", "upstream", "ledger", "metrics"]
WITNESSES: Final[tuple[Witness, ...]] = ("client", "upstream", "ledger", "metrics")

CLOSED_WITHIN_S: Final = 1.0
"""How soon the provider sees that nobody waits for its answer any more (promise P6)."""

TICK_S: Final = 0.005
"""The event loop's clock counts in milliseconds."""

COMMITTED_S: Final = 0.15
"""By then what has ended stands in the ledger, which gathers writes for 50 ms at most."""

Figures = Mapping[str, float]
"""What `/metrics` says: each sample, with its labels, and its value."""

COUNTED: Final = ("tidegate_requests_total", "tidegate_endings_total", "tidegate_attempts_total")
"""The counters of which nothing but what is expected may have moved."""


class Booked(NamedTuple):
    """What the ledger and the metrics know of one request."""

    ending: str
    status: int = 200
    error: str = ""
    endpoint: str = "responses"
    provider: str = "sim"
    attempts: int = 1
    used: bool = True
    """Whether it used any tokens."""
    estimated: bool = False


class Entry(NamedTuple):
    """A row of the ledger."""

    request_id: str
    is_settled: bool
    booked: Booked
    deployment: str
    duration_ms: float
    cost_nano: int | None


class Witnesses:
    """Hears each, and remembers who was heard."""

    def __init__(self) -> None:
        self._heard: set[str] = set()

    @property
    def unheard(self) -> list[str]:
        return [one for one in WITNESSES if one not in self._heard]

    @contextmanager
    def hearing(self, *witnesses: Witness) -> Iterator[None]:
        """What is asserted inside is what they say; they are heard when all of it holds."""
        yield
        self._heard |= set(witnesses)

    def upstream(
        self, calls: Collection[SimRequest], *, answered: int = 0, closed: int = 0, since: float | None = None
    ) -> None:
        """Just these calls reached the provider: so many were answered to their end, and so many given up within a second
        `since` then, on the monotonic clock."""
        with self.hearing("upstream"):
            assert len(calls) == answered + closed, list(calls)
            wait_for(lambda: all(_is_over(call) for call in calls), CLOSED_WITHIN_S)
            assert sum(call.finished_at is not None for call in calls) == answered
            gone = [call.closed_by_peer_at for call in calls if call.closed_by_peer_at is not None]
            assert len(gone) == closed, "a call that nobody waits for goes on"
            if closed:
                assert since is not None
                assert all(at - since < CLOSED_WITHIN_S for at in gone), [at - since for at in gone]

    def ledger(self, entries: Iterable[Entry], *booked: Booked, ids: Collection[str] | None = None) -> None:
        """These requests stand in it, each once and settled, and no other. `ids`: theirs, as the clients know them."""
        with self.hearing("ledger"):
            entries = list(entries)
            assert all(entry.is_settled for entry in entries), entries
            assert len({entry.request_id for entry in entries}) == len(entries), "an entry is there twice"
            found, expected = Counter(entry.booked for entry in entries), Counter(booked)
            assert found == expected
            if ids is not None:
                assert {entry.request_id for entry in entries} == set(ids)

    def metrics(
        self,
        before: Figures,
        after: Figures,
        *booked: Booked,
        attempts: Mapping[str, int] | None = None,
        more: Mapping[str, float] | None = None,
    ) -> None:
        """They have counted these requests, and no other. `attempts`: at the provider of each, by their outcome; without it
        one for each that was answered. `more`: what else has moved, and by how much."""
        expected: Counter[str] = Counter()
        for one in booked:
            labels = f'endpoint="{one.endpoint}",provider="{one.provider}"'
            expected[f'tidegate_requests_total{{{labels},status="{one.status}"}}'] += 1
            expected[f'tidegate_endings_total{{ending="{one.ending}",{labels}}}'] += 1
            if attempts is None and one.attempts:
                expected[calls_made(one.endpoint, "answered", one.provider)] += 1
        for where, count in (attempts or {}).items():
            expected[where] += count
        with self.hearing("metrics"):
            moved = {
                name: after[name] - before.get(name, 0)
                for name in after
                if name.startswith(COUNTED) and after[name] != before.get(name, 0)
            }
            assert moved == {name: count for name, count in expected.items() if count}
            for name, change in (more or {}).items():
                assert after[name] - before.get(name, 0) == change, name


def calls_made(endpoint: str, outcome: str, provider: str) -> str:
    return f'tidegate_attempts_total{{endpoint="{endpoint}",outcome="{outcome}",provider="{provider}"}}'


def _is_over(call: SimRequest) -> bool:
    return call.finished_at is not None or call.closed_by_peer_at is not None


def fetch(gateway: Listening, path: str) -> tuple[int, bytes]:
    """The status and the body of what a GET is answered with."""
    with closing(HTTPConnection("127.0.0.1", gateway.port, timeout=10)) as client:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()


def figures(gateway: Listening) -> dict[str, float]:
    """What `/metrics` says now."""
    found = {}
    for line in fetch(gateway, "/metrics")[1].decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


COLUMNS: Final = (
    "detail, settled_at, ending, status, error, endpoint, provider, attempts, input_tokens, output_tokens, estimated, "
    "deployment, duration_ms, cost_nano"
)
QUERY: Final = f"SELECT {COLUMNS} FROM ledger ORDER BY number"


def entry_of(row: Iterable[Any]) -> Entry:
    """That of a row which `QUERY` has found."""
    detail, settled_at, ending, status, error, endpoint, provider, tried, given, taken, estimated, *rest = row
    booked = Booked(ending, status, error, endpoint, provider, tried, given + taken > 0, bool(estimated))
    return Entry(json.loads(bytes(detail))["request_id"], settled_at is not None, booked, *rest)


def entries_in(folder: Path) -> list[Entry]:
    """The ledger of the gateway whose data is there."""
    with closing(sqlite3.connect(f"file:{folder / 'tidegate.db'}?mode=ro", uri=True, timeout=5)) as database:
        return [entry_of(row) for row in database.execute(QUERY)]


def settled(read: Callable[[], list[Entry]], count: int, timeout: float = 5.0) -> list[Entry]:
    """The entries, as soon as there are so many and none is open; if they do not come, those that are there. For none, as
    late as one would have come."""
    if not count:
        time.sleep(COMMITTED_S)

    def look() -> list[list[Entry]]:
        found = read()
        return [found] if len(found) >= count and all(one.is_settled for one in found) else []

    (found,) = wait_for(look, timeout) or [read()]
    return found


class Since:
    """What has come to pass at a gateway since then."""

    def __init__(self, gateway: Listening, read: Callable[[], list[Entry]]) -> None:
        self.gateway = gateway
        self.before = figures(gateway)
        self._read = read
        self._known = {entry.request_id for entry in read()}

    def entries(self, count: int) -> list[Entry]:
        """The new ones of the ledger, as soon as there are so many and none is open."""

        def read() -> list[Entry]:
            return [entry for entry in self._read() if entry.request_id not in self._known]

        return settled(read, count)

    @property
    def after(self) -> dict[str, float]:
        return figures(self.gateway)
