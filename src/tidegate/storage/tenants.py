"""Tenants, and what each of their keys has in store."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from tidegate.storage.records import Stored, Tenant
from tidegate.storage.statement import Sql, Work

__all__ = ["NUMBER", "account", "enrol", "enrol_all", "full", "stored"]

NUMBER: Final = "(SELECT number FROM tenants WHERE organization = :organization AND project = :project)"
"""The tenant's number within a statement; null, which equals nothing, for one that never stored anything."""

_ENROL = Sql("INSERT INTO tenants (organization, project) VALUES (:organization, :project) ON CONFLICT DO NOTHING")
_FIND = Sql("SELECT number FROM tenants WHERE organization = :organization AND project = :project")
_ACCOUNT = Sql("""
    INSERT INTO stored (tenant, key, bytes, runs) VALUES (:tenant, :key, :bytes, :runs)
    ON CONFLICT (tenant, key) DO UPDATE SET bytes = stored.bytes + excluded.bytes, runs = stored.runs + excluded.runs
""")
_STORED = Sql(f"SELECT coalesce(sum(bytes), 0), coalesce(sum(runs), 0) FROM stored WHERE tenant = {NUMBER}")
_STORED_BY_KEY = Sql(f"SELECT bytes, runs FROM stored WHERE tenant = {NUMBER} AND key = :key")
_FULL = Sql("""
    SELECT t.organization, t.project, s.key, s.bytes FROM stored s JOIN tenants t ON t.number = s.tenant
    WHERE s.bytes >= :size
""")


def enrol(tenants: Iterable[Tenant]) -> Work[None]:
    """Give numbers to tenants that have none yet. In one order, so that two processes never wait for each other."""
    names = sorted({(tenant.organization, tenant.project) for tenant in tenants})
    if names:
        yield _ENROL.many(names)


def enrol_all(tenants: Iterable[Tenant]) -> Work[dict[Tenant, int]]:
    """The numbers of all these tenants, which get one if they have none yet."""
    found: dict[Tenant, int] = {}
    for tenant in sorted(set(tenants), key=lambda one: (one.organization, one.project)):
        rows = yield _FIND(organization=tenant.organization, project=tenant.project)
        if not rows:
            yield _ENROL(organization=tenant.organization, project=tenant.project)
            rows = yield _FIND(organization=tenant.organization, project=tenant.project)
        found[tenant] = int(rows[0][0])
    return found


def account(changes: Iterable[tuple[int, str, int, int]]) -> Work[None]:
    """Add to what is in store: number of the tenant, key, bytes, runs."""
    sums: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
    for tenant, key, size, runs in changes:
        found = sums[tenant, key]
        found[0] += size
        found[1] += runs
    if sums:
        yield _ACCOUNT.many([(*owner, *sums[owner]) for owner in sorted(sums)])


def stored(tenant: Tenant, key: str | None) -> Work[Stored]:
    """What is in store for a tenant, or for one key of it. The cost does not grow with what is stored."""
    if key is None:
        rows = yield _STORED(organization=tenant.organization, project=tenant.project)
    else:
        rows = yield _STORED_BY_KEY(organization=tenant.organization, project=tenant.project, key=key)
    return Stored(int(rows[0][0]), int(rows[0][1])) if rows else Stored(0, 0)


def full(size: int) -> Work[dict[tuple[Tenant, str], int]]:
    """The keys that have so many bytes in store, or more, and how many."""
    rows = yield _FULL(size=size)
    return {(Tenant(organization, project), key): int(found) for organization, project, key, found in rows}
