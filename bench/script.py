"""The words of the scripted upstream: whole answers and frames of about 270 bytes, as a provider writes them."""

import json
from typing import Any

__all__ = ["STAMP", "WHOLE", "chat_frame", "listing", "opening", "responses_frame"]

STAMP = b'"obfuscation":"'
"""Where a frame carries the time it was written, in nanoseconds of the monotonic clock. Providers pad here."""

_CREATED = 1_790_000_000
_CHAT_ID = "chatcmpl-0123456789abcdef0123456789abc"
_RESPONSE_ID = "resp_" + "0123456789abcdef" * 3
_ITEM_ID = "msg_" + "0123456789abcdef" * 3
_MODEL = "bench-model-2026"
_TEXT = "The outer gate is open at 4.9 m from 18:40 to 21:05 UTC; berth 3 is free. Pilot Hansen is on duty."
_DETAILS = {"cached_tokens": 0}, {"reasoning_tokens": 0}


def _dump(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _response(status: str, output: list[Any]) -> dict[str, Any]:
    done = status == "completed"
    usage = {
        "input_tokens": 120,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 38,
        "output_tokens_details": _DETAILS[1],
        "total_tokens": 158,
    }
    return {
        "id": _RESPONSE_ID,
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "background": False,
        "completed_at": _CREATED + 1 if done else None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": 200,
        "max_tool_calls": None,
        "model": _MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 0.2,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 0.9,
        "truncation": "disabled",
        "usage": usage if done else None,
        "user": None,
        "metadata": {},
    }


def _message(text: str | None) -> dict[str, Any]:
    content = [] if text is None else [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]
    status = "in_progress" if text is None else "completed"
    return {"id": _ITEM_ID, "type": "message", "status": status, "content": content, "role": "assistant"}


WHOLE: dict[str, bytes] = {
    "chat": _dump(
        {
            "id": _CHAT_ID,
            "object": "chat.completion",
            "created": _CREATED,
            "model": _MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": _TEXT, "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 120,
                "completion_tokens": 38,
                "total_tokens": 158,
                "prompt_tokens_details": _DETAILS[0],
                "completion_tokens_details": _DETAILS[1],
            },
            "service_tier": "default",
            "system_fingerprint": "fp_71de6a7e51",
        }
    ),
    "responses": _dump(_response("completed", [_message(_TEXT)])),
}
"""Answers in one body, by dialect."""


def listing() -> bytes:
    """The answer to GET /v1/models: only real models, none of the scripts."""
    return _dump(
        {"object": "list", "data": [{"id": _MODEL, "object": "model", "created": _CREATED, "owned_by": "bench"}]}
    )


_CHAT_HEAD = _dump(
    {
        "id": _CHAT_ID,
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": _MODEL,
        "service_tier": "default",
        "system_fingerprint": "fp_71de6a7e51",
        "choices": [{"index": 0, "delta": {"content": " tide"}, "logprobs": None, "finish_reason": None}],
    }
)[:-1]
_CHAT = b'data: %b,%b%%d"}\n\n' % (_CHAT_HEAD, STAMP)

_DELTA_HEAD = _dump(
    {
        "type": "response.output_text.delta",
        "item_id": _ITEM_ID,
        "output_index": 0,
        "content_index": 0,
        "delta": " tide",
        "logprobs": [],
    }
)[:-1]
_DELTA = b'event: response.output_text.delta\ndata: %b,"sequence_number":%%d,%b%%d"}\n\n' % (_DELTA_HEAD, STAMP)


def chat_frame(now_ns: int) -> bytes:
    """A chat chunk written at `now_ns`."""
    return _CHAT % now_ns


def responses_frame(number: int, now_ns: int) -> bytes:
    """A text delta with sequence number `number`, written at `now_ns`."""
    return _DELTA % (number, now_ns)


def opening(dialect: str, now_ns: int) -> list[bytes]:
    """The frames with which a stream begins. The Responses deltas after them start at sequence number 4."""
    if dialect == "chat":
        return [chat_frame(now_ns)]
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    place = {"item_id": _ITEM_ID, "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {"type": "response.in_progress", "response": _response("in_progress", [])},
        {"type": "response.output_item.added", "output_index": 0, "item": _message(None)},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    return [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _dump({**event, "sequence_number": number}))
        for number, event in enumerate(events)
    ]
