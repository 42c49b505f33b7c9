"""Conversations and their items. They have no expiry: they stay until they are deleted (protocol §1.9)."""

import secrets
from collections.abc import Sequence
from typing import Final

from tidegate.storage import tenants
from tidegate.storage.crypto import Box, Keyring
from tidegate.storage.records import Conversation, CursorUnknown, HistoryTooLarge, Item, Page, Ref, StoredItem, Tenant
from tidegate.storage.statement import Sql, Work

__all__ = [
    "add",
    "change",
    "create",
    "extend",
    "find",
    "forget",
    "get",
    "items_before",
    "load",
    "named",
    "page",
    "remove",
    "size_before",
]

_OWN: Final = f"id = :id AND tenant = {tenants.NUMBER}"

_CREATE = Sql(f"""
    INSERT INTO conversations (id, tenant, key, created_at, next_position, bytes, sealed, metadata)
    VALUES (:id, {tenants.NUMBER}, :key, :created_at, 0, :size, 0, :empty) RETURNING number, tenant
""")
_SEAL = Sql("UPDATE conversations SET sealed = :sealed, metadata = :metadata WHERE number = :number")
_GET = Sql(f"SELECT number, created_at, sealed, metadata FROM conversations WHERE {_OWN}")
_LOCK = Sql(f"SELECT number, created_at, sealed, metadata FROM conversations WHERE {_OWN} {{lock}}")
_CHANGE = Sql("""
    UPDATE conversations SET sealed = :sealed, metadata = :metadata, bytes = bytes + :more WHERE number = :number
    RETURNING tenant, key
""")
_REMOVE = Sql(f"DELETE FROM conversations WHERE {_OWN} RETURNING number, tenant, key, bytes")
_DOOM = Sql("INSERT INTO doomed (kind, number, owner) VALUES ('conversation', :number, NULL) ON CONFLICT DO NOTHING")

# Taking positions locks the row, so that two runs that end at once do not get the same ones.
_TAKE = Sql("""
    UPDATE conversations SET next_position = next_position + :count, bytes = bytes + :size
    WHERE number = :number AND id = :id RETURNING next_position, tenant, key
""")
_ADD = Sql("""
    INSERT INTO conversation_items (conversation, tenant, position, id, sealed, content)
    VALUES (:conversation, :tenant, :position, :id, :sealed, :content)
""")

_COLUMNS: Final = "number, position, id, sealed, content"
_PAGE: Final = {
    False: Sql(f"""
        SELECT {_COLUMNS} FROM conversation_items
        WHERE conversation = :number AND position > :position ORDER BY position LIMIT :count
    """),
    True: Sql(f"""
        SELECT {_COLUMNS} FROM conversation_items
        WHERE conversation = :number AND position < :position ORDER BY position DESC LIMIT :count
    """),
}
_START: Final = {False: -1, True: 2**62}
_FIND = Sql(f"""
    SELECT {_COLUMNS} FROM conversation_items
    WHERE tenant = {tenants.NUMBER} AND id = :id AND conversation = :number ORDER BY number DESC LIMIT 1
""")
_LETTERS: Final = "abcdefghijklmnop"
_PLACES: Final = tuple(f"{one}{other}" for one in _LETTERS for other in _LETTERS[:8])
_TAKEN = Sql(f"""
    SELECT DISTINCT id FROM conversation_items
    WHERE tenant = {tenants.NUMBER} AND conversation = :number AND id IN ({", ".join(f":id_{place}" for place in _PLACES)})
""")
"""Of so many ids at once: asked one by one, those of a long turn hold up all other writes."""
# An older version let an id stand in a conversation twice. The last place in the order asked for never leads backwards.
_LOCATE: Final = {
    descending: Sql(f"""
        SELECT position FROM conversation_items
        WHERE tenant = {tenants.NUMBER} AND id = :id AND conversation = :number ORDER BY position {order} LIMIT 1
    """)
    for descending, order in ((False, "DESC"), (True, "ASC"))
}
_HOLD = Sql("UPDATE conversations SET bytes = bytes WHERE number = :number AND id = :id RETURNING number")
_BEFORE: Final = """
    FROM conversations c LEFT JOIN conversation_items i ON i.conversation = c.number AND i.position < :position
    WHERE c.number = :number AND c.tenant = {tenant}
"""
_SIZE_BEFORE = Sql(f"""
    SELECT count(*), coalesce(sum(length(i.content)), 0) {_BEFORE.format(tenant=tenants.NUMBER)}
""")
_NAMED = Sql(f"""
    SELECT i.number, i.position, i.id, i.sealed, i.content, i.conversation
    FROM conversation_items i JOIN conversations c ON c.number = i.conversation
    WHERE i.tenant = {tenants.NUMBER} AND i.id = :id ORDER BY i.number DESC LIMIT 1
""")
_SIZE = Sql("SELECT coalesce(sum(length(content)), 0) FROM conversation_items WHERE conversation = :number")
_FORGET = Sql("DELETE FROM conversation_items WHERE number = :number RETURNING number")
_SHRINK = Sql("UPDATE conversations SET bytes = bytes - :size WHERE number = :number RETURNING tenant, key")


