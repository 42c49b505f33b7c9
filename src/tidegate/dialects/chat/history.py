"""The messages of a chat request → items."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tidegate.dialects.leftovers import Leftovers
from tidegate.dialects.validation import invalid, missing
from tidegate.wire import jsonio
from tidegate.wire.events import Seal
from tidegate.wire.items import (
    AudioPart,
    FilePart,
    FunctionCall,
    FunctionOutput,
    ImagePart,
    Item,
    Message,
    OpaquePart,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
)

__all__ = ["History", "HistoryMessage"]

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
"""What Google takes for a signature: anything else it answers with 400."""


_DETAIL = frozenset({"after_calls", "after_text", "data", "format", "id", "index", "summary", "text", "type"})
"""Members of an entry of `reasoning_details` that are read, or tell only where it stood."""


class _ImageURL(msgspec.Struct):
    url: str
    detail: str | None = None


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class _Audio(msgspec.Struct):
    data: str
    format: str


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | _ImageURL | None = None
    file: _File | None = None
    input_audio: _Audio | None = None
    prompt_cache_breakpoint: Any = None
    cache_control: Any = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | None = None


class _Custom(msgspec.Struct):
    name: str
    input: str | None = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None
    extra_content: Any = None


class HistoryMessage(msgspec.Struct):
    """One message. What vendors add about reasoning may have any shape."""

    role: str
    content: str | list[_Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: _Function | None = None
    audio: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    images: Any = None
    cache_control: Any = None


class _Placed(msgspec.Struct):
    """A reasoning item, and behind what of its message it comes."""

    item: Reasoning
    after_text: bool = False
    after_calls: int = 0


class History:
    """The messages of a request, and the items that they are.

    Reasoning of an assistant message comes first, but for entries of `reasoning_details` that say what they came behind;
    then its text, then its calls.
    """

    def __init__(self, messages: list[HistoryMessage], raw: msgspec.Raw, left: Leftovers) -> None:
        """`raw` are the same messages as they came. `left` is told what of them cannot be read."""
        self._messages = messages
        self._raw = raw
        self._left = left
        self._custom_calls: set[str] = set()
        self._legacy_call = ""
        self.breakpoint_name = "prompt_cache_breakpoint"
        """What the client calls its cache breakpoints, once the items have been read."""
        self.reasoning_name = "reasoning_content"
        """And what it calls its reasoning."""

    def items(self) -> Iterator[Item]:
        """Raises InvalidRequest for a message that does not have the documented shape."""
        for place, message in enumerate(self._messages):
            match message.role:
                case "assistant":
                    yield from self._assistant(message, place)
                case "user" | "system" | "developer":
                    yield Message(role=message.role, content=self._content(message, place), name=message.name or "")
                case "tool":
                    call_id = message.tool_call_id or ""
                    yield FunctionOutput(
                        call_id=call_id,
                        content=self._content(message, place),
                        custom=call_id in self._custom_calls,
                        name=message.name or "",
                    )
                case "function":
                    if not message.name:
                        raise missing(f"messages[{place}].name")
                    yield FunctionOutput(
                        call_id=self._legacy_call or _legacy_id(place),
                        content=self._content(message, place),
                        name=message.name,
                    )
                    self._legacy_call = ""
                case _:
                    raise invalid(
                        f"messages[{place}].role",
                        "expected one of 'system', 'developer', 'user', 'assistant', 'tool', 'function'.",
                    )

    def _assistant(self, message: HistoryMessage, place: int) -> Iterator[Item]:
        thoughts = self._thoughts(message, place)
        calls = list(self._calls(message, place)) if message.tool_calls or message.function_call is not None else []
        content = self._content(message, place)
        if message.refusal:
            content.append(RefusalPart(refusal=message.refusal))
        if message.images is not None:
            content.extend(_images(message.images))
        if message.audio is not None:
            self._left.hint(f"messages[{place}].audio")  # only the provider that said it has it
            said = message.audio.get("transcript") if isinstance(message.audio, dict) else None
            if isinstance(said, str) and said and not content:
                content.append(TextPart(text=said))
        if calls or thoughts:
            content = [part for part in content if not isinstance(part, TextPart) or part.text]
        if thoughts:
            yield from _before(thoughts, text=False, calls=0)
        if content or not (calls or thoughts):
            yield Message(role="assistant", content=content, name=message.name or "")
        for number, call in enumerate(calls):
            if thoughts:
                yield from _before(thoughts, text=True, calls=number)
            if message.tool_calls and number < len(message.tool_calls):
                extra = message.tool_calls[number].extra_content
                if extra is not None:
                    yield from self._signed(extra, call, f"messages[{place}].tool_calls[{number}].extra_content")
            yield call
        for thought in thoughts:
            yield thought.item

    def _thoughts(self, message: HistoryMessage, place: int) -> list[_Placed]:
        details = message.reasoning_details
        if message.reasoning_content is None and message.reasoning is None and details is None:
            return []
        if not message.reasoning_content:
            self.reasoning_name = "messages[].reasoning" if message.reasoning else "messages[].reasoning_details"
        for number, entry in enumerate(details if isinstance(details, list) else ()):
            for name in entry if isinstance(entry, dict) else ():
                if name not in _DETAIL and entry[name]:
                    self._left.hint(f"messages[{place}].reasoning_details[{number}].{name}")
        return _reasoning(message)

    def _calls(self, message: HistoryMessage, place: int) -> Iterator[FunctionCall]:
        for number, call in enumerate(message.tool_calls or ()):
            where = f"messages[{place}].tool_calls[{number}]"
            if not call.id:
                raise missing(f"{where}.id")
            if call.custom is not None:
                self._custom_calls.add(call.id)
                yield FunctionCall(
                    call_id=call.id, name=call.custom.name, arguments=call.custom.input or "", custom=True
                )
            elif call.function is not None:
                yield FunctionCall(call_id=call.id, name=call.function.name, arguments=call.function.arguments or "")
            else:
                raise missing(f"{where}.function")
        if message.function_call is not None:
            self._legacy_call = _legacy_id(place)
            yield FunctionCall(
                call_id=self._legacy_call,
                name=message.function_call.name,
                arguments=message.function_call.arguments or "",
            )

    def _signed(self, extra: Any, call: FunctionCall, where: str) -> Iterator[Reasoning]:
        """The signature of a call that Google's own chat endpoint gave (ai.google.dev/gemini-api/docs/thought-signatures)."""
        google = extra.get("google") if isinstance(extra, dict) else extra
        signature = google.get("thought_signature") if isinstance(google, dict) else google
        if isinstance(google, dict) and isinstance(signature, str) and _BASE64.fullmatch(signature):
            yield Reasoning(seal=Seal(kind="thought_signature", data=signature, call_id=call.call_id))
        elif signature is not None:
            self._left.hint(where)

    def _content(self, message: HistoryMessage, place: int) -> list[Part]:
        content = message.content
        if content is None:
            return []
        if isinstance(content, str):
            parts: list[Part] = [TextPart(text=content)]
        else:
            parts = [self._part(part, place, number) for number, part in enumerate(content)]
        last = parts[-1] if parts else None
        if message.cache_control is not None and isinstance(last, TextPart | ImagePart | FilePart):
            last.breakpoint = True
            self.breakpoint_name = "cache_control"
        return parts

    def _part(self, part: _Part, place: int, number: int) -> Part:
        where = f"messages[{place}].content[{number}]"
        marked = part.cache_control is not None or part.prompt_cache_breakpoint is not None
        if part.cache_control is not None:
            self.breakpoint_name = "cache_control"
        match part.type:
            case "text" | "input_text" | "output_text" if part.text is not None:
                return TextPart(text=part.text, breakpoint=marked)
            case "refusal" if part.refusal is not None:
                return RefusalPart(refusal=part.refusal)
            case "image_url":
                image = part.image_url
                if image is None:
                    raise missing(f"{where}.image_url")
                if isinstance(image, str):
                    return ImagePart(url=image, breakpoint=marked)
                return ImagePart(url=image.url, detail=image.detail or "", breakpoint=marked)
            case "input_audio":
                if part.input_audio is None:
                    raise missing(f"{where}.input_audio")
                return AudioPart(data=part.input_audio.data, format=part.input_audio.format)
            case "file":
                return _file(part.file, where, marked=marked)
            case "text" | "refusal":
                raise missing(f"{where}.{part.type}")
            case _:
                content = jsonio.members(jsonio.elements(self._raw)[place])["content"]
                return OpaquePart(type=part.type, value=jsonio.elements(content)[number], at=where)


