"""The words of the scripted upstream: whole answers and frames of about 270 bytes, as a provider writes them."""

import json
from typing import Any

__all__ = ["STAMP", "WHOLE", "chat_ending", "delta", "listing", "opening"]

STAMP = b'"obfuscation":"'
"""Where a frame carries the time it was written, in nanoseconds of the monotonic clock. Providers pad here."""

_CREATED = 1_790_000_000
_CHAT_ID = "chatcmpl-0123456789abcdef0123456789abc"
_RESPONSE_ID = "resp_" + "0123456789abcdef" * 3
_ITEM_ID = "msg_" + "0123456789abcdef" * 3
_MODEL = "bench-model-2026"
_MESSAGE_ID = "msg_01" + "0123456789abcdef"
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
    "messages": _dump(
        {
            "id": _MESSAGE_ID,
            "type": "message",
            "role": "assistant",
            "model": _MODEL,
            "content": [{"type": "text", "text": _TEXT}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 120, "output_tokens": 38, "cache_read_input_tokens": 0},
        }
    ),
    "gemini": _dump(
        {
            "candidates": [
                {"content": {"parts": [{"text": _TEXT}], "role": "model"}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {"promptTokenCount": 120, "candidatesTokenCount": 38, "totalTokenCount": 158},
            "modelVersion": _MODEL,
            "responseId": "0123456789abcdefghijkl",
        }
    ),
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


# Deltas of these two are shorter by nature; a longer piece of text brings them to the size of the others.
_PIECE = " the coaster Margarethe passes the outer gate at the turn of the tide, and berths at quay three at nine"

_MESSAGES_HEAD = _dump({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": _PIECE}})[
    :-1
]
_MESSAGES = b'event: content_block_delta\ndata: %b,%b%%d"}\n\n' % (_MESSAGES_HEAD, STAMP)

_GEMINI_HEAD = _dump(
    {
        "candidates": [{"content": {"parts": [{"text": " tide"}], "role": "model"}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 120, "candidatesTokenCount": 1, "totalTokenCount": 121},
        "modelVersion": _MODEL,
        "responseId": "0123456789abcdefghijkl",
    }
)[:-1]
_GEMINI = b'data: %b,%b%%d"}\r\n\r\n' % (_GEMINI_HEAD, STAMP)


def delta(dialect: str, number: int, now_ns: int) -> bytes:
    """The frame of one more piece of text, the `number`th of the stream, written at `now_ns`."""
    if dialect == "responses":
        return _DELTA % (number, now_ns)
    return (_CHAT if dialect == "chat" else _MESSAGES if dialect == "messages" else _GEMINI) % now_ns


def chat_ending() -> bytes:
    """The frames with which a chat stream ends, usage included."""
    common = {"id": _CHAT_ID, "object": "chat.completion.chunk", "created": _CREATED, "model": _MODEL}
    finish = {**common, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 120, "completion_tokens": 38, "total_tokens": 158}
    last = {**common, "choices": [], "usage": usage}
    return b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (_dump(finish), _dump(last))


def opening(dialect: str, now_ns: int) -> list[bytes]:
    """The frames with which a stream begins."""
    if dialect in ("chat", "gemini"):
        return [delta(dialect, 0, now_ns)]
    if dialect == "messages":
        message: dict[str, Any] = {
            "id": _MESSAGE_ID,
            "type": "message",
            "role": "assistant",
            "model": _MODEL,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 120, "output_tokens": 1},
        }
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return [
            b"event: message_start\ndata: %b\n\n" % _dump({"type": "message_start", "message": message}),
            b"event: content_block_start\ndata: %b\n\n" % _dump(block),
            delta(dialect, 2, now_ns),
        ]
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
    ] + [delta(dialect, len(events), now_ns)]
