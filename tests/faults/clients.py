"""Clients of every API, which judge an answer by its bytes: what was said, and how it ended."""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tests.support.api import Frame
from tests.support.forms import form, upload
from tests.support.grammar import check_stream
from tests.support.raw import Listening, Raw, post
from tidegate.sim.stream_faults import UNKNOWN_EVENT

__all__ = ["CLIENTS", "Answer", "Client", "Verdict", "ask", "ended", "judge", "receive", "request"]

JSON_TYPE: Final = "application/json"
SSE_TYPE: Final = "text/event-stream; charset=utf-8"

RPC: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    502: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The `status` of Google's errors (protocol §5.3)."""

ANTHROPIC: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    502: "api_error",
    529: "overloaded_error",
    504: "timeout_error",
}
"""The `type` of Anthropic's errors (protocol §5.3)."""

SDK_CODES: Final = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt"})
"""Those of `response.error.code` that faults lead to and official clients know (protocol §1.3)."""


class Answer(msgspec.Struct, kw_only=True):
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """Whether the HTTP message ended as its head had announced."""
    began_at: float = 0.0
    """Seconds after the request when the head was there."""


class Verdict(msgspec.Struct, kw_only=True):
    """What a client takes the answer for."""

    ending: str
    """`refused` (an error status), `completed`, `incomplete`, `failed` (in the stream), or `cut` (the connection)."""
    text: str = ""
    """What was said until then."""
    code: str = ""
    """Of the error."""
    message: str = ""
    calls: list[tuple[str, str]] = []
    """Names and arguments of the tools that were called, in order."""
    finishes: int = 1
    """How often a finished stream says that it is."""


class Client(msgspec.Struct, frozen=True):
    """One API: how it is asked, and how its answers are read."""

    request: Callable[[str, str, bool, dict[str, Any]], bytes]
    """The bytes of a request: model, prompt, whether to stream, further members."""
    refused: Callable[[Answer], tuple[str, str]]
    """Code and message of an error status, in the API's own form."""
    stream: Callable[[Answer], Verdict]
    body: Callable[[Answer], Verdict]


def ask(gateway: Listening, client: str, model: str, prompt: str, *, stream: bool, **more: Any) -> Answer:
    """One request on a connection of its own, and all of its answer. `headers` are lines."""
    with Raw(gateway) as raw:
        return receive(raw.send(request(client, model, prompt, stream=stream, **more)))


def request(client: str, model: str, prompt: str, *, stream: bool, headers: Iterable[str] = (), **more: Any) -> bytes:
    """The bytes of one request."""
    sent = CLIENTS[client].request(model, prompt, stream, more)
    for line in headers:
        sent = sent.replace(b"\r\n", b"\r\n" + line.encode() + b"\r\n", 1)
    return sent


ENDINGS: Final = (
    b"[DONE]",
    b"response.completed",
    b"response.incomplete",
    b"response.failed",
    b"message_stop",
    b'"finish_reason":"stop"',
    b'"finishReason"',
    b"transcript.text.done",
    b"speech.audio.done",
    b"event: error",
    b'"error":{',
)
"""What the endings of all streams look like."""


def ended(body: bytes) -> bool:
    """Whether a stream, as far as it was read, says of itself that it is over, well or badly."""
    return any(one in body for one in ENDINGS)


def judge(client: str, answer: Answer, *, stream: bool) -> Verdict:
    """What that client takes the answer for. Whatever its API forbids fails here."""
    api = CLIENTS[client]
    assert answer.headers["x-request-id"]
    if answer.status != 200:
        assert answer.whole
        code, message = api.refused(answer)
        assert message
        return Verdict(ending="refused", code=code, message=message)
    return api.stream(answer) if stream else api.body(answer)


