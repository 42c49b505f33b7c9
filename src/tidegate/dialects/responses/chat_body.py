"""A finished response in the shape of a chat completion, for clients of APIs that document it so (S66)."""

from typing import Any

from tidegate.wire import jsonio

__all__ = ["as_chat_completion"]


def as_chat_completion(body: bytes) -> bytes:
    """`body` is a terminal response object of ours. One choice for each message item; calls go with the first."""
    response = jsonio.anything(body)
    messages: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for item in response["output"]:
        if item.get("type") == "message":
            messages.append(_message(item))
        elif item.get("type") == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
    if not messages:
        messages.append({"role": "assistant", "content": None, "refusal": None})
    if calls:
        messages[0]["tool_calls"] = calls
    reason = _finish_reason(response, called=bool(calls))
    usage = response["usage"]
    return jsonio.encode(
        {
            "id": response["id"],
            "object": "chat.completion",
            "created": response["created_at"],
            "model": response["model"],
            "choices": [
                {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
                for index, message in enumerate(messages)
            ],
            "usage": {
                "prompt_tokens": usage["input_tokens"],
                "completion_tokens": usage["output_tokens"],
                "total_tokens": usage["total_tokens"],
                "prompt_tokens_details": {"cached_tokens": usage["input_tokens_details"]["cached_tokens"]},
                "completion_tokens_details": {"reasoning_tokens": usage["output_tokens_details"]["reasoning_tokens"]},
            },
        }
    )


def _message(item: dict[str, Any]) -> dict[str, Any]:
    parts = item.get("content") or []
    text = "".join(part.get("text", "") for part in parts if part.get("type") == "output_text")
    refusal = "".join(part.get("refusal", "") for part in parts if part.get("type") == "refusal")
    return {"role": "assistant", "content": text or None, "refusal": refusal or None}


def _finish_reason(response: dict[str, Any], *, called: bool) -> str:
    if response["status"] == "incomplete":
        details = response.get("incomplete_details") or {}
        return "content_filter" if details.get("reason") == "content_filter" else "length"
    return "tool_calls" if called else "stop"
