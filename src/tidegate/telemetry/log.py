"""Logs: structlog for what happens, and a batched writer for the line that every request leaves.

Neither holds prompts, answers or secrets: the request line is a Struct with named fields, and everything else is
logged by event name with values that the caller chose.
"""

import asyncio
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec
import structlog

from tidegate.wire import jsonio

__all__ = ["LineWriter", "configure", "get_logger"]

Format = Literal["console", "json"]

BATCH_LINES = 100
BATCH_DELAY_S = 0.2

get_logger = structlog.get_logger


def configure(level: str, format_: Format, stream: TextIO | None = None) -> None:
    """Set up structlog, and send the standard library's loggers through it (uvicorn and asyncio use them)."""
    target = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[
        Callable[[Any, str, MutableMapping[str, Any]], Mapping[str, Any] | str | bytes | bytearray | tuple[Any, ...]]
    ] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = _render_json if format_ == "json" else structlog.dev.ConsoleRenderer(colors=target.isatty())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def _render_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


class LineWriter:
    """Writes request lines in batches, formatted and written by a thread: a slow terminal or a full pipe never holds
    the event loop, and costs at most `limit` waiting batches, after which lines are dropped and counted."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, format_: Format, stream: TextIO | None = None, *, limit: int = 1000
    ) -> None:
        self._loop = loop
        self._format = format_
        self._stream = stream or sys.stderr
        self._batch: list[tuple[float, msgspec.Struct]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._queue: queue.Queue[list[tuple[float, msgspec.Struct]] | None] = queue.Queue(limit)
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def write(self, entry: msgspec.Struct) -> None:
        """Queue one line."""
        batch = self._batch
        batch.append((time.time(), entry))
        if len(batch) >= BATCH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(BATCH_DELAY_S, self.flush)

    def flush(self) -> None:
        """Hand what is queued to the thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        try:
            self._queue.put_nowait(batch)
        except queue.Full:
            self.dropped += len(batch)

    def close(self) -> None:
        """Write what is left. Waits for the thread for at most two seconds."""
        self.flush()
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=1)
            except queue.Full:
                return
            self._thread.join(timeout=2)
            self._thread = None

    def _run(self) -> None:
        render = _json_lines if self._format == "json" else _console_lines
        while (batch := self._queue.get()) is not None:
            try:
                self._stream.write(render(batch))
                self._stream.flush()
            except Exception:  # whatever it was, the thread goes on: there are later lines
                self.dropped += len(batch)


def _json_lines(batch: list[tuple[float, msgspec.Struct]]) -> str:
    """One line for each entry, whose Struct decides which of its members are in it. What costs time is done once for
    all of them: the thread takes its share of the same core."""
    encode = jsonio.encode
    lines: list[bytes] = []
    known, text = -1, b""
    for at, entry in batch:
        second = int(at)
        if second != known:
            known = second
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode("ascii")
        lines.append(
            b'{"timestamp":"%b.%03dZ","level":"info","event":"request",%b\n'
            % (text, (at - second) * 1000, encode(entry)[1:])
        )
    return b"".join(lines).decode()


def _console_lines(batch: list[tuple[float, msgspec.Struct]]) -> str:
    return "".join([_console_line(at, entry) for at, entry in batch])


def _console_line(at: float, entry: msgspec.Struct) -> str:
    fields = msgspec.structs.asdict(entry)
    shown = " ".join(
        f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={_one_word(value)}"
        for name, value in fields.items()
        if value not in ("", None, 0, False)
    )
    return f"{_iso(at)} [info     ] request {shown}\n"


def _one_word(value: Any) -> str:
    """Names of models and end users come from clients: they must not be able to write lines of their own."""
    text = str(value)
    return text if text.isprintable() and " " not in text else jsonio.encode(text).decode()


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
