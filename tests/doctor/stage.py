"""What these tests share: an examination of any configuration, and a provider with a key, a clock and a temper."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tidegate.config.load import load
from tidegate.config.schema import Config
from tidegate.server.doctor.examination import examine
from tidegate.server.doctor.finding import Finding, Report
from tidegate.server.doctor.world import World

KEY = "sk-canary-0123456789"


class Told:
    """A report, by check."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __call__(self, check: str, subject: str = "") -> Finding:
        [found] = [one for one in self.report.checks if (one.check, one.subject) == (check, subject)]
        return found

    def statuses(self, subject: str) -> list[str]:
        """Of one provider's checks, in their order."""
        return [one.status for one in self.report.checks if one.subject == subject]


def told(
    toml: str,
    *,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
    only: tuple[str, ...] = (),
    source: Callable[[], Config] | None = None,
    progress: Callable[[tuple[str, ...]], None] | None = None,
    **world: Any,
) -> Told:
    """What is found out about a configuration. It keeps nothing unless it says where."""
    text = toml if "[storage]" in toml or "data_dir" in toml else f'{toml}\n[storage]\nurl = "off"\n'
    if "[server]" not in text:
        text += "\n[server]\nport = 0\n"
    given = dict(environment or {})
    outside = World(load=source or (lambda: load(text, "tidegate.toml", given, read=_read)), environment=given, **world)
    return Told(asyncio.run(examine(outside, timeout_s=timeout_s, only=only, progress=progress)))


def _read(name: str) -> str:
    with open(name, encoding="utf-8") as file:
        return file.read()


class Vendor:
    """`with Vendor() as vendor:` — a provider that lists its models to whoever has the key."""

    def __init__(
        self,
        *models: str,
        keys: tuple[str, ...] | None = (KEY,),
        status: int = 200,
        delay_s: float = 0.0,
        clock_off_s: float = 0.0,
        body: bytes | None = None,
        says: str = "Incorrect API key: {given}\x1b[31m",
        context: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        """`keys` of None lets everybody in."""
        vendor = self
        self.asked: list[tuple[str, str]] = []
        """Path and credential of every request."""
        self._over = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                given = self.headers.get("authorization", "").removeprefix("Bearer ")
                vendor.asked.append((self.path, given))
                if keys is not None and given not in keys:
                    return self.answer(401, {"error": {"message": says.format(given=given)}})
                vendor._over.wait(delay_s)
                if status != 200:
                    return self.answer(status, {"error": {"message": "not today"}})
                return self.answer(200, {"object": "list", "data": [{"id": model} for model in models]})

            def answer(self, status: int, content: Any) -> None:
                data = json.dumps(content).encode() if body is None or status != 200 else body
                self.send_response_only(status)
                self.send_header("date", formatdate(time.time() + clock_off_s, usegmt=True))
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def finish_request(self, request: Any, client_address: Any) -> None:
                # Here, so that the handshake has a thread of its own; one that fails is the client's business.
                try:
                    wrapped = request if context is None else context.wrap_socket(request, server_side=True)
                except OSError:
                    return
                with wrapped:
                    super().finish_request(wrapped, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """The examination hangs up where it likes."""

        self._scheme = "http" if context is None else "https"
        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="vendor")

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def toml(self, name: str = "lab", more: str = "", *, host: str = "localhost", key: str = KEY) -> str:
        """A provider table for it."""
        return (
            f'\n[providers.{name}]\nkind = "openai-compatible"\nbase_url = "{self._scheme}://{host}:{self.port}/v1"\n'
            f'credentials = ["{key}"]\n{more}\n'
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
