"""The client's body of `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`.

Model and streaming stand in the address, and so does the form of the stream (`alt`).
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tidegate.dialects.dialect import Answer, Call, Destination, refuse_unsupported
from tidegate.dialects.extent import Extent, is_remarkable, may_name_files, reads, surcharge
from tidegate.dialects.gemini.canonical import canonical, check
from tidegate.dialects.gemini.encoder import GeminiEncoder, encode_answer
from tidegate.dialects.gemini.foreign import without_envelopes
from tidegate.dialects.gemini.framing import ArrayFraming, Framing, SseFraming
from tidegate.dialects.gemini.relay import GeminiRelay, complete_answer
from tidegate.dialects.gemini.schema import (
    Content,
    FunctionCall,
    FunctionCallingConfig,
    FunctionDeclaration,
    FunctionResponse,
    GeminiBody,
    GenerationConfig,
    Part,
    ThinkingConfig,
    Tool,
    ToolConfig,
    listed,
)
from tidegate.dialects.gemini.spelling import as_written, camel_case, told_as_written
from tidegate.dialects.validation import invalid, missing, parse, parse_plain
from tidegate.wire import jsonio
from tidegate.wire.items import CanonicalRequest, Output

__all__ = ["GeminiRequest", "parse_plain_request", "parse_request"]


class _PlainCall(FunctionCall, forbid_unknown_fields=True):
    pass


class _PlainResponse(FunctionResponse, rename="camel", forbid_unknown_fields=True):
    parts: None = None


class _PlainPart(Part, rename="camel", forbid_unknown_fields=True):
    inline_data: None = None
    file_data: None = None
    function_call: _PlainCall | None = None
    function_response: _PlainResponse | None = None


class _PlainContent(Content, forbid_unknown_fields=True):
    parts: Annotated[list[_PlainPart], Meta(min_length=1)]  # type: ignore[assignment]


class _PlainDeclaration(FunctionDeclaration, rename="camel", forbid_unknown_fields=True):
    pass


class _PlainTool(Tool, rename="camel", forbid_unknown_fields=True):
    function_declarations: list[_PlainDeclaration] | None = None  # type: ignore[assignment]


class _PlainCalling(FunctionCallingConfig, rename="camel", forbid_unknown_fields=True):
    pass


class _PlainToolConfig(ToolConfig, rename="camel", forbid_unknown_fields=True):
    function_calling_config: _PlainCalling | None = None


class _PlainThinking(ThinkingConfig, rename="camel", forbid_unknown_fields=True):
    pass


class _PlainConfig(GenerationConfig, rename="camel", forbid_unknown_fields=True):
    thinking_config: _PlainThinking | None = None


class _PlainSafety(msgspec.Struct, forbid_unknown_fields=True):
    category: str
    threshold: str
    method: str | None = None


class _PlainBody(GeminiBody, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A body in camel case that is text and functions of the client's, and nothing that could cost more: see the one of
    chat. Names in other spellings stand at most where any names may."""

    contents: Annotated[list[_PlainContent], Meta(min_length=1)]  # type: ignore[assignment]
    system_instruction: _PlainContent | str | None = None
    tools: list[_PlainTool] | None = None  # type: ignore[assignment]
    tool_config: _PlainToolConfig | None = None
    generation_config: _PlainConfig | None = None
    safety_settings: list[_PlainSafety] | None = None  # type: ignore[assignment]
    cached_content: None = None
    service_tier: None = None


_decoder = jsonio.decoder(GeminiBody)
_plain = jsonio.decoder(_PlainBody)
_ALTS: Final = ("", "json", "sse")


_LIMITS: Final = (
    (b'"generation_config"', b'"generationConfig"'),
    (b'"max_output_tokens"', b'"maxOutputTokens"'),
    (b'"candidate_count"', b'"candidateCount"'),
)


