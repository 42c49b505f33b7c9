"""Prompt: what a request says, read the same way from all dialects."""

from collections.abc import Iterable
from typing import Any, Literal, TypeGuard

import msgspec

from tidegate.sim.conversation import check
from tidegate.sim.errors import Refusal
from tidegate.sim.thought import is_encrypted

MAX_CHOICES = 128

Endpoint = Literal["responses", "chat", "completions", "messages", "gemini", "speech", "transcription"]
ENDPOINTS: dict[str, Endpoint] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/messages": "messages",
    "/v1/audio/speech": "speech",
}
"""But for Gemini's, which name the model, and transcription, whose requests are forms (see `upload`)."""
COUNT_PATH = "/v1/messages/count_tokens"


class Tool(msgspec.Struct, frozen=True):
    """A tool that was offered and that the sim can call."""

    name: str
    parameters: dict[str, Any]
    custom: bool = False
    namespace: str = ""
    """The group that it stands in (Responses)."""


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `texts` has one entry, but for completions one for each prompt of the list."""

    endpoint: Endpoint
    model: str
    body: dict[str, Any]
    texts: tuple[str, ...]
    tokens: int
    tools: tuple[Tool, ...] = ()
    tool_result: str | None = None
    n: int = 1
    stops: tuple[str, ...] = ()
    limit: int | None = None
    stream: bool = False
    include_usage: bool = False
    logprobs: int | None = None
    cached: bool = False
    """A breakpoint says that some of it is worth keeping."""


def read_prompt(endpoint: Endpoint, body: bytes) -> Prompt:
    """The request in `body`. Raises Refusal as the provider would: malformed JSON, a missing parameter, a wrong type."""
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"We could not parse the JSON body of your request: {error}.") from None
    if not isinstance(request, dict):
        raise Refusal(400, "We could not parse the JSON body of your request: it is not an object.")
    model = request.get("model")
    if model is None:
        raise _missing("model")
    if not isinstance(model, str):
        raise _invalid("model", "a string")
    if endpoint == "messages":
        return _read_messages(request, model)
    stream = request.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream", "a boolean")
    options = request.get("stream_options")
    include_usage = bool(options.get("include_usage")) if isinstance(options, dict) else False
    if endpoint == "responses":
        texts, result, tokens = _read_responses(request)
        tools = _tools(request, flat=True)
        limit = _positive(request, "max_output_tokens")
        include = request.get("include")
        asked = isinstance(include, list) and "message.output_text.logprobs" in include
        logprobs = (request.get("top_logprobs") or 0) if asked else None
    elif endpoint == "chat":
        texts, result, tokens = _read_chat(request)
        tools = _tools(request, flat=False)
        limit = _positive(request, "max_completion_tokens") or _positive(request, "max_tokens")
        logprobs = (request.get("top_logprobs") or 0) if request.get("logprobs") else None
    else:
        texts, tools, result = _read_completions(request), (), None
        tokens = sum(_count(text) for text in texts)
        limit = _positive(request, "max_tokens")
        logprobs = request.get("logprobs")
    return Prompt(
        endpoint=endpoint,
        model=model,
        body=request,
        texts=texts,
        tokens=max(tokens, 1),
        tools=tools,
        tool_result=result,
        n=_choices(request),
        stops=_stops(request),
        limit=limit,
        stream=bool(stream),
        include_usage=include_usage,
        logprobs=logprobs if isinstance(logprobs, int) else None,
    )


def count_tokens(body: bytes) -> int:
    """The prompt tokens of a Messages request, which needs no `max_tokens` for that. Raises Refusal."""
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"The request body is not valid JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("model"), str):
        raise Refusal(400, "model: Field required")
    return _read_messages({"max_tokens": 1, **request}, request["model"]).tokens


def _read_messages(request: dict[str, Any], model: str) -> Prompt:
    """Raises Refusal in Anthropic's words."""
    for name in ("max_tokens", "messages"):
        if request.get(name) is None:
            raise Refusal(400, f"{name}: Field required")
    limit, messages, stops = request["max_tokens"], request["messages"], request.get("stop_sequences") or []
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise Refusal(400, "max_tokens: Input should be a valid integer greater than or equal to 0")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise Refusal(400, "messages: at least one message is required")
    if not _is_strings(stops):
        raise Refusal(400, "stop_sequences: Input should be a valid list of strings")
    if any(not stop.strip() for stop in stops):
        raise Refusal(400, "stop_sequences: each stop sequence must contain non-whitespace")
    if request.get("thread") is not None:
        details = {"error_code": "thread_unsupported_request", "unsupported": ["hipaa"]}
        raise Refusal(400, "thread: not available for this organization", details=details)
    check(request)
    user = [_content_text(message.get("content")) for message in messages if message.get("role") == "user"]
    last = messages[-1].get("content")
    results = [block for block in last if block.get("type") == "tool_result"] if isinstance(last, list) else []
    said = [_content_text(request.get("system")), *(_all_text(message.get("content")) for message in messages)]
    offered = request.get("tools")
    choice = request.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    wanted = choice.get("name") if isinstance(choice, dict) and kind == "tool" else None
    tools = [
        Tool(tool["name"], tool["input_schema"] if isinstance(tool.get("input_schema"), dict) else {})
        for tool in (offered if isinstance(offered, list) and kind != "none" else [])
        if tool.get("type") in (None, "custom") and wanted in (None, tool.get("name"))
    ]
    return Prompt(
        endpoint="messages",
        model=model,
        body=request,
        texts=(user[-1] if user else "",),
        tokens=max(sum(map(_count, said)), 1),
        tools=tuple(tools),
        tool_result=_content_text(results[-1].get("content")) if results else None,
        stops=tuple(stops),
        limit=limit or None,
        stream=request.get("stream") is True,
        cached=b'"cache_control"' in msgspec.json.encode(request),
    )


