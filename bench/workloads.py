"""What is sent: request bodies and heads, and the names by which the scripted upstream knows what to answer."""

import json
from typing import Any, Literal

__all__ = ["KEY", "PATHS", "Dialect", "request", "stream_body", "whole_body"]

Dialect = Literal["chat", "responses"]

PATHS: dict[str, str] = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}

KEY = "tg-bench-" + "0123456789abcdef" * 3
"""The virtual key that clients present. It is known to gateways that this tool starts, and to no other."""

_INSTRUCTIONS = (
    "You are the assistant of a harbour office. Answer in two sentences at most, name the berth and the tide, give times "
    "in UTC, and say so when you do not know. Never invent a vessel. If a pilot is needed, say which one is on duty."
)
_QUESTION = (
    "The coaster Margarethe, 88 m, draught 4.9 m, asks for a berth this evening. Which gate is open at that draught, "
    "and until when can she pass it?"
)

_SDK_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "user-agent": "AsyncOpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "async:asyncio",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
"""What the official Python SDK sends beside authorization and content headers."""

_FEW_HEADERS = {"accept": "application/json", "user-agent": "bench"}


def whole_body(dialect: Dialect, provider: str, *, extra_bytes: int = 0, store: bool = False) -> bytes:
    """A request for an answer in one body: about 700 bytes, or `extra_bytes` more."""
    content = _content(dialect, extra_bytes, store=store)
    return _encode({"model": f"{provider}/whole", **content, "temperature": 0.2, "top_p": 0.9})


def stream_body(dialect: Dialect, provider: str, *, period_ms: int | None, store: bool = False) -> bytes:
    """A request for a stream that never ends: one chunk every `period_ms`, or none after the first few for None."""
    script = "idle" if period_ms is None else f"flow-{period_ms}"
    return _encode({"model": f"{provider}/{script}", **_content(dialect, 0, store=store), "stream": True})


def request(dialect: Dialect, body: bytes, *, sdk_headers: bool = False) -> bytes:
    """The whole request, head and body."""
    fields = {
        "host": "127.0.0.1",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(_SDK_HEADERS if sdk_headers else _FEW_HEADERS),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {PATHS[dialect]} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


def _content(dialect: Dialect, extra_bytes: int, *, store: bool) -> dict[str, Any]:
    """A conversation; what is extra comes as earlier turns of 1,000 characters, as in a real one. `store`: the answer is
    kept, where the dialect keeps answers."""
    turns = [
        ("user" if index % 2 == 0 else "assistant", f"Turn {index}. " + (_QUESTION * 8)[:980])
        for index in range(extra_bytes // 1050 // 2 * 2)
    ]
    if dialect == "chat":
        messages = [{"role": "system", "content": _INSTRUCTIONS}]
        messages += [{"role": role, "content": text} for role, text in turns]
        return {"messages": [*messages, {"role": "user", "content": _QUESTION}], "max_completion_tokens": 200}
    if not turns:
        return {"instructions": _INSTRUCTIONS, "input": _QUESTION, "max_output_tokens": 200, "store": store}
    items: list[dict[str, Any]] = [
        {
            "type": "message",
            "role": role,
            "content": [{"type": "input_text" if role == "user" else "output_text", "text": text}],
        }
        for role, text in [*turns, ("user", _QUESTION)]
    ]
    return {"instructions": _INSTRUCTIONS, "input": items, "max_output_tokens": 200, "store": store}


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
