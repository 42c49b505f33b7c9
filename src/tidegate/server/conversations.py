"""Conversations over HTTP (protocol §1.1)."""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tidegate.dialects.responses.conversations import (
    conversation_object,
    parse_conversation,
    parse_items,
    parse_metadata,
    repeated_item,
)
from tidegate.gateway.gateway import Gateway
from tidegate.gateway.ids import IdSupply
from tidegate.gateway.recording import new_item_id
from tidegate.server.kept import ConversationDeleted
from tidegate.server.stored import admitted, check_include, page_of, paging
from tidegate.storage.records import Conversation, CursorUnknown, Item, ItemExists, Page, Tenant
from tidegate.storage.storage import Storage
from tidegate.wire import jsonio
from tidegate.wire.errors import NotFound

__all__ = ["Conversations"]

_ids = IdSupply(b"conv_", 24, dated=True)


class Conversations:
    """Handlers of the routes below `/v1/conversations`."""

    def __init__(self, gateway: Callable[[], Gateway]) -> None:
        self._gateway = gateway

    async def create(self, request: Request) -> Response:
        """`POST /v1/conversations`."""
        keeper, principal, tenant = admitted(self._gateway(), request)
        keeper.quota.check(tenant, principal.key_id)
        items, metadata = parse_conversation(await request.body(), new_item_id)
        name = _ids.take().decode("ascii")
        now = time.time()
        await keeper.storage.create_conversation(
            tenant, name, created_at=now, key=principal.key_id, metadata=metadata, items=[Item(*item) for item in items]
        )
        keeper.quota.add(tenant, principal.key_id, len(metadata) + sum(len(item[1]) for item in items))
        return _json(conversation_object(name, now, metadata))

    async def retrieve(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}`."""
        storage, tenant, name = self._admit(request)
        return _shown(_there(await storage.get_conversation(tenant, name), name))

    async def change(self, request: Request) -> Response:
        """`POST /v1/conversations/{id}`: other metadata."""
        keeper, principal, tenant = admitted(self._gateway(), request)
        keeper.quota.check(tenant, principal.key_id)
        storage, name = keeper.storage, request.path_params["id"]
        metadata = parse_metadata(await request.body())
        return _shown(_there(await storage.change_conversation(tenant, name, metadata), name))

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/conversations/{id}`."""
        storage, tenant, name = self._admit(request)
        if not await storage.delete_conversation(tenant, name):
            raise _not_found(name)
        return _json(ConversationDeleted(name, "conversation.deleted", deleted=True))

    async def add_items(self, request: Request) -> Response:
        """`POST /v1/conversations/{id}/items`."""
        keeper, principal, tenant = admitted(self._gateway(), request)
        keeper.quota.check(tenant, principal.key_id)
        storage, name = keeper.storage, request.path_params["id"]
        check_include(request)
        items = [Item(*item) for item in parse_items(await request.body(), new_item_id)]
        try:
            added = await storage.add_conversation_items(tenant, name, items)
        except ItemExists as known:
            place = [item.id for item in items].index(known.id)
            raise repeated_item(known.id, f"items[{place}].id") from None
        if added is None:
            raise _not_found(name)
        keeper.quota.add(tenant, principal.key_id, sum(len(item.content) for item in items))
        return _json(page_of(Page(added, has_more=False)))

    async def list_items(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}/items`, a page at a time."""
        storage, tenant, name = self._admit(request)
        check_include(request)
        after, limit, descending = paging(request)
        try:
            page = await storage.list_conversation_items(tenant, name, after=after, limit=limit, descending=descending)
        except CursorUnknown:
            raise NotFound(f"Item with id '{after}' not found.", param="after") from None
        if page is None:
            raise _not_found(name)
        return _json(page_of(page))

    async def retrieve_item(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}/items/{item_id}`."""
        storage, tenant, name = self._admit(request)
        check_include(request)
        item_id = request.path_params["item_id"]
        _there(await storage.get_conversation(tenant, name), name)
        item = await storage.get_conversation_item(tenant, name, item_id)
        if item is None:
            raise NotFound(f"Item with id '{item_id}' not found.", param="item_id")
        return Response(item.content, media_type="application/json")

    async def delete_item(self, request: Request) -> Response:
        """`DELETE /v1/conversations/{id}/items/{item_id}`."""
        storage, tenant, name = self._admit(request)
        item_id = request.path_params["item_id"]
        _there(await storage.get_conversation(tenant, name), name)
        left = await storage.delete_conversation_item(tenant, name, item_id)
        if left is None:
            raise NotFound(f"Item with id '{item_id}' not found.", param="item_id")
        return _shown(left)

    def _admit(self, request: Request) -> tuple[Storage, Tenant, str]:
        keeper, _, tenant = admitted(self._gateway(), request)
        return keeper.storage, tenant, request.path_params["id"]


def _there(found: Conversation | None, name: str) -> Conversation:
    if found is None:
        raise _not_found(name)
    return found


def _shown(found: Conversation) -> Response:
    return _json(conversation_object(found.ref.id, found.created_at, found.metadata))


def _not_found(name: str) -> NotFound:
    return NotFound(f"Conversation with id '{name}' not found.", param="conversation_id")


def _json(content: Any) -> Response:
    return Response(jsonio.encode(content), media_type="application/json")
