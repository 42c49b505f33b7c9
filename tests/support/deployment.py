"""A provider whose every answer the test decides, and what `/metrics` says of it."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.api import Api
from tests.support.canned import json_answer

__all__ = ["ANSWER", "Call", "Deployment", "error", "fine", "labelled", "metric"]

ANSWER = json_answer(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)


def error(status: str, fields: str = "", code: str = "x") -> bytes:
    return json_answer({"error": {"message": "no", "code": code}}, status, fields=fields)


class Call(NamedTuple):
    at: float
    credential: str


class Deployment:
    """A provider whose every answer the test decides, by the number of the call and its credential."""

    def __init__(self, answer: Callable[[int, str], bytes]) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._thread = threading.Thread(target=self._run, name="deployment")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def toml(self, name: str, *credentials: str, more: str = "") -> str:
        keys = ", ".join(f'"{key}"' for key in credentials)
        return (
            f'[providers.{name}]\nkind = "openai-compatible"\nspeaks = ["chat"]\nmodels = ["m"]\ncredentials = [{keys}]\n'
            f'base_url = "http://127.0.0.1:{self._socket.getsockname()[1]}/v1"\n{more}\n'
        )

    def _run(self) -> None:
        with ThreadPoolExecutor(64) as pool:
            while True:
                try:
                    connection, _ = self._socket.accept()
                except OSError:
                    return
                pool.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            while len(body) < int(lines[b"content-length"]):
                body += connection.recv(65536)
            credential = lines.get(b"authorization", b"").removeprefix(b"bearer ").decode()
            self.calls.append(Call(time.monotonic(), credential))
            connection.sendall(self.answer(len(self.calls), credential))


def fine(number: int, credential: str) -> bytes:
    return ANSWER


def metric(api: Api, name: str) -> float:
    lines = api.get("/metrics").content.decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + "{", name + " ")))


def labelled(api: Api, sample: str) -> float:
    lines = api.get("/metrics").content.decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample + " "))
