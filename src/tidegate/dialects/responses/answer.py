"""A response that came as one body."""

from typing import TYPE_CHECKING

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.responses.ending import ending, finish, is_cut
from tidegate.dialects.responses.envelope import Envelope, fill_in
from tidegate.dialects.responses.plain import (
    MEMBERS,
    PlainResponse,
    decode_items,
    decode_response,
    decode_response_alone,
    decode_usage,
)
from tidegate.dialects.responses.repair import repaired_output
from tidegate.dialects.responses.sealing import sealed_output
from tidegate.dialects.responses.state import NO_ITEMS, Apart
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError
from tidegate.wire.events import Usage

if TYPE_CHECKING:
    from tidegate.dialects.responses.request import ResponsesRequest

__all__ = ["complete"]


def complete(body: bytes, request: "ResponsesRequest", call: Call, destination: Destination) -> Answer:
    """A response that came as one body (see `WholeRequest.complete`)."""
    try:
        jsonio.check_utf8(body)
        if _may_be_plain(request, call, destination):
            plain = _as_it_came(body, request, call)
            if plain is not None:
                return plain
        return _looked_through(body, Envelope(request, call), call, destination, request.envelopes)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None


def _may_be_plain(request: "ResponsesRequest", call: Call, destination: Destination) -> bool:
    """Whether nothing but the envelope has to be ours, unless the answer is odd."""
    quirks = destination.quirks
    return (
        destination.gateway_state
        and not destination.cut_reported_as_completed
        and quirks.echoes_request
        and not (quirks.loose_items or quirks.model_suffix)
        and not (call.profile.strict_nulls or request.tells_conversation)
    )


def _looked_through(
    body: bytes, envelope: Envelope, call: Call, destination: Destination, envelopes: Envelopes | None
) -> Answer:
    upstream = jsonio.members(body)
    status = ending(upstream, destination.provider)
    envelope.keep_upstream_identity = not destination.gateway_state
    envelope.trust_echo = destination.quirks.echoes_request
    if destination.quirks.loose_items:
        cut = is_cut(read_usage_object(upstream.get("usage", jsonio.NULL)), envelope, destination)
        upstream["output"] = jsonio.raw(repaired_output(upstream["output"], cut=cut))
    if envelopes is not None and destination.gateway_state:
        upstream["output"] = sealed_output(upstream["output"], envelopes, destination)
    end = finish(upstream, status, envelope, destination=destination, sent_items=[], call=call, output_bytes=0)
    return Answer(end.body, end.usage, end.status)


def _as_it_came(body: bytes, request: "ResponsesRequest", call: Call) -> Answer | None:
    """The answer when only the envelope has to be ours, as nearly always; else None."""
    others = b""
    try:
        try:
            answer = decode_response_alone(body)
        except msgspec.ValidationError:
            answer = decode_response(body)
            strange = {name: value for name, value in jsonio.members(body).items() if name not in MEMBERS}
            others = jsonio.encode(strange)[1:]
        items = decode_items(answer.output)
        found = decode_usage(answer.usage)
    except jsonio.UNREADABLE:
        return None
    for item in items:
        if item.encrypted_content:
            return None
        if item.type == "message":
            if item.status == "incomplete" or item.content is None:
                return None
            for part in item.content:
                if part.annotations is None and part.type == "output_text":
                    return None
    given, taken = found.input_tokens, found.output_tokens
    if given + taken != found.total_tokens or not found.total_tokens:
        return None
    read, written = found.input_tokens_details, found.output_tokens_details
    usage = Usage(
        given,
        taken,
        read.cached_tokens,
        read.cache_write_tokens,
        written.reasoning_tokens,
        input_audio_tokens=read.audio_tokens,
        input_image_tokens=read.image_tokens,
        output_audio_tokens=written.audio_tokens,
        output_image_tokens=written.image_tokens,
    )
    fill_in(answer, request, call)
    shown = _with(answer, others)
    kept = request.kept
    if kept is not None:
        output, answer.output = jsonio.elements(answer.output), NO_ITEMS
        named = [(item.id, bytes(content)) for item, content in zip(items, output, strict=True)]
        kept.response, kept.apart = shown, Apart(named, _with(answer, others))
    return Answer(shown, usage, "completed")


def _with(answer: PlainResponse, others: bytes) -> bytes:
    """The object with members beside those, of which the brace is missing that opens them."""
    shown = jsonio.encode(answer)
    return b"%b,%b" % (shown[:-1], others) if others else shown
