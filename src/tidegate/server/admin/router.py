"""Takes a request to the admin API through its steps: who sends it, whether he may, what it says, what comes of it.

Nothing of what a request says is looked at before it is known that its sender may ask for it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from tidegate.dialects import validation
from tidegate.gateway.gateway import Gateway
from tidegate.server.admin.call import Call, Entry, check_role
from tidegate.server.admin.table import TABLE
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, NotFound

__all__ = ["make_router"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def make_router(gateway: Callable[[], Gateway], table: Sequence[Entry] = TABLE) -> Router:
    """The routes of a table. `gateway` gives the one that is there now."""
    by_path: dict[str, dict[str, Entry]] = {}
    for entry in table:
        by_path.setdefault(entry.path, {})[entry.method] = entry
    routes = [Route(path, _Endpoint(gateway, entries), methods=list(entries)) for path, entries in by_path.items()]
    return Router(routes, redirect_slashes=False)


class _Endpoint:
    """All methods of one path, as an ASGI application: so Starlette leaves the choice of methods to us."""

    def __init__(self, gateway: Callable[[], Gateway], entries: Mapping[str, Entry]) -> None:
        self._gateway = gateway
        self._entries = entries

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        entry = self._entries["GET" if request.method == "HEAD" else request.method]
        response = await self._answer(entry, request)
        await response(scope, receive, send)

    async def _answer(self, entry: Entry, request: Request) -> Response:
        gateway = self._gateway()
        administration = gateway.administration
        if administration is None:
            raise NotFound(
                "This gateway keeps nothing (storage.url), so that there is nothing to manage.", code="storage_off"
            )
        caller = gateway.authenticate_admin(
            dict(request.headers.raw), request.client.host if request.client is not None else ""
        )
        check_role(caller, entry.needs)
        for name, value in request.path_params.items():
            if not _NAME.fullmatch(value):
                raise NotFound(f"There is nothing named {value[:64]!r}.", param=name)
        call = Call(
            gateway,
            administration,
            caller,
            request,
            _read_query(entry, request),
            await _read_body(entry, request),
        )
        answer = await entry.handler(call)
        if isinstance(answer, Response):
            answer.headers.setdefault("cache-control", "no-store")
            return answer
        return Response(
            jsonio.encode(answer), entry.status, media_type="application/json", headers={"cache-control": "no-store"}
        )


def _read_query(entry: Entry, request: Request) -> msgspec.Struct | None:
    """Raises InvalidRequest."""
    if entry.reads_query and entry.query is None:
        return None
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise validation.invalid(name, "it is given twice.")
        known = () if entry.query is None else entry.query.__struct_encode_fields__
        if name not in known:
            raise validation.unknown(name, known)
        given[name] = value
    return None if entry.query is None or entry.reads_query else validation.convert(given, entry.query)


async def _read_body(entry: Entry, request: Request) -> msgspec.Struct | None:
    """Raises InvalidRequest."""
    body = await request.body()
    if entry.body is None:
        if body:
            raise InvalidRequest(f"{entry.method} {request.url.path} takes no body.", code="unexpected_body")
        return None
    if not body and entry.body_optional:
        body = b"{}"
    found = validation.parse(body, _decoder(entry.body), {})
    if (twice := jsonio.repeated(body)) is not None:
        raise validation.invalid(twice[:100], "it is given twice.", code="repeated_member")
    return found


@cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[msgspec.Struct]:
    return jsonio.decoder(kind)
