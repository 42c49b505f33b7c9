"""The client's body of `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`.

Model and streaming stand in the address, and so does the form of the stream (`alt`).
"""

import base64
from typing import Any

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, refuse_unsupported
from tidegate.dialects.envelope import PREFIX, Envelopes
from tidegate.dialects.gemini.canonical import canonical, check, opaque_text
from tidegate.dialects.gemini.contents import FOREIGN_SIGNATURE
from tidegate.dialects.gemini.encoder import GeminiEncoder, encode_answer
from tidegate.dialects.gemini.framing import ArrayFraming, Framing, SseFraming
from tidegate.dialects.gemini.relay import GeminiRelay, complete_answer
from tidegate.dialects.gemini.schema import GeminiBody, listed
from tidegate.dialects.gemini.spelling import camel_case
from tidegate.dialects.validation import invalid, missing, parse
from tidegate.wire import jsonio
from tidegate.wire.items import CanonicalRequest, Output

__all__ = ["GeminiRequest", "parse_request"]

_decoder = jsonio.decoder(GeminiBody)


class GeminiRequest:
    """A validated request of this dialect."""

    __slots__ = ("_array", "_body", "_camel", "dropped", "envelopes", "model", "stream", "typed")

    def __init__(self, body: bytes, camel: bytes, typed: GeminiBody, model: str, *, stream: bool, array: bool) -> None:
        """`camel` is `body` in camel case. `array`: the stream is one JSON array instead of events."""
        self._body = body
        self._camel = camel
        self._array = array
        self.dropped: tuple[str, ...] = ()
        self.envelopes: Envelopes | None = None
        self.typed = typed
        self.model: str | None = model or None
        self.stream: bool | None = stream

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_stop(self) -> bool:
        config = self.typed.generation_config
        return config is not None and bool(config.stop_sequences)

    @property
    def end_user(self) -> str | None:
        return None

    def forward(self, destination: Destination) -> bytes:
        """The body as it came: model and method stand in the address."""
        body, left_out = self._body, ()  # type: bytes, tuple[str, ...]
        if _ENVELOPED in body:
            body, left_out = _without_envelopes(self._camel)
        members = jsonio.members(body)
        self.dropped = left_out
        named = "model" in members
        if not named and destination.refuses.isdisjoint(members):
            return body
        if named:
            members["model"] = jsonio.raw(f"models/{destination.model}")
        self.dropped = (*left_out, *refuse_unsupported(members, destination))
        return jsonio.encode(members)

    def open(self, call: Call) -> GeminiRelay:
        return GeminiRelay(call, self._framing(), choices=self._choices)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        return complete_answer(body, call, destination, choices=self._choices)

    def canonical(self) -> CanonicalRequest:
        return canonical(self._camel, self.typed, self.model or "", stream=self.wants_stream)

    def encoder(self, call: Call) -> GeminiEncoder:
        return GeminiEncoder(call, self._framing())

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        return encode_answer(output, call, destination)

    def _framing(self) -> Framing:
        return ArrayFraming() if self._array else SseFraming()

    @property
    def _choices(self) -> int:
        config = self.typed.generation_config
        return (config.candidate_count if config is not None else None) or 1


def parse_request(body: bytes, *, model: str, stream: bool, alt: str) -> GeminiRequest:
    """Decode and validate. Raises InvalidRequest."""
    if alt not in ("", "json", "sse"):
        raise invalid("alt", f"{alt[:64]!r} is not offered; expected 'sse' or 'json'.")
    camel = camel_case(body)
    typed = parse(camel, _decoder)
    if not listed(typed.contents):
        raise invalid("contents", "expected at least one content.")
    for place, content in enumerate(listed(typed.contents)):
        if not listed(content.parts):
            raise missing(f"contents[{place}].parts")
    check(typed)
    return GeminiRequest(body, camel, typed, model, stream=stream, array=alt != "sse")


_ENVELOPED = base64.b64encode(PREFIX.encode())[:6]
"""How an envelope begins as a signature, which is base64 in this API: the last of its letters depends on what follows."""


def _without_envelopes(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The body without signatures that stand in envelopes of ours: Google would refuse them. A call of another model gets
    the word that Google documents for it (protocol §5.4)."""
    members = jsonio.members(body)
    contents: list[Any] = []
    for content in jsonio.elements(members["contents"]):
        whole = jsonio.members(content)
        if "parts" in whole:
            whole["parts"] = jsonio.raw([_without_envelope(part) for part in jsonio.elements(whole["parts"])])
        contents.append(whole)
    return jsonio.encode({**members, "contents": contents}), ("thoughtSignature",)


def _without_envelope(part: msgspec.Raw) -> msgspec.Raw:
    if not opaque_text(jsonio.decode(part, _signed).thoughtSignature).startswith(PREFIX):
        return part
    members = jsonio.members(part)
    del members["thoughtSignature"]
    if "functionCall" in members:
        members["thoughtSignature"] = jsonio.raw(FOREIGN_SIGNATURE)
    return jsonio.raw(members)


class _Signed(msgspec.Struct):
    thoughtSignature: str | None = None  # noqa: N815 - Google's own name


_signed = jsonio.decoder(_Signed)