def receive(raw: Raw) -> Answer:
    """The answer that comes, however it ends."""
    head = raw.until(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b""
    try:
        if "content-length" in headers:
            body = raw.exactly(int(headers["content-length"]))
        else:
            assert headers["transfer-encoding"] == "chunked"
            while piece := raw.chunk():
                body += piece
        whole = True
    except (AssertionError, ConnectionResetError):
        whole = False
    return Answer(status=int(first.split(" ")[1]), headers=headers, body=body, whole=whole)


# -- OpenAI's APIs ---------------------------------------------------------------------------------------------------


def _openai_refused(answer: Answer) -> tuple[str, str]:
    assert answer.headers["content-type"] == JSON_TYPE
    body = json.loads(answer.body)
    assert set(body) == {"error"}, body
    return _openai_error(body["error"], answer.status)


def _openai_error(error: Any, status: int | None = None) -> tuple[str, str]:
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["type"], str), error
    if status is not None and status >= 500:
        assert error["type"] == "server_error"
    elif status == 429:
        assert error["type"] in ("rate_limit_error", "insufficient_quota", "requests", "tokens")
    elif status is not None:
        assert error["type"].endswith("_error")
    return error["code"] or "", error["message"]


def _responses_request(model: str, prompt: str, stream: bool, more: dict[str, Any]) -> bytes:
    return _post("/v1/responses", {"model": model, "input": prompt, "stream": stream, **more})


def _responses_stream(answer: Answer) -> Verdict:
    frames = _frames(answer)
    assert frames[-1].data != b"[DONE]"
    frames = [frame for frame in frames if frame.event != "keepalive"]
    assert [frame.json["sequence_number"] for frame in frames] == list(range(len(frames)))
    known = [frame for frame in frames if frame.event != UNKNOWN_EVENT]
    response = check_stream([_numbered(frame, at) for at, frame in enumerate(known)], cut=True)
    text = "".join(frame.json["delta"] for frame in frames if frame.event == "response.output_text.delta")
    if response["status"] != "failed":
        assert response["error"] is None
        assert response["usage"]["total_tokens"] >= 0
        assert text == _output_text(response)
        return Verdict(ending=response["status"], text=text, calls=_responses_calls(response))
    told = frames[-2].json
    assert told["type"] == "error", "response.failed without an error event before it"
    assert {name: told[name] for name in ("message", "code", "param")} == {
        name: told["error"][name] for name in ("message", "code", "param")
    }
    code, message = _openai_error({name: told["error"][name] for name in ("message", "type", "param", "code")})
    ended = response["error"]
    assert ended["code"] in SDK_CODES
    assert ended["message"] in (message, f"{code}: {message}")
    return Verdict(ending="failed", text=text, code=code, message=message)


def _numbered(frame: Frame, number: int) -> Frame:
    """The frame as it would be without the events that nobody knows."""
    return frame._replace(data=json.dumps({**frame.json, "sequence_number": number}).encode())


def _responses_body(answer: Answer) -> Verdict:
    response = _json(answer)
    assert response["object"] == "response"
    assert response["status"] in ("completed", "incomplete"), "a failed answer as a success"
    assert response["error"] is None
    return Verdict(ending=response["status"], text=_output_text(response), calls=_responses_calls(response))


def _responses_calls(response: Any) -> list[tuple[str, str]]:
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert len({call["call_id"] for call in calls}) == len(calls), "calls share an id"
    return [(call["name"], call["arguments"]) for call in calls]


def _output_text(response: Any) -> str:
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part.get("text", "") for part in parts)


def _chat_request(model: str, prompt: str, stream: bool, more: dict[str, Any]) -> bytes:
    return _post(
        "/v1/chat/completions",
        {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream, **more},
    )


def _completions_request(model: str, prompt: str, stream: bool, more: dict[str, Any]) -> bytes:
    return _post("/v1/completions", {"model": model, "prompt": prompt, "stream": stream, **more})


