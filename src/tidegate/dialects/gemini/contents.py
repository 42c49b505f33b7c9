"""The canonical items → `contents` and the system instruction of a Gemini request (protocol §5.1, §5.4)."""

from collections import defaultdict, deque
from typing import Any, Final

from tidegate.dialects.codec import Losses, json_object_or_none
from tidegate.dialects.gemini.decoder import OPAQUE_PREFIX
from tidegate.dialects.gemini.model import GeminiModel
from tidegate.dialects.gemini.searching import search_parts
from tidegate.dialects.links import is_googles
from tidegate.dialects.pairs import unanswered, uncalled
from tidegate.dialects.websearch import CALL
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest
from tidegate.wire.items import (
    AudioPart,
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    ImagePart,
    Item,
    Message,
    OpaqueItem,
    OpaquePart,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    parse_data_url,
)

__all__ = ["FOREIGN_SIGNATURE", "Contents"]

FOREIGN_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Google documents for calls that another model made (ai.google.dev/gemini-api/docs/thought-signatures, FAQ)."""

_AUDIO_TYPES: Final = {"mp3": "audio/mp3", "mpeg": "audio/mp3", "m4a": "audio/m4a", "pcm16": "audio/pcm"}

_PartMembers = dict[str, Any]


class Contents:
    """Adjacent items of one side become one content. Every call's result stands right behind the content that calls,
    in the order of the calls, because Google counts them; other words of the user follow in a content of their own."""

    def __init__(self, request: CanonicalRequest, model: GeminiModel, losses: Losses) -> None:
        self._request = request
        self._items = request.items
        self._param = request.names.get("items", "items")
        self._model = model
        self._losses = losses
        self.system: list[str] = [request.instructions] if request.instructions else []
        """Texts of the system instruction. Its position in the conversation is lost (protocol §5.5)."""
        self._contents: list[dict[str, Any]] = []
        self._parts: list[_PartMembers] = []
        """Of the model's content that is being built."""
        self._calls: list[tuple[int, FunctionCall]] = []
        self._outputs: defaultdict[str, deque[tuple[int, FunctionOutput]]] = defaultdict(deque)
        self._call_signatures: dict[str, str] = {}
        self._text_signature = ""
        self._media_signature = ""

    def build(self) -> list[dict[str, Any]]:
        """The `contents`. Raises InvalidRequest for calls and results that do not belong together."""
        for place, item in enumerate(self._items):
            if isinstance(item, FunctionOutput):
                self._outputs[item.call_id].append((place, item))
        for place, item in enumerate(self._items):
            self._add(place, item)
        self._end_of_model(last=True)
        for waiting in self._outputs.values():
            for _, output in waiting:
                raise uncalled(self._request, output)
        if not self._contents and self.system:
            # Google takes no instructions without a question: the last of them is what there is to ask.
            alone = self._request.instructions and len(self.system) == 1
            self._losses.hint("instructions" if alone else f"{self._param}[].role")
            self._contents.append({"role": "user", "parts": [{"text": self.system.pop()}]})
        if not self._contents:
            raise InvalidRequest(
                f"Invalid '{self._param}': a Gemini model needs a message.",
                param=self._param,
                code="invalid_value",
            )
        return self._contents

    def _add(self, place: int, item: Item) -> None:
        if isinstance(item, Message):
            self._losses.told_of(item)
        match item:
            case Message(role="system" | "developer"):
                self._instruct(item)
            case Message(role="assistant"):
                self._parts.extend(self._said(item))
            case Message():
                self._end_of_model()
                self._user(self._all_parts(item.content))
            case FunctionCall():
                self._call(place, item)
            case FunctionOutput():
                self._end_of_model()  # which has placed it
            case Reasoning():
                self._reasoning(place, item)
            case OpaqueItem():
                self._opaque(item)

    def _instruct(self, message: Message) -> None:
        """It may come at any place; here it stands before the conversation."""
        if self._contents or self._parts:
            self._losses.hint(f"{self._param}[].role")
        for part in message.content:
            if isinstance(part, TextPart):
                self.system.append(part.text)
                if part.breakpoint:
                    self._losses.hint("breakpoint")
            elif isinstance(part, OpaquePart):
                self._losses.refuse_part(part, "A system instruction has only text.")
            else:
                self._losses.refuse("items", "A system instruction has only text.")

    # -- the model's side ---------------------------------------------------------------------------------------

    def _said(self, message: Message) -> list[_PartMembers]:
        parts = self._all_parts(message.content)
        if self._text_signature:
            self._text_signature = _sign(parts, "text", self._text_signature)
        if self._media_signature:
            self._media_signature = _sign(parts, "inlineData", self._media_signature)
        return parts

    def _call(self, place: int, call: FunctionCall) -> None:
        if call.custom:
            args: Any = {"input": call.arguments}
        else:
            args = json_object_or_none(call.arguments or "{}")
            if args is None:
                args = {"_raw": call.arguments}  # what a model wrote stays in its history, even if it is no JSON
        part: _PartMembers = {"functionCall": {"id": call.call_id, "name": _name(call), "args": args}}
        signature = self._call_signatures.pop(call.call_id, "")
        if signature:
            part["thoughtSignature"] = signature
        self._parts.append(part)
        self._calls.append((place, call))

    def _reasoning(self, place: int, item: Reasoning) -> None:
        """The signature goes to exactly the part that had it; the reasoning's text is not asked back (protocol §5.4)."""
        seal = item.seal
        if seal is None or seal.kind != "thought_signature":
            if seal is not None or item.content:  # Google's own thoughts are summaries, and not asked back
                self._losses.hint("reasoning_items")
            return
        if seal.call_id:
            self._call_signatures[seal.call_id] = seal.data
        elif seal.anchor == "thought":
            self._parts.append({"text": seal.text, "thought": True, "thoughtSignature": seal.data})
        elif seal.anchor == "media":
            self._media_signature = seal.data
        else:
            self._close_text()
            self._text_signature = seal.data
            if seal.anchor == "behind" or not _is_said(self._items, place + 1):
                self._close_text()  # it had a part of its own, without words

    def _opaque(self, item: OpaqueItem) -> None:
        if item.type == CALL:
            if (parts := search_parts(item.value)) is not None:
                self._parts.extend(dict(part) for part in parts)
            else:
                self._losses.hint(CALL)
            return
        content = jsonio.members(item.value)
        if item.type.startswith(OPAQUE_PREFIX) and "part" in content:
            self._parts.append(dict(jsonio.members(content["part"])))
        else:
            self._losses.item(item, f"An item of type '{item.type[:64]}' is not known to Gemini.")

    def _close_text(self) -> None:
        if self._text_signature:
            self._parts.append({"text": "", "thoughtSignature": self._text_signature})
            self._text_signature = ""

    def _end_of_model(self, *, last: bool = False) -> None:
        """The model's content is complete: it goes out, and the results of its calls behind it."""
        self._close_text()
        if self._call_signatures or self._media_signature:
            # What they sign does not follow.
            self._losses.hint("reasoning_items")
            self._call_signatures.clear()
            self._media_signature = ""
        if not self._parts:
            return
        if self._model.demands_signatures:
            first = next((part for part in self._parts if "functionCall" in part), None)
            if first is not None and "thoughtSignature" not in first:
                first["thoughtSignature"] = FOREIGN_SIGNATURE
        self._contents.append({"role": "model", "parts": self._parts})
        calls, self._parts, self._calls = self._calls, [], []
        results: list[_PartMembers] = []
        beside: list[_PartMembers] = []
        for place, call in calls:
            waiting = self._outputs[call.call_id]
            if not waiting:
                if last:
                    continue  # calls that nobody has answered yet may end a conversation
                raise unanswered(self._request, call)
            at, output = waiting.popleft()
            if at < place:
                raise uncalled(self._request, output)
            results.append(self._result(call, output, beside))
        if results:
            self._contents.append({"role": "user", "parts": results})
        if beside:
            self._contents.append({"role": "user", "parts": beside})

    # -- the user's side ----------------------------------------------------------------------------------------

    def _user(self, parts: list[_PartMembers]) -> None:
        before = self._contents[-1] if self._contents else None
        if before is not None and before["role"] == "user" and "functionResponse" not in before["parts"][-1]:
            before["parts"].extend(parts)
        elif parts:
            self._contents.append({"role": "user", "parts": parts})

    def _result(self, call: FunctionCall, output: FunctionOutput, beside: list[_PartMembers]) -> _PartMembers:
        parts = self._all_parts(output.content)
        # The result is one text or object; only what is no text may stand in `parts`.
        text = "\n".join(part["text"] for part in parts if "text" in part)
        object_ = json_object_or_none(text)
        if output.is_error:
            response: Any = {"error": text}
        else:
            response = object_ if object_ is not None else {"output": text}
        members: _PartMembers = {"id": call.call_id, "name": _name(call), "response": response}
        media = [part for part in parts if "text" not in part]
        if media and self._model.takes_media_in_results:
            members["parts"] = media
        else:
            beside.extend(media)
        return {"functionResponse": members}

    # -- parts --------------------------------------------------------------------------------------------------

    def _all_parts(self, content: list[Part]) -> list[_PartMembers]:
        parts = [made for part in content if (made := self._part(part)) is not None]
        # Google takes no empty text beside others, and no content without a part.
        kept = [part for part in parts if part.get("text") != ""]
        return kept or parts[:1]

    def _part(self, part: Part) -> _PartMembers | None:
        if not isinstance(part, RefusalPart | AudioPart) and getattr(part, "breakpoint", False):
            self._losses.hint("breakpoint")
        match part:
            case TextPart():
                return {"text": part.text}
            case RefusalPart():
                return {"text": part.refusal}
            case AudioPart():
                kind = _AUDIO_TYPES.get(part.format, f"audio/{part.format}")
                return {"inlineData": {"mimeType": kind, "data": part.data}}
            case ImagePart():
                if part.detail not in ("", "auto"):
                    self._losses.hint("detail")
                return self._data(part.url, part.file_id)
            case FilePart():
                if part.text:
                    return {"text": part.titled_text}
                if part.filename:
                    self._losses.hint("filename")
                return self._data(part.data or part.url, part.file_id)
            case _:
                self._losses.refuse_part(part, f"A content part of type '{part.type[:64]}' is not known to Gemini.")
                return None

    def _data(self, url: str, file_id: str) -> _PartMembers | None:
        data = parse_data_url(url)
        if data is not None:
            return {"inlineData": {"mimeType": data[0], "data": data[1]}}
        if is_googles(url):
            return {"fileData": {"fileUri": url}}
        why = "A file id belongs to the provider that gave it." if file_id else "Gemini fetches no addresses."
        self._losses.refuse("items", f"{why} Send the content as a data URL.")
        return None


def _name(call: FunctionCall) -> str:
    return f"{call.namespace}__{call.name}" if call.namespace else call.name


def _is_said(items: list[Item], place: int) -> bool:
    item = items[place] if place < len(items) else None
    return isinstance(item, Message) and item.role == "assistant"


def _sign(parts: list[_PartMembers], member: str, signature: str) -> str:
    """Give the signature to the first part that has `member`; returns it where there is none."""
    for part in parts:
        if member in part:
            part["thoughtSignature"] = signature
            return ""
    return signature
