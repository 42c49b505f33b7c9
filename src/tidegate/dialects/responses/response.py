"""The response object: one owner for its envelope, whatever the upstream sends."""

from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.responses import nulls
from tidegate.dialects.responses.chat_body import as_chat_completion
from tidegate.dialects.responses.repair import repaired_output
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError, WireError
from tidegate.wire.events import Usage

if TYPE_CHECKING:
    from tidegate.dialects.responses.request import ResponsesRequest

__all__ = ["Envelope", "ResponseEnd", "complete", "finish", "is_cut", "read_usage"]

_DOCUMENTED: dict[str, Any] = {
    "id": None,
    "object": "response",
    "created_at": None,
    "status": "in_progress",
    "background": False,
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": None,
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "usage": None,
    "user": None,
    "metadata": {},
}
_DEFAULTS: jsonio.Members = {name: jsonio.raw(value) for name, value in _DOCUMENTED.items()}
"""A response object with every documented member at its documented default (protocol §1.3)."""

_ECHOED = frozenset(_DEFAULTS) - {
    "id", "object", "created_at", "status", "completed_at", "error", "incomplete_details", "output", "usage", "store",
    "background", "service_tier",
}  # fmt: skip
"""Members of the request that the response repeats."""

_OWNED = frozenset({"id", "object", "created_at", "status", "store", "completed_at", "usage", "output"})
"""Members that are never taken over as the upstream sends them."""

_REPORTED = frozenset({"error", "incomplete_details"})
"""All that is taken over from an upstream whose object is only filled in."""

_text_of = jsonio.decoder(str)
_count = jsonio.decoder(float)


class ResponseEnd(msgspec.Struct, frozen=True):
    """What the terminal object of an upstream says."""

    body: bytes
    status: str
    usage: Usage


class _Details(msgspec.Struct):
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    reasoning_tokens: float | None = None