def _choices_stream(answer: Answer) -> Verdict:
    frames = _frames(answer)
    done = [at for at, frame in enumerate(frames) if frame.data == b"[DONE]"]
    events = [frame.json for frame in frames if frame.data != b"[DONE]"]
    failed = [at for at, event in enumerate(events) if "error" in event]
    choices = [choice for event in events for choice in event.get("choices", ())]
    text = "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    if not failed:
        assert done == [len(frames) - 1], "a finished stream has one [DONE], and nothing behind it"
        assert len(set(reasons)) == 1, reasons
        pieces = [call for choice in choices for call in choice.get("delta", {}).get("tool_calls") or ()]
        calls = _chat_calls(pieces)
        return Verdict(ending=_ending(reasons[0]), text=text, calls=calls, finishes=len(reasons))
    assert not done, "[DONE] after a failure"
    assert not reasons, "a failed stream has finished"
    assert failed == [len(events) - 1], "one error, and nothing behind it"
    assert set(events[-1]) == {"error"}
    code, message = _openai_error(events[-1]["error"])
    return Verdict(ending="failed", text=text, code=code, message=message)


def _choices_body(answer: Answer) -> Verdict:
    (choice,) = _json(answer)["choices"]
    assert choice["finish_reason"], "an answer without an end"
    message = choice.get("message", {})
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
    text = choice.get("text") or message.get("content") or ""
    return Verdict(ending=_ending(choice["finish_reason"]), text=text, calls=calls)


def _chat_calls(pieces: list[Any]) -> list[tuple[str, str]]:
    """As the official clients put calls together: by their index."""
    found: dict[int, dict[str, str]] = {}
    for piece in pieces:
        call = found.setdefault(piece["index"], {"name": "", "arguments": "", "id": ""})
        call["id"] += piece.get("id") or ""
        for name in ("name", "arguments"):
            call[name] += piece["function"].get(name) or ""
    assert len({call["id"] for call in found.values()}) == len(found), "calls share an id"
    return [(call["name"], call["arguments"]) for call in found.values()]


def _ending(reason: str) -> str:
    return "completed" if reason in ("stop", "tool_calls") else "incomplete"


# -- Anthropic's -----------------------------------------------------------------------------------------------------


def _messages_request(model: str, prompt: str, stream: bool, more: dict[str, Any]) -> bytes:
    said = [{"role": "user", "content": prompt}]
    return _post("/v1/messages", {"model": model, "max_tokens": 1000, "messages": said, "stream": stream, **more})


def _messages_refused(answer: Answer) -> tuple[str, str]:
    assert answer.headers["content-type"] == JSON_TYPE
    message = _messages_error(json.loads(answer.body), answer.status)
    return "", message


def _messages_error(body: Any, status: int | None = None) -> str:
    assert set(body) == {"type", "error", "request_id"}, body
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    if status is not None:
        assert body["error"]["type"] == ANTHROPIC[status]
    else:
        assert body["error"]["type"] in ANTHROPIC.values()
    return str(body["error"]["message"])


def _messages_stream(answer: Answer) -> Verdict:
    frames = [frame for frame in _frames(answer) if frame.json["type"] != "ping"]
    for frame in frames:
        assert frame.event == frame.json["type"], frame.raw
    kinds = [frame.event for frame in frames]
    text = "".join(frame.json["delta"].get("text", "") for frame in frames if frame.event == "content_block_delta")
    deltas = [frame.json["delta"] for frame in frames if frame.event == "message_delta"]
    reasons = [delta["stop_reason"] for delta in deltas if delta.get("stop_reason")]
    assert kinds[0] == "message_start"
    assert kinds.count("message_start") == 1
    if kinds[-1] == "error":
        assert kinds.count("error") == 1
        assert "message_stop" not in kinds
        assert not reasons, "a failed stream has finished"
        return Verdict(ending="failed", text=text, message=_messages_error(frames[-1].json))
    assert kinds[-1] == "message_stop"
    assert kinds.count("message_stop") == 1
    assert "error" not in kinds
    assert len(reasons) == 1, reasons
    blocks: dict[int, list[str]] = {}
    ids = set()
    for frame in frames:
        event = frame.json
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            blocks[event["index"]] = [event["content_block"]["name"], ""]
            ids.add(event["content_block"]["id"])
        elif event["type"] == "content_block_delta" and event["index"] in blocks:
            blocks[event["index"]][1] += event["delta"]["partial_json"]
    assert len(ids) == len(blocks), "calls share an id"
    return Verdict(ending=_stopped(reasons[0]), text=text, calls=[(name, said) for name, said in blocks.values()])


