"""What is kept, over HTTP: stored responses, streams to pick up again (protocol §1.1)."""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tidegate.access.keys import Principal
from tidegate.dialects.responses.includes import check_includes
from tidegate.dialects.validation import invalid
from tidegate.gateway.archive import Archive
from tidegate.gateway.asked import profile_for
from tidegate.gateway.dialects import resumed
from tidegate.gateway.gateway import Gateway
from tidegate.gateway.keeper import Keeper
from tidegate.gateway.tenant import tenant_of
from tidegate.server.kept import ItemList, ResponseDeleted, StreamDeleted
from tidegate.storage.records import CursorUnknown, Page, StoredItem, StoredRun, Tenant
from tidegate.wire import jsonio
from tidegate.wire.errors import NotFound

__all__ = ["StoredResponses", "admitted", "check_include", "page_of", "paging"]

_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0", ""})
MOST_ITEMS = 100


class StoredResponses:
    """Handlers of the routes below `/v1/responses` and `/v1/streams`. `gateway` gives the one that is there now."""

    def __init__(self, gateway: Callable[[], Gateway]) -> None:
        self._gateway = gateway

    async def retrieve(self, request: Request) -> Response:
        """`GET /v1/responses/{id}`: the object, or with `stream=true` its events, from `starting_after` on."""
        archive, tenant = self._admit(request)
        run_id = request.path_params["id"]
        check_include(request)
        query = request.query_params
        if not _flag(query.get("stream", ""), "stream"):
            return Response(await archive.response(run_id, tenant), media_type="application/json")
        run = await archive.find(run_id, tenant, dialect="responses")
        return self._stream(request, archive, run, tenant)

    async def stream(self, request: Request) -> Response:
        """`GET /v1/streams/{id}`: the frames of any stream that is kept, in its own dialect."""
        archive, tenant = self._admit(request)
        run = await archive.find(request.path_params["id"], tenant)
        return self._stream(request, archive, run, tenant)

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/responses/{id}`."""
        archive, tenant = self._admit(request)
        run_id = request.path_params["id"]
        await archive.delete(run_id, tenant, dialect="responses")
        return _json(ResponseDeleted(run_id, "response", deleted=True))

    async def delete_stream(self, request: Request) -> Response:
        """`DELETE /v1/streams/{id}`: whatever stands there to be read, a stored response too."""
        archive, tenant = self._admit(request)
        run_id = request.path_params["id"]
        await archive.delete(run_id, tenant)
        return _json(StreamDeleted(run_id, "stream", deleted=True))

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/responses/{id}/cancel`."""
        archive, tenant = self._admit(request)
        return Response(await archive.cancel(request.path_params["id"], tenant), media_type="application/json")

    async def input_items(self, request: Request) -> Response:
        """`GET /v1/responses/{id}/input_items`, a page at a time."""
        archive, tenant = self._admit(request)
        check_include(request)
        after, limit, descending = paging(request)
        try:
            page = await archive.input_items(
                request.path_params["id"], tenant, after=after, limit=limit, descending=descending
            )
        except CursorUnknown:
            raise NotFound(f"Item with id '{after}' not found.", param="after") from None
        return _json(page_of(page))

    def _stream(self, request: Request, archive: Archive, run: StoredRun, tenant: Tenant) -> Response:
        snapshot = self._gateway().snapshot
        profile = profile_for(request.headers.get("tidegate-profile"), request.state.principal, snapshot)
        resume = resumed(run.dialect, _after(request), run.begun, profile)
        return StreamingResponse(
            archive.frames(run, tenant, resume, profile, float(snapshot.config.server.stream_ping)),
            headers={
                "content-type": resume.content_type.decode("ascii"),
                "cache-control": "no-store",
                "x-accel-buffering": "no",
            },
        )

    def _admit(self, request: Request) -> tuple[Archive, Tenant]:
        keeper, _, tenant = admitted(self._gateway(), request)
        return keeper.archive, tenant


def admitted(gateway: Gateway, request: Request) -> tuple[Keeper, Principal, Tenant]:
    """Who asks, and where to look. Raises NotFound where nothing is kept."""
    principal: Principal = request.state.principal
    if gateway.keeper is None:
        raise NotFound(
            "This gateway keeps no responses and conversations (storage.url), so that there is nothing to read.",
            code="storage_off",
        )
    return gateway.keeper, principal, tenant_of(principal)


def paging(request: Request) -> tuple[str | None, int, bool]:
    """`after`, `limit` (1 to 100, usually 20) and whether `order` is descending, as usual. Raises InvalidRequest."""
    query = request.query_params
    given = query.get("limit", "20")
    if not _is_number(given) or len(given) > 4 or not 1 <= int(given) <= MOST_ITEMS:
        raise invalid("limit", f"expected a whole number from 1 to {MOST_ITEMS}.")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", "expected 'asc' or 'desc'.")
    return query.get("after") or None, int(given), order == "desc"


def check_include(request: Request) -> None:
    """Look at `include`, which the SDKs send as `include[]`, once for each name. Raises InvalidRequest."""
    check_includes(value for name, value in request.query_params.multi_items() if name.partition("[")[0] == "include")


def page_of(page: Page[StoredItem]) -> ItemList:
    """The list object of a page."""
    items = page.data
    return ItemList(
        "list",
        [msgspec.Raw(item.content) for item in items],
        items[0].id if items else None,
        items[-1].id if items else None,
        page.has_more,
    )


def _after(request: Request) -> int | None:
    """The event that the client has seen: `starting_after`, or what a browser says by itself in `Last-Event-ID`."""
    given = request.query_params.get("starting_after")
    name = "starting_after"
    if given is None:
        given = request.headers.get("last-event-id")
        name = "Last-Event-ID"
    if given is None or given == "":
        return None
    if not _is_number(given) or len(given) > 18:
        raise invalid(name, "expected the sequence number of an event.")
    return int(given)


def _is_number(given: str) -> bool:
    """Digits of ASCII alone: other scripts have theirs."""
    return given.isascii() and given.isdecimal()


def _flag(given: str, name: str) -> bool:
    if given.lower() in _TRUE:
        return True
    if given.lower() in _FALSE:
        return False
    raise invalid(name, "expected 'true' or 'false'.")


def _json(content: Any) -> Response:
    return Response(jsonio.encode(content), media_type="application/json")
