"""A finished response in the shape of a chat completion, for clients of APIs that document it so (S66)."""

from typing import Any

from tidegate.wire import jsonio

__all__ = ["as_chat_completion"]


def as_chat_completion(body: bytes) -> bytes:
    """`body` is a terminal response object of ours. One choice for each message item; reasoning and calls go with the
    first. Items of hosted tools have no place in a chat completion. Raises as :func:`jsonio.anything` does."""
    response = jsonio.anything(body)
    messages: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for item in response["output"]:
        match item.get("type"):
            case "message":
                messages.append(_message(item))
            case "function_call":
                function = {"name": item.get("name"), "arguments": item.get("arguments")}
                calls.append({"id": item.get("call_id"), "type": "function", "function": function})
            case "custom_tool_call":
                custom = {"name": item.get("name"), "input": item.get("input")}
                calls.append({"id": item.get("call_id"), "type": "custom", "custom": custom})
            case "reasoning":
                thoughts.append(_joined(item, "content", "text") or _joined(item, "summary", "text"))
    if not messages:
        messages.append({"role": "assistant", "content": None, "refusal": None})
    if any(thoughts):
        messages[0]["reasoning_content"] = "\n\n".join(filter(None, thoughts))
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
    message: dict[str, Any] = {
        "role": "assistant",
        "content": _joined(item, "content", "text", "output_text") or None,
        "refusal": _joined(item, "content", "refusal", "refusal") or None,
    }
    cited = [
        {"type": "url_citation", "url_citation": {name: one[name] for name in one if name != "type"}}
        for part in _parts(item, "content")
        for one in _parts(part, "annotations")
        if one.get("type") == "url_citation"
    ]
    if cited:
        message["annotations"] = cited
    return message


def _parts(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = holder.get(name)
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []


def _joined(item: dict[str, Any], where: str, name: str, kind: str | None = None) -> str:
    found = [part.get(name) for part in _parts(item, where) if kind is None or part.get("type") == kind]
    return "".join(text for text in found if isinstance(text, str))


def _finish_reason(response: dict[str, Any], *, called: bool) -> str:
    if response["status"] == "incomplete":
        details = response.get("incomplete_details") or {}
        return "content_filter" if details.get("reason") == "content_filter" else "length"
    return "tool_calls" if called else "stop"
