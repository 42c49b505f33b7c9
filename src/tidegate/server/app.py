"""Everything that is not hot: an ordinary Starlette application, and the object that holds both lanes."""

import re
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from tidegate import __version__
from tidegate.dialects.dialect import Dialect
from tidegate.dialects.gemini import METHODS, gemini_at, has_key, key_in
from tidegate.dialects.gemini import error_body as google_error
from tidegate.dialects.messages import error_body as anthropic_error
from tidegate.dialects.validation import too_deep
from tidegate.gateway.dialects import CLIENT_DIALECTS
from tidegate.gateway.gateway import Gateway
from tidegate.gateway.models import GATEWAY, find, listing_for
from tidegate.server.conversations import Conversations
from tidegate.server.cycle import AsgiApp, Receive, Scope, Send
from tidegate.server.model_lists import anthropic_list, entry, google_entry, google_list, openai_list
from tidegate.server.openapi import document
from tidegate.server.spool import Spools
from tidegate.server.stored import StoredResponses
from tidegate.telemetry.metrics import CONTENT_TYPE
from tidegate.wire import jsonio
from tidegate.wire.errors import Internal, InvalidRequest, MethodNotAllowed, NotFound, TidegateError

if TYPE_CHECKING:
    from tidegate.server.compose import Lifespan

__all__ = ["AdminApplication", "Application"]

_VERSION_TWICE = re.compile(r"/v1(?:beta)?(/v1(?:beta)?/.*)")
_GOOGLE_METHODS = (":batchGenerateContent", ":predict")
"""Methods of Google's API on a model that are not offered; a colon alone may be part of a model's name."""

_ANTHROPIC = "/v1/messages/"

GOOGLE = "/v1beta/"
"""What the paths of Gemini's API begin with."""

ADMIN = "/admin/"
"""What the paths of our own API begin with."""

_PLANNED = ("/v1/audio/", "/v1/images", "/v1/files", "/v1/batches", "/v1/moderations", "/v1/messages/batches")
"""Paths of neighbouring APIs that clients are known to try."""


ADMIN = "/admin/v1"
"""What the paths of the admin API begin with."""

PUBLIC: Final = None
"""In the place of an endpoint: nobody is asked for a key."""

Handler = Callable[[Request], Awaitable[Response]]


class ColdRoute(NamedTuple):
    """A route that is not relayed, and who may use it: whoever has a key that may use `endpoint`, which may be empty."""

    method: str
    path: str
    endpoint: str | None
    handler: Handler


class LazyAdmin:
    """The admin API, loaded when it is first asked for: most gateways start many more times than they are managed."""

    def __init__(self, app: "Application") -> None:
        self._app = app
        self._router: AsgiApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._router is None:
            from tidegate.server.admin.router import make_router

            self._router = cast("AsgiApp", make_router(lambda: self._app.gateway))
        await self._router(scope, receive, send)