def create(
    tenant: Tenant, key: str, id_: str, created_at: float, metadata: bytes, items: Sequence[Item], keyring: Keyring
) -> Work[Ref]:
    """A new conversation with its first items."""
    yield from tenants.enrol([tenant])
    names = {"id": id_, "organization": tenant.organization, "project": tenant.project}
    [(number, owner)] = yield _CREATE(**names, key=key, created_at=created_at, size=len(metadata), empty=b"")
    if metadata:
        yield from tenants.account([(owner, key, len(metadata), 0)])
        sealed = _sealed(number, tenant, metadata, keyring)
        yield _SEAL(number=number, sealed=keyring.current, metadata=sealed)
    ref = Ref(number, id_)
    if items:
        yield from _append(ref, tenant, items, keyring)
    return ref


def get(tenant: Tenant, id_: str, keyring: Keyring) -> Work[Conversation | None]:
    """A conversation of this tenant; None for one that does not exist or belongs to another."""
    return (yield from _read(_GET, tenant, id_, keyring))


def _read(sql: Sql, tenant: Tenant, id_: str, keyring: Keyring) -> Work[Conversation | None]:
    rows = yield sql(id=id_, organization=tenant.organization, project=tenant.project)
    if not rows:
        return None
    number, created_at, sealed, metadata = rows[0]
    box = keyring.box(sealed, "conversation", number, tenant)
    if box is not None and metadata:
        metadata = box.open(metadata, "metadata")
    return Conversation(ref=Ref(number, id_), created_at=created_at, metadata=metadata)


def change(tenant: Tenant, id_: str, metadata: bytes, keyring: Keyring) -> Work[Conversation | None]:
    """Replace the metadata."""
    found = yield from _read(_LOCK, tenant, id_, keyring)
    if found is None:
        return None
    number, more = found.ref.number, len(metadata) - len(found.metadata)
    sealed = _sealed(number, tenant, metadata, keyring)
    for owner, key in (yield _CHANGE(number=number, sealed=keyring.current, metadata=sealed, more=more)):
        yield from tenants.account([(owner, key, more, 0)])
    return Conversation(ref=found.ref, created_at=found.created_at, metadata=metadata)


def remove(tenant: Tenant, id_: str) -> Work[int | None]:
    """Delete a conversation; its items are doomed. Its number, for removing them."""
    rows = yield _REMOVE(id=id_, organization=tenant.organization, project=tenant.project)
    if not rows:
        return None
    number, owner, key, size = rows[0]
    yield _DOOM(number=number)
    yield from tenants.account([(owner, key, -size, 0)])
    return int(number)


def add(conversation: Ref, tenant: Tenant, items: Sequence[Item], keyring: Keyring) -> Work[list[StoredItem] | None]:
    """Append items; None when the conversation was deleted meanwhile. An id names one item of it: what has one that is
    taken gets another."""
    if not (yield _HOLD(number=conversation.number, id=conversation.id)):
        return None
    taken = yield from _taken(conversation, tenant, items)
    apart: list[Item] = []
    for item in items:
        apart.append(item.called(_fresh(item.id)) if item.id in taken else item)
        taken.add(item.id)
    return (yield from _append(conversation, tenant, apart, keyring))


def _taken(conversation: Ref, tenant: Tenant, items: Sequence[Item]) -> Work[set[str]]:
    """Which of their ids the conversation has."""
    names = {"number": conversation.number, "organization": tenant.organization, "project": tenant.project}
    ids = list(dict.fromkeys(item.id for item in items))
    found: set[str] = set()
    for at in range(0, len(ids), len(_PLACES)):
        some = ids[at : at + len(_PLACES)]
        some += some[:1] * (len(_PLACES) - len(some))
        given = {f"id_{place}": id_ for place, id_ in zip(_PLACES, some, strict=True)}
        rows = yield _TAKEN(**names, **given)
        found.update(row[0] for row in rows)
    return found


def _fresh(id_: str) -> str:
    """An id of the same kind."""
    return f"{id_.partition('_')[0][:16] or 'item'}_{secrets.token_hex(24)}"


def _append(
    conversation: Ref, tenant: Tenant, items: Sequence[Item], keyring: Keyring
) -> Work[list[StoredItem] | None]:
    size = sum(len(item.content) for item in items)
    rows = yield _TAKE(number=conversation.number, id=conversation.id, count=len(items), size=size)
    if not rows:
        return None
    behind, owner, key = rows[0]
    first = behind - len(items)
    box = keyring.box(keyring.current, "conversation", conversation.number, tenant)
    yield _ADD.many(
        [
            (
                conversation.number,
                owner,
                position,
                item.id,
                keyring.current,
                item.content if box is None else box.seal(item.content, f"item {position}"),
            )
            for position, item in enumerate(items, first)
        ]
    )
    yield from tenants.account([(owner, key, size, 0)])
    return [StoredItem(item.id, item.content, position, "input") for position, item in enumerate(items, first)]


