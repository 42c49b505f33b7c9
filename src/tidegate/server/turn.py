"""One response on a WebSocket: from the client's `response.create` to the last event, or to an error."""

from typing import TYPE_CHECKING

from tidegate.access.keys import Principal
from tidegate.dialects.dialect import JSON
from tidegate.dialects.models import take_models
from tidegate.dialects.responses import ResponsesDialect
from tidegate.dialects.responses.request import ResponsesRequest, parse_request
from tidegate.dialects.responses.state import Ground
from tidegate.dialects.responses.websocket import (
    Create,
    Message,
    begun_response,
    error_message,
    prepared_events,
    read_create,
    read_end,
    with_headers,
    with_lane,
)
from tidegate.dialects.validation import missing
from tidegate.gateway.chains import Link, history
from tidegate.gateway.exchange import ANSWER_LIMIT, DEFAULT_SEND_STALL_S, Exchange
from tidegate.server.refusal import refused
from tidegate.wire import sse
from tidegate.wire.errors import TidegateError

if TYPE_CHECKING:
    from tidegate.server.session import Lane, Session

__all__ = ["Turn"]


class _Read(ResponsesDialect):
    """The dialect of a request that was read before its exchange began."""

    def __init__(self, request: ResponsesRequest | TidegateError) -> None:
        self._request = request

    def parse_plain(self, body: bytes) -> None:
        """It is not read once more."""

    def parse(self, body: bytes) -> ResponsesRequest:
        """The request. Raises what was wrong with it."""
        if isinstance(self._request, TidegateError):
            raise self._request
        return self._request