class Application:
    """What uvicorn is given: the hot routes for our protocol class, the cold ones as ASGI.

    `gateway` and `spools` exist from the lifespan's start-up on, before the first connection is accepted.
    """

    gateway: Gateway
    spools: Spools

    def __init__(self, lifespan: "Lifespan") -> None:
        self._lifespan = lifespan
        self._has_admin = lifespan.config.admin.enabled and lifespan.config.admin.address is None
        self.hot: Mapping[bytes, Dialect] = {dialect.path.encode("ascii"): dialect for dialect in CLIENT_DIALECTS}
        self.websockets: frozenset[bytes] = frozenset({b"/v1/responses"})
        """The paths that can be gone on with as WebSocket."""
        self.cold: AsgiApp = self._starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan.run(self, receive, send)
            return
        await self.cold(scope, receive, send)

    def _starlette(self) -> Starlette:
        stored = StoredResponses(lambda: self.gateway)
        conversations = Conversations(lambda: self.gateway)
        self.cold_routes: tuple[ColdRoute, ...] = (
            ColdRoute("GET", "/", PUBLIC, self._index),
            ColdRoute("GET", "/healthz", PUBLIC, self._healthz),
            ColdRoute("GET", "/readyz", PUBLIC, self._readyz),
            ColdRoute("GET", "/metrics", PUBLIC, self._metrics),
            ColdRoute("GET", "/openapi.json", PUBLIC, self._openapi),
            ColdRoute("GET", "/v1/models", "", self._models),
            ColdRoute("GET", "/v1/models/{model:path}", "", self._model),
            ColdRoute("GET", "/v1beta/models", "", self._models),
            ColdRoute("GET", "/v1beta/models/{model:path}", "", self._model),
            ColdRoute("GET", "/v1/responses/{id}", "responses", stored.retrieve),
            ColdRoute("DELETE", "/v1/responses/{id}", "responses", stored.delete),
            ColdRoute("POST", "/v1/responses/{id}/cancel", "responses", stored.cancel),
            ColdRoute("GET", "/v1/responses/{id}/input_items", "responses", stored.input_items),
            ColdRoute("GET", "/v1/streams/{id}", "", stored.stream),
            ColdRoute("DELETE", "/v1/streams/{id}", "", stored.delete_stream),
            ColdRoute("POST", "/v1/conversations", "responses", conversations.create),
            ColdRoute("GET", "/v1/conversations/{id}", "responses", conversations.retrieve),
            ColdRoute("POST", "/v1/conversations/{id}", "responses", conversations.change),
            ColdRoute("DELETE", "/v1/conversations/{id}", "responses", conversations.delete),
            ColdRoute("POST", "/v1/conversations/{id}/items", "responses", conversations.add_items),
            ColdRoute("GET", "/v1/conversations/{id}/items", "responses", conversations.list_items),
            ColdRoute("GET", "/v1/conversations/{id}/items/{item_id}", "responses", conversations.retrieve_item),
            ColdRoute("DELETE", "/v1/conversations/{id}/items/{item_id}", "responses", conversations.delete_item),
            *(ColdRoute("POST", one.path, PUBLIC, self._not_hot) for one in CLIENT_DIALECTS),
        )
        self._paths = [one.path for one in self.cold_routes if "{" not in one.path]
        routes: list[BaseRoute] = [
            Route(one.path, self._guarded(one), methods=[one.method]) for one in self.cold_routes
        ]
        if self._has_admin:
            routes.append(Mount(ADMIN, app=LazyAdmin(self)))
        return self._assembled(routes)

    def _guarded(self, route: "ColdRoute") -> Handler:
        """The route's handler, behind the question who asks; `request.state.principal` has the answer."""
        if route.endpoint is PUBLIC:
            return route.handler
        endpoint, handler = route.endpoint, route.handler

        async def guarded(request: Request) -> Response:
            request.state.principal = self.gateway.authenticate(
                dict(request.headers.raw),
                key_in(b"?" + request.scope["query_string"]),
                client=request.client.host if request.client is not None else "",
                endpoint=endpoint,
            )
            return await handler(request)

        return guarded

    def _assembled(self, routes: list[BaseRoute]) -> Starlette:
        app = Starlette(
            routes=routes,
            exception_handlers={
                TidegateError: _on_error,
                HTTPException: self._on_http_exception,
                RecursionError: _on_depth,
                jsonio.TooDeep: _on_depth,
                Exception: _on_bug,
            },
        )
        app.router.redirect_slashes = False  # a redirected POST loses its body in many clients (S1)
        return app

    # -- routes -------------------------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        return _json(
            {
                "name": "tidegate",
                "version": __version__,
                "api": "/v1",
                "models": "/v1/models",
                "openapi": "/openapi.json",
            }
        )

    async def _healthz(self, request: Request) -> Response:
        """The process answers."""
        return _json({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        """New requests are welcome: not while draining."""
        if self.gateway.draining:
            return _json({"status": "draining"}, 503)
        return _json({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        self.gateway.ledger.flush()
        return Response(self.gateway.metrics.render(), media_type=CONTENT_TYPE)

    async def _openapi(self, request: Request) -> Response:
        return _json(document())

    async def _models(self, request: Request) -> Response:
        known = await self.gateway.models_known()
        found = listing_for(request.state.principal, self.gateway.snapshot, known)
        if _is_google(request):
            return _json(google_list(found, request.query_params))
        if "anthropic-version" in request.headers:
            return _json(anthropic_list(found, request.query_params))
        answer = _json(openai_list(found))
        answer.headers[GATEWAY.decode()] = "true"
        return answer

    async def _model(self, request: Request) -> Response:
        if gemini_at(request.scope["raw_path"]) is not None:
            raise MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}; use POST.", "POST")
        name = request.path_params["model"]
        request.state.principal.authorise(name)
        known = await self.gateway.models_known()
        found = find(self.gateway.snapshot, known, name)
        return _json(google_entry(found) if _is_google(request) else entry(found))

    async def _not_hot(self, request: Request) -> Response:
        """A relayed endpoint reached by another spelling of its path, such as percent-encoding."""
        raise InvalidRequest(f"Send this request to {request.url.path}, spelled exactly so.", code="invalid_path")

    # -- errors -------------------------------------------------------------------------------------------------

    async def _on_http_exception(self, request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        path = request.scope["path"]
        if exc.status_code == 405 and path.startswith((GOOGLE, "/v1/models/")) and path.endswith(_GOOGLE_METHODS):
            return await _on_error(request, NotFound(self._unknown_path(request.method, path), code="unknown_path"))
        if exc.status_code == 405 and request.method == "POST" and (unknown := _unknown_method(path)):
            return await _on_error(request, NotFound(unknown, code="unknown_path"))
        if exc.status_code == 405:
            allowed = (exc.headers or {}).get("Allow", "")
            return await _on_error(
                request, MethodNotAllowed(f"{request.method} is not allowed on {path}; use {allowed}.", allowed)
            )
        if exc.status_code == 404:
            return await _on_error(request, NotFound(self._unknown_path(request.method, path), code="unknown_path"))
        return await _on_error(request, InvalidRequest(exc.detail))

    def _unknown_path(self, method: str, path: str) -> str:
        message = f"Unknown path: {method} {path}."
        bare = "/" + path.strip("/")
        if bare in self._paths:
            return f"{message} The path is {bare}, spelled exactly so."
        twice = _VERSION_TWICE.match(bare)
        if twice is not None:
            return (
                f"{message} It has a version twice, and should be {twice[1]}: this client adds one by itself, as Anthropic's "
                "and Google's do, so that its base URL must end before it."
            )
        if f"/v1{bare}" in self._paths:
            return f"{message} The path is /v1{bare}; set the client's base URL to end in /v1."
        for known in self._paths:
            if known.startswith("/v1/") and bare.endswith(known.removeprefix("/v1")):
                return f"{message} The path is {known}; set the client's base URL to end in /v1."
        if bare.startswith(_PLANNED) or bare.endswith(_GOOGLE_METHODS) or (bare.startswith(GOOGLE) and ":" in bare):
            return f"{message} This version does not offer it."
        if "/v1/" in bare:
            tail = "/v1/" + bare.rpartition("/v1/")[2]
            if tail in self._paths:
                return f"{message} The path is {tail}."
        if bare == ADMIN or bare.startswith(f"{ADMIN}/"):
            return f"{message} GET {ADMIN}/openapi.json lists what there is."
        near = get_close_matches(bare, self._paths, n=1, cutoff=0.75)
        return f"{message} Did you mean {near[0]}?" if near else f"{message} GET /openapi.json lists what there is."


class AdminApplication(Application):
    """What the admin API's own listener is given."""

    def __init__(self, main: Application, lifespan: "Lifespan") -> None:
        super().__init__(lifespan)
        self._main = main
        self.hot = {}
        self.websockets = frozenset()

    @property
    def gateway(self) -> Gateway:  # type: ignore[override]
        return self._main.gateway

    @property
    def spools(self) -> Spools:  # type: ignore[override]
        return self._main.spools

    def _starlette(self) -> Starlette:
        self.cold_routes = (ColdRoute("GET", "/healthz", PUBLIC, self._healthz),)
        self._paths = ["/healthz"]
        routes: list[BaseRoute] = [Route(one.path, one.handler, methods=[one.method]) for one in self.cold_routes]
        return self._assembled([*routes, Mount(ADMIN, app=LazyAdmin(self))])


async def _on_bug(request: Request, exc: Exception) -> Response:
    """Starlette raises the exception again after this answer, so that it reaches the log."""
    return await _on_error(request, Internal("The gateway failed on this request; its log has the details."))


async def _on_depth(request: Request, exc: Exception) -> Response:
    """Nothing of ours is that deep: the body is."""
    return await _on_error(request, too_deep())


async def _on_error(request: Request, exc: Exception) -> Response:
    """In the form that the client reads: Anthropic's send a version, or ask for what only their API has."""
    assert isinstance(exc, TidegateError)
    body = exc.body()
    if _is_google(request):
        body = google_error(exc)
    elif "anthropic-version" in request.headers or (request.scope["path"] + "/").startswith(_ANTHROPIC):
        body = anthropic_error(exc, request.scope["state"]["request_id"])
    response = Response(body, exc.http_status, media_type="application/json")
    for name, value in exc.headers():
        response.headers[name.decode("ascii")] = value.decode("latin-1")
    return response


def _unknown_method(path: str) -> str:
    """What is said of a method of Gemini's API that there is none of; empty where no method stands in the path. In `/v1/` a
    colon may as well belong to the name of a model."""
    _, colon, method = path.rpartition(":")
    if not colon or "/" in method or not path.startswith((GOOGLE, "/v1/models/")):
        return ""
    near = get_close_matches(method, METHODS, n=1, cutoff=0.75)
    if near:
        return f"Unknown method: '{method}'. Did you mean '{near[0]}'?"
    return f"Unknown method: '{method}'. Methods are: {', '.join(METHODS)}." if path.startswith(GOOGLE) else ""


def _is_google(request: Request) -> bool:
    """Whether a client of Gemini's API asks. Its newer ones say `/v1/`, as everybody does."""
    return (
        request.scope["path"].startswith(GOOGLE)
        or "x-goog-api-client" in request.headers
        or "x-goog-api-key" in request.headers
        or (has_key(b"?" + request.scope["query_string"]) and not request.scope["path"].startswith(ADMIN))
    )


def _json(content: Any, status: int = 200) -> Response:
    return Response(jsonio.encode(content), status, media_type="application/json")
