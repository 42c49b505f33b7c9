"""Which gateway processes live, and what becomes of the runs of dead ones.

A process has a row with a lease, renewed with every batch it commits. Whoever finds a lease run out deletes the row, and
from then on that process is dead: its next batch finds no row and is not applied. Its runs are closed after that, so that
no run is ended by two, and no live run by another.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tidegate.storage import tenants
from tidegate.storage.records import Interrupted, Tenant
from tidegate.storage.statement import Sql, Work

__all__ = [
    "INTERRUPTED",
    "Fenced",
    "Neighbour",
    "advance",
    "bury",
    "close_orphans",
    "has_orphans",
    "leave",
    "neighbours",
    "orders",
    "register",
    "reserve",
]

INTERRUPTED: Final = "gateway_interrupted"


class Fenced(Exception):
    """This process was taken for dead: its row is gone, and its runs belong to others."""


class Neighbour(NamedTuple):
    """Another process; how long its lease still holds, in seconds, negative when it has run out."""

    number: int
    name: str
    remaining_s: float


_REGISTER = Sql("""
    INSERT INTO processes (name, lease_until, batch) VALUES (:name, {now} + :lease, -1) RETURNING number
""")
_ADVANCE = Sql("""
    UPDATE processes SET batch = :batch, lease_until = {now} + :lease
    WHERE number = :number AND batch < :batch RETURNING number
""")
_GET = Sql("SELECT batch FROM processes WHERE number = :number")
_LEAVE = Sql("DELETE FROM processes WHERE number = :number")
_NEIGHBOURS = Sql("SELECT number, name, lease_until - {now} FROM processes WHERE number <> :number")
_BURY = Sql("DELETE FROM processes WHERE number = :number AND lease_until < {now} + :margin RETURNING number")
_RESERVE = Sql("UPDATE counters SET next = next + :count WHERE name = 'run' RETURNING next")
_ORDERS = Sql("SELECT id FROM runs WHERE owner = :owner AND cancel_requested = 1 AND completed_at IS NULL")
_DELETED = Sql("SELECT number FROM doomed WHERE kind = 'run' AND owner = :owner")
_CLOSE = Sql(f"""
    UPDATE runs SET status = 'failed', completed_at = {{now}}, error_code = '{INTERRUPTED}',
        last_sequence = (SELECT max(s.last) FROM segments s WHERE s.run = runs.number),
        bytes = (SELECT coalesce(sum(length(s.frames)), 0) FROM segments s WHERE s.run = runs.number)
            + (SELECT coalesce(sum(length(i.content)), 0) FROM items i WHERE i.run = runs.number) + length(request)
    WHERE completed_at IS NULL AND number IN (
        SELECT r.number FROM runs r
        WHERE r.completed_at IS NULL AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.number = r.owner)
        LIMIT :count {{skip_locked}}
    )
    RETURNING id, tenant, key, bytes
""")
_ORPHAN = Sql("""
    SELECT 1 FROM runs r
    WHERE r.completed_at IS NULL AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.number = r.owner) LIMIT 1
""")
_NAMES = Sql("SELECT organization, project FROM tenants WHERE number = :number")


def register(name: str, lease_s: float) -> Work[int]:
    """Enter a process; its number, which no other process ever has."""
    [(number,)] = yield _REGISTER(name=name, lease=lease_s)
    return int(number)


def advance(number: int, batch: int, lease_s: float) -> Work[bool]:
    """Begin a batch: renew the lease and note the batch. False when it was committed before. Raises Fenced."""
    if (yield _ADVANCE(number=number, batch=batch, lease=lease_s)):
        return True
    if not (yield _GET(number=number)):
        raise Fenced
    return False


def leave(number: int) -> Work[None]:
    """Take the process off; runs that it left open are closed by whoever looks next."""
    yield _LEAVE(number=number)


def neighbours(number: int) -> Work[list[Neighbour]]:
    """All other processes."""
    return [Neighbour(*row) for row in (yield _NEIGHBOURS(number=number))]


def bury(number: int, margin_s: float) -> Work[bool]:
    """Remove a process whose lease ends within `margin_s`; False when it was renewed, or removed by another."""
    return bool((yield _BURY(number=number, margin=margin_s)))


def reserve(count: int) -> Work[range]:
    """A block of run numbers, for this process alone."""
    [(behind,)] = yield _RESERVE(count=count)
    return range(behind - count, behind)


def orders(number: int) -> Work[tuple[list[str], list[int]]]:
    """This process's runs that somebody asked to cancel, by id, and those that somebody deleted, by number."""
    cancelled = [id_ for (id_,) in (yield _ORDERS(owner=number))]
    return cancelled, [deleted for (deleted,) in (yield _DELETED(owner=number))]


def has_orphans() -> Work[bool]:
    """Whether a process that is gone has left runs open."""
    return bool((yield _ORPHAN()))


def close_orphans(limit: int) -> Work[Sequence[Interrupted]]:
    """End up to `limit` runs of processes that are gone, each once."""
    rows = yield _CLOSE(count=limit)
    names: dict[int, Tenant] = {}
    for _, tenant, _, _ in rows:
        if tenant not in names:
            [(organization, project)] = yield _NAMES(number=tenant)
            names[tenant] = Tenant(organization, project)
    yield from tenants.account((tenant, key, size, 1) for _, tenant, key, size in rows)
    return [Interrupted(id_, names[tenant]) for id_, tenant, _, _ in rows]
