"""Logs: structlog for what happens, and a batched writer for the line that every request leaves.

Neither holds prompts, answers or secrets: the request line is a Struct with named fields, and everything else is
logged by event name with values that the caller chose.

structlog brings much along that a gateway without trouble has no use for (rich and pygments: a tenth of the time to
start, and 6 MB). It is loaded with the first line.
"""

import asyncio
import logging
import os
import queue
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple, TextIO, cast

import msgspec

from tidegate.wire import jsonio

__all__ = ["LineWriter", "Logger", "configure", "get_logger"]

Format = Literal["console", "json"]

Processor = Callable[
    [Any, str, MutableMapping[str, Any]], Mapping[str, Any] | str | bytes | bytearray | tuple[Any, ...]
]

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

BATCH_LINES = 100
BATCH_DELAY_S = 0.2


class Logger:
    """What happens, by the name of the event. No method raises, wherever the lines go: a full disk may keep a line from
    being written, and nothing else from being done."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        self.dropped = 0
        """Lines that could not be written."""

    def debug(self, event: str, **values: Any) -> None:
        _loaded().debug(event, **values)

    def info(self, event: str, **values: Any) -> None:
        _loaded().info(event, **values)

    def warning(self, event: str, **values: Any) -> None:
        _loaded().warning(event, **values)

    def error(self, event: str, **values: Any) -> None:
        _loaded().error(event, **values)

    def exception(self, event: str, **values: Any) -> None:
        """An error, with the exception that is being handled."""
        _loaded().exception(event, **values)


_logger = Logger()


def get_logger() -> Logger:
    return _logger


class _Steady:
    """The stream as loggers write to it, line by line. It neither fails nor waits: what the stream does not take, because
    it is full, closed, or a pipe that nobody reads, is dropped and counted."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = ""
        self._torn = False
        """The last line lacks its end."""
        try:
            self._file = stream.fileno()
        except (OSError, ValueError):  # in memory, or closed
            self._file = -1

    def write(self, text: str) -> None:
        self._line += text

    def flush(self) -> None:
        line, self._line = self._line, ""
        try:
            if self._file < 0:
                self._stream.write(line)
                self._stream.flush()
            else:
                self._hand_over(line.encode(errors="replace"))
        except (OSError, ValueError):
            _logger.dropped += 1

    def _hand_over(self, line: bytes) -> None:
        """Past the stream's own buffer, whose lock the thread of the request lines holds while it waits."""
        ready = select.poll()
        ready.register(self._file, select.POLLOUT)
        if self._torn:
            line = b"\n" + line
        while line:
            if not ready.poll(0):
                raise BlockingIOError
            # So much a pipe takes without a wait when it takes anything.
            line = line[os.write(self._file, line[: select.PIPE_BUF]) :]
            self._torn = bool(line)


class _Output(NamedTuple):
    level: int
    format: Format
    target: TextIO


_chosen: list[_Output] = []
"""The output that structlog does not know of yet; at most one."""


def configure(level: str, format_: Format, stream: TextIO | None = None) -> None:
    """Where lines go, also those of the standard library's loggers (uvicorn and asyncio use them)."""
    output = _Output(logging.getLevelNamesMapping()[level.upper()], format_, stream or sys.stderr)
    _chosen[:] = [output]
    if "structlog" in sys.modules:
        _loaded()
    handler = logging.StreamHandler(_Steady(output.target))
    handler.setFormatter(_Formatter(output))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(output.level, logging.WARNING))


def _loaded() -> Any:
    """structlog's own logger."""
    import structlog

    if _chosen:
        output = _chosen.pop()
        structlog.configure(
            processors=[*_shared(), _renderer(output)],
            wrapper_class=structlog.make_filtering_bound_logger(output.level),
            logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Steady(output.target))),
            cache_logger_on_first_use=False,
        )
    return structlog.get_logger()


class _Formatter(logging.Formatter):
    """Lines of the standard library's loggers in the form of ours."""

    def __init__(self, output: _Output) -> None:
        super().__init__()
        self._output = output

    def format(self, record: logging.LogRecord) -> str:
        return self._made.format(record)

    @cached_property
    def _made(self) -> logging.Formatter:
        from structlog.stdlib import ProcessorFormatter

        return ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[ProcessorFormatter.remove_processors_meta, _renderer(self._output)],
        )


def _shared() -> list[Processor]:
    import structlog

    return [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]


def _renderer(output: _Output) -> Processor:
    if output.format == "json":
        return _render_json
    from structlog.dev import ConsoleRenderer, plain_traceback

    render = ConsoleRenderer(colors=output.target.isatty(), exception_formatter=plain_traceback)

    def harmless(logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        for name, value in event.items():
            if isinstance(value, str) and not value.isprintable():
                event[name] = _without_controls(value) if name == "exception" else _in_ascii(value)
        return render(logger, method, event)

    return harmless


def _render_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    return _without_controls(msgspec.json.encode(event, enc_hook=repr).decode())


def _without_controls(text: str) -> str:
    """`text` as it is, but for what would command a terminal, or end a line where only some see an end. JSON stays the
    same JSON: it has such characters in strings alone."""
    return _CONTROLS.sub(_escaped, text)


def _escaped(found: "re.Match[str]") -> str:
    return f"\\u{ord(found[0]):04x}"


def _in_ascii(text: str) -> str:
    return _without_controls(jsonio.encode(text).decode())


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
    made = b"".join(lines).decode()
    return made if made.isascii() and "\x7f" not in made else _without_controls(made)


def _console_lines(batch: list[tuple[float, msgspec.Struct]]) -> str:
    return "".join([_console_line(at, entry) for at, entry in batch])


def _console_line(at: float, entry: msgspec.Struct) -> str:
    fields = msgspec.structs.asdict(entry)
    shown = " ".join(
        f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={_one_word(value)}"
        for name, value in fields.items()
        if value not in ("", None, 0, False, ())
    )
    return f"{_iso(at)} [info     ] request {shown}\n"


def _one_word(value: Any) -> str:
    """Names of models and end users come from clients: they must not be able to write lines of their own."""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if text.isprintable() and " " not in text else _in_ascii(text)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
