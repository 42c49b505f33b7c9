"""Input and output items of runs."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from tidegate.storage import conversations, tenants
from tidegate.storage.crypto import Box, Keyring
from tidegate.storage.records import CursorUnknown, HistoryIncomplete, Item, Page, Run, StoredItem, Tenant
from tidegate.storage.statement import Insert, Sql, Work

__all__ = ["SEEN", "Scope", "add", "find", "opened", "page"]

Scope = Literal["input", "output", "context"]
"""`context` is what the model saw: the items of all earlier runs of the chain, and before them those of the conversation that
the first was asked with; then this run's input."""

_ADD = Insert("items", ("run", "tenant", "position", "output", "id", "sealed", "content"))
_FIND = Sql(f"""
    SELECT i.run, i.position, i.output, i.id, i.sealed, i.content FROM items i JOIN runs r ON r.number = i.run
    WHERE i.tenant = {tenants.NUMBER} AND i.id = :id ORDER BY i.number DESC LIMIT 1
""")

_OWN: Final = """
    SELECT r.number, r.previous, r.tenant, 0, r.conversation FROM runs r JOIN tenants t ON t.number = r.tenant
    WHERE r.id = :id AND t.organization = :organization AND t.project = :project
"""
_EARLIER: Final = """
    UNION ALL SELECT p.number, p.previous, p.tenant, line.depth + 1, p.conversation
    FROM line JOIN runs p ON p.number = line.previous AND p.tenant = line.tenant
"""
_LINE: Final = "line (number, previous, tenant, depth, conversation)"
SEEN: Final = "(SELECT coalesce(min(o.position), 4611686018427387904) FROM items o WHERE o.run = line.number)"
"""Where the items of a run begin: behind those of its conversation that it was asked with. A run that has none may have
been asked with all of them."""
_OF_CONVERSATION: Final = f"""
    UNION ALL SELECT line.depth, c.position, c.conversation, 1, 0, c.id, c.sealed, c.content
    FROM line JOIN conversation_items c ON c.conversation = line.conversation WHERE c.position < {SEEN}
"""
_SCOPES: Final[dict[Scope, tuple[str, str, str]]] = {
    "input": ("", "i.output = 0", ""),
    "output": ("", "i.output = 1", ""),
    "context": (_EARLIER, "(line.depth > 0 OR i.output = 0)", _OF_CONVERSATION),
}

# Ascending order goes from the oldest run (the greatest depth) to the newest. The cursor is a place, so that paging costs
# the same on every page; the sentinels stand before the first place.
_ORDERS: Final = {
    False: ("depth DESC, position", "(depth < :depth OR (depth = :depth AND position > :position))"),
    True: ("depth, position DESC", "(depth > :depth OR (depth = :depth AND position < :position))"),
}
_START: Final = {False: (2**31 - 1, -1), True: (-1, 0)}
_REVERSED: Final = {False: "depth, position DESC", True: "depth DESC, position"}


def _statements(scope: Scope, descending: bool) -> tuple[Sql, Sql]:
    earlier, condition, more = _SCOPES[scope]
    order, beyond = _ORDERS[descending]
    listed = f"""
        WITH RECURSIVE {_LINE} AS ({_OWN}{earlier}),
        listed (depth, position, holder, in_conversation, output, id, sealed, content) AS (
            SELECT line.depth, i.position, i.run, 0, i.output, i.id, i.sealed, i.content
            FROM line JOIN items i ON i.run = line.number WHERE {condition}{more}
        )
    """
    columns = "holder, in_conversation, position, output, id, sealed, content"
    return (
        Sql(f"{listed} SELECT {columns} FROM listed WHERE {beyond} ORDER BY {order} LIMIT :count"),
        # An id may stand in the list more than once. The last place in the order asked for never leads backwards.
        Sql(f"{listed} SELECT depth, position FROM listed WHERE id = :after ORDER BY {_REVERSED[descending]} LIMIT 1"),
    )


