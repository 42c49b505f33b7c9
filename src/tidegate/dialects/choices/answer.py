"""Whole answers made of choices: forwarded as they are, unless something must be mended."""

from typing import Annotated

import msgspec

from tidegate.dialects.choices.chunk import Kind
from tidegate.dialects.choices.head import head
from tidegate.dialects.choices.mending import is_in_parts, is_whole_usage, mended, whole_usage, with_own_model
from tidegate.dialects.choices.reasons import COMPLETE, FinishReason, is_finish, known_reason
from tidegate.dialects.dialect import Answer, Call, Destination, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.usage import MOST_TOKENS, read_usage_object, with_thoughts
from tidegate.wire import jsonio
from tidegate.wire.errors import UpstreamBroken, WireError
from tidegate.wire.events import Usage

__all__ = ["complete_choices"]


class _WholeChoice(msgspec.Struct, gc=False):
    index: int | None = None
    finish_reason: str | None = None
    message: jsonio.Members | None = None
    text: str | None = None


class _Whole(msgspec.Struct, gc=False):
    """All that an answer in one body is asked for."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_WholeChoice] | None = None
    usage: msgspec.Raw = jsonio.EMPTY
    error: msgspec.Raw = jsonio.EMPTY


_whole = jsonio.decoder(_Whole)


def complete_choices(body: bytes, call: Call, destination: Destination, *, kind: Kind) -> Answer:
    """An answer that came as one body (see `WholeRequest.complete`). Forwarded as it is unless something must be mended."""
    try:
        jsonio.check_utf8(body)
        if not destination.quirks.model_suffix:
            plain = _as_it_came(body, kind)
            if plain is not None:
                return plain
        return _looked_through(body, call, destination, kind)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None


class _PlainMessage(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw = jsonio.NULL
    """Not in parts: that is looked for without making a string of it."""


class _PlainChoice(msgspec.Struct, gc=False):
    index: int
    finish_reason: FinishReason
    message: _PlainMessage | None = None
    text: str | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _PlainDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _PlainDetails | None = None
    completion_tokens_details: _PlainDetails | None = None
    prompt_cache_hit_tokens: _Count | None = None


class _Plain(msgspec.Struct, gc=False):
    """An answer in which nothing is missing or odd: it decodes as this, which costs a third of looking for faults."""

    id: str
    object: str
    created: int
    model: str
    choices: Annotated[list[_PlainChoice], msgspec.Meta(min_length=1)]
    usage: _PlainUsage
    error: None = None


_plain = jsonio.decoder(_Plain)
_NO_DETAILS = _PlainDetails()


def _as_it_came(body: bytes, kind: Kind) -> Answer | None:
    """The answer when it can go on untouched, as nearly every one can; else None."""
    try:
        answer = _plain.decode(body)
    except jsonio.UNREADABLE:
        return None
    status = "completed"
    for choice in answer.choices:
        message = choice.message
        if kind != "chat.completion.chunk":
            if choice.text is None:
                return None
        elif message is None or is_in_parts(message.content):
            return None
        if choice.finish_reason not in COMPLETE:
            status = "incomplete"
    found = answer.usage
    if not (found.prompt_tokens or found.completion_tokens):
        return None
    given = found.prompt_tokens_details or _NO_DETAILS
    taken = found.completion_tokens_details or _NO_DETAILS
    cached = given.cached_tokens
    thoughts = taken.reasoning_tokens or 0
    usage = Usage(
        input_tokens=found.prompt_tokens,
        output_tokens=with_thoughts(found.prompt_tokens, found.completion_tokens, thoughts, found.total_tokens),
        cached_tokens=(cached if cached is not None else found.prompt_cache_hit_tokens) or 0,
        cache_write_tokens=given.cache_write_tokens or 0,
        reasoning_tokens=thoughts,
        input_audio_tokens=given.audio_tokens or 0,
        input_image_tokens=given.image_tokens or 0,
        output_audio_tokens=taken.audio_tokens or 0,
        output_image_tokens=taken.image_tokens or 0,
    )
    return Answer(body, usage, status)


def _looked_through(body: bytes, call: Call, destination: Destination, kind: Kind) -> Answer:
    error = jsonio.members(body).get("error", jsonio.NULL)
    if not jsonio.is_blank(error):
        raise from_error_object(error, destination.provider)
    carrier = "message" if kind == "chat.completion.chunk" else "text"
    fallback = head(call, destination.model, "chat.completion" if carrier == "message" else kind)
    try:
        answer = jsonio.decode(body, _whole)
        whole = body
    except jsonio.SchemaMismatch:
        whole = jsonio.encode(mended(jsonio.members(body), fallback, carrier))
        answer = jsonio.decode(whole, _whole)
    choices = answer.choices
    if not choices:
        raise WireError("the provider's answer has no 'choices'")
    status = "completed"
    odd = answer.id is None or answer.object is None or answer.created is None or answer.model is None
    size = 0
    for choice in choices:
        if choice.message is None and choice.text is None:
            if carrier == "text" or known_reason(choice.finish_reason or "") != "content_filter":
                raise WireError(f"the provider's answer has a choice without '{carrier}'")
            odd = True  # filtered before its first word
        if not choice.finish_reason or not is_finish(choice.finish_reason):
            raise WireError("the provider's answer has a choice without finish_reason")
        reason = known_reason(choice.finish_reason)
        if reason is None:
            raise UpstreamBroken(
                f"Provider '{destination.provider}': it broke the answer off (finish_reason '{choice.finish_reason}')."
            )
        message = choice.message or {}
        odd = odd or reason != choice.finish_reason or choice.index is None
        odd = odd or is_in_parts(message.get("content", jsonio.NULL))
        if reason not in COMPLETE:
            status = "incomplete"
        size += len((choice.text or "").encode())
        for name in ("content", "reasoning_content", "reasoning", "refusal", "tool_calls"):
            value = message.get(name, jsonio.NULL)
            size += 0 if value == jsonio.NULL else len(value) - 2
    usage = read_usage_object(answer.usage)
    if destination.quirks.model_suffix:
        whole = jsonio.encode(with_own_model(jsonio.members(whole), destination))
    if odd:
        whole = jsonio.encode(mended(jsonio.members(whole), fallback, carrier))
    if usage is None:
        usage = estimated_usage(call, size)
        whole = jsonio.encode({**jsonio.members(whole), "usage": usage.as_chat()})
    elif not is_whole_usage(answer.usage):
        whole = jsonio.encode({**jsonio.members(whole), "usage": whole_usage(answer.usage)})
    return Answer(whole, usage, status)
