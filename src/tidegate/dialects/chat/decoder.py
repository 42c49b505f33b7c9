"""Chat streams and chat completions of OpenAI, and of the many servers that nearly follow it → canonical events.

What is put right here (protocol §5.2 "Bridge rules", peers §4a): reasoning under four names or between `<think>` tags,
calls without id or index, names and indexes used twice, the `function_call` of 2023, usage in any chunk, finish reasons
outside the enumeration, numbers as floats, a missing `[DONE]`. Not put right is an answer without an ending: without a
finish reason for every choice it is broken.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidegate.dialects.chat.chunk import (
    Chunk,
    Delta,
    Logprobs,
    ToolCallPiece,
    annotation_of,
    decode_chunk,
    read_loosely,
)
from tidegate.dialects.chat.details import merged_details
from tidegate.dialects.chat.think import ThinkSplitter
from tidegate.dialects.chat.unwrap import Unwrapper
from tidegate.dialects.choices import CHOICE_LIMIT, is_finish, known_reason
from tidegate.dialects.choices.chunk import members_of
from tidegate.dialects.codec import json_object_or_none
from tidegate.dialects.dialect import Destination
from tidegate.dialects.failure import from_error_object
from tidegate.dialects.sources import Spoken, moved
from tidegate.dialects.tiers import served
from tidegate.dialects.usage import UsageObject, read_usage
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
    Ping,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Seal,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tidegate.wire.items import CanonicalRequest, Tool, parse_data_url

__all__ = ["ChatDecoder", "decode_chat_answer"]

_HELD_LIMIT = 32 * 1024 * 1024
"""Bytes of calls and of sealed reasoning that one answer may hold."""

_REASONS: Final[Mapping[str, Reason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "refusal": "refusal",
}


class _Called:
    """One call of the answer."""

    __slots__ = ("custom", "ended", "index", "name", "pieces", "said", "signature", "started", "unwrapper", "wire_id")

    def __init__(self, index: int, wire_id: str) -> None:
        self.index = index
        self.wire_id = wire_id
        self.name = ""
        self.custom = False
        self.unwrapper: Unwrapper | None = None
        self.pieces: list[str] = []
        """The arguments as they came."""
        self.said = False
        """Some of them were more than white space."""
        self.signature = ""
        """What the provider needs back with the call to go on reasoning."""
        self.started = False
        self.ended = False

    def is_complete(self) -> bool:
        if self.custom and self.unwrapper is None:
            return False  # free text has no end of its own
        return json_object_or_none("".join(self.pieces)) is not None


class _Voice:
    """One choice of the answer."""

    __slots__ = ("by_id", "by_index", "called", "calls", "choice", "cited", "details", "last", "logprobs", "message", "reason", "reasoning", "spoke", "spoken", "stopped_by", "think", "thoughts")  # fmt: skip

    def __init__(self, choice: int, *, tags: bool) -> None:
        self.choice = choice
        self.reason: Reason | None = None
        self.stopped_by = ""
        """The stop sequence that matched."""
        self.cited: set[str] = set()
        self.spoke = False
        """Anything was said."""
        self.spoken = Spoken()
        self.think = ThinkSplitter() if tags else None
        self.reasoning = False
        """A reasoning item is open."""
        self.message = False
        """A message is open. Reasoning that is open as well has said no words yet, and comes behind it."""
        self.thoughts: list[str] = []
        self.details: list[Any] = []
        self.logprobs: list[msgspec.Raw] = []
        """Those whose text is not out yet."""
        self.calls: list[_Called] = []
        self.called = False
        """A call was told of, and nothing else was said since."""
        self.by_index: dict[int, _Called] = {}
        self.by_id: dict[str, _Called] = {}
        self.last: _Called | None = None


class ChatDecoder:
    """See :class:`tidegate.dialects.codec.StreamDecoder`.

    The ends of choices are told together with the end of the answer: until then a server may still add to them.
    """

    def __init__(self, destination: Destination, request: CanonicalRequest) -> None:
        quirks = destination.quirks
        self._destination = destination
        self._request = request
        self._tags = not quirks.openai_chat
        self._back = bool(quirks.reasoning_back)
        self._wrapped: frozenset[str] = frozenset()
        if not quirks.openai_chat:
            self._wrapped = frozenset(tool.name for tool in request.tools if isinstance(tool, Tool) and tool.custom)
        self._frames = sse.FrameDecoder()
        self._voices: dict[int, _Voice] = {}
        self._started = False
        self._ended = False
        self._id = ""
        self._usage: Usage | None = None
        self._unreported = False
        """No event has it yet, and nothing was said since it came."""
        self._citations = jsonio.EMPTY
        self._call_count = 0
        self._held = 0

    def feed(self, data: bytes) -> list[Event]:
        out: list[Event] = []
        if self._ended:
            return out
        try:
            frames = self._frames.feed(data)
        except sse.FrameError as error:
            self._read(error.frames, out)
            if not self._ended:
                self._fail(self._broken(str(error)), out)
            return out
        self._read(frames, out)
        return out

    def eof(self) -> list[Event]:
        out: list[Event] = []
        if self._ended:
            return out
        tail = self._frames.eof()
        if tail is None or not self._take_tail(tail, out):
            if self._complete and len(self._voices) >= self._request.n:
                self._finish(out)
            else:
                self._fail(self._broken("the stream ended without a finish reason"), out)
        return out

    def unreported(self) -> list[Event]:
        return [UsageReport(self._usage)] if self._unreported and self._usage is not None else []

    def _report(self, out: list[Event]) -> None:
        out += self.unreported()
        self._unreported = False

    def _take_tail(self, tail: sse.Frame, out: list[Event]) -> bool:
        """A last frame without its blank line counts when it can be read. Whether it ended the answer."""
        try:
            self._frame(tail, out)
        except WireError as error:
            if out:
                self._fail(self._broken(str(error)), out)
        except TidegateError as error:
            self._fail(error, out)
        return self._ended

    def _read(self, frames: list[sse.Frame], out: list[Event]) -> None:
        for frame in frames:
            if self._ended:
                return
            try:
                self._frame(frame, out)
            except WireError as error:
                self._fail(self._broken(str(error)), out)
            except TidegateError as error:
                self._fail(error, out)

    # -- one frame ----------------------------------------------------------------------------------------------

    def _frame(self, frame: sse.Frame, out: list[Event]) -> None:
        data = frame.data
        if not data:
            out.append(Ping())
            return
        if data == b"[DONE]":
            self._on_done(out)
            return
        try:
            chunk = decode_chunk(data)
        except jsonio.UNREADABLE:
            if data.strip() == b"[DONE]":
                self._on_done(out)
                return
            chunk = read_loosely(data)
        if chunk.error and not jsonio.is_blank(chunk.error):
            raise from_error_object(chunk.error, self._destination.provider)
        if chunk.choices is None:
            self._check_choiceless(frame, chunk)
        if not self._started:
            self._start(chunk, data, out)
        self._take(chunk, out)

    def _check_choiceless(self, frame: sse.Frame, chunk: Chunk) -> None:
        """A frame without choices is an error in another wrapping, or a usage frame, or one with nothing to say."""
        if frame.event == b"error" or chunk.object == "error":
            raise from_error_object(frame.data, self._destination.provider)
        if chunk.usage is None and chunk.id is None and chunk.object is None:
            if members_of(frame.data).keys() & {"message", "detail"}:
                raise from_error_object(frame.data, self._destination.provider)
            raise WireError("a chunk of the stream has no 'choices'")

    def _start(self, chunk: Chunk, data: bytes, out: list[Event]) -> None:
        self._started = True
        self._id = chunk.id or ""
        out.append(Started((chunk.model or "").removesuffix(self._destination.quirks.model_suffix)))
        out += served(data)

    def _take(self, chunk: Chunk, out: list[Event]) -> None:
        usage = None if chunk.usage is None else self._news(chunk.usage)
        if self._unreported and usage is None:
            self._report(out)  # before more is said, of which these figures know nothing
        for place, choice in enumerate(chunk.choices or ()):
            index = choice.index
            if index is None or index < 0:
                index = place
            voice = self._voices.get(index)
            if voice is None:
                if len(self._voices) >= CHOICE_LIMIT:
                    raise WireError(f"the answer has more than {CHOICE_LIMIT} choices")
                voice = self._voices[index] = _Voice(index, tags=self._tags)
            if choice.error and not jsonio.is_blank(choice.error):
                raise from_error_object(choice.error, self._destination.provider)
            delta = choice.delta
            if choice.message is not None and not voice.spoke:
                # Some streams end with the whole message; it counts where it is all there is.
                delta = choice.message
            if delta is not None:
                self._take_delta(voice, delta, choice.logprobs, out)
            if choice.finish_reason and is_finish(choice.finish_reason):
                reason = self._reason(choice.finish_reason)
                if voice.reason in (None, "stop", "tool_calls"):  # what is cut stays cut
                    voice.reason = reason
                for matched in (choice.stop_reason, choice.matched_stop):
                    if isinstance(matched, str) and matched in self._request.stop:
                        voice.stopped_by = matched
        if chunk.citations:
            self._citations = chunk.citations
        if usage is not None:
            self._usage = usage
            self._unreported = True

    def _news(self, given: UsageObject) -> Usage | None:
        """The figures, where they are others than so far."""
        usage = read_usage(given)
        return None if usage == self._usage else usage

    def _reason(self, given: str) -> Reason:
        """The canonical reason. Raises UpstreamBroken for one that reports a break, and for one that nobody here knows: it
        may be a break as well as an end, and only an end is told as one."""
        known = "refusal" if given.lower() == "refusal" else known_reason(given)
        if known is None:
            raise self._broken(f"it broke the answer off (finish_reason '{given[:64]}')")
        reason = _REASONS.get(known)
        if reason is None:
            raise self._broken(f"the answer ended for a reason that is not known (finish_reason '{given[:64]}')")
        return reason

    def _take_delta(self, voice: _Voice, delta: Delta, logprobs: Logprobs | None, out: list[Event]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._think(voice, thought, out)
        if delta.reasoning_details:
            self._take_details(voice, delta.reasoning_details, out, spoken=bool(thought))
        if logprobs is not None and logprobs.content and (delta.content or not thought):
            for token in logprobs.content:
                _check_utf8(token)
            voice.logprobs.extend(logprobs.content)
        if delta.content:
            self._take_text(voice, delta.content, out)
        if delta.refusal:
            self._speak(voice, out)
            self._go_on_behind_calls(voice, out)
            voice.message = True
            out.append(RefusalDelta(delta.refusal, voice.choice))
        if delta.annotations:
            self._take_annotations(voice, delta.annotations, out)
        if delta.images:
            self._take_images(voice, delta.images, out)
        if delta.function_call is not None:
            self._take_call(voice, ToolCallPiece(index=-1, function=delta.function_call), out)
        if delta.tool_calls:
            for number, entry in enumerate(delta.tool_calls):
                self._take_call(voice, entry, out, sibling=number > 0)

    # -- reasoning and text -------------------------------------------------------------------------------------

    def _think(self, voice: _Voice, text: str, out: list[Event]) -> None:
        """Reasoning in a member of its own: tags in the text are then the model's own words."""
        if voice.think is not None and not voice.reasoning:
            self._end_tags(voice, out)
        self._reason_aloud(voice, text, out)

    def _reason_aloud(self, voice: _Voice, text: str, out: list[Event]) -> None:
        self._end_message(voice, out)
        self._go_on_behind_calls(voice, out)
        voice.spoke = voice.reasoning = True
        if self._back:
            self._hold(len(text))
            voice.thoughts.append(text)
        out.append(ReasoningDelta(text, choice=voice.choice))

    def _take_details(self, voice: _Voice, value: msgspec.Raw, out: list[Event], *, spoken: bool) -> None:
        """`spoken`: their text came in a member of its own as well."""
        entries = [entry for entry in _list(value) if isinstance(entry, dict)]
        if not entries:
            return
        self._hold(len(value))
        if not spoken:
            for entry in entries:
                for name in ("text", "summary"):
                    said = entry.get(name)
                    if isinstance(said, str) and said:
                        self._think(voice, said, out)
        self._go_on_behind_calls(voice, out)
        voice.spoke = voice.reasoning = True
        voice.details.extend(entries)

    def _end_reasoning(self, voice: _Voice, out: list[Event]) -> None:
        if not voice.reasoning:
            return
        seal: Seal | None = None
        if voice.details:
            seal = Seal(kind="reasoning_details", data=jsonio.encode(merged_details(voice.details)).decode())
        elif voice.thoughts:
            seal = Seal(kind="reasoning_content", data="".join(voice.thoughts))
        voice.details = []
        voice.thoughts = []
        voice.reasoning = False
        self._end_message(voice, out)
        out.append(ReasoningEnd(seal, choice=voice.choice))

    def _end_message(self, voice: _Voice, out: list[Event]) -> None:
        if voice.message:
            voice.message = False
            voice.spoken.end()
            out.append(MessageEnd(voice.choice))

    def _take_text(self, voice: _Voice, text: str, out: list[Event]) -> None:
        if voice.think is not None:
            thought, text = voice.think.feed(text)
            if thought:
                voice.logprobs.clear()
                self._reason_aloud(voice, thought, out)
            if voice.think.plain:
                voice.think = None
            if not text:
                return
        if not voice.message:
            self._end_reasoning(voice, out)
            voice.message = True
        if voice.called:
            self._go_on_behind_calls(voice, out)
        voice.spoke = True
        voice.spoken.size += len(text)
        if voice.logprobs:
            out.append(TextDelta(text, voice.choice, voice.logprobs))
            voice.logprobs = []
        else:
            out.append(TextDelta(text, voice.choice))

    def _end_tags(self, voice: _Voice, out: list[Event]) -> None:
        """What was held back because a tag might have come."""
        if voice.think is None:
            return
        thought, text = voice.think.eof()
        voice.think = None
        if thought:
            self._reason_aloud(voice, thought, out)
        if text and (text.strip() or not voice.calls):
            self._take_text(voice, text, out)

    def _speak(self, voice: _Voice, out: list[Event]) -> None:
        """Something else than reasoning and text is about to be said."""
        voice.spoke = True
        if voice.think is not None:
            thought, text = voice.think.eof()
            if thought:
                self._reason_aloud(voice, thought, out)
            if text.strip():
                voice.think = None  # it only looked like the beginning of a tag
                self._take_text(voice, text, out)
            elif text:
                voice.think.feed(text)  # white space, before the text that may still come
        self._end_reasoning(voice, out)

    def _go_on_behind_calls(self, voice: _Voice, out: list[Event]) -> None:
        """Words or thoughts follow: the calls before them that are complete end here, so that clients who get whole calls
        get them in their place. One of which nobody knows yet ends later."""
        if voice.called:
            voice.called = False
            self._end_complete_calls(voice, out)

    def _end_complete_calls(self, voice: _Voice, out: list[Event]) -> None:
        """Up to the first that is not: calls end in the order in which they began."""
        for called in voice.calls:
            if not called.ended:
                if not (called.started and called.is_complete()):
                    return
                self._end_call(called, out)

    def _take_annotations(self, voice: _Voice, value: msgspec.Raw, out: list[Event]) -> None:
        for given in _list(value):
            annotation = annotation_of(given)
            if annotation is not None:
                if not voice.message:
                    self._speak(voice, out)
                    voice.message = True
                voice.cited.add(str(annotation.get("url")))
                placed = moved(jsonio.raw(annotation), -voice.spoken.begin)
                out.append(Annotation(jsonio.raw(placed), voice.choice))

    def _take_images(self, voice: _Voice, value: msgspec.Raw, out: list[Event]) -> None:
        for given in _list(value):
            inner = given.get("image_url") if isinstance(given, dict) else None
            url = inner.get("url") if isinstance(inner, dict) else inner
            if not isinstance(url, str) or not url:
                continue
            self._speak(voice, out)
            found = parse_data_url(url)
            if found is not None:
                self._go_on_behind_calls(voice, out)
                voice.message = True
                voice.spoken.end()
                out.append(MediaDelta(*found, voice.choice))
            else:
                # An address is no media; a reader of Markdown sees the picture all the same.
                self._take_text(voice, f"![image]({url})", out)

    # -- calls --------------------------------------------------------------------------------------------------

    def _take_call(self, voice: _Voice, entry: ToolCallPiece, out: list[Event], *, sibling: bool = False) -> None:
        """`sibling`: another call stands before it in the same chunk."""
        if entry.custom is not None:
            name, text = entry.custom.name or "", entry.custom.input or ""
        elif entry.function is not None:
            name, text = entry.function.name or "", entry.function.arguments or ""
        else:
            name = text = ""
        called = _known_call(voice, entry, name, text, sibling=sibling)
        if called is None:
            if not (name or text or entry.id):
                return
            called = self._add_call(voice, entry)
        signed = not called.signature and bool(entry.signature)
        called.signature = called.signature or entry.signature
        if signed and called.started:
            self._sign_call(voice, called, out)
        if called.ended:
            if text.strip():
                raise WireError("the stream goes on with a tool call that was complete")
            return
        voice.last = called
        voice.logprobs.clear()  # those of a call's tokens belong to no text
        called.name = called.name or name
        if text:
            self._hold(len(text))
            called.pieces.append(text)
            called.said = called.said or not text.isspace()
        if called.started:
            if text:
                voice.called = True
                self._pass_on(called, text, out)
        elif called.name:
            self._start_call(voice, called, out)

    def _add_call(self, voice: _Voice, entry: ToolCallPiece) -> _Called:
        wire_id = entry.id or ""
        if wire_id in voice.by_id:
            wire_id = ""  # two calls of one id: the second gets one of ours
        called = _Called(self._call_count, wire_id)
        self._call_count += 1
        self._hold(256)
        called.custom = entry.custom is not None
        voice.calls.append(called)
        if wire_id:
            voice.by_id[wire_id] = called
        if entry.index is not None:
            voice.by_index[entry.index] = called
        return called

    def _start_call(self, voice: _Voice, called: _Called, out: list[Event]) -> None:
        self._speak(voice, out)
        voice.called = True
        voice.spoken.end()
        self._end_complete_calls(voice, out)
        if not called.custom and called.name in self._wrapped:
            called.custom = True
            called.unwrapper = Unwrapper()
        called.started = True
        if called.signature:
            self._sign_call(voice, called, out)
        call_id = self._call_id(called)
        out.append(ToolCallStart(called.index, call_id, called.name, custom=called.custom, choice=voice.choice))
        for piece in called.pieces:
            self._pass_on(called, piece, out)

    def _sign_call(self, voice: _Voice, called: _Called, out: list[Event]) -> None:
        """Mostly right before the call; behind its beginning where the signature came later."""
        self._hold(len(called.signature))
        self._end_reasoning(voice, out)
        self._end_message(voice, out)
        seal = Seal(kind="thought_signature", data=called.signature, call_id=self._call_id(called))
        out.append(ReasoningEnd(seal, choice=voice.choice))

    def _pass_on(self, called: _Called, text: str, out: list[Event]) -> None:
        if called.unwrapper is not None:
            text = called.unwrapper.feed(text)
        if text:
            out.append(ToolCallDelta(called.index, text))

    def _end_call(self, called: _Called, out: list[Event]) -> None:
        if not called.started:
            raise WireError("a tool call has no name")
        if called.unwrapper is not None:
            tail = called.unwrapper.eof()
            if tail:
                out.append(ToolCallDelta(called.index, tail))
        elif not called.said and not called.custom:
            out.append(ToolCallDelta(called.index, "{}"))
        called.ended = True
        out.append(ToolCallEnd(called.index))

    def _call_id(self, called: _Called) -> str:
        """The call's id, or one of ours where it came without: the same for the same answer, another in every turn."""
        if called.wire_id:
            return called.wire_id
        seed = f"{self._id}\n{len(self._request.items)}\n{called.index}\n{called.name}"
        return "call_" + hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:24]

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def _complete(self) -> bool:
        return bool(self._voices) and all(voice.reason is not None for voice in self._voices.values())

    def _on_done(self, out: list[Event]) -> None:
        if not self._complete:
            raise WireError("it closed the stream without a finish reason")
        self._finish(out)

    def _finish(self, out: list[Event]) -> None:
        self._report(out)
        try:
            for _, voice in sorted(self._voices.items()):
                self._end_voice(voice, out)
        except WireError as error:
            self._fail(self._broken(str(error)), out)
            return
        out.append(Finished())
        self._ended = True

    def _end_voice(self, voice: _Voice, out: list[Event]) -> None:
        self._end_tags(voice, out)
        if not voice.message:
            self._end_reasoning(voice, out)
        if voice.logprobs:
            out.append(TextDelta("", voice.choice, voice.logprobs))
            voice.logprobs = []
        for called in voice.calls:
            if not called.ended:
                self._end_call(called, out)
        assert voice.reason is not None
        reason = voice.reason
        if reason in ("stop", "tool_calls"):
            # Servers say `stop` behind calls, and agents wait for ever; or the other way round.
            reason = "tool_calls" if voice.calls else "stop"
        self._cite(voice, out)
        self._end_reasoning(voice, out)
        out.append(ChoiceEnd(reason, voice.choice, voice.stopped_by))

    def _cite(self, voice: _Voice, out: list[Event]) -> None:
        """The addresses of `citations`, unless the message has said them itself."""
        for url in _list(self._citations) if self._citations else ():
            if isinstance(url, str) and url not in voice.cited:
                annotation = annotation_of({"type": "url_citation", "url": url})
                out.append(Annotation(jsonio.raw(annotation), voice.choice))
                voice.cited.add(url)

    def _fail(self, error: TidegateError, out: list[Event]) -> None:
        self._ended = True
        self._report(out)
        out.append(Failed(error))

    def _broken(self, why: str) -> UpstreamBroken:
        return UpstreamBroken(f"Provider '{self._destination.provider}': {why}.")

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > _HELD_LIMIT:
            raise WireError(f"the answer has more than {_HELD_LIMIT} bytes of calls and reasoning")

    def whole(self, chunk: Chunk, body: bytes) -> list[Event]:
        """The events of an answer that came in one `body`."""
        out: list[Event] = []
        for choice in chunk.choices or ():
            if choice.message is None and known_reason(choice.finish_reason or "") != "content_filter":
                raise WireError("the provider's answer has a choice without 'message'")
            if not choice.finish_reason or not is_finish(choice.finish_reason):
                raise WireError("the provider's answer has a choice without 'finish_reason'")
            for number, entry in enumerate((choice.message and choice.message.tool_calls) or ()):
                entry.index = number
        self._start(chunk, body, out)
        self._take(chunk, out)
        self._report(out)
        for _, voice in sorted(self._voices.items()):
            self._end_voice(voice, out)
        out.append(Finished())
        return out