_HOLE = Sql(f"""
    WITH RECURSIVE {_LINE} AS ({_OWN}{_EARLIER})
    SELECT r.previous_id, r.id FROM line JOIN runs r ON r.number = line.number
    WHERE line.previous IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.number = line.previous AND p.tenant = line.tenant)
    UNION ALL SELECT r.conversation_id, r.id FROM line JOIN runs r ON r.number = line.number
    WHERE line.conversation IS NOT NULL AND {SEEN} > 0
        AND NOT EXISTS (SELECT 1 FROM conversations c WHERE c.number = line.conversation)
""")
_EXISTS = Sql(f"SELECT 1 FROM runs WHERE id = :id AND tenant = {tenants.NUMBER}")
_PAGES: Final = {
    (scope, descending): _statements(scope, descending) for scope in _SCOPES for descending in (False, True)
}


def add(groups: Iterable[tuple[Run, int, Sequence[Item], int, bool]], keyring: Keyring) -> Work[None]:
    """Write items of runs: run, tenant's number, items, first position, and whether they are output."""
    sealed = keyring.current
    rows: list[tuple[object, ...]] = []
    for run, tenant, group, first, is_output in groups:
        box, output = run.box if isinstance(run.box, Box) else None, int(is_output)
        for position, item in enumerate(group, first):
            content = item.content
            if box is not None:
                content = box.seal(content, f"item {position}")
            rows.append((run.number, tenant, position, output, item.id, sealed, content))
    if rows:
        yield from _ADD.rows(rows)


def opened(box: Box | None, position: int, output: int, id_: str, content: bytes) -> StoredItem:
    """An item as it was given. Raises Damaged."""
    if box is not None:
        content = box.open(content, f"item {position}")
    return StoredItem(id_, content, position, "output" if output else "input")


def page(
    tenant: Tenant,
    run_id: str,
    scope: Scope,
    *,
    after: str | None,
    limit: int,
    descending: bool,
    keyring: Keyring,
) -> Work[Page[StoredItem] | None]:
    """Up to `limit` items behind the item `after`; None when this tenant has no such run. Raises CursorUnknown, and
    HistoryIncomplete when an earlier run of the context was deleted."""
    names = {"id": run_id, "organization": tenant.organization, "project": tenant.project}
    if not (yield _EXISTS(**names)):
        return None
    if scope == "context":
        for gone, following in (yield _HOLE(**names)):
            raise HistoryIncomplete(gone, following)
    select, locate = _PAGES[scope, descending]
    depth, position = _START[descending]
    if after is not None:
        places = yield locate(**names, after=after)
        if not places:
            raise CursorUnknown(after)
        depth, position = places[0]
    rows = yield select(**names, depth=depth, position=position, count=limit + 1)
    boxes: dict[tuple[int, int, int], Box | None] = {}
    data = []
    for holder, in_conversation, position, output, id_, sealed, content in rows[:limit]:
        place = (sealed, in_conversation, holder)
        if place not in boxes:
            boxes[place] = keyring.box(sealed, "conversation" if in_conversation else "run", holder, tenant)
        data.append(opened(boxes[place], position, output, id_, content))
    return Page(data, len(rows) > limit)


def find(tenant: Tenant, ids: Sequence[str], keyring: Keyring) -> Work[dict[str, StoredItem]]:
    """Items by their ids, in the tenant's newest run that has one, else in a conversation. What is not found is not in the
    answer."""
    found = {}
    for id_ in dict.fromkeys(ids):
        rows = yield _FIND(id=id_, organization=tenant.organization, project=tenant.project)
        if rows:
            run, position, output, _, sealed, content = rows[0]
            found[id_] = opened(keyring.box(sealed, "run", run, tenant), position, output, id_, content)
        elif (item := (yield from conversations.named(tenant, id_, keyring))) is not None:
            found[id_] = item
    return found
