"""What clients of each API send, and how they read what comes back: the kind of its ending, exactly one of which there must be."""

import base64
import hashlib
import json
import re
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from tests.chaos.caller import Answer
from tests.support.api import Frame
from tests.support.grammar import check_stream

__all__ = ["APIS", "Asked", "Kind", "Said", "Wrong", "read", "read_events", "request"]

Kind = Literal["completed", "incomplete", "failed", "cancelled", "error", "cut"]
"""How an answer ends for its client: `failed` within a stream, `error` as a status, `cut` without any ending."""

APIS: Final = (
    "responses",
    "chat",
    "completions",
    "messages",
    "gemini",
    "embeddings",
    "speech",
    "transcription",
)

_LIMITS: Final = {"length", "content_filter", "max_tokens", "MAX_TOKENS", "SAFETY", "refusal"}
_UNKNOWN: Final = "tidal_wave"
_SCHEMA: Final = {"type": "object", "properties": {"place": {"type": "string"}, "at": {"type": "integer"}}}


class Wrong(Exception):
    """What the client got is no answer of its API."""


class Asked(NamedTuple):
    """A request as it is sent, and the text that an echo of it says."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    text: str


class Said(NamedTuple):
    """What a client makes of an answer."""

    kind: Kind
    text: str = ""
    code: str = ""
    calls: tuple[str, ...] = ()
    response_id: str = ""


# -- asking --------------------------------------------------------------------------------------------------------


def request(api: str, model: str, text: str, *, stream: bool, tools: bool = False, **more: Any) -> Asked:
    """A request in the form of `api`."""
    body: dict[str, Any] = {"model": model, "stream": stream, **more}
    path = f"/v1/{api}"
    match api:
        case "responses":
            body["input"] = text
            if tools:
                body["tools"] = [{"type": "function", "name": "tide", "parameters": _SCHEMA, "strict": False}]
        case "chat":
            path = "/v1/chat/completions"
            body["messages"] = [{"role": "user", "content": text}]
            body["max_tokens"] = 4000
            if tools:
                body["tools"] = [{"type": "function", "function": {"name": "tide", "parameters": _SCHEMA}}]
        case "completions":
            body |= {"prompt": text, "max_tokens": 4000}
        case "messages":
            body |= {"messages": [{"role": "user", "content": text}], "max_tokens": 4000}
            if tools:
                body["tools"] = [{"name": "tide", "input_schema": _SCHEMA}]
        case "gemini":
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            path = f"/v1beta/models/{quote(model, safe='/')}:{method}"
            body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
            if tools:
                body["tools"] = [{"functionDeclarations": [{"name": "tide", "parametersJsonSchema": _SCHEMA}]}]
        case "embeddings":
            body = {"model": model, "input": text}
        case "speech":
            path = "/v1/audio/speech"
            body = {"model": model, "input": text, "voice": "alloy", "response_format": "pcm"}
            if stream:
                body["stream_format"] = "sse"
        case "transcription":
            return _form(model, text, stream=stream)
    return Asked(
        "POST", path, {"content-type": "application/json"}, json.dumps(body, ensure_ascii=False).encode(), text
    )


def _form(model: str, text: str, *, stream: bool) -> Asked:
    """The file's name and content are what the echo tells."""
    name = re.sub(r"\W", "", text.partition(" ")[0]) + ".wav"
    content = hashlib.sha256(text.encode()).digest() * (64 + len(text))
    fields = {
        "model": model,
        "response_format": "json",
        "prompt": text.partition(" ")[0],
        "stream": str(stream).lower(),
    }
    body = b"".join(
        f'--tide\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    )
    body += f'--tide\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'.encode()
    body += b"content-type: audio/wav\r\n\r\n" + content + b"\r\n--tide--\r\n"
    heard = f"{name} {len(content)} {hashlib.sha256(content).hexdigest()}"
    headers = {"content-type": "multipart/form-data; boundary=tide"}
    return Asked("POST", "/v1/audio/transcriptions", headers, body, heard)


# -- reading -------------------------------------------------------------------------------------------------------


def read(api: str, answer: Answer, *, stream: bool) -> Said:
    """Raises Wrong where the answer has no ending, two, one of the wrong kind, or is none of this API."""
    if answer.ended != "whole":
        return Said("cut")
    if answer.status != 200:
        return Said("error", code=_error_code(api, answer))
    try:
        if not stream:
            return _whole(api, answer)
        if not answer.is_stream:
            raise Wrong(f"{answer.headers.get('content-type')} for a stream")
        frames = [one for one in _frames(bytes(answer.body)) if one.data and one.event not in ("keepalive", "ping")]
        if not frames:
            raise Wrong("a stream with nothing in it")
        return _STREAMS[api](frames)
    except (AssertionError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Wrong(f"{type(error).__name__}: {error}"[:600]) from error


def _frames(body: bytes) -> list[Frame]:
    """The frames of a stream, by the rules of server-sent events."""
    body = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not body.endswith(b"\n\n"):
        raise Wrong(f"a stream that ends with {body[-80:]!r}")
    found = []
    for unit in body.split(b"\n\n"):
        event, data = "", []
        for line in unit.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"event":
                event = value.removeprefix(b" ").decode()
            elif name == b"data":
                data.append(value.removeprefix(b" "))
        if data:
            found.append(Frame(unit, event, b"\n".join(data)))
    return found


def _error_code(api: str, answer: Answer) -> str:
    try:
        error = json.loads(answer.body)["error"]
        if api == "messages":
            assert set(error) >= {"type", "message"}
            return str(error["type"])
        if api == "gemini":
            assert error["code"] == answer.status
            return str(error["status"])
        assert set(error) == {"message", "type", "param", "code"}
        return str(error["code"])
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        raise Wrong(f"status {answer.status} with {bytes(answer.body)[:200]!r}") from error


def _whole(api: str, answer: Answer) -> Said:
    if api == "speech":
        return Said("completed", base64.b64encode(answer.body).decode())
    body = json.loads(answer.body)
    match api:
        case "responses":
            return _response(body)
        case "chat":
            [choice] = body["choices"]
            message = choice["message"]
            calls = tuple(one["function"]["arguments"] for one in message.get("tool_calls") or ())
            return Said(_kind(choice["finish_reason"]), message.get("content") or "", calls=calls)
        case "completions":
            [choice] = body["choices"]
            return Said(_kind(choice["finish_reason"]), choice["text"])
        case "messages":
            text = "".join(block.get("text", "") for block in body["content"])
            return Said(_kind(body["stop_reason"]), text)
        case "gemini":
            [candidate] = body["candidates"]
            parts = (candidate.get("content") or {}).get("parts") or ()
            return Said(_kind(candidate["finishReason"]), "".join(part.get("text", "") for part in parts))
        case "embeddings":
            [one] = body["data"]
            assert one["embedding"]
            return Said("completed")
    assert api == "transcription"
    return Said("completed", body["text"])


def _kind(reason: Any) -> Kind:
    if not reason:
        raise Wrong("an answer without a reason for its end")
    return "incomplete" if reason in _LIMITS else "completed"


def _response(body: Any) -> Said:
    kind = body["status"]
    if kind not in ("completed", "incomplete", "failed", "cancelled"):
        raise Wrong(f"the status of an answer is {kind}")
    parts = [part for item in body["output"] if item["type"] == "message" for part in item["content"]]
    calls = tuple(item["arguments"] for item in body["output"] if item["type"] == "function_call")
    code = str((body.get("error") or {}).get("message", "")).partition(":")[0]
    return Said(kind, "".join(part.get("text", "") for part in parts), code, calls, body["id"])


def read_events(events: list[Any]) -> Said:
    """The events of a whole Responses stream, however they came."""
    return _responses([Frame(b"", event["type"], json.dumps(event).encode()) for event in events])


def _responses(frames: list[Frame]) -> Said:
    frames = _known(frames)
    last = frames[-1].json
    response = check_stream(frames, cut=last["type"] == "response.failed")
    said = _response(response)
    deltas = "".join(one.json["delta"] for one in frames if one.event == "response.output_text.delta")
    if said.kind in ("completed", "incomplete") and deltas != said.text:
        raise Wrong("the deltas are another text than the response")
    return said._replace(text=deltas)


def _known(frames: list[Frame]) -> list[Frame]:
    """Without the events that nobody knows, as if they had not been numbered."""
    if not any(_UNKNOWN in frame.event for frame in frames):
        return frames
    assert [frame.json["sequence_number"] for frame in frames] == list(range(len(frames)))
    kept = [frame for frame in frames if _UNKNOWN not in frame.event]
    return [
        frame._replace(data=json.dumps({**frame.json, "sequence_number": number}).encode())
        for number, frame in enumerate(kept)
    ]


def _choices(frames: list[Frame]) -> Said:
    payload = [frame.data for frame in frames]
    events = [json.loads(data) for data in payload if data != b"[DONE]"]
    text, reasons = "", []
    calls: dict[int, str] = {}
    for event in events:
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text += choice.get("text") or delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                calls[call["index"]] = calls.get(call["index"], "") + (call["function"].get("arguments") or "")
            if choice.get("finish_reason"):
                reasons.append(choice["finish_reason"])
    if "error" in events[-1]:
        assert b"[DONE]" not in payload, "[DONE] after a failure"
        assert not [one for one in events[:-1] if "error" in one]
        return Said("failed", text, str(events[-1]["error"]["code"]))
    assert payload.count(b"[DONE]") == 1, "no [DONE], or two"
    assert payload[-1] == b"[DONE]", "something behind [DONE]"
    # A provider that says it twice is passed on; the end is `[DONE]`.
    assert len(set(reasons)) == 1, f"{reasons} as reasons for the end"
    return Said(_kind(reasons[0]), text, calls=tuple(calls[at] for at in sorted(calls)))


def _messages(frames: list[Frame]) -> Said:
    events = [frame.json for frame in frames]
    kinds = [event["type"] for event in events]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    text = "".join(delta.get("text", "") for delta in deltas)
    if kinds[-1] == "error":
        assert "message_stop" not in kinds, "message_stop in a failed stream"
        assert kinds.count("error") == 1
        return Said("failed", text, events[-1]["error"]["type"])
    assert kinds[0] == "message_start"
    assert kinds.count("message_stop") == 1, "no message_stop, or two"
    assert kinds[-1] == "message_stop", "something behind message_stop"
    assert "error" not in kinds
    reasons = [event["delta"].get("stop_reason") for event in events if event["type"] == "message_delta"]
    calls: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls[event["index"]] = ""
        elif event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            calls[event["index"]] += event["delta"]["partial_json"]
    return Said(_kind(reasons[-1]), text, calls=tuple(one or "{}" for one in calls.values()))


def _gemini(frames: list[Frame]) -> Said:
    events = [frame.json for frame in frames]
    text, reasons, calls = "", [], []
    for event in events:
        for candidate in event.get("candidates") or ():
            for part in (candidate.get("content") or {}).get("parts") or ():
                text += part.get("text", "")
                if "functionCall" in part:
                    calls.append(json.dumps(part["functionCall"].get("args") or {}))
            if candidate.get("finishReason"):
                reasons.append(candidate["finishReason"])
    if "error" in events[-1]:
        assert not reasons, "finishReason in a failed stream"
        return Said("failed", text, str(events[-1]["error"]["status"]))
    assert len(set(reasons)) == 1, f"{reasons} as reasons for the end"
    return Said(_kind(reasons[0]), text, calls=tuple(calls))


def _audio(frames: list[Frame]) -> Said:
    events = [frame.json for frame in frames if frame.data != b"[DONE]"]
    kinds = [event.get("type") for event in events]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events if isinstance(event.get("audio"), str))
    if "error" in events[-1]:
        assert "speech.audio.done" not in kinds
        return Said("failed", base64.b64encode(sound).decode(), str(events[-1]["error"]["code"]))
    assert kinds.count("speech.audio.done") == 1, "no end, or two"
    return Said("completed", base64.b64encode(sound).decode())


def _transcript(frames: list[Frame]) -> Said:
    events = [frame.json for frame in frames if frame.data != b"[DONE]"]
    kinds = [event.get("type") for event in events]
    text = "".join(event["delta"] for event in events if event.get("type") == "transcript.text.delta")
    if "error" in events[-1]:
        assert "transcript.text.done" not in kinds
        return Said("failed", text, str(events[-1]["error"]["code"]))
    assert kinds.count("transcript.text.done") == 1, "no end, or two"
    [end] = [event for event in events if event.get("type") == "transcript.text.done"]
    assert end["text"] == text, "the deltas are another text than the end"
    return Said("completed", text)


_STREAMS: Final = {
    "responses": _responses,
    "chat": _choices,
    "completions": _choices,
    "messages": _messages,
    "gemini": _gemini,
    "speech": _audio,
    "transcription": _transcript,
}
