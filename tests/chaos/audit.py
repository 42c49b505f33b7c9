"""The end of a run: the books must agree with each other, and nothing may be left of any request."""

import asyncio
import re
from collections import Counter, defaultdict
from typing import Any, Final

from tests.chaos.book import Book, Record
from tests.chaos.world import KEYS, World

__all__ = ["Audit"]

REST_WITHIN_S: Final = 15.0
"""How soon a gateway that is asked nothing more must be at rest."""

OBJECTS: Final = 20_000
"""How many more objects a gateway may have than after its first requests: caches of names, which have a bound."""

GROWTH_BYTES: Final = 32 * 1024 * 1024
"""What may stay in memory over what there was after the first requests, however many follow: the page caches of the database,
2 MB for each of its connections, and the holes that so many clients at once leave between what stays. 15 MB after 12,000
steps."""

FILES: Final = 6
"""Descriptors that a gateway at rest may have more than before: the database opens further connections for readers."""

THREADS: Final = 8
"""The same of threads: pools for name lookups and the database grow up to their bound."""

_NOISE: Final = frozenset({
    "exchange_failed", "ending_failed", "application_failed", "request_failed", "request_head_failed", "refusal_failed",
    "storage_entry_failed", "storage_keeper_failed", "websocket_failed", "access_not_refreshed", "storage_batch_refused",
    "storage_write_refused", "storage_damaged", "storage_full", "storage_writes_lost", "storage_lease_lost",
    "limits_settlement_lost",
})  # fmt: skip
"""Lines that no run may leave in the log."""