class _UsageObject(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Part(msgspec.Struct):
    type: str = ""
    annotations: msgspec.Raw = jsonio.EMPTY


class _Message(msgspec.Struct):
    type: str
    content: list[_Part]


_usage = jsonio.decoder(_UsageObject)
_list = jsonio.decoder(list[msgspec.Raw])
_message = jsonio.decoder(_Message)


class Envelope:
    """Makes every snapshot of one response: ours are id, times, status, store and usage; the rest is what the upstream
    says, else what the client asked, else the documented default."""

    __slots__ = ("_base", "_call", "_request", "keep_upstream_identity", "trust_echo")

    def __init__(self, request: "ResponsesRequest", call: Call) -> None:
        self._request = request
        self._call = call
        self._base: jsonio.Members | None = None
        self.keep_upstream_identity = False
        self.trust_echo = True

    def snapshot(
        self,
        upstream: jsonio.Members | None,
        status: str,
        *,
        model: str,
        output: msgspec.Raw | None = None,
        usage: Usage | None = None,
        completed_at: int | None = None,
        error: msgspec.Raw | None = None,
        incomplete_reason: str | None = None,
    ) -> bytes:
        """The whole response object as JSON."""
        content = dict(self._base or self._make_base())
        if upstream is not None and not self.trust_echo:
            upstream = {name: upstream[name] for name in _REPORTED & upstream.keys()}
        if upstream is not None:
            for name, value in upstream.items():
                if name not in _OWNED and (value != jsonio.NULL or name not in content):
                    content[name] = value
        if content["model"] == jsonio.NULL or upstream is None or "model" not in upstream:
            content["model"] = jsonio.raw(model)
        if self.keep_upstream_identity and upstream is not None:
            for name in ("id", "store"):
                if name in upstream:
                    content[name] = upstream[name]
        content["status"] = jsonio.raw(status)
        if output is not None:
            content["output"] = output
        if usage is not None:
            content["usage"] = usage.as_responses()
        if completed_at is not None:
            content["completed_at"] = jsonio.raw(completed_at)
        if error is not None:
            content["error"] = error
        if incomplete_reason is not None and content["incomplete_details"] == jsonio.NULL:
            content["incomplete_details"] = jsonio.raw({"reason": incomplete_reason})
        if self._call.profile.strict_nulls:
            return nulls.strip(jsonio.encode(content))
        return jsonio.encode(content)

    @property
    def output_limit(self) -> int | None:
        """The `max_output_tokens` that the client set."""
        return self._request.typed.max_output_tokens

    def _make_base(self) -> jsonio.Members:
        base = dict(_DEFAULTS)
        for name, value in self._request.members.items():
            if name in _ECHOED and value != jsonio.NULL:
                base[name] = value
        text = self._request.typed.text
        if text is not None and text.format is None:
            base["text"] = _merged(_DEFAULTS["text"], base["text"])
        if self._request.typed.reasoning is not None:
            base["reasoning"] = _merged(_DEFAULTS["reasoning"], base["reasoning"])
        base["id"] = jsonio.raw(self._call.response_id)
        base["created_at"] = jsonio.raw(self._call.created_at)
        self._base = base
        return base


def read_usage(value: msgspec.Raw) -> Usage | None:
    """The figures of a `usage` object; None when there are none to speak of."""
    try:
        found = jsonio.decode(value, _usage)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None
    if found.input_tokens is None and found.output_tokens is None:
        return None
    given = found.input_tokens_details or _Details()
    taken = found.output_tokens_details or _Details()
    return Usage(
        input_tokens=_whole(found.input_tokens),
        output_tokens=_whole(found.output_tokens),
        cached_tokens=_whole(given.cached_tokens),
        cache_write_tokens=_whole(given.cache_write_tokens),
        reasoning_tokens=_whole(taken.reasoning_tokens),
    )


def finish(
    upstream: jsonio.Members,
    status: str,
    envelope: Envelope,
    *,
    destination: Destination,
    done_items: list[msgspec.Raw],
    call: Call,
    output_bytes: int,
) -> ResponseEnd:
    """The terminal object of a real ending. `output_bytes` is the size of the deltas seen, for an estimate of usage.

    Raises WireError when `output` is no array.
    """
    output = upstream.get("output", jsonio.NULL)
    if (output == jsonio.NULL or bytes(output) == b"[]") and done_items:
        output = jsonio.raw(done_items)
    elif output == jsonio.NULL:
        output = jsonio.raw([])
    output = _with_annotations(output)
    usage = read_usage(upstream.get("usage", jsonio.NULL)) or estimated_usage(
        call.request_bytes, output_bytes or len(output)
    )
    reason = None
    if status == "completed" and is_cut(usage, envelope, destination):
        status = "incomplete"
    if status == "incomplete":
        reason = "max_output_tokens"
    completed_at = None
    if status == "completed":
        completed_at = _seconds(upstream.get("completed_at", jsonio.NULL)) or call.wall_clock()
    body = envelope.snapshot(
        upstream,
        status,
        model=destination.model,
        output=output,
        usage=usage,
        completed_at=completed_at,
        incomplete_reason=reason,
    )
    return ResponseEnd(body, status, usage)


def is_cut(usage: Usage | None, envelope: Envelope, destination: Destination) -> bool:
    """Whether an answer that says `completed` was cut by the token limit, where a provider does not tell."""
    if usage is None or usage.estimated or not destination.cut_reported_as_completed:
        return False
    if envelope.output_limit is not None:
        return usage.output_tokens >= envelope.output_limit
    return usage.output_tokens == destination.quirks.output_limit


def complete(body: bytes, envelope: Envelope, call: Call, destination: Destination) -> Answer:
    """A response that came as one body (see `Request.complete`)."""
    try:
        upstream = jsonio.members(body)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer is not a JSON object: {error}") from None
    problem = upstream.get("error", jsonio.NULL)
    given = upstream.get("status", jsonio.NULL)
    status = "completed" if given == jsonio.NULL else _string(given)
    if "output" not in upstream:
        if problem != jsonio.NULL:
            raise from_error_object(problem, destination.provider)
        raise WireError("the provider's answer is not a response object: it has no 'output'")
    if status == "failed":
        raise _failure(problem, destination)
    if status not in ("completed", "incomplete"):
        raise WireError(f"the provider's answer has status {status!r}, which is no ending")
    envelope.keep_upstream_identity = not destination.gateway_state
    envelope.trust_echo = destination.quirks.echoes_request
    if destination.quirks.loose_items:
        cut = is_cut(read_usage(upstream.get("usage", jsonio.NULL)), envelope, destination)
        try:
            upstream["output"] = jsonio.raw(repaired_output(upstream["output"], cut=cut))
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            raise WireError(f"the items of the provider's answer cannot be read: {error}") from None
    end = finish(
        upstream,
        status,
        envelope,
        destination=destination,
        done_items=[],
        call=call,
        output_bytes=0,
    )
    shown = end.body
    if call.profile.responses_as_chat:
        shown = as_chat_completion(shown)
    return Answer(shown, end.usage, end.status)


def _failure(problem: msgspec.Raw, destination: Destination) -> TidegateError:
    return from_error_object(
        b'{"message":"the answer failed"}' if problem == jsonio.NULL else problem, destination.provider
    )


def _with_annotations(output: msgspec.Raw) -> msgspec.Raw:
    """`output` as it is, but with an array of annotations on every text, which some engines leave out (S51)."""
    try:
        items = jsonio.decode(output, _list)
    except jsonio.SchemaMismatch:
        raise WireError("the provider's answer has an 'output' that is no array") from None
    mended = False
    for index, item in enumerate(items):
        try:
            message = jsonio.decode(item, _message)
        except jsonio.SchemaMismatch:
            continue
        if any(part.type == "output_text" and jsonio.is_null(part.annotations) for part in message.content):
            content = jsonio.members(item)
            parts = [jsonio.members(part) for part in jsonio.decode(content["content"], _list)]
            for part, known in zip(parts, message.content, strict=True):
                if known.type == "output_text" and jsonio.is_null(known.annotations):
                    part["annotations"] = _NO_ANNOTATIONS
            content["content"] = jsonio.raw(parts)
            items[index] = jsonio.raw(content)
            mended = True
    return jsonio.raw(items) if mended else output


_NO_ANNOTATIONS = jsonio.raw([])


def _merged(default: msgspec.Raw, given: msgspec.Raw) -> msgspec.Raw:
    return jsonio.raw({**jsonio.members(default), **jsonio.members(given)})


def _string(value: msgspec.Raw) -> str | None:
    try:
        return jsonio.decode(value, _text_of)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return None


def _seconds(value: msgspec.Raw) -> int | None:
    """Whole seconds, whatever number the upstream sends (S45)."""
    try:
        return int(jsonio.decode(value, _count))
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch, OverflowError, ValueError):
        return None


def _whole(value: float | None) -> int:
    return max(0, int(value)) if value is not None else 0
