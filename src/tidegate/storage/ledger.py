"""The usage ledger: one entry for each request, written when it is admitted and completed once when it is settled."""

from collections.abc import Sequence
from typing import NamedTuple

from tidegate.storage import tenants
from tidegate.storage.records import Tenant, Usage
from tidegate.storage.statement import Sql, Work

__all__ = ["LedgerRow", "admit", "read", "settle"]


class LedgerRow(NamedTuple):
    """An entry as it stands in the ledger; `settled_at` is None while the request runs, or when it never ended."""

    number: int
    request_id: str
    key: str
    admitted_at: float
    settled_at: float | None
    entry: bytes


_ADMIT = Sql(f"""
    INSERT INTO ledger (request_id, tenant, key, admitted_at, entry)
    VALUES (:request_id, {tenants.NUMBER}, :key, :at, :entry) ON CONFLICT (request_id) DO NOTHING
""")
_SETTLE = Sql(f"""
    INSERT INTO ledger (request_id, tenant, key, admitted_at, settled_at, entry)
    VALUES (:request_id, {tenants.NUMBER}, :key, :admitted_at, :at, :entry)
    ON CONFLICT (request_id) DO UPDATE SET settled_at = excluded.settled_at, entry = excluded.entry
    WHERE ledger.settled_at IS NULL
""")
_READ = Sql(f"""
    SELECT number, request_id, key, admitted_at, settled_at, entry FROM ledger
    WHERE tenant = {tenants.NUMBER} AND number > :after ORDER BY number LIMIT :count
""")


def _rows(sql: Sql, usages: Sequence[Usage]) -> list[tuple[object, ...]]:
    rows = []
    for usage in usages:
        values = {
            "request_id": usage.request_id,
            "organization": usage.tenant.organization,
            "project": usage.tenant.project,
            "key": usage.key,
            "at": usage.at,
            "admitted_at": usage.at,
            "entry": usage.entry,
        }
        rows.append(tuple([values[name] for name in sql.names]))
    return rows


def admit(usages: Sequence[Usage]) -> Work[None]:
    """Write entries at admission. One that is there already stays as it is."""
    yield from tenants.enrol([usage.tenant for usage in usages])
    yield _ADMIT.many(_rows(_ADMIT, usages))


def settle(usages: Sequence[Usage]) -> Work[None]:
    """Complete entries, each once; one that was not admitted is written whole."""
    yield from tenants.enrol([usage.tenant for usage in usages])
    yield _SETTLE.many(_rows(_SETTLE, usages))


def read(tenant: Tenant, after: int, limit: int) -> Work[list[LedgerRow]]:
    """Entries of a tenant behind a row number, in the order of admission."""
    rows = yield _READ(organization=tenant.organization, project=tenant.project, after=after, count=limit)
    return [LedgerRow(*row) for row in rows]
