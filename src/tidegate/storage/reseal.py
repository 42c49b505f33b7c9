"""Seal stored content anew under the current data key: after encryption was switched on, or a key became known."""

from typing import Final, NamedTuple

from tidegate.storage.crypto import Keyring, Kind
from tidegate.storage.records import Tenant
from tidegate.storage.statement import Sql, Work

__all__ = ["TABLES", "reseal"]


class _Table(NamedTuple):
    kind: Kind
    read: Sql
    write: Sql
    places: tuple[str, ...]
    """Where each column of content belongs, as the sealing module names it; `{}` is the row's own place."""


def _table(
    name: str, kind: Kind, row: str, join: str, place: str, columns: dict[str, str], only: str = "1 = 1"
) -> _Table:
    listed = ", ".join(f"x.{column}" for column in columns)
    changes = ", ".join(f"{column} = :{column}" for column in columns)
    return _Table(
        kind,
        Sql(f"""
            SELECT x.number, x.sealed, {row}, t.organization, t.project, {place}, {listed}
            FROM {name} x {join} WHERE x.number > :after AND x.sealed <> :current AND {only}
            ORDER BY x.number LIMIT :count
        """),
        Sql(f"""
            UPDATE {name} SET sealed = :current, {changes}
            WHERE number = :number AND sealed = :former {"AND completed_at IS NOT NULL" if name == "runs" else ""}
        """),
        tuple(columns.values()),
    )


_OF_ITSELF: Final = "JOIN tenants t ON t.number = x.tenant"

TABLES: Final[tuple[_Table, ...]] = (
    # A live run is left to the process that writes it.
    _table(
        "runs",
        "run",
        "x.number",
        _OF_ITSELF,
        "0",
        {"request": "request", "answer": "answer", "error": "error"},
        "x.completed_at IS NOT NULL",
    ),
    _table("items", "run", "x.run", _OF_ITSELF, "x.position", {"content": "item {}"}),
    _table(
        "segments",
        "run",
        "x.run",
        "JOIN runs r ON r.number = x.run JOIN tenants t ON t.number = r.tenant",
        "x.first",
        {"frames": "segment {}"},
    ),
    _table("conversations", "conversation", "x.number", _OF_ITSELF, "0", {"metadata": "metadata"}),
    _table("conversation_items", "conversation", "x.conversation", _OF_ITSELF, "x.position", {"content": "item {}"}),
    _table("idempotency", "idempotency", "x.name", _OF_ITSELF, "0", {"answer": "answer"}),
)


def reseal(table: int, after: int, limit: int, keyring: Keyring) -> Work[tuple[int, int]]:
    """Up to `limit` rows of one table behind a row number: how many were sealed, and the last number looked at."""
    kind, read, write, places = TABLES[table]
    current = keyring.current
    rows = yield read(after=after, current=current, count=limit)
    changed = []
    for number, sealed, row, organization, project, place, *contents in rows:
        tenant = Tenant(organization, project)
        old, new = keyring.box(sealed, kind, row, tenant), keyring.box(current, kind, row, tenant)
        values: dict[str, object] = {"current": current, "number": number, "former": sealed}
        for name, where, content in zip(write.names[1:], places, contents, strict=False):
            if content:
                named = where.format(place)
                plain = content if old is None else old.open(content, named)
                content = plain if new is None else new.seal(plain, named)
            values[name] = content
        changed.append(tuple([values[name] for name in write.names]))
    if changed:
        yield write.many(changed)
    return len(changed), rows[-1][0] if rows else after