def decode_chat_answer(body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
    """See :meth:`tidegate.dialects.codec.UpstreamDialect.decode_answer`."""
    try:
        jsonio.check_utf8(body)
    except jsonio.InvalidJSON as error:
        raise WireError(f"the provider's answer cannot be read: {error}") from None
    try:
        chunk = decode_chunk(body)
    except jsonio.UNREADABLE:
        chunk = read_loosely(body)
    if chunk.error and not jsonio.is_blank(chunk.error):
        raise from_error_object(chunk.error, destination.provider)
    if not chunk.choices:
        if chunk.object == "error":
            raise from_error_object(body, destination.provider)
        raise WireError("the provider's answer has no 'choices'")
    return ChatDecoder(destination, request).whole(chunk, body)


def _known_call(voice: _Voice, entry: ToolCallPiece, name: str, text: str, *, sibling: bool) -> _Called | None:
    """The call that `entry` goes on with; None when it begins another."""
    wire_id = entry.id or ""
    last = voice.last
    if entry.index is not None:
        called = voice.by_index.get(entry.index)
        if called is None:
            if name:
                return None
            if wire_id:
                return voice.by_id.get(wire_id)
            return last if last is not None and not last.ended and not last.is_complete() else None
    elif wire_id:
        called = voice.by_id.get(wire_id)
        if called is not None or name or last is None:
            return called
        return last
    else:
        if sibling and name:
            return None
        called = last
        if called is None:
            return None
    if not name or not called.name:
        return called
    if wire_id and called.wire_id:
        # A name that is repeated with another id is another call, whatever its index.
        return called if wire_id == called.wire_id else None
    if name != called.name or (text.strip() and called.is_complete()):
        return None
    return called


def _check_utf8(value: msgspec.Raw) -> None:
    try:
        jsonio.check_utf8(bytes(value))
    except jsonio.InvalidJSON as error:
        raise WireError(f"a chunk of the stream cannot be read: {error}") from None


def _list(value: msgspec.Raw) -> list[Any]:
    try:
        found = jsonio.anything(value)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        raise WireError(f"a chunk of the stream cannot be read: {error}") from None
    return found if isinstance(found, list) else []