def _messages_body(answer: Answer) -> Verdict:
    body = _json(answer)
    assert body["type"] == "message"
    assert body["stop_reason"], "an answer without an end"
    text = "".join(block.get("text", "") for block in body["content"])
    calls = [(block["name"], json.dumps(block["input"])) for block in body["content"] if block["type"] == "tool_use"]
    return Verdict(ending=_stopped(body["stop_reason"]), text=text, calls=calls)


def _stopped(reason: str) -> str:
    return "completed" if reason in ("end_turn", "stop_sequence", "tool_use") else "incomplete"


# -- Google's --------------------------------------------------------------------------------------------------------


def _gemini_request(model: str, prompt: str, stream: bool, more: dict[str, Any]) -> bytes:
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = f"/v1beta/models/{quote(model, safe='/')}:{method}"
    return _post(path, {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **more})


def _gemini_refused(answer: Answer) -> tuple[str, str]:
    assert answer.headers["content-type"].startswith(JSON_TYPE)
    body = json.loads(answer.body)
    assert body["error"]["code"] == answer.status
    return _gemini_error(body)


def _gemini_error(body: Any) -> tuple[str, str]:
    assert set(body) == {"error"}, body
    error = body["error"]
    assert {"code", "message", "status"} <= set(error) <= {"code", "message", "status", "details"}
    assert error["status"] == RPC[error["code"]]
    reasons = [one["reason"] for one in error.get("details", ()) if one["@type"].endswith("ErrorInfo")]
    return "".join(reasons), error["message"]


def _gemini_stream(answer: Answer) -> Verdict:
    events = [frame.json for frame in _frames(answer)]
    candidates = [one for event in events for one in event.get("candidates", ())]
    parts = [part for one in candidates for part in one.get("content", {}).get("parts", ())]
    text = "".join(part.get("text", "") for part in parts)
    reasons = [one["finishReason"] for one in candidates if one.get("finishReason")]
    failed = [at for at, event in enumerate(events) if "error" in event]
    if not failed:
        assert len(set(reasons)) == 1, reasons
        return Verdict(ending=_finished(reasons[0]), text=text, calls=_gemini_calls(parts), finishes=len(reasons))
    assert failed == [len(events) - 1], "one error, and nothing behind it"
    assert not reasons, "a failed stream has finished"
    code, message = _gemini_error(events[-1])
    return Verdict(ending="failed", text=text, code=code, message=message)


def _gemini_body(answer: Answer) -> Verdict:
    (candidate,) = _json(answer)["candidates"]
    assert candidate["finishReason"], "an answer without an end"
    parts = candidate.get("content", {}).get("parts", ())
    text = "".join(part.get("text", "") for part in parts)
    return Verdict(ending=_finished(candidate["finishReason"]), text=text, calls=_gemini_calls(parts))


def _gemini_calls(parts: Any) -> list[tuple[str, str]]:
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    return [(call["name"], json.dumps(call.get("args", {}))) for call in calls]


def _finished(reason: str) -> str:
    return "completed" if reason == "STOP" else "incomplete"


# -- sound and vectors -----------------------------------------------------------------------------------------------


def _speech_request(model: str, prompt: str, stream: bool, more: dict[str, Any]) -> bytes:
    form_of_it = "sse" if stream else "audio"
    asked = {"model": model, "input": prompt, "voice": "alloy", "response_format": "pcm", "stream_format": form_of_it}
    return _post("/v1/audio/speech", {**asked, **more})


def _speech_stream(answer: Answer) -> Verdict:
    frames = _frames(answer)
    events = [frame.json for frame in frames if frame.data != b"[DONE]"]
    audio = [event["audio"] for event in events if event.get("type") == "speech.audio.delta"]
    sound = base64.b64encode(b"".join(map(base64.b64decode, audio))).decode()
    if "error" in events[-1]:
        assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
        assert frames[-1].data != b"[DONE]"
        code, message = _openai_error(events[-1]["error"])
        return Verdict(ending="failed", text=sound, code=code, message=message)
    assert [event["type"] for event in events] == ["speech.audio.delta"] * len(audio) + ["speech.audio.done"]
    assert frames[-1].data == b"[DONE]"
    return Verdict(ending="completed", text=sound)


