"""A client that speaks bytes: what is sent and what comes back is exactly what the test says and sees."""

import json
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["HELLO", "Listening", "Raw", "Response", "chunk", "frames", "get", "post", "request"]

HELLO = b'{"model":"sim/echo","input":"Hello"}'


@dataclass
class Response:
    """One answer as it stood on the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    head: bytes
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        """The value of a header that is there exactly once."""
        (value,) = self.all(name)
        return value

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key == name.encode()]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return "close" in self.all("connection")

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer in the OpenAI envelope, which every error of ours is, with a request id."""
        body = self.json
        assert list(body) == ["error"], body
        assert set(body["error"]) == {"message", "type", "param", "code"}, body
        assert self["content-type"] == "application/json"
        assert len(self["x-request-id"]) > 0
        error: dict[str, Any] = body["error"]
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)
        return error

    @property
    def code(self) -> Any:
        return self.error["code"]


class Listening(Protocol):
    """A gateway that can be reached."""

    @property
    def port(self) -> int: ...


class Raw:
    """`with Raw(gateway) as client:` — one connection."""

    def __init__(self, gateway: Listening, *, timeout: float = 8.0, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect(("127.0.0.1", gateway.port))
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    # -- towards the gateway ------------------------------------------------------------------------------------

    def send(self, data: bytes) -> Self:
        self.sock.sendall(data)
        return self

    def ask(self, data: bytes) -> Response:
        return self.send(data).response(head_only=data.startswith(b"HEAD "))

    def finish_sending(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # -- from the gateway ---------------------------------------------------------------------------------------

    def response(self, *, head_only: bool = False) -> Response:
        """The next answer, framed as its own head says."""
        head = self.until(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        assert first.startswith(b"HTTP/1.1 "), first
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        response = Response(int(first.split(b" ")[1]), fields, head)
        if head_only or response.status in (100, 204, 304):
            return response
        if response.all("transfer-encoding"):
            assert not response.all("content-length")
            while piece := self.chunk():
                response.chunks.append(piece)
            response.body = b"".join(response.chunks)
        elif response.all("content-length"):
            response.body = self.exactly(int(response["content-length"]))
        else:
            response.body = self.rest()
        return response

    def chunk(self) -> bytes:
        """One HTTP chunk; the last one is empty."""
        size = int(self.until(b"\r\n")[:-2], 16)
        data = self.exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self.more()
        end = self.buffer.index(mark) + len(mark)
        found, self.buffer = self.buffer[:end], self.buffer[end:]
        return found

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.more()
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def rest(self) -> bytes:
        """Everything until the gateway closes. An abrupt end counts as one too."""
        try:
            while data := self.sock.recv(1 << 16):
                self.buffer += data
        except ConnectionResetError:
            pass
        found, self.buffer = self.buffer, b""
        return found

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes, not even the end."""
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            return not self.buffer
        else:
            self.buffer += data
            return False
        finally:
            self.sock.settimeout(before)

    def more(self) -> None:
        """Read what comes next into the buffer."""
        data = self.sock.recv(1 << 16)
        assert data, f"the gateway closed the connection; unread: {self.buffer!r}"
        self.buffer += data


def request(method: str, path: str, *headers: str, body: bytes | None = None, host: str | None = "localhost") -> bytes:
    """A request in HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def get(path: str, *headers: str, host: str | None = "localhost") -> bytes:
    return request("GET", path, *headers, host=host)


def post(body: bytes = HELLO, *headers: str, path: str = "/v1/responses", host: str | None = "localhost") -> bytes:
    return request("POST", path, *headers, body=body, host=host)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def frames(body: bytes) -> list[bytes]:
    """The units of an event stream, each with its blank line."""
    assert body.endswith(b"\n\n"), body[-200:]
    return [unit + b"\n\n" for unit in body.split(b"\n\n")[:-1]]