def extend(tenant: Tenant, id_: str, items: Sequence[Item], keyring: Keyring) -> Work[list[StoredItem] | str | None]:
    """Append items to a conversation of this tenant; None when it has no such conversation, and the id of an item when it has
    that already."""
    found = yield from get(tenant, id_, keyring)
    if found is None or not (yield _HOLD(number=found.ref.number, id=id_)):
        return None
    taken = yield from _taken(found.ref, tenant, items)
    for item in items:
        if item.id in taken:
            return item.id
    return (yield from _append(found.ref, tenant, items, keyring))


def page(
    tenant: Tenant, id_: str, *, after: str | None, limit: int, descending: bool, keyring: Keyring
) -> Work[Page[StoredItem] | None]:
    """Up to `limit` items behind the item `after`. Raises CursorUnknown."""
    found = yield from get(tenant, id_, keyring)
    if found is None:
        return None
    number = found.ref.number
    position = _START[descending]
    if after is not None:
        rows = yield _LOCATE[descending](
            number=number, id=after, organization=tenant.organization, project=tenant.project
        )
        if not rows:
            raise CursorUnknown(after)
        position = rows[0][0]
    rows = yield _PAGE[descending](number=number, position=position, count=limit + 1)
    return Page([_opened(row, number, tenant, keyring) for row in rows[:limit]], len(rows) > limit)


def load(
    tenant: Tenant, id_: str, max_bytes: int, keyring: Keyring
) -> Work[tuple[Conversation, list[StoredItem]] | None]:
    """A conversation with all its items. Raises HistoryTooLarge."""
    found = yield from get(tenant, id_, keyring)
    if found is None:
        return None
    number = found.ref.number
    [(size,)] = yield _SIZE(number=number)
    if size > max_bytes:
        raise HistoryTooLarge(f"The conversation '{id_}' has {size} bytes; at most {max_bytes} can be continued.")
    rows = yield _PAGE[False](number=number, position=_START[False], count=2**31)
    return found, [_opened(row, number, tenant, keyring) for row in rows]


def size_before(tenant: Tenant, number: int, position: int) -> Work[int | None]:
    """How many bytes the items of this tenant's conversation have that stand before `position`; None when it was deleted."""
    names = {"organization": tenant.organization, "project": tenant.project}
    [(count, size)] = yield _SIZE_BEFORE(number=number, position=position, **names)
    return int(size) if count else None


def items_before(tenant: Tenant, number: int, position: int, keyring: Keyring) -> Work[list[StoredItem]]:
    """The items of this tenant's conversation that stand before `position`."""
    rows = yield _PAGE[True](number=number, position=position, count=2**31)
    return [_opened(row, number, tenant, keyring) for row in reversed(rows)]


def find(tenant: Tenant, id_: str, item_id: str, keyring: Keyring) -> Work[StoredItem | None]:
    """One item of a conversation; None when either does not exist."""
    found = yield from get(tenant, id_, keyring)
    if found is None:
        return None
    number = found.ref.number
    rows = yield _FIND(number=number, id=item_id, organization=tenant.organization, project=tenant.project)
    return _opened(rows[0], number, tenant, keyring) if rows else None


def named(tenant: Tenant, item_id: str, keyring: Keyring) -> Work[StoredItem | None]:
    """The newest item of that id in any conversation of this tenant."""
    rows = yield _NAMED(id=item_id, organization=tenant.organization, project=tenant.project)
    return _opened(rows[0][:5], rows[0][5], tenant, keyring) if rows else None


def forget(tenant: Tenant, id_: str, item_id: str, keyring: Keyring) -> Work[Conversation | None]:
    """Delete one item; the conversation, or None when either does not exist."""
    found = yield from get(tenant, id_, keyring)
    if found is None:
        return None
    number = found.ref.number
    rows = yield _FIND(number=number, id=item_id, organization=tenant.organization, project=tenant.project)
    if not rows:
        return None
    size = len(_opened(rows[0], number, tenant, keyring).content)
    if not (yield _FORGET(number=rows[0][0])):
        return None  # somebody else was faster
    for owner, key in (yield _SHRINK(number=number, size=size)):
        yield from tenants.account([(owner, key, -size, 0)])
    return found


def _sealed(number: int, tenant: Tenant, metadata: bytes, keyring: Keyring) -> bytes:
    box = keyring.box(keyring.current, "conversation", number, tenant)
    return box.seal(metadata, "metadata") if box is not None and metadata else metadata


def _opened(row: Sequence[object], number: int, tenant: Tenant, keyring: Keyring) -> StoredItem:
    _, position, id_, sealed, content = row
    assert isinstance(position, int)
    assert isinstance(sealed, int)
    assert isinstance(content, bytes)
    box: Box | None = keyring.box(sealed, "conversation", number, tenant)
    if box is not None:
        content = box.open(content, f"item {position}")
    return StoredItem(str(id_), content, position, "input")
