"""Google's `generateContent` answers → canonical events (protocol §5.2)."""

import hashlib
from itertools import pairwise
from typing import Any

import msgspec

from tidegate.dialects.chat.unwrap import Unwrapper
from tidegate.dialects.dialect import Destination
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.gemini.answer import CANDIDATE_LIMIT, Figures, ending, is_ending, read_usage
from tidegate.dialects.gemini.chunk import Candidate, Chunk, without_figures
from tidegate.dialects.gemini.grounding import Said, annotations
from tidegate.dialects.gemini.searching import call_of, grounded_search, response_to, search_item
from tidegate.wire import jsonio, sse
from tidegate.wire.errors import TidegateError, UpstreamBroken, WireError
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    MediaDelta,
    MessageEnd,
    Opaque,
    Ping,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    Seal,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    UsageReport,
)
from tidegate.wire.items import CanonicalRequest, HostedTool, Tool

__all__ = ["OPAQUE_PREFIX", "GeminiDecoder", "call_id", "decode_answer"]

OPAQUE_PREFIX = "google:"
"""Begins the type of an item that holds a part as Google has it, under `part`."""

_BESIDE = frozenset({"thought", "thoughtSignature", "partMetadata"})
"""Members of a part that are not its content."""

CALL_ID_LIMIT = 64
"""Characters of a call's id that every API takes (protocol §1.4)."""


class _Blob(msgspec.Struct, gc=False, rename="camel"):
    mime_type: str = "application/octet-stream"
    data: str = ""


class _FunctionCall(msgspec.Struct, gc=False):
    name: str = ""
    args: msgspec.Raw = jsonio.EMPTY
    id: str | None = None


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None
    inline_data: _Blob | None = None


class _Candidate(Candidate[_Part], gc=False, rename="camel"):
    grounding_metadata: msgspec.Raw = jsonio.EMPTY
    citation_metadata: msgspec.Raw = jsonio.EMPTY
    logprobs_result: msgspec.Raw = jsonio.EMPTY


class _Chunk(Chunk[_Candidate], gc=False, rename="camel"):
    model_version: str | None = None
    response_id: str | None = None


class _RawContent(msgspec.Struct, gc=False):
    parts: list[jsonio.Members] | None = None


class _RawCandidate(msgspec.Struct, gc=False):
    content: _RawContent | None = None


class _RawChunk(msgspec.Struct, gc=False):
    candidates: list[_RawCandidate] | None = None


class _Code(msgspec.Struct):
    code: str = ""


class _CodeResult(msgspec.Struct):
    outcome: str = ""
    output: str = ""


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float | None = None


class _TopTokens(msgspec.Struct):
    candidates: list[_Token] | None = None


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_TopTokens] | None = None


_chunk = jsonio.decoder(_Chunk)
_raw_chunk = jsonio.decoder(_RawChunk)
_code = jsonio.decoder(_Code)
_code_result = jsonio.decoder(_CodeResult)
_logprobs = jsonio.decoder(_Logprobs)


