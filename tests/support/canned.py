"""A provider that says exactly the bytes it is given, for answers that no decent server would send."""

import json
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

__all__ = ["Canned", "json_answer", "sse_answer"]


def json_answer(content: Any, status: str = "200 OK", *, fields: str = "") -> bytes:
    """A whole JSON answer."""
    body = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{fields}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def sse_answer(*frames: bytes | dict[str, Any], named: bool = False) -> bytes:
    """An event stream that ends with its connection. Objects become `data:` frames, with `event:` lines if `named`."""
    body = b""
    for frame in frames:
        if isinstance(frame, bytes):
            body += frame
            continue
        body += f"event: {frame['type']}\n".encode() if named else b""
        body += b"data: " + json.dumps(frame, ensure_ascii=False).encode() + b"\n\n"
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body


class Canned:
    """`with Canned(answer, …) as provider:` — each request gets the next answer, the last one again and again. The pieces of a
    tuple go out a moment apart."""

    def __init__(self, *answers: bytes | tuple[bytes, ...]) -> None:
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="canned")
        self.requests: list[Any] = []
        """The bodies that came: JSON decoded, a form as its bytes, None for none."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def say(self, *answers: bytes | tuple[bytes, ...]) -> None:
        """What the next requests get."""
        self._answers = answers
        self.requests.clear()

    def toml(self, name: str = "canned", kind: str = "sim", more: str = "") -> str:
        """A provider table for it, with one model, `m`."""
        return f'\n[providers.{name}]\nkind = "{kind}"\nbase_url = "{self.url}"\nmodels = ["m"]\n{more}\n'

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.recv(65536)
            if not data:
                return
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(json.loads(body) if body.startswith(b"{") else body or None)
        first, *others = answer if isinstance(answer, tuple) else (answer,)
        connection.sendall(first)
        for piece in others:
            time.sleep(0.05)
            connection.sendall(piece)