def _speech_body(answer: Answer) -> Verdict:
    """Raw audio, which has no room for an error: where it breaks, its connection does."""
    assert answer.headers["content-type"].startswith("audio/")
    return Verdict(
        ending="completed" if answer.whole else "cut",
        text=base64.b64encode(answer.body).decode(),
    )


def _transcription_request(model: str, prompt: str, stream: bool, more: dict[str, Any]) -> bytes:
    fields = {"stream": "true" if stream else "false", **more}
    return upload(form(b"sound" * 40, model=model, prompt=prompt, **fields))


def _transcription_stream(answer: Answer) -> Verdict:
    frames = _frames(answer)
    events = [frame.json for frame in frames if frame.data != b"[DONE]"]
    text = "".join(event["delta"] for event in events if event.get("type") == "transcript.text.delta")
    if "error" in events[-1]:
        assert [event["type"] for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
        assert frames[-1].data != b"[DONE]"
        code, message = _openai_error(events[-1]["error"])
        return Verdict(ending="failed", text=text, code=code, message=message)
    assert [event["type"] for event in events] == ["transcript.text.delta"] * (len(events) - 1) + [
        "transcript.text.done"
    ]
    assert events[-1]["text"] == text
    return Verdict(ending="completed", text=text)


def _transcription_body(answer: Answer) -> Verdict:
    return Verdict(ending="completed", text=_json(answer)["text"])


def _embeddings_request(model: str, prompt: str, _stream: bool, more: dict[str, Any]) -> bytes:
    return _post("/v1/embeddings", {"model": model, "input": prompt, **more})


def _embeddings_body(answer: Answer) -> Verdict:
    body = _json(answer)
    (one,) = body["data"]
    return Verdict(ending="completed", text=json.dumps(one["embedding"]))


def _no_stream(_answer: Answer) -> Verdict:
    raise AssertionError("there is no such stream")


# -- all of them -----------------------------------------------------------------------------------------------------


def _post(path: str, body: dict[str, Any]) -> bytes:
    return post(json.dumps(body).encode(), path=path)


def _frames(answer: Answer) -> list[Frame]:
    """The frames of a stream that is well-formed HTTP and well-formed SSE whatever became of the answer, by WHATWG's rules."""
    assert answer.whole, "the HTTP message of the stream was cut"
    assert answer.headers["content-type"] == SSE_TYPE
    text = answer.body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert text.endswith(b"\n\n"), text[-200:]
    frames = []
    for raw in text.split(b"\n\n")[:-1]:
        fields: dict[bytes, list[bytes]] = {}
        for line in raw.split(b"\n"):
            name, _, value = line.partition(b":")
            fields.setdefault(name, []).append(value.removeprefix(b" "))
        if b"data" in fields:
            event = fields.get(b"event", [b""])[-1].decode()
            frames.append(Frame(raw + b"\n\n", event, b"\n".join(fields[b"data"])))
    return frames


def _json(answer: Answer) -> Any:
    assert answer.whole
    assert answer.headers["content-type"].startswith(JSON_TYPE)
    return json.loads(answer.body)


CLIENTS: Final = {
    "responses": Client(_responses_request, _openai_refused, _responses_stream, _responses_body),
    "chat": Client(_chat_request, _openai_refused, _choices_stream, _choices_body),
    "completions": Client(_completions_request, _openai_refused, _choices_stream, _choices_body),
    "messages": Client(_messages_request, _messages_refused, _messages_stream, _messages_body),
    "gemini": Client(_gemini_request, _gemini_refused, _gemini_stream, _gemini_body),
    "speech": Client(_speech_request, _openai_refused, _speech_stream, _speech_body),
    "transcription": Client(_transcription_request, _openai_refused, _transcription_stream, _transcription_body),
    "embeddings": Client(_embeddings_request, _openai_refused, _no_stream, _embeddings_body),
}
