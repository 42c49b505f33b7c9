"""Lines of what happens: where they go, in which form, and what they cost a gateway that has none to write."""

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from tidegate.storage.entry import FailedAttempt, unused
from tidegate.telemetry.log import Format, LineWriter, configure, get_logger

SECRET = "sk-do-not-print-me"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(format_: Format, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(level, format_, stream)
    return stream


def fail(credential: str) -> None:
    raise ValueError("the tide is out")


class Writes(io.StringIO):
    """Keeps each write for itself: between two of them another thread may write."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_line_and_its_end_are_written_at_once(format_: Format) -> None:
    stream = Writes()
    configure("info", format_, stream)
    get_logger().info("ebb", depth=3)
    logging.getLogger("elsewhere").warning("flow")
    assert len(stream.pieces) == 2
    assert all(piece.endswith("\n") and piece.count("\n") == 1 for piece in stream.pieces)


def test_a_line_says_what_happened_when_and_with_what() -> None:
    stream = written("json")
    get_logger().warning("model_list_unavailable", provider="lab", status=503)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "warning", "event": "model_list_unavailable", "provider": "lab", "status": 503}


def test_lines_below_the_level_are_left_out() -> None:
    stream = written("json", "warning")
    get_logger().debug("a")
    get_logger().info("b")
    get_logger().error("c")
    assert json.loads(stream.getvalue())["event"] == "c"


@pytest.mark.security("SEC-LOG-CANARY")
@pytest.mark.parametrize(
    ("format_", "shown"),
    [
        ("json", '"failed":[{"deployment":"lab/m","error":"upstream_unreachable","reason":"no connection"}]'),
        ("console", 'failed="lab/m: upstream_unreachable (no connection)"'),
    ],
)
def test_a_request_line_names_what_failed(format_: Format, shown: str) -> None:
    stream = io.StringIO()

    async def main() -> None:
        lines = LineWriter(asyncio.get_running_loop(), format_, stream)
        lines.start()
        entry = unused(request_id="req_1")
        lines.write(entry)
        failed = (FailedAttempt("lab/m", "upstream_unreachable", "no connection"),)
        lines.write(msgspec.structs.replace(entry, failed=failed))
        lines.close()

    asyncio.run(main())
    without, told = stream.getvalue().splitlines()
    assert shown in told
    assert "failed" not in without


@pytest.mark.parametrize("format_", ["json", "console"])
def test_an_exception_has_its_traceback_and_no_values(format_: Format) -> None:
    """Values of local variables may be secrets and prompts."""
    stream = written(format_)
    try:
        fail(SECRET)
    except ValueError as error:
        get_logger().exception("request_failed")
        get_logger().error("request_failed", exc_info=error)
    text = stream.getvalue()
    assert text.count("ValueError: the tide is out") == 2
    assert "in fail" in text
    assert SECRET not in text


@pytest.mark.parametrize("format_", ["json", "console"])
def test_lines_of_libraries_have_the_same_form(format_: Format) -> None:
    stream = written(format_)
    try:
        fail(SECRET)
    except ValueError:
        logging.getLogger("asyncio").exception("Exception in callback %s", "f()")
    logging.getLogger("asyncio").info("nobody needs this")
    text = stream.getvalue()
    assert "Exception in callback f()" in text
    assert "ValueError: the tide is out" in text
    assert SECRET not in text
    assert "nobody needs this" not in text
    if format_ == "json":
        assert json.loads(text)["level"] == "error"


def test_the_last_choice_of_an_output_counts() -> None:
    first, second = written("json"), written("json")
    get_logger().info("a")
    third = written("json")
    get_logger().info("b")
    assert (first.getvalue(), "a" in second.getvalue(), "b" in third.getvalue()) == ("", True, True)


def test_a_gateway_without_trouble_loads_nothing_that_only_trouble_needs() -> None:
    """Nor the simulator, which only answers where it is configured."""
    program = """
import sys
import tidegate.cli, tidegate.server.compose
from tidegate.telemetry import log
log.configure("info", "console")
print([name for name in ("structlog", "rich", "pygments", "tidegate.sim") if name in sys.modules])
log.get_logger().info("trouble")
print("structlog" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]
    assert "trouble" in done.stderr


TERMINAL = "a\x1b[2J\x9b31m\x07\x85b\u2028c"
"""What would clear a screen, colour it, ring, and end a line where some programs see an end."""


class Entry(msgspec.Struct):
    model: str


@pytest.mark.security("SEC-INJ-LOG")
@pytest.mark.parametrize("format_", ["json", "console"])
@pytest.mark.parametrize("told", [TERMINAL, "a\x1b[2J\x07\rb\x7f"], ids=["any", "ascii"])
def test_no_text_commands_the_terminal_that_shows_the_log(format_: Format, told: str) -> None:
    stream = written(format_)
    try:
        raise ValueError(told)
    except ValueError:
        get_logger().exception("it_broke", path=told)
    logging.getLogger("some.library").warning("odd %s", told)

    async def write() -> None:
        lines = LineWriter(asyncio.get_running_loop(), format_, stream)
        lines.start()
        lines.write(Entry(model=told))
        lines.close()

    asyncio.run(write())
    text = stream.getvalue()
    assert text.count("[2J") == 4
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)
    if format_ == "json":
        assert told in [json.loads(line).get("path") for line in text.splitlines()]


def test_a_pipe_that_is_full_costs_lines_and_no_time() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "w") as stream:
        configure("info", "json", stream)
        dropped = get_logger().dropped
        for number in range(400):
            get_logger().warning("a_line", number=number, text="x" * 9000)
        assert get_logger().dropped > dropped
        os.set_blocking(read, False)
        first = reader.read()
        get_logger().warning("another_line")
        lines = (first + reader.read()).decode().splitlines()
    whole = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    assert [line["number"] for line in whole[:-1]] == list(range(len(whole) - 1))
    assert whole[-1]["event"] == "another_line", "it hangs on the half of one"
