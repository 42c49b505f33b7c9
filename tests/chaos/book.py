"""The book of a run: every request that was sent, what became of it, and what was found wrong."""

from collections import Counter
from typing import Literal

from tests.chaos.dialect import Kind
from tests.chaos.plan import Step
from tidegate.sim.claims import Claim

__all__ = ["Book", "Record"]

Entry = Literal["one", "none", "maybe", "repeated"]


class Record:
    """One request of a client."""

    __slots__ = (
        "api",
        "attempts",
        "claim",
        "code",
        "ended_at",
        "entry",
        "key",
        "kind",
        "left",
        "request_id",
        "shaken",
        "status",
        "step",
        "stream",
    )

    def __init__(self, step: Step, request_id: str, api: str, *, stream: bool, key: str = "main") -> None:
        self.step = step
        self.request_id = request_id
        self.api = api
        self.stream = stream
        self.key = key
        self.kind: Kind = "cut"
        self.status = 0
        self.code = ""
        self.left = False
        """The client left before the end."""
        self.shaken = False
        """The gateway was killed meanwhile."""
        self.entry: Entry = "one"
        """What must stand in the ledger."""
        self.claim: Claim | None = None
        """What providers said that it used, of all its attempts."""
        self.attempts = 0
        """How often a provider answered it, at least."""
        self.ended_at = 0.0

    def __str__(self) -> str:
        step = self.step
        what = f"{step.scene} {self.api}{' stream' if self.stream else ''} {step.model}"
        return f"{self.request_id} ({what}, fault: {step.fault.name})"


class Book:
    """See the module."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.problems: list[str] = []
        self.reached: Counter[str] = Counter()
        """What has happened at least once: `fault …`, `row …`, `ending …`, and the like."""

    def add(self, record: Record) -> Record:
        self.records[record.request_id] = record
        return record

    def wrong(self, what: str, record: Record | None = None) -> None:
        """Something that is not allowed."""
        self.problems.append(what if record is None else f"{record}: {what}")

    def reach(self, *what: str) -> None:
        self.reached.update(what)
