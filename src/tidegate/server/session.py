"""What happens on one WebSocket of `/v1/responses`: requests wait in lanes, and are answered one after another in each,
side by side in all (protocol §1.9)."""

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from tidegate.dialects.responses.websocket import CREATE, STEER, Message, error_message, read_message, steering_failed
from tidegate.dialects.validation import invalid
from tidegate.gateway.chains import Chains
from tidegate.gateway.exchange import DEFAULT_SEND_STALL_S
from tidegate.gateway.ids import IdSupply
from tidegate.server.refusal import refused
from tidegate.server.turn import Turn
from tidegate.wire.errors import InvalidRequest, QueueFull, ShuttingDown, TidegateError

if TYPE_CHECKING:
    from tidegate.gateway.gateway import Gateway

__all__ = ["Lane", "Session", "Socket", "request_ids"]

RUNNING_LIMIT = 16
"""Most responses under way on one connection, as at OpenAI; further ones wait."""

LANES_LIMIT = 32
"""Most lanes with a name that one connection ever has, as at OpenAI."""

QUEUE_LIMIT = 64
"""Most requests that wait in one lane."""

USELESS_LIMIT = 100
"""Most messages in a row that bring nothing about. A client that goes on would only keep the others waiting."""

GOING_AWAY = 1001
POLICY = 1008
RESTART = 1012

request_ids = IdSupply(b"req_", 16)


class Socket(Protocol):
    """The connection that carries the messages."""

    paused: bool
    """The client does not keep up."""

    def send(self, *messages: bytes) -> None: ...

    def idle(self) -> None:
        """Nothing runs any more, and nothing waits."""

    def close(self, code: int, reason: str) -> None: ...

    def drop(self) -> None: ...


class _Nobody:
    """In the place of a connection that is gone."""

    paused = False

    def send(self, *messages: bytes) -> None:
        """Nobody hears it."""

    def idle(self) -> None:
        """Nobody waits."""

    def close(self, code: int, reason: str) -> None:
        """It is closed."""

    def drop(self) -> None:
        """It is closed."""


_NOBODY: Final = _Nobody()


class Lane:
    """Requests that are answered one after another."""

    __slots__ = ("name", "queue", "turn")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.queue: deque[tuple[Message, int]] = deque()
        """What waits, with the size of each message."""
        self.turn: Turn | None = None
        """The one that is being answered."""