class GeminiRequest:
    """A validated request of this dialect."""

    __slots__ = ("_array", "_body", "_camel", "dropped", "model", "stream", "typed")

    def __init__(self, body: bytes, camel: bytes, typed: GeminiBody, model: str, *, stream: bool, array: bool) -> None:
        """`camel` is `body` in camel case. `array`: the stream is one JSON array instead of events."""
        self._body = body
        self._camel = camel
        self._array = array
        self.dropped: tuple[str, ...] = ()
        self.typed = typed
        self.model: str | None = model or None
        self.stream: bool | None = stream

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def is_array(self) -> bool:
        """Whether the stream is one JSON array."""
        return self.wants_stream and self._array

    @property
    def wants_stop(self) -> bool:
        config = self.typed.generation_config
        return config is not None and bool(config.stop_sequences)

    @property
    def end_user(self) -> str | None:
        return None

    @property
    def affinity(self) -> str:
        return ""

    @property
    def extent(self) -> Extent:
        config = self.typed.generation_config
        if config is None:
            return Extent()
        return Extent(config.max_output_tokens, config.candidate_count or 1)

    def is_remarkable(self, names_files: bool) -> bool:
        if isinstance(self.typed, _PlainBody):
            return names_files and may_name_files(self._body)
        return is_remarkable(self._body)

    def reads(self) -> int | None:
        return reads(self._body)

    def surcharge(self) -> str | None:
        return surcharge(self._body)

    def forward(self, destination: Destination) -> bytes:
        """The body as it came: model and method stand in the address. What sets a limit in both spellings goes on in one."""
        body = self._body
        if self._camel is not body and any(one in body and other in body for one, other in _LIMITS):
            body = self._camel
        members = jsonio.members(body)
        self.dropped = ()
        named = "model" in members
        contents, left_out = without_envelopes(body, destination.model)
        if not named and contents is None and destination.refuses.isdisjoint(members):
            return body
        if named:
            members["model"] = jsonio.raw(f"models/{destination.model}")
        if contents is not None:
            members["contents"] = contents
        self.dropped = (*(("thoughtSignature",) if left_out else ()), *refuse_unsupported(members, destination))
        return jsonio.encode(members)

    def open(self, call: Call) -> GeminiRelay:
        return GeminiRelay(call, self._framing(), choices=self._choices)

    def complete(self, body: bytes, call: Call, destination: Destination) -> Answer:
        return complete_answer(body, call, destination, choices=self._choices)

    def canonical(self) -> CanonicalRequest:
        with told_as_written(self._body, self._camel):
            request = canonical(self._camel, self.typed, self.model or "", stream=self.wants_stream)
        if self._camel is not self._body:
            request.names = {ours: as_written(theirs, self._body) for ours, theirs in request.names.items()}
            request.hints = tuple(as_written(name, self._body) for name in request.hints)
            request.refused = tuple(as_written(name, self._body) for name in request.refused)
        return request

    def encoder(self, call: Call) -> GeminiEncoder:
        return GeminiEncoder(call, self._framing(), thoughts=self._thoughts)

    def encode_answer(self, output: Output, call: Call, destination: Destination) -> bytes:
        return encode_answer(output, call, destination, thoughts=self._thoughts)

    def _framing(self) -> Framing:
        return ArrayFraming() if self._array else SseFraming()

    @property
    def _thoughts(self) -> bool:
        config = self.typed.generation_config
        thinking = config.thinking_config if config is not None else None
        return thinking is not None and thinking.include_thoughts is True

    @property
    def _choices(self) -> int:
        config = self.typed.generation_config
        return (config.candidate_count if config is not None else None) or 1


def parse_plain_request(body: bytes, *, model: str, stream: bool, alt: str) -> GeminiRequest | None:
    """See :class:`tidegate.dialects.dialect.Dialect`."""
    typed = parse_plain(body, _plain) if alt in _ALTS else None
    if typed is None:
        return None
    check(typed)
    return GeminiRequest(body, body, typed, model, stream=stream, array=alt != "sse")


def parse_request(body: bytes, *, model: str, stream: bool, alt: str) -> GeminiRequest:
    """Decode and validate. Raises InvalidRequest."""
    if alt not in _ALTS:
        raise invalid("alt", f"{alt[:64]!r} is not offered; expected 'sse' or 'json'.")
    camel = camel_case(body)
    with told_as_written(body, camel):
        typed = parse(camel, _decoder)
        if not listed(typed.contents):
            raise invalid("contents", "expected at least one content.")
        for place, content in enumerate(listed(typed.contents)):
            if not listed(content.parts):
                raise missing(f"contents[{place}].parts")
        check(typed)
    return GeminiRequest(body, camel, typed, model, stream=stream, array=alt != "sse")
