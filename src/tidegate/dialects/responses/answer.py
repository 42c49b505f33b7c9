"""A response that came as one body."""

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination
from tidegate.dialects.envelope import Envelopes
from tidegate.dialects.responses.ending import ending, finish, is_cut
from tidegate.dialects.responses.envelope import DEFAULTS, Envelope
from tidegate.dialects.responses.plain import decode_items, decode_response, decode_response_alone, decode_usage
from tidegate.dialects.responses.repair import repaired_output
from tidegate.dialects.responses.sealing import sealed_output
from tidegate.dialects.usage import read_usage_object
from tidegate.wire import jsonio
from tidegate.wire.errors import WireError
from tidegate.wire.events import Usage

__all__ = ["complete"]


def complete(
    body: bytes, envelope: Envelope, call: Call, destination: Destination, envelopes: Envelopes | None = None
) -> Answer:
    """A response that came as one body (see `WholeRequest.complete`)."""
    try:
        jsonio.check_utf8(body)
        if _may_be_plain(envelope, call, destination):
            plain = _as_it_came(body, envelope)
            if plain is not None:
                return plain
        return _looked_through(body, envelope, call, destination, envelopes)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None


def _may_be_plain(envelope: Envelope, call: Call, destination: Destination) -> bool:
    """Whether nothing but the envelope has to be ours, unless the answer is odd."""
    quirks, profile = destination.quirks, call.profile
    return (
        destination.gateway_state
        and not destination.cut_reported_as_completed
        and quirks.echoes_request
        and not (quirks.loose_items or quirks.model_suffix)
        and not (profile.strict_nulls or envelope.knows_more)
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


def _as_it_came(body: bytes, envelope: Envelope) -> Answer | None:
    """The answer when only the envelope has to be ours, as nearly always; else None."""
    others: jsonio.Members = {}
    try:
        try:
            answer = decode_response_alone(body)
        except msgspec.ValidationError:
            answer = decode_response(body)
            others = {name: value for name, value in jsonio.members(body).items() if name not in DEFAULTS}
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
        input_tokens=given,
        output_tokens=taken,
        cached_tokens=read.cached_tokens,
        cache_write_tokens=read.cache_write_tokens,
        reasoning_tokens=written.reasoning_tokens,
        input_audio_tokens=read.audio_tokens,
        input_image_tokens=read.image_tokens,
        output_audio_tokens=written.audio_tokens,
        output_image_tokens=written.image_tokens,
    )
    shown = envelope.completed(answer)
    if others:
        shown = envelope.keep(b"%b,%b" % (shown[:-1], jsonio.encode(others)[1:]))
    return Answer(shown, usage, "completed")
