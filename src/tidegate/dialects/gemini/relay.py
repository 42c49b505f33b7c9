"""Gemini to Gemini: Google's chunks go on untouched, and are only read for how they end and what they cost."""

from typing import Annotated, Literal

import msgspec

from tidegate.dialects.dialect import Answer, Call, Destination, Outcome, estimated_usage
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.gemini.answer import CANDIDATE_LIMIT, Figures, ending, error_body, is_ending, read_usage
from tidegate.dialects.gemini.chunk import Candidate, Chunk, Content, without_figures
from tidegate.dialects.gemini.framing import Framing
from tidegate.dialects.relay import Relay
from tidegate.dialects.usage import MOST_TOKENS
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, WireError
from tidegate.wire.events import Usage, estimate_tokens

__all__ = ["GeminiRelay", "complete_answer"]


class _Part(msgspec.Struct, gc=False, rename="camel"):
    """All that a part of a forwarded chunk is asked for."""

    text: str | None = None
    function_call: msgspec.Raw = jsonio.EMPTY


class _Names(msgspec.Struct, rename="camel"):
    model_version: str | None = None
    response_id: str | None = None


_chunk = jsonio.decoder(Chunk[Candidate[_Part]])
_names = jsonio.decoder(_Names)


class _Reader:
    """What the chunks of one answer have said so far."""

    __slots__ = ("_choices", "_counted", "_finished", "_provider", "_seen", "_told", "size", "status")

    def __init__(self, provider: str, choices: int) -> None:
        self._provider = provider
        self._choices = choices
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self.status = "completed"
        self._told: Figures | None = None
        self._counted = 0
        """What was said when those figures came."""
        self.size = 0

    @property
    def complete(self) -> bool:
        return len(self._finished) >= max(self._choices, len(self._seen))

    def usage(self, call: Call) -> Usage:
        """The provider's figures; of an answer that is not complete those so far, with an estimate where nobody has counted
        what was said."""
        if self._told is None:
            return estimated_usage(call, self.size)
        told = read_usage(self._told)
        uncounted = self.size - self._counted if told.output_tokens else self.size
        if self.complete or not uncounted:
            return told
        output = told.output_tokens + estimate_tokens(uncounted)
        return msgspec.structs.replace(told, output_tokens=output, estimated=True)

    def read(self, data: bytes) -> None:
        """Raises WireError for what is no chunk, and TidegateError for an error in its place."""
        try:
            if not data.isascii():
                data.decode()
            chunk = _chunk.decode(data)
        except jsonio.UNREADABLE as error:
            found = without_figures(data, _chunk)
            if found is None:
                raise WireError(f"a chunk of the answer cannot be read: {error}") from None
            chunk = found
        if chunk.error and not jsonio.is_null(chunk.error):
            raise from_error_object(chunk.error, self._provider)
        for candidate in chunk.candidates or ():
            self._read_candidate(candidate)
        told = chunk.usage_metadata
        if told is not None and told.counted:
            self._told, self._counted = told, self.size
        feedback = chunk.prompt_feedback
        if feedback is not None and is_ending(feedback.block_reason) and not chunk.candidates:
            self._finished.update(range(self._choices))
            self.status = "incomplete"

    def _read_candidate(self, candidate: Candidate[_Part]) -> None:
        index = candidate.index or 0
        if not 0 <= index < CANDIDATE_LIMIT:
            raise WireError(f"a chunk has a candidate with index {index}")
        self._seen.add(index)
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                text = part.text
                if text:
                    self.size += len(text) if text.isascii() else len(text.encode())
                self.size += len(part.function_call)
        given = candidate.finish_reason
        if given is None or not is_ending(given):
            return
        reason = ending(given, candidate.finish_message or "", self._provider)
        if isinstance(reason, TidegateError):
            raise reason
        self._finished.add(index)
        if reason in ("length", "content_filter"):
            self.status = "incomplete"


