"""What is sent: request bodies and heads, and the names by which the scripted upstream knows what to answer."""

import json
from typing import Any, Literal

__all__ = ["DIALECTS", "KEY", "Dialect", "get", "request", "stream_request", "whole_request"]

Dialect = Literal["chat", "responses", "messages", "gemini"]

DIALECTS: tuple[Dialect, ...] = ("chat", "responses", "messages", "gemini")

_PATHS: dict[Dialect, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "gemini": "/v1beta/models/{model}:{method}",
}

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


def whole_request(
    dialect: Dialect, provider: str, *, extra_bytes: int = 0, store: bool = False, sdk_headers: bool = False
) -> bytes:
    """A request for an answer in one body: about 700 bytes, or `extra_bytes` more. `store`: the answer is kept, where the
    dialect keeps answers."""
    body = {**_content(dialect, extra_bytes, store=store)}
    if dialect != "gemini":
        body |= {"temperature": 0.2, "top_p": 0.9}
    return request(dialect, f"{provider}/whole", body, sdk_headers=sdk_headers)


def stream_request(dialect: Dialect, provider: str, script: str, *, store: bool = False) -> bytes:
    """A request for a stream that `script` of the upstream writes."""
    body = _content(dialect, 0, store=store)
    if dialect != "gemini":
        body["stream"] = True
    return request(dialect, f"{provider}/{script}", body, stream=True)


def request(
    dialect: Dialect, model: str, content: dict[str, Any], *, stream: bool = False, sdk_headers: bool = False
) -> bytes:
    """The whole request, head and body."""
    path = _PATHS[dialect]
    if dialect == "gemini":
        path = path.format(model=model, method="streamGenerateContent?alt=sse" if stream else "generateContent")
    else:
        content = {"model": model, **content}
    body = _encode(content)
    fields = {
        "host": "127.0.0.1",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(_SDK_HEADERS if sdk_headers else _FEW_HEADERS),
        **({"anthropic-version": "2023-06-01"} if dialect == "messages" else {}),
    }
    return f"POST {path} HTTP/1.1\r\n{_head(fields)}\r\n".encode("ascii") + body


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\n{_head({'host': '127.0.0.1', 'authorization': f'Bearer {KEY}'})}\r\n".encode(
        "ascii"
    )


def _head(fields: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())


def _content(dialect: Dialect, extra_bytes: int, *, store: bool) -> dict[str, Any]:
    """A conversation; what is extra comes as earlier turns of 1,000 characters, as in a real one."""
    turns = [
        ("user" if index % 2 == 0 else "assistant", f"Turn {index}. " + (_QUESTION * 8)[:980])
        for index in range(extra_bytes // 1050 // 2 * 2)
    ]
    turns.append(("user", _QUESTION))
    if dialect == "chat":
        messages = [{"role": "system", "content": _INSTRUCTIONS}]
        messages += [{"role": role, "content": text} for role, text in turns]
        return {"messages": messages, "max_completion_tokens": 200}
    if dialect == "messages":
        messages = [{"role": role, "content": text} for role, text in turns]
        return {"system": _INSTRUCTIONS, "messages": messages, "max_tokens": 200}
    if dialect == "gemini":
        contents = [{"role": "user" if role == "user" else "model", "parts": [{"text": text}]} for role, text in turns]
        return {
            "systemInstruction": {"parts": [{"text": _INSTRUCTIONS}]},
            "contents": contents,
            "generationConfig": {"maxOutputTokens": 200},
        }
    if len(turns) == 1:
        return {"instructions": _INSTRUCTIONS, "input": _QUESTION, "max_output_tokens": 200, "store": store}
    items: list[dict[str, Any]] = [
        {
            "type": "message",
            "role": role,
            "content": [{"type": "input_text" if role == "user" else "output_text", "text": text}],
        }
        for role, text in turns
    ]
    return {"instructions": _INSTRUCTIONS, "input": items, "max_output_tokens": 200, "store": store}


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
