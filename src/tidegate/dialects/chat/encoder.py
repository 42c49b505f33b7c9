"""Canonical events and outputs → chat chunks and chat completions, as OpenAI documents them (protocol §3.1).

Beyond OpenAI's members: `reasoning_content` holds what a client may read of the model's reasoning, `reasoning_details`
what it has to send back for the reasoning to go on (protocol §5.4), `images` what the model drew.

What has no place in a chat completion is left out: items of hosted tools, annotations that are no `url_citation`, the
stop sequence that matched, and the borders between several messages of one answer, whose texts are joined.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tidegate.dialects.choices.encoder import ChoicesEncoder
from tidegate.dialects.choices.head import head
from tidegate.dialects.choices.reasons import FinishReason
from tidegate.dialects.dialect import Call, Destination
from tidegate.dialects.sources import Spoken, moved
from tidegate.wire import jsonio
from tidegate.wire.events import (
    Annotation,
    ChoiceEnd,
    Event,
    MediaDelta,
    MessageEnd,
    Opaque,
    Reason,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Served,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from tidegate.wire.items import (
    Choice,
    FunctionCall,
    ImagePart,
    Message,
    Output,
    Reasoning,
    RefusalPart,
    TextPart,
    data_url,
)

__all__ = ["ChatEncoder", "chat_answer"]

_FINISH: Mapping[Reason, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
}

_SEPARATOR = "\n\n"
"""Between parts of reasoning, which chat has no members to tell apart."""


class _Voice:
    """What has been said of one choice so far."""

    __slots__ = ("annotations", "calls", "details", "images", "legacy", "prefix", "reasoning_part", "spoken")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        """A frame up to the first member of the delta."""
        self.spoken = Spoken()
        self.calls = 0
        self.legacy = False
        """A call was said as `function_call`."""
        self.details: list[dict[str, Any]] = []
        self.annotations = 0
        self.images = 0
        self.reasoning_part: tuple[str, int] | None = None
        """The part of reasoning that was said last; `("", 0)` when its item is complete."""


class _Called:
    __slots__ = ("custom", "legacy", "place", "voice")

    def __init__(self, voice: _Voice, place: int, *, custom: bool, legacy: bool) -> None:
        self.voice = voice
        self.place = place
        self.custom = custom
        self.legacy = legacy


class ChatEncoder(ChoicesEncoder):
    """See :class:`tidegate.dialects.codec.StreamEncoder`."""

    def __init__(self, call: Call, *, wants_usage: bool, legacy_functions: bool = False) -> None:
        """`wants_usage`: the client asked for the usage frame. `legacy_functions`: it speaks of `functions`, and is
        answered with a `function_call`."""
        super().__init__(call, kind="chat.completion.chunk", wants_usage=wants_usage)
        self._legacy = legacy_functions
        self._voices: dict[int, _Voice] = {}
        self._calls: dict[int, _Called] = {}
        self._plain_tail = self._tail
        self._set_tier("")

    def _set_tier(self, tier: str) -> None:
        self._tier = tier
        self._tail = b',"service_tier":%b%b' % (jsonio.encode(tier), self._plain_tail) if tier else self._plain_tail
        self._after_delta = b'},"logprobs":null,"finish_reason":null}]' + self._tail

    def attempt(self, destination: Destination) -> None:
        super().attempt(destination)
        self._set_tier("")
        self._voices.clear()
        self._calls.clear()

    # -- one event ----------------------------------------------------------------------------------------------

    def _on_text(self, event: TextDelta, out: list[bytes]) -> None:
        voice = self._voices.get(event.choice) or self._begin(event.choice, out, b'""')
        voice.spoken.size += len(event.text)
        if event.logprobs is None:
            out.append(b'%b"content":%b%b' % (voice.prefix, jsonio.encode(event.text), self._after_delta))
            return
        logprobs = jsonio.encode({"content": event.logprobs, "refusal": None})
        delta = b'"content":%b},"logprobs":%b,"finish_reason":null}]' % (jsonio.encode(event.text), logprobs)
        out.append(voice.prefix + delta + self._tail)

    def _on_other(self, event: Event, out: list[bytes]) -> None:
        match event:
            case ToolCallDelta():
                self._on_call_delta(event, out)
            case ReasoningDelta():
                self._on_reasoning(event, out)
            case ReasoningEnd():
                self._on_reasoning_end(event, out)
            case ToolCallStart():
                self._on_call(event, out)
            case RefusalDelta():
                voice = self._voices.get(event.choice) or self._begin(event.choice, out, b'""')
                self._delta(voice, out, {"refusal": event.text})
            case Annotation():
                spoken = self._voices.get(event.choice)
                citation = _citation(event.value, spoken.spoken.begin if spoken is not None else 0)
                if citation is not None:
                    voice = spoken or self._begin(event.choice, out, b'""')
                    # With an index the official SDK can fold entries of several chunks.
                    self._delta(voice, out, {"annotations": [{"index": voice.annotations, **citation}]})
                    voice.annotations += 1
            case MediaDelta():
                voice = self._voices.get(event.choice) or self._begin(event.choice, out, b"null")
                voice.spoken.end()
                image = _image(data_url(event.media_type, event.data))
                self._delta(voice, out, {"images": [{"index": voice.images, **image}]})
                voice.images += 1
            case MessageEnd(choice=choice):
                self._end_message(choice)
            case Opaque():
                self._end_message(0)
            case Served():
                self._set_tier(event.tier)
            case ChoiceEnd():
                self._on_choice_end(event, out)
            case _:
                super()._on_other(event, out)

    def _end_message(self, choice: int) -> None:
        voice = self._voices.get(choice)
        if voice is not None:
            voice.spoken.end()

    def _begin(self, choice: int, out: list[bytes], content: bytes) -> _Voice:
        """The chunk with the role, which comes first for every choice."""
        prefix = self._prefix(choice, b"delta") + b"{"
        voice = self._voices[choice] = _Voice(prefix)
        out.append(b'%b"role":"assistant","content":%b,"refusal":null%b' % (prefix, content, self._after_delta))
        return voice

    def _delta(self, voice: _Voice, out: list[bytes], delta: dict[str, Any]) -> None:
        out.append(voice.prefix + jsonio.encode(delta)[1:-1] + self._after_delta)

    def _on_reasoning(self, event: ReasoningDelta, out: list[bytes]) -> None:
        if not event.text:
            return
        voice = self._voices.get(event.choice) or self._begin(event.choice, out, b"null")
        part = (event.kind, event.part)
        text = event.text
        if voice.reasoning_part is not None and voice.reasoning_part != part:
            text = _SEPARATOR + text
        voice.reasoning_part = part
        out.append(b'%b"reasoning_content":%b%b' % (voice.prefix, jsonio.encode(text), self._after_delta))

    def _on_reasoning_end(self, event: ReasoningEnd, out: list[bytes]) -> None:
        voice = self._voices.get(event.choice)
        if event.encrypted:
            voice = voice or self._begin(event.choice, out, b"null")
            voice.details.append(
                _detail(event.encrypted, len(voice.details), text=voice.spoken.size > 0, calls=voice.calls)
            )
        if voice is not None and voice.reasoning_part is not None:
            voice.reasoning_part = ("", 0)

    def _on_call(self, event: ToolCallStart, out: list[bytes]) -> None:
        voice = self._voices.get(event.choice) or self._begin(event.choice, out, b"null")
        voice.spoken.end()
        legacy = self._legacy and not event.custom and not voice.calls
        place = voice.calls - voice.legacy  # a `function_call` is none of the `tool_calls`
        self._calls[event.index] = _Called(voice, place, custom=event.custom, legacy=legacy)
        if legacy:
            voice.legacy = True
            self._delta(voice, out, {"function_call": {"name": event.name, "arguments": ""}})
        else:
            entry = {"index": place, **_call(event.call_id, event.name, "", custom=event.custom)}
            self._delta(voice, out, {"tool_calls": [entry]})
        voice.calls += 1

    def _on_call_delta(self, event: ToolCallDelta, out: list[bytes]) -> None:
        called = self._calls[event.index]
        text = jsonio.encode(event.text)
        if called.legacy:
            delta = b'"function_call":{"arguments":%b}' % text
        elif called.custom:
            delta = b'"tool_calls":[{"index":%d,"custom":{"input":%b}}]' % (called.place, text)
        else:
            delta = b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]' % (called.place, text)
        out.append(called.voice.prefix + delta + self._after_delta)

    def _on_choice_end(self, event: ChoiceEnd, out: list[bytes]) -> None:
        voice = self._voices.get(event.choice) or self._begin(event.choice, out, b'""')
        details = b'"reasoning_details":%b' % jsonio.encode(voice.details) if voice.details else b""
        reason = _finish(event.reason, legacy=voice.legacy).encode()
        out.append(b'%b%b},"logprobs":null,"finish_reason":"%b"}]%b' % (voice.prefix, details, reason, self._tail))


def chat_answer(output: Output, call: Call, destination: Destination, *, legacy_functions: bool = False) -> bytes:
    """The chat completion that says the same as the stream of `output` would."""
    return jsonio.encode(
        {
            **head(call, output.model or destination.model, "chat.completion"),
            **({"service_tier": output.service_tier} if output.service_tier else {}),
            "choices": [
                _choice(index, choice, legacy_functions=legacy_functions) for index, choice in enumerate(output.choices)
            ],
            "usage": output.usage.as_chat(),
        }
    )


def _choice(index: int, choice: Choice, *, legacy_functions: bool) -> dict[str, Any]:
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    details: list[dict[str, Any]] = []
    calls: list[FunctionCall] = []
    annotations: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    logprobs: list[msgspec.Raw] = []
    for item in choice.items:
        match item:
            case Message():
                begin = sum(map(len, texts))
                for part in item.content:
                    match part:
                        case TextPart():
                            texts.append(part.text)
                            logprobs.extend(part.logprobs)
                            cited = (_citation(value, begin) for value in part.annotations)
                            annotations.extend(one for one in cited if one is not None)
                        case RefusalPart():
                            refusals.append(part.refusal)
                        case ImagePart():
                            images.append(_image(part.url))
                        case _:
                            pass  # an answer has no other parts
            case Reasoning():
                thoughts.extend(part for part in (*item.summary, *item.content) if part)
                if item.encrypted:
                    details.append(_detail(item.encrypted, len(details), text=any(texts), calls=len(calls)))
            case FunctionCall():
                calls.append(item)
            case _:
                pass  # an item of a hosted tool
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (refusals or calls or images) else None,
        "refusal": "".join(refusals) or None,
    }
    if thoughts:
        message["reasoning_content"] = _SEPARATOR.join(thoughts)
    if details:
        message["reasoning_details"] = details
    if annotations:
        message["annotations"] = annotations
    if images:
        message["images"] = images
    legacy = legacy_functions and bool(calls) and not calls[0].custom
    if legacy:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
        calls = calls[1:]
    if calls:
        message["tool_calls"] = [_call(one.call_id, one.name, one.arguments, custom=one.custom) for one in calls]
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        "finish_reason": _finish(choice.reason, legacy=legacy),
    }


def _finish(reason: Reason, *, legacy: bool) -> FinishReason:
    return "function_call" if legacy and reason == "tool_calls" else _FINISH[reason]


def _call(call_id: str, name: str, text: str, *, custom: bool) -> dict[str, Any]:
    if custom:
        return {"id": call_id, "type": "custom", "custom": {"name": name, "input": text}}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def _detail(encrypted: str, index: int, *, text: bool, calls: int) -> dict[str, Any]:
    """An entry of `reasoning_details`. Reasoning that did not come first says behind what it came: models that reason
    between their calls need it back in its place."""
    entry: dict[str, Any] = {"type": "reasoning.encrypted", "data": encrypted, "index": index}
    if text:
        entry["after_text"] = True
    if calls:
        entry["after_calls"] = calls
    return entry


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _citation(value: msgspec.Raw, begin: int) -> dict[str, Any] | None:
    """An annotation in chat's form, which nests what the Responses form has flat; None for one that chat has no form of.
    `begin`: characters that the choice has said before the message."""
    given = moved(value, begin)
    if not isinstance(given, dict) or given.get("type") != "url_citation":
        return None
    return {"type": "url_citation", "url_citation": {name: given[name] for name in given if name != "type"}}
