"""The raw provider: it says by script, byte for byte, what no decent server would say. It speaks chat alone."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Self

__all__ = ["CALLS", "RawProvider", "RawRequest"]

HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"

CALLS: Final = {
    "calls": ['{"place": "Hamburg", "at": 7}'],
    "calls-no-ids": ['{"place": "Hamburg", "at": 7}'],
    "calls-one-index": ['{"place": "Hamburg", "at": 7}', '{"place": "Qingdao", "at": 8}'],
    "calls-interleaved": ['{"place": "Hamburg", "at": 7}', '{"place": "Qingdao", "at": 8}'],
    "calls-no-arguments": ["{}"],
    "calls-cut": [],
}
"""The arguments that a client must be told, by script."""


class RawRequest:
    """A request that came, and what was said to it. Times are the loop's."""

    def __init__(self, body: bytes, started_at: float) -> None:
        self.body = body
        self.upload = None
        self.path = "/v1/chat/completions"
        self.started_at = started_at
        self.finished_at: float | None = None
        self.closed_by_peer_at: float | None = None
        self.written = bytearray()


class RawProvider:
    """`async with RawProvider() as provider:` — then `provider.base_url` answers by the script that the model names."""

    def __init__(self) -> None:
        self.requests: list[RawRequest] = []
        self._server: asyncio.Server
        self._mute: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._mute = await asyncio.start_server(self._listen, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in (self._server, self._mute):
            server.close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    @property
    def mute_url(self) -> str:
        """Where connections are taken and nothing is ever said, so that no handshake ends."""
        return f"https://127.0.0.1:{self._mute.sockets[0].getsockname()[1]}/v1"

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [server.sockets[0].getsockname()[1] for server in (self._server, self._mute)]

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        if not head.startswith(b"POST "):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()
            return
        request = RawRequest(body, asyncio.get_running_loop().time())
        self.requests.append(request)
        gone = asyncio.create_task(self._watch(reader, request))
        try:
            await self._play(request, writer)
        except OSError:
            pass  # the gateway has left, which the watch notes
        finally:
            gone.cancel()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @staticmethod
    async def _watch(reader: asyncio.StreamReader, request: RawRequest) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
        if request.finished_at is None:
            request.closed_by_peer_at = asyncio.get_running_loop().time()

    @staticmethod
    async def _play(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        said = json.loads(request.body)
        text = _last_text(said)
        async for piece in _paced(said["model"], text):
            if request.closed_by_peer_at is not None:
                return
            writer.write(piece)
            request.written += piece
            await writer.drain()
        request.finished_at = asyncio.get_running_loop().time()
        if said["model"] == "halfclose":
            writer.write_eof()
            await asyncio.sleep(0.05)


async def _paced(script: str, text: str) -> AsyncIterator[bytes]:
    yield HEAD
    pause = 0.03 if script == "trickle" else 0.0
    for unit in SCRIPTS[script](text):
        if script == "bytes":
            for at in range(len(unit)):
                yield unit[at : at + 1]
                await asyncio.sleep(0)
        else:
            yield unit
            await asyncio.sleep(pause)


def _last_text(said: dict[str, Any]) -> str:
    content = said["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


# -- what is said --------------------------------------------------------------------------------------------------


def _chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "chatcmpl-raw",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "raw",
        "choices": [choice],
        **more,
    }


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def _usage(text: str) -> dict[str, Any]:
    count = len(_words(text))
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": 2 * count}
    return {**_chunk({}), "choices": [], "usage": usage}


def _events(text: str) -> list[dict[str, Any]]:
    return [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"content": word}) for word in _words(text)),
        _chunk({}, "stop"),
        _usage(text),
    ]


def _frame(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def _framed(events: list[dict[str, Any]]) -> Iterator[bytes]:
    yield from map(_frame, events)
    yield b"data: [DONE]\n\n"


def _cr(text: str) -> Iterator[bytes]:
    for unit in _framed(_events(text)):
        yield unit.replace(b"\n", b"\r")


def _bom(text: str) -> Iterator[bytes]:
    yield b"\xef\xbb\xbf"
    yield from _framed(_events(text))


def _lines(text: str) -> Iterator[bytes]:
    for event in _events(text):
        yield _frame(event).replace(b', "created"', b',\ndata: "created"')
    yield b"data: [DONE]\n\n"


def _tail(text: str) -> Iterator[bytes]:
    *first, end, _ = map(_frame, _events(text))
    yield from first
    yield end.rstrip(b"\n")


def _fields(text: str) -> Iterator[bytes]:
    for number, event in enumerate(_events(text)):
        data = json.dumps(event, ensure_ascii=False).encode()
        yield b": so it goes\nid: %d\nretry: 10\nwave: high\ndata:%b\n\n" % (number, data)
    yield b"data:[DONE]\n\n"


def _done_only(text: str) -> Iterator[bytes]:
    yield from _framed(_events(text)[:-2])


def _odd_member(member: bytes) -> Callable[[str], Iterator[bytes]]:
    def frames(text: str) -> Iterator[bytes]:
        units = list(_framed(_events(text)))
        yield from units[:2]
        yield units[2].replace(b'"created": 1', b'"created": 1, "odd": ' + member)
        yield from units[3:]

    return frames


def _plain(text: str) -> Iterator[bytes]:
    yield from _framed(_events(text))


def _half(text: str) -> Iterator[bytes]:
    yield from map(_frame, _events(text)[:3])


def _usage_behind(text: str) -> Iterator[bytes]:
    yield from _framed(_events(text))
    yield _frame(_usage(text))


def _call(index: int, arguments: str, *, name: str = "tide", number: int | None = 0) -> dict[str, Any]:
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name:
        call["type"] = "function"
        call["function"]["name"] = name
    if number is not None:
        call["id"] = f"call_{number}"
    return _chunk({"tool_calls": [call]})


def _calling(script: str) -> Callable[[str], Iterator[bytes]]:
    first, second = CALLS["calls-interleaved"]

    def events() -> list[dict[str, Any]]:
        begin = _chunk({"role": "assistant", "content": None})
        end = _chunk({}, "tool_calls")
        match script:
            case "calls":
                return [begin, _call(0, first[:9]), _call(0, first[9:], name="", number=None), end]
            case "calls-no-ids":
                return [begin, _call(0, first[:9], number=None), _call(0, first[9:], name="", number=None), end]
            case "calls-one-index":
                return [begin, _call(0, first, number=0), _call(0, second, number=1), end]
            case "calls-interleaved":
                return [
                    begin,
                    _call(0, first[:9]),
                    _call(1, second[:5], number=1),
                    _call(0, first[9:], name="", number=None),
                    _call(1, second[5:], name="", number=None),
                    end,
                ]
            case "calls-no-arguments":
                return [begin, _call(0, ""), end]
        return [begin, _call(0, first[:9])]

    def frames(text: str) -> Iterator[bytes]:
        if script == "calls-cut":
            yield from map(_frame, events())
        else:
            yield from _framed([*events(), _usage(text)])

    return frames


SCRIPTS: Final[dict[str, Callable[[str], Iterator[bytes]]]] = {
    "cr": _cr,
    "bom": _bom,
    "lines": _lines,
    "tail": _tail,
    "fields": _fields,
    "done-only": _done_only,
    "nan": _odd_member(b"NaN"),
    "deep": _odd_member(b"[" * 5000 + b"]" * 5000),
    "bytes": _plain,
    "trickle": _plain,
    "halfclose": _half,
    "usage-behind": _usage_behind,
    **{script: _calling(script) for script in CALLS},
}