class GeminiRelay(Relay):
    """See :class:`tidegate.dialects.dialect.Stream`. Google's stream has no last frame: it is complete when the body ends
    and every candidate has said why it finished."""

    __slots__ = ("_choices", "_first", "_framing", "_reader", "content_type")

    def __init__(self, call: Call, framing: Framing, *, choices: int = 1) -> None:
        self._framing = framing
        self.content_type = framing.content_type
        self._choices = choices
        super().__init__(call)

    def _begin(self) -> None:
        super()._begin()
        self._reader = _Reader(self._provider, self._choices)
        self._first = b""
        """The first chunk that went out."""

    def hand_over(self) -> tuple[str, str]:
        """The model and the id that the answer has named, for a :class:`GeminiEncoder` to go on with."""
        try:
            names = jsonio.decode(self._first, _names)
        except jsonio.UNREADABLE:
            return "", ""
        return names.model_version or "", names.response_id or ""

    def ping(self) -> bytes:
        return self._framing.ping()

    def fail(self, error: TidegateError) -> bytes:
        self.outcome = Outcome("failed", error)
        return self._framing.frame(error_body(error)) + self._framing.end()

    def usage(self) -> Usage:
        return self._reader.usage(self._call)

    # -- one frame ----------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame) -> bytes:
        if self.outcome is not None:
            return b""
        if not frame.data:
            return self._framing.relay(frame) if self.committed else b""
        if frame.data.strip() == b"[DONE]":
            return b""  # proxies in front of Google add it
        try:
            self._reader.read(frame.data)
        except TidegateError as error:
            return self._failed(error)
        if not self.committed:
            self.committed = True
            self._first = frame.data
        return self._framing.relay(frame)

    @property
    def _whole(self) -> bool:
        return self._reader.complete

    def _end(self) -> bytes:
        self.outcome = Outcome(self._reader.status)
        return self._framing.end()


_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _PlainShare(msgspec.Struct, gc=False, rename="camel"):
    modality: Literal["TEXT"]


class _PlainUsage(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
    tool_use_prompt_token_count: _Count = 0
    candidates_token_count: _Count = 0
    thoughts_token_count: _Count = 0
    cached_content_token_count: _Count = 0
    prompt_tokens_details: list[_PlainShare] = []
    candidates_tokens_details: list[_PlainShare] = []


class _PlainCandidate(msgspec.Struct, gc=False, rename="camel"):
    content: Content[_Part]
    finish_reason: Literal["STOP", "MAX_TOKENS"]
    index: Literal[0] = 0


class _Plain(msgspec.Struct, gc=False, rename="camel"):
    """An answer in text, of which nothing is missing or odd: it decodes as this, which costs a third of looking for faults."""

    candidates: Annotated[list[_PlainCandidate], msgspec.Meta(min_length=1, max_length=1)]
    usage_metadata: _PlainUsage
    error: None = None


_plain = jsonio.decoder(_Plain)


def _as_it_came(body: bytes) -> Answer | None:
    """The answer with its one candidate, as nearly every one is; else None."""
    try:
        jsonio.check_utf8(body)
        answer = _plain.decode(body)
    except (jsonio.InvalidJSON, *jsonio.UNREADABLE):
        return None
    found = answer.usage_metadata
    thoughts = found.thoughts_token_count
    usage = Usage(
        found.prompt_token_count + found.tool_use_prompt_token_count,
        found.candidates_token_count + thoughts,
        found.cached_content_token_count,
        reasoning_tokens=thoughts,
    )
    return Answer(body, usage, "completed" if answer.candidates[0].finish_reason == "STOP" else "incomplete")


def complete_answer(body: bytes, call: Call, destination: Destination, *, choices: int = 1) -> Answer:
    """An answer that came as one body (see `WholeRequest.complete`). It goes on as it is."""
    plain = _as_it_came(body) if choices == 1 else None
    if plain is not None:
        return plain
    reader = _Reader(destination.provider, choices)
    reader.read(body)
    if not reader.complete:
        raise WireError("the provider's answer has no finish reason")
    return Answer(body, reader.usage(call), reader.status)