class _CandidateState:
    """What has been heard of one candidate."""

    __slots__ = (
        "ascii",
        "behind",
        "calls",
        "characters",
        "citations",
        "code",
        "grounding",
        "message_at",
        "message_open",
        "part_kind",
        "parts",
        "reason",
        "reasoning_open",
        "search",
        "searched",
        "stop_message",
        "texts",
    )

    def __init__(self, *, keep_text: bool) -> None:
        self.reasoning_open = False
        self.message_open = False
        self.message_at = 0
        """Characters of the messages before the last one."""
        self.behind = ""
        """A signature behind the open message. It waits for sources, which may come last."""
        self.calls = 0
        self.reason = ""
        self.stop_message = ""
        self.grounding = jsonio.EMPTY
        self.citations = jsonio.EMPTY
        self.code: tuple[str, str] | None = None
        """Id and source of a piece of code whose result has not come yet."""
        self.search: tuple[str, list[jsonio.Members]] | None = None
        """Id and parts of a search whose result has not come yet."""
        self.searched = False
        self.characters = 0
        self.ascii = True
        self.texts: list[str] | None = [] if keep_text else None
        """The text of all messages, where positions in it will be asked for."""
        self.parts: list[int] = []
        """Characters of the messages before each part of Google's, where `texts` are kept."""
        self.part_kind: bool | None = None
        """Whether the last part is a thought; None where it is no text at all."""

    def open_message(self) -> None:
        if not self.message_open:
            self.message_open = True
            self.message_at = self.characters

    def begin_part(self, part: _Part, *, first: bool) -> None:
        """The `first` part of a chunk goes on with the last one of the chunk before, if both are text of one kind."""
        kind = None if part.text is None else part.thought is True
        if not first or kind is None or kind is not self.part_kind:
            self.parts.append(self.characters)
        self.part_kind = kind

    def all_said(self) -> Said:
        text = None if self.texts is None else "".join(self.texts)
        parts = list(pairwise([*self.parts, self.characters]))
        return Said(text, self.ascii, (self.message_at, self.characters), parts)

    def said(self, text: str) -> None:
        self.characters += len(text)
        self.ascii = self.ascii and text.isascii()
        if self.texts is not None:
            self.texts.append(text)


