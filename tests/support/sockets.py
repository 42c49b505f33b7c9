"""WebSocket clients that see every message as it came."""

import json
from types import TracebackType
from typing import Any, NamedTuple, Self

from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed
from websockets.frames import OP_PING, OP_TEXT, Frame, Opcode
from websockets.sync.client import connect

from tests.support.raw import Raw, get
from tests.support.running import Running

__all__ = ["HANDSHAKE", "TERMINAL", "Bare", "Close", "Socket", "check_error", "check_message"]

TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})

HANDSHAKE = get(
    "/v1/responses",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponsesServerEvent)


class Close(NamedTuple):
    """How the gateway closed the connection."""

    code: int | None
    reason: str


class Socket:
    """`with Socket(gateway) as client:` — one connection."""

    def __init__(self, gateway: Running, *, headers: dict[str, str] | None = None, **options: Any) -> None:
        address = f"ws://127.0.0.1:{gateway.port}/v1/responses"
        options = {"max_size": None, "ping_interval": None, "proxy": None, **options}
        self.socket = connect(address, additional_headers=headers, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    # -- towards the gateway ------------------------------------------------------------------------------------

    def create(self, model: str = "sim/echo", **members: Any) -> None:
        """A `response.create`. A member given as `...` is left out."""
        event = {"type": "response.create", "model": model, **members}
        self.send({name: value for name, value in event.items() if value is not ...})

    def send(self, event: Any) -> None:
        self.socket.send(event if isinstance(event, str | bytes) else json.dumps(event))

    # -- from the gateway ---------------------------------------------------------------------------------------

    def raw(self, timeout: float = 8.0) -> str:
        """The next message, which must be text."""
        message = self.socket.recv(timeout=timeout)
        assert isinstance(message, str)
        return message

    def event(self, timeout: float = 8.0) -> Any:
        return json.loads(self.raw(timeout))

    def turn(self, model: str = "sim/echo", **members: Any) -> list[Any]:
        """One request and all events of its answer."""
        self.create(model, **members)
        return self.rest()

    def rest(self) -> list[Any]:
        """All events up to the next end of a response, or an error that stands alone."""
        events = [self.event()]
        while events[-1]["type"] not in TERMINAL and "status" not in events[-1]:
            events.append(self.event())
        return events

    def response(self, model: str = "sim/echo", **members: Any) -> Any:
        """The response object of one request, which must end well."""
        end = self.turn(model, **members)[-1]
        assert end["type"] in ("response.completed", "response.incomplete"), end
        return end["response"]

    def error(self, model: str = "sim/echo", **members: Any) -> Any:
        """The error message that answers one request."""
        (event,) = self.turn(model, **members)
        return check_error(event)

    def refusal(self, event: Any) -> Any:
        """The error message that answers an event."""
        self.send(event)
        return check_error(self.event())

    def close_of(self, timeout: float = 8.0) -> Close:
        """How the gateway closed the connection, whatever it sends before."""
        try:
            while True:
                self.socket.recv(timeout=timeout)
        except ConnectionClosed as closed:
            received = closed.rcvd
            return Close(None, "") if received is None else Close(received.code, received.reason)


class Bare(Raw):
    """A client that frames its messages itself, and answers no ping."""

    def __init__(self, gateway: Running, **options: Any) -> None:
        super().__init__(gateway, **options)
        assert self.send(HANDSHAKE).response(head_only=True).status == 101

    def put(self, data: bytes = b"", opcode: Opcode = OP_TEXT, *, fin: bool = True, mask: bool = True) -> None:
        self.send(Frame(opcode, data, fin).serialize(mask=mask))

    def create(self, model: str = "sim/echo", **members: Any) -> None:
        self.put(json.dumps({"type": "response.create", "model": model, **members}).encode())

    def frame(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame."""
        while len(self.buffer) < 2 or len(self.buffer) < sum(self._sizes()):
            self.more()
        head, size = self._sizes()
        opcode, data = self.buffer[0] & 15, self.buffer[head : head + size]
        self.buffer = self.buffer[head + size :]
        return opcode, data

    def event(self) -> Any:
        """The next message; pings on the way stay unanswered."""
        while (frame := self.frame())[0] == OP_PING:
            pass
        opcode, data = frame
        assert opcode == OP_TEXT
        return json.loads(data)

    def close_frame(self) -> Close:
        """The next frame, which must be one of closing; then the end of the connection."""
        opcode, data = self.frame()
        assert opcode == 8, (opcode, data[:200])
        assert self.rest() == b""
        return Close(int.from_bytes(data[:2], "big"), data[2:].decode())

    def _sizes(self) -> tuple[int, int]:
        length = self.buffer[1] & 127
        extra = {126: 2, 127: 8}.get(length, 0)
        return 2 + extra, int.from_bytes(self.buffer[2 : 2 + extra], "big") if extra else length


def check_message(event: Any) -> Any:
    """One event, read by the SDK's own types."""
    if event["type"] == "keepalive":
        return None
    found = _EVENT.validate_python(event)
    assert found.type == event["type"]
    return found


def check_error(event: Any) -> Any:
    """An error message in the official shape; its `error` is returned together with the status and the lane."""
    assert event["type"] == "error", event
    assert set(event) <= {"type", "status", "error", "stream_id"}
    error = event["error"]
    assert set(error) == {"type", "code", "message", "param", "headers"}
    assert error["headers"]["x-request-id"].startswith("req_")
    assert check_message(event).error.message == error["message"]
    return {**error, "status": event["status"], "stream_id": event.get("stream_id")}