_ANY_ENDING: Final = frozenset({"completed", "incomplete", "failed", "refused", "client_gone", "cancelled", "repeated"})
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Audit:
    """Judges a run as a whole."""

    def __init__(self, world: World, book: Book) -> None:
        self._world = world
        self._book = book
        self.entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.figures: dict[str, Any] = {}
        """What the report shows."""

    async def run(self, baseline: dict[str, Any]) -> None:
        """All of it; `baseline` is what the gateway looked like after its first requests."""
        await self._rest()
        await self._ledger()
        await self._budgets()
        await self._metrics()
        await self._leftovers(baseline)
        await self._stopping()
        self._log()

    # -- at rest ---------------------------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Wait until nothing is under way any more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + REST_WITHIN_S
        while True:
            metrics = await self._scrape()
            busy = {
                "exchanges": metrics["tidegate_exchanges_running", ()],
                "reservations": metrics["tidegate_reservations_open", ()],
                "WebSockets": metrics["tidegate_websockets_open", ()],
                "connections": sum(
                    value for (name, labels), value in metrics.items()
                    if name == "tidegate_upstream_connections" and ("state", "busy") in labels
                ),
                "bytes for the database": metrics["tidegate_storage_queued_bytes", ()],
            }  # fmt: skip
            left = {name: value for name, value in busy.items() if value}
            if not left:
                return
            if loop.time() > until:
                self._book.wrong(f"not at rest after {REST_WITHIN_S:g} s: {left}")
                return
            await asyncio.sleep(0.1)

    async def _scrape(self) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
        text = (await self._world.get("/metrics")).text
        found: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        for name, labels, value in _SAMPLE.findall(text):
            found[name, tuple(_LABEL.findall(labels))] += float(value)  # type: ignore[assignment]
        return found

    # -- the ledger ------------------------------------------------------------------------------------------------

    async def _ledger(self) -> None:
        book = self._book
        found = await self._world.admin("GET", "/usage/entries?from=2d")
        for entry in found["data"]:
            self.entries[entry["request_id"]].append(entry)
        for request_id in self.entries.keys() - book.records.keys():
            if self._world.lives > 1 and self.entries[request_id][0]["ending"] == "interrupted":
                continue  # of a WebSocket, where the gateway names requests; its client was cut before it heard the name
            book.wrong(f"the ledger has {self.entries[request_id]} of which no client knows")
        for record in book.records.values():
            self._entry(record, self.entries.get(record.request_id, []))
        rows = [entry for rows in self.entries.values() for entry in rows]
        self.figures["ledger"] = {
            "requests": len(book.records),
            "entries": len(rows),
            "endings": dict(Counter(row["ending"] for row in rows)),
            "cost": sum(row["cost"] or 0 for row in rows),
            "estimated": sum(bool(row["estimated"]) for row in rows),
        }
        book.reach(*(f"ledger {row['ending']}" for row in rows))

    def _entry(self, record: Record, entries: list[dict[str, Any]]) -> None:
        wrong = self._book.wrong
        if len(entries) > 1:
            wrong(f"{len(entries)} entries in the ledger", record)
            return
        if not entries:
            if record.entry in ("one", "repeated") and not record.shaken:
                wrong("no entry in the ledger", record)
            return
        [entry] = entries
        if record.entry == "none":
            wrong(f"an entry in the ledger ({entry['ending']} {entry['status']}), although it was refused", record)
            return
        ending = entry["ending"]
        if ending == "open" or (ending == "interrupted" and not record.shaken):
            wrong(f"the entry is {ending}", record)
            return
        if record.shaken:
            return
        if ending not in self._endings(record):
            wrong(f"the entry says {ending}, its client saw {record.kind} {record.status}", record)
        told = record.status
        if told and not record.left and record.kind in ("error", "failed", "completed") and entry["status"] != told:
            wrong(f"the entry says {entry['status']}, its client saw {record.status}", record)
        if entry["attempts"] < record.attempts and record.entry != "repeated" and record.kind != "cancelled":
            wrong(f"the entry has {entry['attempts']} attempts, {record.attempts} were answered", record)
        self._used(record, entry)

    @staticmethod
    def _endings(record: Record) -> frozenset[str]:
        if record.entry == "repeated":
            return frozenset({"repeated"})
        if record.left:
            return _ANY_ENDING - {"cancelled", "repeated"}
        if record.kind == "error":
            return frozenset({"refused", "failed"})
        if record.kind == "cut":
            return frozenset({"failed"})
        if record.kind == "failed" and record.step.scene in ("background", "cancel"):
            return frozenset({"refused", "failed"})  # a refusal by the provider comes when the client has its answer
        return frozenset({record.kind})

    def _used(self, record: Record, entry: dict[str, Any]) -> None:
        """Where nothing was estimated, the ledger has the provider's own figures."""
        claim = record.claim
        if (
            claim is None
            or entry["estimated"]
            or record.left
            or record.entry == "repeated"
            or record.kind == "cancelled"
        ):
            return
        told = (claim.input_tokens, claim.output_tokens)
        kept = (entry["input_tokens"], entry["output_tokens"])
        if told != kept:
            self._book.wrong(f"the ledger has {kept} tokens, the provider counted {told}", record)
        self.figures.setdefault("equal", Counter())["requests"] += 1
        self.figures["equal"]["tokens"] += sum(told)

    # -- budgets and metrics ---------------------------------------------------------------------------------------

    async def _budgets(self) -> None:
        """Nothing is reserved any more, and what was used is what the ledger has."""
        budgets = (await self._world.admin("GET", "/budgets"))["data"]
        rows = [entry for rows in self.entries.values() for entry in rows]
        for budget in budgets:
            if budget["reserved"]:
                self._book.wrong(f"still reserved: {budget}")
            if budget["kind"] == "streams" and budget["used"]:
                self._book.wrong(f"still under way: {budget}")
            if budget["kind"] == "cost" and budget["level"] == "key" and budget["id"] in KEYS:
                spent = sum(row["cost"] or 0 for row in rows if row["key"] == budget["id"])
                if abs(spent - budget["used"]) > 1e-6:
                    self._book.wrong(f"the budget of {budget['id']} has {budget['used']}, its entries {spent:.9f}")

    async def _metrics(self) -> None:
        """Metrics, request lines and ledger count the same, in the gateway's present life."""
        metrics = await self._scrape()
        counted: Counter[str] = Counter()
        for (name, labels), value in metrics.items():
            if name == "tidegate_endings_total":
                counted[dict(labels)["ending"]] += round(value)
        lines = [line for line in self._present_life() if line.get("event") == "request"]
        logged = Counter(str(line["ending"]) for line in lines)
        if counted != logged:
            self._book.wrong(f"metrics count {dict(counted)}, the log {dict(logged)}")
        endings = {str(line["request_id"]): line["ending"] for line in lines}
        for request_id, entries in self.entries.items():
            if request_id in endings and entries[0]["ending"] != endings[request_id]:
                self._book.wrong(
                    f"{request_id}: {entries[0]['ending']} in the ledger, {endings[request_id]} in the log"
                )
        repeated = [
            request_id for request_id, count in Counter(str(line["request_id"]) for line in lines).items() if count > 1
        ]
        if repeated:
            self._book.wrong(f"more than one line for {repeated[:5]}")
        if metrics["tidegate_storage_lost_usage", ()] or metrics["tidegate_storage_lost_runs", ()]:
            self._book.wrong("the database has lost something")
        self.figures["metrics"] = dict(counted)

    def _present_life(self) -> list[dict[str, Any]]:
        return self._world.log_lines_of_life

    # -- what is left ----------------------------------------------------------------------------------------------

    async def _leftovers(self, baseline: dict[str, Any]) -> None:
        book = self._book
        metrics = await self._scrape()
        idle = sum(value for (name, _), value in metrics.items() if name == "tidegate_upstream_connections")
        if round(idle) != self._world.connections():
            book.wrong(f"{self._world.connections()} connections to providers, of which the gateway knows {idle:g}")
        now = await self._world.look()
        before = Counter(baseline["types"])
        self.figures["types"] = {n: (before[n], c) for n, c in now["types"].items() if c > before[n] + 500}
        if now["objects"]:
            book.wrong(f"left of requests: {now['objects']}; {now['exchanges'][:8]}")
        if sum(now["tasks"].values()) > sum(baseline["tasks"].values()):
            book.wrong(f"tasks: {now['tasks']}, before: {baseline['tasks']}")
        if now["threads"] > baseline["threads"] + THREADS:
            book.wrong(f"{now['threads']} threads, before: {baseline['threads']}")
        files = now["files"] - round(idle)
        if files > baseline["files"] + FILES:
            book.wrong(f"{files} descriptors beside idle connections, before: {baseline['files']}")
        if now["all objects"] > baseline["all objects"] + OBJECTS:
            book.wrong(f"{now['all objects']} objects, before: {baseline['all objects']}; {self.figures['types']}")
        if now["resident"] > baseline["resident"] + GROWTH_BYTES:
            book.wrong(f"{now['resident'] >> 20} MiB in memory, before: {baseline['resident'] >> 20}")
        self.figures["memory"] = {"before": baseline["resident"], "after": now["resident"]}
        self.figures["left"] = {"tasks": now["tasks"], "threads": now["threads"], "files": now["files"], "idle": idle}

    async def _stopping(self) -> None:
        """A gateway at rest stops at once, and leaves no connection."""
        took = await self._world.stop()
        self.figures["stopped in"] = took
        await asyncio.sleep(0.1)
        if self._world.connections():
            self._book.wrong(f"{self._world.connections()} connections to providers after the gateway has stopped")

    def _log(self) -> None:
        world, book = self._world, self._book
        lines = world.log_lines
        for line in lines:
            if line.get("event") in _NOISE or "exception" in line:
                book.wrong(f"in the log: {str(line)[:1500]}")
        if "Traceback" in "".join(line for line in world.log.splitlines(keepends=True) if not line.startswith("{")):
            book.wrong(f"a traceback in the log: {world.log[world.log.index('Traceback') :][:1500]}")
        events = Counter(str(line.get("event")) for line in lines)
        for event, expected in (("reloaded", "good"), ("reload_refused", "bad")):
            if world.reloads[expected] and not events[event]:
                book.wrong(f"{world.reloads[expected]} {expected} reloads, and no line {event}")
        # Two signals may fall together, and find what the later one has written.
        if events["reloaded"] + events["reload_refused"] > sum(world.reloads.values()):
            book.wrong(
                f"{world.reloads} reloads, and {events['reloaded']} + {events['reload_refused']} lines about them"
            )
        book.reach(*(f"log {event}" for event in events))
        self.figures["log"] = {event: count for event, count in sorted(events.items()) if event != "request"}