class GeminiDecoder:
    """See :class:`tidegate.dialects.codec.StreamDecoder`. Google's stream has no last frame: it is complete when the body
    ends and every candidate has said why it finished."""

    __slots__ = (
        "_body",
        "_calls",
        "_candidates",
        "_choices",
        "_custom",
        "_decoder",
        "_destination",
        "_ended",
        "_id",
        "_keep_text",
        "_sniffed",
        "_started",
        "_told",
        "_unreported",
        "_whole",
    )

    def __init__(self, destination: Destination, request: CanonicalRequest) -> None:
        self._destination = destination
        self._custom = frozenset(tool.name for tool in request.tools if isinstance(tool, Tool) and tool.custom)
        self._keep_text = any(isinstance(tool, HostedTool) for tool in request.tools)
        self._choices = request.n
        self._decoder = sse.FrameDecoder()
        self._body: bytearray | None = None
        self._sniffed = False
        self._whole = False
        self._candidates: dict[int, _CandidateState] = {}
        self._calls = 0
        self._started = False
        self._ended = False
        self._id = ""
        self._told: Figures | None = None
        """The figures that came last."""
        self._unreported = False
        """No event has them yet, and nothing was said since they came."""

    def feed(self, data: bytes) -> list[Event]:
        if self._ended:
            return []
        if not self._sniffed:
            self._sniff(data)
        if self._body is not None:
            return self._buffer(data)
        out: list[Event] = []
        try:
            frames = self._decoder.feed(data)
        except sse.FrameError as error:
            self._read_frames(error.frames, out)
            return self._broken(str(error), out)
        self._read_frames(frames, out)
        return out

    def eof(self) -> list[Event]:
        out: list[Event] = []
        if self._ended:
            return out
        if self._body is not None:
            return self.whole(bytes(self._body))
        tail = self._decoder.eof()
        if tail is not None and _is_chunk(tail.data):
            self._read_frames([tail], out)
        return self._finish(out)

    def unreported(self) -> list[Event]:
        return [UsageReport(read_usage(self._told))] if self._unreported and self._told is not None else []

    def whole(self, body: bytes) -> list[Event]:
        """The events of an answer that came as one body: an object, or an array of chunks. Nothing else is fed."""
        out: list[Event] = []
        self._whole = True
        self._read_body(body, out)
        return self._finish(out)

    # -- a body instead of frames -------------------------------------------------------------------------------

    def _sniff(self, data: bytes) -> None:
        """Without `alt=sse` Google streams the elements of one JSON array, and so it reports errors, too."""
        text = data.lstrip()
        if text:
            self._sniffed = True
            if text[:1] in (b"[", b"{"):
                self._body = bytearray()

    def _buffer(self, data: bytes) -> list[Event]:
        assert self._body is not None
        self._body += data
        if len(self._body) > sse.FRAME_LIMIT:
            return self._broken(f"its answer is longer than {sse.FRAME_LIMIT} bytes", [])
        return []

    def _read_body(self, body: bytes, out: list[Event]) -> None:
        try:
            elements = jsonio.elements(body) if body.lstrip()[:1] == b"[" else [msgspec.Raw(body)]
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
            self._broken(f"its answer cannot be read: {error}", out)
            return
        for element in elements:
            if not self._ended:
                self._read(bytes(element), out)

    # -- one chunk ----------------------------------------------------------------------------------------------

    def _read_frames(self, frames: list[sse.Frame], out: list[Event]) -> None:
        for frame in frames:
            data = frame.data
            if self._ended:
                return
            if data:
                self._read(data, out)
            else:
                out.append(Ping())

    def _read(self, data: bytes, out: list[Event]) -> None:
        try:
            if not data.isascii():
                data.decode()
            chunk = _chunk.decode(data)
        except jsonio.UNREADABLE as error:
            if data.strip() == b"[DONE]":
                return  # proxies in front of Google add it
            found = without_figures(data, _chunk)
            if found is None:
                self._broken(f"a chunk of the answer cannot be read: {error}", out)
                return
            chunk = found
        if chunk.error and not jsonio.is_null(chunk.error):
            self._fail(from_error_object(chunk.error, self._destination.provider), out)
            return
        if not self._started:
            self._started = True
            out.append(Started(chunk.model_version or ""))
        if chunk.response_id and not self._id:
            self._id = chunk.response_id
        told = chunk.usage_metadata
        if told is None or told == self._told or not told.counted:
            told = None
            if self._unreported:
                self._report(out)  # before more is said, of which those so far know nothing
        try:
            for place, candidate in enumerate(chunk.candidates or ()):
                self._read_candidate(place, candidate, data, out)
        except WireError as error:
            self._broken(str(error), out)
            return
        feedback = chunk.prompt_feedback
        if feedback is not None and is_ending(feedback.block_reason) and not chunk.candidates:
            for choice in range(self._choices):
                self._state(choice).reason = "SAFETY"
        if told is not None:
            self._told = told
            self._unreported = True

    def _report(self, out: list[Event]) -> None:
        out += self.unreported()
        self._unreported = False

    def _state(self, choice: int) -> _CandidateState:
        """Raises WireError for a candidate that there cannot be."""
        state = self._candidates.get(choice)
        if state is None:
            if not 0 <= choice < CANDIDATE_LIMIT:
                raise WireError(f"a chunk has a candidate with index {choice}")
            state = self._candidates[choice] = _CandidateState(keep_text=self._keep_text or self._whole)
        return state

    def _read_candidate(self, place: int, candidate: _Candidate, data: bytes, out: list[Event]) -> None:
        choice = candidate.index or 0
        state = self._candidates.get(choice) or self._state(choice)
        content = candidate.content
        if content is not None and content.parts:
            logprobs = _read_logprobs(candidate.logprobs_result) if candidate.logprobs_result else None
            for number, part in enumerate(content.parts):
                text = part.text
                if state.texts is not None:
                    state.begin_part(part, first=number == 0)
                if text and part.thought is not True and part.thought_signature is None:
                    # by far the most frequent part
                    if state.behind or not state.message_open:
                        self._close_reasoning(choice, state, "", "", out)
                        state.open_message()
                    state.said(text)
                    out.append(TextDelta(text, choice, logprobs))
                    logprobs = None
                else:
                    logprobs = self._read_part(choice, state, part, logprobs, (data, place, number), out)
        if candidate.grounding_metadata:
            state.grounding = candidate.grounding_metadata
        if candidate.citation_metadata:
            state.citations = candidate.citation_metadata
        reason = candidate.finish_reason
        if reason is not None and is_ending(reason) and state.reason in ("", "STOP"):  # what is cut stays cut
            state.reason = reason
            state.stop_message = candidate.finish_message or ""

    def _read_part(
        self,
        choice: int,
        state: _CandidateState,
        part: _Part,
        logprobs: list[msgspec.Raw] | None,
        where: tuple[bytes, int, int],
        out: list[Event],
    ) -> list[msgspec.Raw] | None:
        """Anything but plain text. Returns `logprobs` unless they went out with a text."""
        signature = part.thought_signature or ""
        if part.function_call is not None:
            self._read_call(choice, state, part.function_call, signature, where[0], out)
        elif (blob := part.inline_data) is not None and blob.mime_type.startswith("image/"):
            self._close_reasoning(choice, state, signature, "media", out)
            out.append(MediaDelta(blob.mime_type, blob.data, choice))
            state.message_open = False  # a text behind it is another's
            out.append(MessageEnd(choice))
        elif part.text is None:
            self._read_opaque(choice, state, signature, where, out)
        elif part.thought is True:
            if part.text:
                self._flush(state, out)
                self._begin_reasoning(choice, state, out)
                out.append(ReasoningDelta(part.text, kind="summary", choice=choice))
            if signature:
                self._begin_reasoning(choice, state, out)
                state.reasoning_open = False
                seal = Seal(kind="thought_signature", data=signature, text=part.text, anchor="thought")
                out.append(ReasoningEnd(seal=seal, choice=choice))
        elif part.text:
            self._flush_behind(choice, state, out)
            if state.message_open:  # the message's earlier pieces are out: the signature follows it
                state.behind = signature
            else:
                self._close_reasoning(choice, state, signature, "text", out)
                state.open_message()
            state.said(part.text)
            out.append(TextDelta(part.text, choice, logprobs))
            return None
        elif signature:
            self._sign_text(choice, state, signature, out)
        return logprobs

    def _sign_text(self, choice: int, state: _CandidateState, signature: str, out: list[Event]) -> None:
        """A signature that came alone: behind the text, or before one that may come."""
        self._flush_behind(choice, state, out)
        if state.message_open:
            state.behind = signature
        else:
            self._close_reasoning(choice, state, signature, "text", out)

    def _begin_reasoning(self, choice: int, state: _CandidateState, out: list[Event]) -> None:
        self._flush_behind(choice, state, out)
        self._end_message(choice, state, out)
        state.reasoning_open = True

    def _end_message(self, choice: int, state: _CandidateState, out: list[Event]) -> None:
        if state.message_open:
            state.message_open = False
            out.append(MessageEnd(choice))

    def _flush_behind(self, choice: int, state: _CandidateState, out: list[Event]) -> None:
        if state.behind:
            seal = Seal(kind="thought_signature", data=state.behind, anchor="behind")
            state.behind = ""
            self._begin_reasoning(choice, state, out)
            state.reasoning_open = False
            out.append(ReasoningEnd(seal=seal, choice=choice))

    def _close_reasoning(
        self, choice: int, state: _CandidateState, signature: str, anchor: str, out: list[Event], call: str = ""
    ) -> None:
        """The end of the open reasoning, and of one without text where only a signature is to be kept (protocol §5.4)."""
        self._flush_behind(choice, state, out)
        if signature:
            self._begin_reasoning(choice, state, out)
            seal = Seal(kind="thought_signature", data=signature, call_id=call, anchor=anchor)
            out.append(ReasoningEnd(seal=seal, choice=choice))
        elif state.reasoning_open:
            out.append(ReasoningEnd(choice=choice))
        state.reasoning_open = False

    def _read_call(
        self, choice: int, state: _CandidateState, call: _FunctionCall, signature: str, data: bytes, out: list[Event]
    ) -> None:
        if not call.name:
            raise WireError("the answer has a function call without a name")
        state.calls += 1
        index = self._calls
        self._calls += 1
        ours = call.id if call.id and len(call.id) <= CALL_ID_LIMIT else call_id(self._id.encode() or data, index)
        self._flush(state, out)
        self._close_reasoning(choice, state, signature, "", out, ours)
        self._end_message(choice, state, out)  # places in a text behind the call are counted from there
        arguments = b"{}" if jsonio.is_null(call.args) else bytes(call.args)
        if b"\n" in arguments:
            arguments = msgspec.json.format(arguments, indent=-1)  # a whole body is laid out for people
        custom = call.name in self._custom
        text = _free_text(arguments) if custom else arguments.decode()
        out.append(ToolCallStart(index, ours, call.name, custom=custom, choice=choice))
        if text:
            out.append(ToolCallDelta(index, text))
        out.append(ToolCallEnd(index))

    def _read_opaque(
        self, choice: int, state: _CandidateState, signature: str, where: tuple[bytes, int, int], out: list[Event]
    ) -> None:
        """Code that Google ran becomes the item that Responses has for it; a part of an unknown kind is kept as it is."""
        data, place, number = where
        candidates = _raw_chunk.decode(data).candidates or []
        content = candidates[place].content
        part = (content.parts or [])[number] if content is not None else {}
        if self._read_search(choice, state, part, out):
            return
        code, result = part.get("executableCode"), part.get("codeExecutionResult")
        try:
            if code is not None and not signature:
                self._flush(state, out)
                self._close_reasoning(choice, state, "", "", out)
                self._end_message(choice, state, out)
                state.code = ("ci_" + self._derived(data, number), _code.decode(code).code)
                return
            if result is not None and state.code is not None and not signature:
                read = _code_result.decode(result)
                out.append(
                    _code_item(state.code, read.output, "completed" if read.outcome == "OUTCOME_OK" else "failed")
                )
                state.code = None
                return
        except jsonio.UNREADABLE:
            state.code = None  # kept as the part that it is
        names = [name for name, value in part.items() if name not in _BESIDE and not jsonio.is_null(value)]
        if names:
            self._flush(state, out)
            self._close_reasoning(choice, state, "", "", out)
            self._end_message(choice, state, out)
            item = {
                "type": OPAQUE_PREFIX + names[0],
                "id": "gg_" + self._derived(data, number),
                "status": "completed",
                "part": part,
            }
            out.append(Opaque(OPAQUE_PREFIX + names[0], jsonio.raw(item)))
        elif signature:
            self._sign_text(choice, state, signature, out)

    def _read_search(self, choice: int, state: _CandidateState, part: jsonio.Members, out: list[Event]) -> bool:
        """Whether the part is half of a search; the two become one item, with the parts in it as they came."""
        if (own := call_of(part)) is not None:
            self._flush(state, out)
            self._close_reasoning(choice, state, "", "", out)
            self._end_message(choice, state, out)
            state.search = (own, [part])
        elif (own := response_to(part)) is not None:
            if state.search is None or state.search[0] != own:
                self._flush(state, out)
                self._close_reasoning(choice, state, "", "", out)
                self._end_message(choice, state, out)
                state.search = (own, [])
            state.search[1].append(part)
            self._flush(state, out)
        return own is not None

    def _flush(self, state: _CandidateState, out: list[Event]) -> None:
        """What waits for its result goes out without."""
        if state.code is not None:
            out.append(_code_item(state.code, None, "completed"))
            state.code = None
        if state.search is not None:
            own, parts = state.search
            made = own or hashlib.sha256(jsonio.encode(parts)).hexdigest()[:48]
            out.append(Opaque("web_search_call", search_item(made, parts)))
            state.search = None
            state.searched = True

    def _derived(self, data: bytes, number: int) -> str:
        return hashlib.sha256(b"%b:%d" % (data, number)).hexdigest()[:48]

    # -- endings ------------------------------------------------------------------------------------------------

    def _finish(self, out: list[Event]) -> list[Event]:
        if self._ended:
            return out
        self._report(out)
        finished = sum(bool(state.reason) for state in self._candidates.values())
        if finished < max(self._choices, len(self._candidates), 1):
            what = "its answer has no finish reason" if self._whole else "the stream ended without a finish reason"
            return self._broken(what, out)
        ends: list[tuple[int, _CandidateState, Reason]] = []
        for choice, state in sorted(self._candidates.items()):
            reason = ending(state.reason, state.stop_message, self._destination.provider)
            if isinstance(reason, TidegateError):
                return self._fail(reason, out)
            ends.append((choice, state, "tool_calls" if reason == "stop" and state.calls else reason))
        for choice, state, reason in ends:
            self._flush(state, out)
            if state.reasoning_open:
                out.append(ReasoningEnd(choice=choice))
            if state.message_open or state.characters:
                for value in annotations(state.grounding, state.citations, state.all_said()):
                    out.append(Annotation(value, choice))
            self._flush_behind(choice, state, out)
            searched = None if state.searched else grounded_search(state.grounding, f"{self._id}:{choice}")
            if searched is not None:
                out.append(Opaque("web_search_call", searched))
            out.append(ChoiceEnd(reason, choice))
        self._ended = True
        out.append(Finished())
        return out

    def _broken(self, why: str, out: list[Event]) -> list[Event]:
        return self._fail(UpstreamBroken(f"Provider '{self._destination.provider}': {why}."), out)

    def _fail(self, error: TidegateError, out: list[Event]) -> list[Event]:
        if not self._ended:
            self._ended = True
            self._report(out)
            out.append(Failed(error))
        return out


