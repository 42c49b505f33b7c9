"""Deletion: what is deleted is gone for readers at once, and its rows follow in batches of bounded size.

A run that is continued by others outlives its own expiry: it is kept as long as the longest kept of those, because a
history with a hole is of no use to anybody. Deleting it by name does make that hole.
"""

from collections.abc import Sequence
from typing import Final

from tidegate.storage import idempotency, tenants
from tidegate.storage.records import Tenant
from tidegate.storage.statement import Rows, Sql, Work

__all__ = ["delete", "expire", "lose", "purge", "purge_one"]

LOOK_AGAIN_S: Final = 86_400.0
"""When an expired run is looked at again that is continued by one without expiry."""

_DELETE = Sql(f"""
    DELETE FROM runs WHERE id = :id AND tenant = {tenants.NUMBER}
    RETURNING number, tenant, key, bytes, id, owner, completed_at
""")
_LOSE = Sql("DELETE FROM runs WHERE number = :number RETURNING number, tenant, key, bytes, id, owner, completed_at")
_EXPIRE = Sql("""
    DELETE FROM runs WHERE number IN (
        SELECT r.number FROM runs r
        WHERE r.expires_at IS NOT NULL AND r.expires_at <= {now} AND r.completed_at IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM runs c WHERE c.previous = r.number)
        ORDER BY r.expires_at LIMIT :count
    ) RETURNING number, tenant, key, bytes, id, owner, completed_at
""")
_PROLONG = Sql("""
    UPDATE runs SET expires_at = (
        SELECT max(coalesce(c.expires_at, {now} + :again)) FROM runs c WHERE c.previous = runs.number
    ) WHERE number IN (
        SELECT r.number FROM runs r
        WHERE r.expires_at IS NOT NULL AND r.expires_at <= {now}
            AND EXISTS (SELECT 1 FROM runs c WHERE c.previous = r.number AND (c.expires_at IS NULL OR c.expires_at > {now}))
        ORDER BY r.expires_at LIMIT :count
    ) RETURNING number
""")
_DOOM = Sql("INSERT INTO doomed (kind, number, owner) VALUES ('run', :number, :owner) ON CONFLICT DO NOTHING")

_DOOMED = Sql("""
    SELECT d.kind, d.number FROM doomed d
    WHERE d.owner IS NULL OR NOT EXISTS (SELECT 1 FROM processes p WHERE p.number = d.owner) LIMIT 1
""")
_ROWS: Final = {
    "run": tuple(
        Sql(f"""
            DELETE FROM {table} WHERE number IN (SELECT s.number FROM {table} s WHERE s.run = :number LIMIT :count)
            RETURNING number
        """)
        for table in ("segments", "items")
    ),
    "conversation": (
        Sql("""
            DELETE FROM conversation_items WHERE number IN (
                SELECT s.number FROM conversation_items s WHERE s.conversation = :number LIMIT :count
            ) RETURNING number
        """),
    ),
}
_DONE = Sql("""
    DELETE FROM doomed WHERE kind = :kind AND number = :number
        AND (owner IS NULL OR NOT EXISTS (SELECT 1 FROM processes p WHERE p.number = doomed.owner))
""")


def delete(tenant: Tenant, run_id: str, process: int) -> Work[tuple[int, int | None] | None]:
    """Delete a run of this tenant; its number, for removing its rows, and the process that may still write it, where that
    is another. None when there is no such run.

    `process` is the one that deletes, and that stops writing what it deletes.
    """
    rows = yield _DELETE(id=run_id, organization=tenant.organization, project=tenant.project)
    yield from _doom(rows, process)
    if not rows:
        return None
    [(number, _, _, _, _, owner, completed_at)] = rows
    return int(number), owner if completed_at is None and owner != process else None


def lose(numbers: Sequence[int], process: int) -> Work[None]:
    """Delete runs of this process that could not be stored whole."""
    yield from _doom((yield _LOSE.many([(number,) for number in numbers])), process)


def expire(limit: int) -> Work[int]:
    """Delete up to `limit` runs whose time is over, and prolong as many that are continued; how many in all."""
    prolonged = yield _PROLONG(count=limit, again=LOOK_AGAIN_S)
    deleted = yield _EXPIRE(count=limit)
    yield from _doom(deleted)
    return len(prolonged) + len(deleted)


def purge(limit: int) -> Work[int]:
    """Remove up to `limit` rows of something doomed; 0 when nothing is left to do."""
    rows = yield _DOOMED()
    if not rows:
        return 0
    kind, number = rows[0]
    yield from purge_one(kind, number, limit)
    return 1


def purge_one(kind: str, number: int, limit: int) -> Work[bool]:
    """Remove up to `limit` rows of one doomed run or conversation; whether that was all."""
    left = limit
    for sql in _ROWS[kind]:
        left -= len((yield sql(number=number, count=left)))
        if left <= 0:
            return False
    # Stays while the run's process may still write to it.
    yield _DONE(kind=kind, number=number)
    return True


def _doom(rows: Rows, process: int | None = None) -> Work[None]:
    """Mark what was deleted, so that its rows are removed even if this process dies now. With the owner where that is
    another process, which may still write."""
    if not rows:
        return
    yield _DOOM.many(
        [
            (number, owner if completed_at is None and owner != process else None)
            for number, _, _, _, _, owner, completed_at in rows
        ]
    )
    yield from idempotency.forget([id_ for _, _, _, _, id_, _, _ in rows])
    ended = [(tenant, key, -size, -1) for _, tenant, key, size, _, _, completed_at in rows if completed_at is not None]
    yield from tenants.account(ended)
