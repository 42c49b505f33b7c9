"""Idempotency keys: who may run a request, and what the others get."""

from collections.abc import Sequence
from typing import Final

from tidegate.storage import tenants
from tidegate.storage.crypto import Keyring
from tidegate.storage.records import Claim, Tenant
from tidegate.storage.statement import Row, Rows, Sql, Work

__all__ = ["adopt", "claim", "expire", "forget", "look", "release", "settle"]

_OWN: Final = f"tenant = {tenants.NUMBER} AND name = :name"

# A claim is void when it has expired, and may be taken over when the process that made it died before there was a run.
_HAS_EXPIRED: Final = "idempotency.expires_at <= {now}"
_IS_LEFT: Final = """(
    idempotency.status IS NULL
    AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.number = idempotency.owner)
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = idempotency.run_id)
)"""
_DROP_EXPIRED = Sql(f"DELETE FROM idempotency WHERE {_OWN} AND {_HAS_EXPIRED} RETURNING tenant, key, bytes")
_CLAIM = Sql(f"""
    INSERT INTO idempotency (tenant, key, name, digest, run_id, owner, expires_at, status, sealed, answer, bytes)
    VALUES ({tenants.NUMBER}, :key, :name, :digest, :run_id, :owner, {{now}} + :kept_s, NULL, 0, :empty, 0)
    ON CONFLICT (tenant, name) DO UPDATE SET key = excluded.key, digest = excluded.digest, run_id = excluded.run_id,
        owner = excluded.owner, expires_at = excluded.expires_at
    WHERE {_IS_LEFT}
    RETURNING number
""")
_GET = Sql(f"SELECT digest, run_id, status, sealed, answer FROM idempotency WHERE {_OWN}")
_LOOK = Sql(f"""
    SELECT digest, run_id, status, sealed, answer FROM idempotency
    WHERE {_OWN} AND NOT {_HAS_EXPIRED} AND NOT {_IS_LEFT}
""")
_SETTLE = Sql(f"""
    UPDATE idempotency SET status = :status, sealed = :sealed, answer = :answer, bytes = :bytes
    WHERE {_OWN} AND run_id = :run_id AND status IS NULL
    RETURNING tenant, key, bytes
""")
_RELEASE = Sql(f"DELETE FROM idempotency WHERE {_OWN} AND run_id = :run_id RETURNING tenant, key, bytes")
_ADOPT = Sql("UPDATE idempotency SET owner = :owner WHERE owner = :former AND status IS NULL")
_EXPIRE = Sql("""
    DELETE FROM idempotency WHERE number IN (
        SELECT number FROM idempotency WHERE expires_at <= {now} ORDER BY expires_at LIMIT :count
    ) RETURNING tenant, key, bytes
""")
_FORGET = Sql("DELETE FROM idempotency WHERE run_id = :run_id RETURNING tenant, key, bytes")


def claim(
    tenant: Tenant, name: str, digest: bytes, run_id: str, kept_s: float, key: str, owner: int, keyring: Keyring
) -> Work[Claim]:
    """Take a key for a run, or learn for what it was taken. Of any number of callers one gets it. The answer will count for
    the virtual key `key`."""
    yield from tenants.enrol([tenant])
    names = {"organization": tenant.organization, "project": tenant.project, "name": name}
    while True:
        yield from _account((yield _DROP_EXPIRED(**names)), -1)
        values = {"key": key, "digest": digest, "run_id": run_id, "owner": owner, "kept_s": kept_s}
        if (yield _CLAIM(**names, **values, empty=b"")):
            return Claim(is_new=True, digest=digest, run_id=run_id)
        rows = yield _GET(**names)
        if rows:  # else it was released in between
            return _found(rows[0], tenant, name, keyring)


def look(tenant: Tenant, name: str, keyring: Keyring) -> Work[Claim | None]:
    """What a key was taken for; None when it is free. Changes nothing."""
    rows = yield _LOOK(organization=tenant.organization, project=tenant.project, name=name)
    return _found(rows[0], tenant, name, keyring) if rows else None


def _found(row: Row, tenant: Tenant, name: str, keyring: Keyring) -> Claim:
    digest, run_id, status, sealed, answer = row
    box = keyring.box(sealed, "idempotency", name, tenant)
    if box is not None and answer:
        answer = box.open(answer, "answer")
    return Claim(is_new=False, digest=digest, run_id=run_id, status=status, answer=answer)


def settle(tenant: Tenant, name: str, run_id: str, status: int, answer: bytes, keyring: Keyring) -> Work[None]:
    """Keep the answer of the request that holds the key. Once: a later one changes nothing."""
    names = {"organization": tenant.organization, "project": tenant.project, "name": name, "run_id": run_id}
    box = keyring.box(keyring.current, "idempotency", name, tenant)
    size = len(answer)
    if box is not None and answer:
        answer = box.seal(answer, "answer")
    rows = yield _SETTLE(**names, status=status, sealed=keyring.current, answer=answer, bytes=size)
    yield from _account(rows, 1)


def release(tenant: Tenant, name: str, run_id: str) -> Work[None]:
    """Give the key back: nothing came of the request that is worth being had again."""
    rows = yield _RELEASE(organization=tenant.organization, project=tenant.project, name=name, run_id=run_id)
    yield from _account(rows, -1)


def adopt(former: int, owner: int) -> Work[None]:
    """A process that was taken for dead goes on under another number, and with it what its keys were taken for."""
    yield _ADOPT(former=former, owner=owner)


def expire(limit: int) -> Work[int]:
    """Remove keys whose time is over; how many."""
    rows = yield _EXPIRE(count=limit)
    yield from _account(rows, -1)
    return len(rows)


def forget(run_ids: Sequence[str]) -> Work[None]:
    """Remove the keys of runs that are deleted, with their answers."""
    yield from _account((yield _FORGET.many([(run_id,) for run_id in run_ids])), -1)


def _account(rows: Rows, sign: int) -> Work[None]:
    """Answers have come (1) or gone (-1); each with its tenant and the virtual key that it counts for."""
    yield from tenants.account((tenant, key, sign * size, 0) for tenant, key, size in rows if size)