def decode_answer(body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
    """An answer in one body (see `UpstreamDialect.decode_answer`), also one that came as a JSON array of chunks."""
    out = GeminiDecoder(destination, request).whole(body)
    last = out[-1]
    if isinstance(last, Failed):
        if isinstance(last.error, UpstreamBroken):
            raise WireError(last.error.message.removeprefix(f"Provider '{destination.provider}': ").removesuffix("."))
        raise last.error
    return out


def _is_chunk(data: bytes) -> bool:
    try:
        _chunk.decode(data)
    except jsonio.UNREADABLE:
        return without_figures(data, _chunk) is not None
    return True


def call_id(source: bytes, index: int) -> str:
    """An id for a call that has none: the same for the same answer, and unlike that of any other."""
    return "call_" + hashlib.sha256(b"%b:%d" % (source, index)).hexdigest()[:24]


def _free_text(arguments: bytes) -> str:
    """The input of a custom tool, which the model was told to put under `input`."""
    unwrapper = Unwrapper()
    return unwrapper.feed(arguments.decode()) + unwrapper.eof()


def _code_item(code: tuple[str, str], logs: str | None, status: str) -> Opaque:
    outputs = None if logs is None else [{"type": "logs", "logs": logs}]
    item = {
        "type": "code_interpreter_call",
        "id": code[0],
        "status": status,
        "code": code[1],
        "container_id": f"cntr_{code[0].removeprefix('ci_')}",  # clients expect one; Google keeps none
        "outputs": outputs,
    }
    return Opaque("code_interpreter_call", jsonio.raw(item))


def _read_logprobs(result: msgspec.Raw) -> list[msgspec.Raw] | None:
    """`logprobsResult` as entries of chat and Responses; None when it cannot be read."""
    try:
        found = _logprobs.decode(result)
    except jsonio.UNREADABLE:
        return None
    tops = found.top_candidates or []
    entries = []
    for place, chosen in enumerate(found.chosen_candidates or ()):
        entry = _token(chosen)
        listed = (tops[place].candidates or []) if place < len(tops) else []
        entry["top_logprobs"] = [_token(one) for one in listed]
        entries.append(jsonio.raw(entry))
    return entries or None


def _token(token: _Token) -> dict[str, Any]:
    logprob = -9999.0 if token.log_probability is None else token.log_probability
    return {"token": token.token, "logprob": logprob, "bytes": list(token.token.encode())}