def _before(thoughts: list[_Placed], *, text: bool, calls: int) -> Iterator[Reasoning]:
    """Take out the reasoning that stood before the text, or behind `calls` calls."""
    while thoughts and (thoughts[0].after_text, thoughts[0].after_calls) <= (text, calls):
        yield thoughts.pop(0).item


def _file(file: _File | None, where: str, *, marked: bool) -> FilePart:
    if file is None:
        raise missing(f"{where}.file")
    given = [one for one in (file.file_data, file.file_url, file.file_id) if one]
    if len(given) != 1:
        raise invalid(f"{where}.file", "expected one of 'file_data' and 'file_id'.")
    data = file.file_data or ""
    if data.startswith(("https://", "http://")):
        return FilePart(url=data, filename=file.filename or "", breakpoint=marked)
    return FilePart(
        data=data,
        url=file.file_url or "",
        file_id=file.file_id or "",
        filename=file.filename or "",
        breakpoint=marked,
    )


def _legacy_id(place: int) -> str:
    """Functions had no call ids: their order tells which result belongs to which call."""
    return f"call_function_{place}"


def _images(given: Any) -> Iterator[ImagePart]:
    """Images that an answer of ours brought, and that came back with the message."""
    for image in given if isinstance(given, list) else ():
        inner = image.get("image_url") if isinstance(image, dict) else None
        url = inner.get("url") if isinstance(inner, dict) else inner
        if isinstance(url, str) and url:
            yield ImagePart(url=url)


def _reasoning(message: HistoryMessage) -> list[_Placed]:
    """The reasoning of an assistant message: an item for each opaque entry, the text with the first. Vendors' members
    are read loosely: a shape that we do not know is no reason to refuse a history."""
    text = next((one for one in (message.reasoning_content, message.reasoning) if isinstance(one, str) and one), "")
    placed: list[_Placed] = []
    details = message.reasoning_details
    spoken: list[Reasoning] = []
    for entry in details if isinstance(details, list) else ():
        if not isinstance(entry, dict):
            continue
        data, said, summary = (_text(entry, name) for name in ("data", "text", "summary"))
        if data:
            calls = _count(entry.get("after_calls"))
            placed.append(
                _Placed(
                    item=Reasoning(encrypted=data),
                    after_text=entry.get("after_text") is True or calls > 0,
                    after_calls=calls,
                )
            )
        elif summary:
            spoken.append(Reasoning(summary=[summary]))
        elif said:
            spoken.append(Reasoning(content=[said]))
    if text and placed:
        placed[0].item.content = [text]
    elif text and not spoken:
        placed.append(_Placed(item=Reasoning(content=[text])))
    if not placed or not text:
        placed[:0] = [_Placed(item=item) for item in spoken]
    return sorted(placed, key=lambda one: (one.after_text, one.after_calls))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
