"""How an answer ended, and the terminal object that says so."""

from typing import Any

import msgspec

from tidegate.dialects.dialect import Call, Destination, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.responses.envelope import Envelope
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import Usage

__all__ = ["ResponseEnd", "ending", "failure", "finish", "is_cut", "true_status"]


class ResponseEnd(msgspec.Struct, frozen=True):
    """What the terminal object of an upstream says."""

    body: bytes
    status: str
    usage: Usage


def true_status(claimed: str, upstream: jsonio.Members) -> str:
    """`completed`, `incomplete` or `failed`: the worst that any part of the terminal object says (S48, S49)."""
    inner = jsonio.string(upstream.get("status", jsonio.NULL))
    if claimed == "failed" or inner in ("failed", "cancelled") or _is_told(upstream, "error"):
        return "failed"
    if claimed == "incomplete" or inner == "incomplete" or _is_told(upstream, "incomplete_details"):
        return "incomplete"
    for item in _identities(upstream.get("output", jsonio.NULL)):
        if item.type == _MESSAGE and item.status == _INCOMPLETE:
            return "incomplete"
    return "completed"


def ending(upstream: jsonio.Members, provider: str) -> str:
    """`completed` or `incomplete`, for a response object in a body of its own.

    Raises WireError when it is none, and TidegateError for an error, or a failed answer, with status 200.
    """
    if "output" not in upstream:
        if _is_told(upstream, "error"):
            raise failure(upstream, provider)
        raise WireError("the provider's answer is not a response object: it has no 'output'")
    given = upstream.get("status", jsonio.NULL)
    claimed = "completed" if given == jsonio.NULL else jsonio.string(given)
    if claimed not in ("completed", "incomplete", "failed", "cancelled"):
        raise WireError(f"the provider's answer has status '{claimed}', which is no ending")
    status = true_status(claimed, upstream)
    if status == "failed":
        raise failure(upstream, provider)
    return status


def failure(upstream: jsonio.Members, provider: str) -> TidegateError:
    """The error of an answer that says that it failed."""
    problem = upstream.get("error", jsonio.EMPTY)
    if not jsonio.is_blank(problem):
        return from_error_object(problem, provider)
    return UpstreamBroken(f"Provider '{provider}': the answer failed, and no reason was given.")


def finish(
    upstream: jsonio.Members,
    status: str,
    envelope: Envelope,
    *,
    destination: Destination,
    sent_items: list[msgspec.Raw],
    call: Call,
    output_bytes: int,
) -> ResponseEnd:
    """The terminal object of a real ending. `output_bytes` is the size of the deltas seen, for an estimate of usage.

    Raises WireError when the output is none.
    """
    output = _with_annotations(_output(upstream.get("output", jsonio.NULL), sent_items))
    usage = read_usage_object(upstream.get("usage", jsonio.NULL)) or estimated_usage(
        call, output_bytes or _spoken(output)
    )
    if status == "completed" and is_cut(usage, envelope, destination):
        status = "incomplete"
    details = None
    if status == "incomplete":
        details = upstream.get("incomplete_details", jsonio.NULL)
        if not _has_reason(details):
            details = jsonio.raw({"reason": "max_output_tokens"})
    body = envelope.snapshot(
        upstream,
        status,
        model=destination.model,
        output=output,
        usage=usage,
        completed_at=max(call.created_at, call.wall_clock()) if status == "completed" else None,
        incomplete_details=details,
    )
    return ResponseEnd(body, status, usage)


def is_cut(usage: Usage | None, envelope: Envelope, destination: Destination) -> bool:
    """Whether an answer that says `completed` was cut by the token limit, where a provider does not tell."""
    if usage is None or usage.estimated or not destination.cut_reported_as_completed:
        return False
    if envelope.output_limit is not None:
        return usage.output_tokens >= envelope.output_limit
    return usage.output_tokens == destination.quirks.output_limit


# -- reading ----------------------------------------------------------------------------------------------------


class _Identity(msgspec.Struct, gc=False):
    id: msgspec.Raw = jsonio.NULL
    type: msgspec.Raw = jsonio.NULL
    status: msgspec.Raw = jsonio.NULL


_identity = jsonio.decoder(_Identity)
_identity_list = jsonio.decoder(list[_Identity])
_MESSAGE = jsonio.raw("message")
_INCOMPLETE = jsonio.raw("incomplete")


def _identities(output: msgspec.Raw) -> list[_Identity]:
    if output == jsonio.NULL:
        return []
    try:
        return jsonio.decode(output, _identity_list)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"'output' of the provider's answer cannot be read: {error}") from None


def _output(given: msgspec.Raw, sent: list[msgspec.Raw]) -> msgspec.Raw:
    """The final output. Where the terminal object lacks items that were sent, or calls them by other ids, the items as
    they were sent are the truth: clients hold the ids together (protocol §1.7)."""
    listed = _identities(given)
    if sent and len(listed) <= len(sent):
        known = [jsonio.decode(item, _identity) for item in sent]
        if len(listed) < len(known) or any(a.id != b.id for a, b in zip(listed, known, strict=True)):
            return jsonio.raw(sent)
    return jsonio.raw([]) if given == jsonio.NULL else given


class _Part(msgspec.Struct):
    type: str = ""
    annotations: msgspec.Raw = jsonio.EMPTY


class _Message(msgspec.Struct):
    type: str
    content: list[_Part]


_message = jsonio.decoder(_Message)
_NO_ANNOTATIONS = jsonio.raw([])


def _with_annotations(output: msgspec.Raw) -> msgspec.Raw:
    """`output` as it is, but with an array of annotations on every text, which some engines leave out (S51)."""
    items = jsonio.elements(output)
    mended = False
    for index, item in enumerate(items):
        try:
            message = jsonio.decode(item, _message)
        except jsonio.SchemaMismatch:
            continue
        if any(part.type == "output_text" and jsonio.is_null(part.annotations) for part in message.content):
            content = jsonio.members(item)
            parts = [jsonio.members(part) for part in jsonio.elements(content["content"])]
            for part, known in zip(parts, message.content, strict=True):
                if known.type == "output_text" and jsonio.is_null(known.annotations):
                    part["annotations"] = _NO_ANNOTATIONS
            content["content"] = jsonio.raw(parts)
            items[index] = jsonio.raw(content)
            mended = True
    return jsonio.raw(items) if mended else output


_SPOKEN = frozenset({"text", "refusal", "arguments", "input", "code"})


def _spoken(output: msgspec.Raw) -> int:
    """Bytes of text in the output, for an estimate."""
    size = 0
    left: list[Any] = [jsonio.anything(output)]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, str):
                    size += len(inner.encode()) if name in _SPOKEN else 0
                elif name in ("content", "summary"):
                    left.append(inner)
    return size


def _is_told(upstream: jsonio.Members, name: str) -> bool:
    return not jsonio.is_blank(upstream.get(name, jsonio.EMPTY))


class _Reason(msgspec.Struct):
    reason: str


_reason = jsonio.decoder(_Reason)


def _has_reason(details: msgspec.Raw) -> bool:
    try:
        return bool(jsonio.decode(details, _reason).reason)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return False