class Turn:
    """See the module. An exchange takes it for its client (see `Downstream`): frames become messages here."""

    __slots__ = (
        "_added",
        "_decoder",
        "_exchange",
        "_held",
        "_last",
        "_previous",
        "_request",
        "_request_id",
        "_session",
        "lane",
        "response_id",
    )

    def __init__(self, session: "Session", lane: "Lane", request_id: bytes) -> None:
        self._session = session
        self.lane = lane
        self._request_id = request_id
        self._exchange: Exchange | None = None
        self._previous: str | None = None
        self._held: Link | None = None
        """The response of this connection that this one builds on."""
        self._added: tuple[bytes, ...] | None = None
        """The items that the request adds to it, where they are known from the beginning."""
        self._request: ResponsesRequest | None = None
        """The request, where they are known only when more has been looked up."""
        self._decoder = sse.FrameDecoder(2 * ANSWER_LIMIT)
        self._last = b""
        self.response_id = ""

    # -- what the session tells ---------------------------------------------------------------------------------

    def begin(self, message: Message) -> None:
        """Its place in the lane has come."""
        session = self._session
        try:
            # A key that was withdrawn since the connection was opened is of no use any more.
            principal = session.gateway.authenticate(session.fields, client=session.client, endpoint="responses")
        except TidegateError as error:
            entry = refused(
                error, error.http_status, request_id=self._request_id, endpoint="responses", client=session.client
            )
            session.gateway.settle(entry, "")
            self.refuse(error)
            return
        create = Create(b"", True, None)
        outcome: ResponsesRequest | TidegateError
        try:
            create = read_create(message)
            self._previous = create.previous
            own, _ = take_models(create.body)  # the exchange finds them once more
            outcome = parse_request(own, generates=create.generates)
            self._find(outcome, create)
        except TidegateError as error:
            outcome = error
        self._run(principal, outcome, create)

    def pause(self) -> None:
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        if self._exchange is not None:
            self._exchange.resume()

    def client_gone(self) -> None:
        if self._exchange is not None:
            self._exchange.client_gone()
        self._release()

    def stop(self, error: TidegateError) -> None:
        """End it now."""
        if self._exchange is not None:
            self._exchange.stop(error)

    @property
    def send_stall(self) -> float:
        return self._exchange.send_stall if self._exchange is not None else DEFAULT_SEND_STALL_S

    # -- what the request builds on -----------------------------------------------------------------------------

    def _find(self, request: ResponsesRequest, create: Create) -> None:
        """What this connection remembers is at hand. Raises TidegateError."""
        references = request.references
        # What is stored will be found where it is stored.
        remembers = request.typed.store is False or self._session.gateway.keeper is None
        if references is None:
            if remembers:
                self._added = tuple(request.given_items({}))
            return
        chains = self._session.chains
        link = None if references.previous is None else chains.find(references.previous)
        if link is not None:
            chains.hold(link)
            self._held = link
        before = None if link is None else tuple(history(link))
        named = {name: item for name in references.items if (item := chains.item(name)) is not None}
        ground = Ground(history=before, named=named)
        if ground != Ground():
            request.ground = ground
        if request.references is not None:
            if remembers:
                self._request = request  # the exchange looks for the rest
            return
        own = request.given_items(named)
        if not own and not before and create.generates:
            raise missing("input", "There is nothing before it either.")
        if remembers:
            self._added = tuple(own)

    def _run(self, principal: Principal, request: ResponsesRequest | TidegateError, create: Create) -> None:
        session = self._session
        exchange = self._exchange = Exchange(
            session.gateway, self, _Read(request), principal, session.fields, self._request_id, session.client
        )
        if session.socket.paused:
            exchange.pause()
        if create.generates:
            exchange.run(create.body)
        else:
            exchange.prepare(create.body)

    # -- Downstream ---------------------------------------------------------------------------------------------

    def start(self, fields: bytes, content_type: bytes, first: bytes) -> None:
        self._begin(fields, self._events(first))

    def write(self, data: bytes) -> None:
        self._send(self._events(data))

    def ping(self, data: bytes) -> None:
        last = self._last
        self.write(data)
        self._last = last

    def end(self, data: bytes = b"") -> None:
        self._send(self._events(data))
        self._keep()
        self._finish()

    def respond(self, status: int, fields: bytes, body: bytes, content_type: bytes = JSON) -> None:
        """The response object of a request that generates nothing."""
        events = prepared_events(body)
        self._begin(fields, events)
        self._last = events[-1]
        self._keep()
        self._finish()

    def refuse(self, error: TidegateError, fields: bytes = b"") -> None:
        session = self._session
        headers = self._headers(fields)
        headers.update((name.decode("ascii"), value.decode("latin-1")) for name, value in error.headers())
        previous = None if self._previous is None else session.chains.find(self._previous)
        if previous is not None and previous.lane == self.lane.name:
            # The official API's rule: the lane begins anew, and lanes that branched off are left what they build on.
            session.chains.evict(previous.response_id)
        session.socket.send(error_message(error, self.lane.name, headers))
        self._finish()

    def cut(self) -> None:
        self.drop()  # a lane has no other way to say that it ends without an ending

    def drop(self) -> None:
        self._session.socket.drop()

    def _events(self, data: bytes) -> list[bytes]:
        """The events of whole frames: comments and `[DONE]` belong to event streams only."""
        events = [frame.data for frame in self._decoder.feed(data) if frame.data and frame.data != b"[DONE]"]
        if events:
            self._last = events[-1]
        return events

    def _begin(self, fields: bytes, events: list[bytes]) -> None:
        """The first events of a response: what HTTP tells in its headers stands in the very first."""
        if events:
            self.response_id = begun_response(events[0])
            events[0] = with_headers(events[0], self._headers(fields))
        self._send(events)

    def _send(self, events: list[bytes]) -> None:
        lane = self.lane.name
        if events:
            self._session.socket.send(*(events if lane is None else (with_lane(event, lane) for event in events)))

    def _headers(self, fields: bytes) -> dict[str, str]:
        lines = (line.partition(b": ") for line in fields.split(b"\r\n") if line)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, _, value in lines}
        return {"x-request-id": self._request_id.decode("latin-1"), **headers}

    # -- endings ------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """From now on requests of this connection can build on the response, if it is one to build on. What is stored is
        found where it is stored: there it may have been deleted since."""
        end = read_end(self._last)
        if end is None or end.stored:
            return
        link: Link | None = None
        request = self._request
        if self._added is not None:
            link = Link(end.response_id, self.lane.name, self._held, (*self._added, *end.output))
        elif request is not None and request.resolved:
            link = Link(end.response_id, self.lane.name, None, (*request.whole_items(), *end.output))
        if link is not None:
            self._session.chains.add(link)

    def _finish(self) -> None:
        self._release()
        self._session.finished(self)

    def _release(self) -> None:
        self._added = self._request = self._exchange = None
        held, self._held = self._held, None
        self._session.chains.release(held)