class Session:
    """See the module."""

    def __init__(self, gateway: "Gateway", socket: Socket, fields: Mapping[bytes, bytes], client: str) -> None:
        """`fields` are the headers of the request that opened the connection: they hold for every response, but for the one
        that is about a single request."""
        settings = gateway.snapshot.config.server
        self.gateway = gateway
        self.socket: Socket = socket
        self.fields = {name: value for name, value in fields.items() if name != b"idempotency-key"}
        self.client = client
        self.chains = Chains(int(settings.websocket_cache))
        self._lifetime = float(settings.websocket_lifetime)
        self._most_waiting = int(settings.max_body)
        self._lanes: dict[str | None, Lane] = {None: Lane(None)}
        self._ready: deque[Lane] = deque()
        """Lanes whose first request may begin, in the order in which they came to be so."""
        self._running: dict[Turn, None] = {}
        """In the order in which they may go on when the client reads again."""
        self._resuming: deque[Turn] = deque()
        self._waiting_bytes = 0
        self._advance_planned = False
        self._useless = 0
        """How many messages have brought nothing about since the last one that did."""
        self._draining = False
        self._expired = False
        self._gone = False

    # -- what the connection tells ------------------------------------------------------------------------------

    def receive(self, text: bytes) -> None:
        """A message of the client."""
        stream_id: str | None = None
        try:
            message = read_message(text)
            stream_id = message.stream_id
            if message.kind == STEER:
                failed = steering_failed(message, self._lane_of_target(message))
                self.socket.send(failed)
                self._count_useless()
            elif message.kind == CREATE:
                self._queue(message, len(text))
            else:
                raise invalid("type", f"expected '{CREATE}' or '{STEER}', got {message.kind[:100]!r}.")
        except TidegateError as error:
            self.refuse(error, stream_id)

    def refuse(self, error: TidegateError, stream_id: str | None = None) -> None:
        """An error that belongs to no response."""
        self.socket.send(self.told(error, stream_id))
        self._count_useless()

    def told(self, error: TidegateError, stream_id: str | None = None) -> bytes:
        """The message that tells of `error`; it stands in the books from now on."""
        request_id = request_ids.take()
        self.gateway.settle(
            refused(error, error.http_status, request_id=request_id, endpoint="responses", client=self.client), ""
        )
        headers = {"x-request-id": request_id.decode("ascii")}
        headers.update((name.decode("ascii"), value.decode("latin-1")) for name, value in error.headers())
        return error_message(error, stream_id, headers)

    def pause(self) -> None:
        self._resuming.clear()
        for turn in self._running:
            turn.pause()

    def resume(self) -> None:
        """One after another: whatever the first one brings may be as much as the client takes, and then the next one is
        the first."""
        self._resuming = deque(self._running)
        self._resume_next()
        self._plan_advance()

    def _resume_next(self) -> None:
        while self._resuming:
            turn = self._resuming.popleft()
            if turn not in self._running:
                continue
            del self._running[turn]
            self._running[turn] = None
            turn.resume()
            self.gateway.loop.call_soon(self._resume_next)
            return

    def gone(self) -> None:
        """The client has left, or is not spoken to any more."""
        self._gone = True
        self._ready.clear()
        for lane in self._lanes.values():
            lane.queue.clear()
        running, self._running = self._running, {}
        for turn in running:
            self.gateway.departures.wait(turn.client_gone)

    def lost(self) -> None:
        """There is no connection any more: it and the session let go of each other, so that both are gone at once."""
        self.gone()
        self.socket = _NOBODY

    def drain(self) -> None:
        """What has been taken on is answered; then the connection is closed."""
        self._draining = True
        self._close_if_done()

    def expire(self) -> None:
        """It has been open for as long as it may."""
        self._expired = True
        self._close_if_done()

    def stop(self) -> None:
        """Nothing can be answered any more."""
        self._draining = True
        for turn in list(self._running):
            turn.stop(ShuttingDown())
        self._refuse_queued(ShuttingDown())

    @property
    def busy(self) -> bool:
        return bool(self._running) or any(lane.queue for lane in self._lanes.values())

    @property
    def send_stall(self) -> float:
        """Seconds that the client may refuse to read."""
        return max((turn.send_stall for turn in self._running), default=DEFAULT_SEND_STALL_S)

    # -- lanes --------------------------------------------------------------------------------------------------

    def _queue(self, message: Message, size: int) -> None:
        """Raises TidegateError when the request is not taken on."""
        if self._draining:
            raise ShuttingDown("The gateway is shutting down; send the request again, on a new connection.")
        if self._expired:
            raise self._lifetime_over()
        lane = self._lane(message.stream_id)
        if len(lane.queue) >= QUEUE_LIMIT or (lane.queue and self._waiting_bytes + size > self._most_waiting):
            raise QueueFull(
                f"Too many requests wait on this connection: at most {QUEUE_LIMIT} in one lane, and "
                f"{self._most_waiting} bytes in all. Wait for a response to end."
            )
        self._useless = 0
        lane.queue.append((message, size))
        self._waiting_bytes += size
        if len(lane.queue) == 1 and lane.turn is None:
            self._ready.append(lane)
            self._plan_advance()

    def _count_useless(self) -> None:
        self._useless += 1
        if self._useless > USELESS_LIMIT:
            self.socket.close(POLICY, f"{USELESS_LIMIT} messages in a row that were of no use")

    def _lane(self, name: str | None) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            if len(self._lanes) > LANES_LIMIT:
                raise InvalidRequest(
                    f"This WebSocket connection has reached its maximum number of distinct stream IDs ({LANES_LIMIT}). "
                    "Reuse an existing stream_id or open a new WebSocket connection.",
                    param="stream_id",
                    code="websocket_stream_limit_reached",
                )
            lane = self._lanes[name] = Lane(name)
        return lane

    def _lane_of_target(self, message: Message) -> str | None:
        """The lane of the response that is to be steered, if it is one of this connection."""
        target = bytes(message.members.get("previous_response_id", b"")).strip(b'"').decode("utf-8", "replace")
        for turn in self._running:
            if turn.response_id == target:
                return turn.lane.name
        link = self.chains.find(target)
        return None if link is None else link.lane

    def _advance(self) -> None:
        """Begin what may begin, not so much at once that others wait."""
        self._advance_planned = False
        if self.gateway.closed:
            self._refuse_queued(ShuttingDown())
        for _ in range(RUNNING_LIMIT):
            if not self._ready or len(self._running) >= RUNNING_LIMIT or self.socket.paused or self._gone:
                return
            lane = self._ready.popleft()
            message, size = lane.queue.popleft()
            self._waiting_bytes -= size
            turn = lane.turn = Turn(self, lane, request_ids.take())
            self._running[turn] = None
            turn.begin(message)
        if self._ready:
            self._plan_advance()

    def _plan_advance(self) -> None:
        if not self._advance_planned:
            self._advance_planned = True
            self.gateway.loop.call_soon(self._advance)

    def finished(self, turn: Turn) -> None:
        """The response of `turn` has ended."""
        self._running.pop(turn, None)
        if self._gone:
            return
        lane = turn.lane
        lane.turn = None
        if lane.queue:
            self._ready.append(lane)
        if self._ready:
            self._plan_advance()
        elif not self.busy:
            self.socket.idle()
            self._close_if_done()

    def _refuse_queued(self, error: TidegateError) -> None:
        self._ready.clear()
        for lane in self._lanes.values():
            while lane.queue:
                lane.queue.popleft()
                self.socket.send(self.told(error, lane.name))
        self._waiting_bytes = 0
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.busy or self._gone:
            return
        if self._draining:
            self.socket.close(RESTART, "the gateway is shutting down")
        elif self._expired:
            error = self._lifetime_over()
            self.refuse(error)
            self.socket.close(GOING_AWAY, error.message)

    def _lifetime_over(self) -> InvalidRequest:
        minutes = f"{self._lifetime / 60:g}"
        return InvalidRequest(
            f"Responses websocket connection limit reached ({minutes} minutes). "
            "Create a new websocket connection to continue.",
            code="websocket_connection_limit_reached",
        )