def _all_text(content: Any) -> str:
    """The text of a message, with that of its tool results."""
    blocks = content if isinstance(content, list) else []
    inner = [block.get("content") for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    return _content_text(content) + "".join(map(_content_text, inner))


def _missing(name: str) -> Refusal:
    return Refusal(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def _invalid(name: str, wanted: str) -> Refusal:
    return Refusal(400, f"Invalid type for '{name}': expected {wanted}.", param=name, code="invalid_type")


def _positive(request: dict[str, Any], name: str) -> int | None:
    value = request.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _invalid(name, "an integer")
    if value < 1:
        message = f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {value} instead."
        raise Refusal(400, message, param=name, code="integer_below_min_value")
    return value


def _choices(request: dict[str, Any]) -> int:
    n = _positive(request, "n") or 1
    if n > MAX_CHOICES:
        message = f"Invalid 'n': integer above maximum value. Expected a value <= {MAX_CHOICES}, but got {n} instead."
        raise Refusal(400, message, param="n", code="integer_above_max_value")
    return n


def _stops(request: dict[str, Any]) -> tuple[str, ...]:
    stop = request.get("stop")
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,)
    if not _is_strings(stop):
        raise _invalid("stop", "a string or an array of strings")
    return tuple(stop)


def _is_strings(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""


def _count(text: str) -> int:
    """Prompt tokens: one for each four characters begun, about what tokenizers make of English."""
    return -(-len(text) // 4)


def _read_responses(request: dict[str, Any]) -> tuple[tuple[str, ...], str | None, int]:
    given = request.get("input")
    if given is None:
        if request.get("previous_response_id") or request.get("conversation") or request.get("prompt"):
            given = ""
        else:
            raise _missing("input")
    instructions = _count(_content_text(request.get("instructions")))
    if isinstance(given, str):
        return (given,), None, instructions + _count(given)
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise _invalid("input", "a string or an array of items")
    for item in given:
        sealed = item.get("encrypted_content")
        compaction = item.get("type") == "compaction"
        if (compaction or (item.get("type") == "reasoning" and sealed is not None)) and not is_encrypted(sealed):
            message = f"The encrypted content {str(sealed)[:4]}… could not be verified."
            raise Refusal(400, message, code="invalid_encrypted_content")
    user = [_content_text(item.get("content")) for item in given if item.get("role") == "user"]
    said = [_content_text(item.get("content")) + _content_text(item.get("output")) for item in given]
    last = given[-1] if given else {}
    is_result = last.get("type") in ("function_call_output", "custom_tool_call_output")
    return (
        (user[-1] if user else "",),
        _content_text(last.get("output")) if is_result else None,
        instructions + sum(map(_count, said)),
    )


def _read_chat(request: dict[str, Any]) -> tuple[tuple[str, ...], str | None, int]:
    messages = request.get("messages")
    if messages is None:
        raise _missing("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _invalid("messages", "an array of objects")
    if not messages:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise Refusal(400, message, param="messages", code="empty_array")
    said = [_content_text(message.get("content")) for message in messages]
    user = [text for text, message in zip(said, messages, strict=True) if message.get("role") == "user"]
    result = said[-1] if messages[-1].get("role") == "tool" else None
    return (user[-1] if user else "",), result, sum(map(_count, said))


def _read_completions(request: dict[str, Any]) -> tuple[str, ...]:
    given = request.get("prompt")
    if given is None:
        return ("",)
    if isinstance(given, str):
        return (given,)
    if _is_strings(given) and given:
        return tuple(given)
    if isinstance(given, list) and given:
        # Token ids: one prompt, or a list of prompts. The sim has no vocabulary to read them with.
        rows = given if all(isinstance(row, list) for row in given) else [given]
        return tuple(f"[{len(row)} tokens]" for row in rows)
    raise _invalid("prompt", "a string or an array")


def _tools(request: dict[str, Any], *, flat: bool) -> tuple[Tool, ...]:
    choice = request.get("tool_choice")
    if choice == "none":
        return ()
    tools: list[Tool] = []
    for tool, namespace in _offered(request):
        kind = tool.get("type")
        if kind not in ("function", "custom"):
            continue
        shape = tool if flat else tool.get(kind)
        if isinstance(shape, dict) and isinstance(shape.get("name"), str):
            parameters = shape.get("parameters")
            schema = parameters if isinstance(parameters, dict) else {}
            tools.append(Tool(shape["name"], schema, kind == "custom", namespace))
    wanted = _chosen(choice)
    # A named tool is called even if it was not offered first.
    return tuple(tool for tool in tools if wanted in (None, tool.name))


def _offered(request: dict[str, Any]) -> Iterable[tuple[dict[str, Any], str]]:
    """The tools of a request, with the names of their groups: also those that come as an item of the input."""
    lists = [request.get("tools")]
    items = request.get("input")
    if isinstance(items, list):
        lists += [item.get("tools") for item in items if item.get("type") == "additional_tools"]
    for offered in lists:
        for tool in offered if isinstance(offered, list) else ():
            if not isinstance(tool, dict):
                continue
            inner = tool.get("tools")
            if tool.get("type") == "namespace" and isinstance(inner, list):
                yield from ((one, str(tool.get("name"))) for one in inner if isinstance(one, dict))
            else:
                yield tool, ""


def _chosen(choice: Any) -> str | None:
    if not isinstance(choice, dict):
        return None
    shape = choice.get("function") or choice.get("custom") or choice
    name = shape.get("name") if isinstance(shape, dict) else None
    return name if isinstance(name, str) else None
