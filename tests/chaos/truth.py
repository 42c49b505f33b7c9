"""What a provider really said, read from the bytes that it has written and from nothing else."""

import json
import re
import zlib
from typing import Any, Final

from tests.chaos.fault import Truth

__all__ = ["truth"]

_BREAK: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LIMITS: Final = {"length", "content_filter", "max_tokens", "MAX_TOKENS", "SAFETY", "refusal", "RECITATION"}

_BREAKS: Final = {"error", "MALFORMED_FUNCTION_CALL"}


def truth(written: bytes) -> Truth:
    """What one answer, head and body, comes to for a reader that believes only what is whole and well formed."""
    while written.startswith(b"HTTP/1.1 1"):
        written = written.partition(b"\r\n\r\n")[2]
    head, _, raw = written.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if not lines[0].startswith(b"http/1."):
        return "broken"
    if lines[0].split(b" ")[1] != b"200":
        return "failed"
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip()] = value.strip()
    body, whole = _body(raw, fields)
    if fields.get(b"content-encoding") == b"gzip":
        try:
            body = zlib.decompressobj(wbits=31).decompress(body)
        except zlib.error:
            return "broken"
    kind = fields.get(b"content-type", b"")
    if b"data:" in body[:4096] or kind.startswith(b"text/event-stream"):
        return _of_frames(body)
    if not whole:
        return "broken"
    if kind.startswith(b"audio/") or (kind.startswith(b"text/plain") and not body.startswith(b"{")):
        return "completed" if body else "broken"
    try:
        said = _decode(body)
    except ValueError:
        return "broken"
    return _of_object(said) or ("completed" if isinstance(said, dict) and said else "broken")


def _body(raw: bytes, fields: dict[bytes, bytes]) -> tuple[bytes, bool]:
    """The body as far as it came, and whether its end was told."""
    if fields.get(b"transfer-encoding") == b"chunked":
        pieces: list[bytes] = []
        while True:
            size, found, rest = raw.partition(b"\r\n")
            try:
                count = int(size, 16)
            except ValueError:
                return b"".join(pieces), False
            if not count:
                return b"".join(pieces), bool(found)
            pieces.append(rest[:count])
            raw = rest[count + 2 :]
    length = fields.get(b"content-length")
    if length is not None:
        return raw[: int(length)], len(raw) >= int(length)
    return raw, True


def _of_frames(body: bytes) -> Truth:
    reason: Truth | None = None
    for unit in _BREAK.split(body.removeprefix(b"\xef\xbb\xbf")):
        data = b"\n".join(
            line[5:].removeprefix(b" ") for line in re.split(rb"\r\n|\n|\r", unit) if line.startswith(b"data:")
        )
        if not data or data == b"[DONE]":
            continue
        try:
            said = _decode(data)
        except ValueError:
            return reason or "broken"
        found = _of_object(said)
        if found is not None and reason is None:
            reason = found
        if found == "failed":
            return reason or "failed"
    return reason or "broken"


def _decode(data: bytes) -> Any:
    """Strict JSON. Raises ValueError."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _of_object(said: Any) -> Truth | None:
    """How the answer ends by this event or body; None if it goes on."""
    if not isinstance(said, dict):
        return "broken"
    kind = str(said.get("type", ""))
    if said.get("error") is not None or kind in ("error", "response.failed") or said.get("status") == "failed":
        return "failed"
    if kind in ("response.completed", "speech.audio.done", "transcript.text.done"):
        return "completed"
    if kind == "response.incomplete" or said.get("status") == "incomplete":
        return "incomplete"
    reasons = [one.get("finish_reason") for one in said.get("choices") or ()]
    reasons += [one.get("finishReason") for one in said.get("candidates") or ()]
    reasons.append(said.get("stop_reason"))
    if kind == "message_delta":
        reasons.append((said.get("delta") or {}).get("stop_reason"))
    given = [reason for reason in reasons if reason]
    if not given:
        return None
    if _BREAKS & set(given):
        return "failed"
    return "incomplete" if _LIMITS & set(given) else "completed"
