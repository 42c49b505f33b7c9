"""The items of a canonical request → the messages of a chat request."""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from tidegate.dialects.chat.details import merged_details
from tidegate.dialects.codec import Losses, text_of
from tidegate.dialects.dialect import Destination
from tidegate.dialects.pairs import unanswered, uncalled
from tidegate.dialects.websearch import CALL
from tidegate.wire import jsonio
from tidegate.wire.items import (
    AudioPart,
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    ImagePart,
    Message,
    OpaqueItem,
    OpaquePart,
    Part,
    Reasoning,
    RefusalPart,
    Role,
    TextPart,
)

__all__ = ["WRAPPED_INPUT", "Conversation"]

WRAPPED_INPUT = "input"
"""The only parameter of a function that stands for a custom tool."""

_LONGEST_ID = 40
"""Characters of a call id that OpenAI's chat endpoint takes; other APIs have longer ones."""


class _Turn:
    """One message of the assistant and what belongs right behind it."""

    __slots__ = ("calls", "content", "extras", "name", "results", "thoughts")

    def __init__(self) -> None:
        self.thoughts: list[Reasoning] = []
        self.content: list[Part] = []
        self.calls: list[FunctionCall] = []
        self.name = ""
        self.results: list[FunctionOutput] = []
        self.extras: list[tuple[str, Part]] = []
        """Parts for the user message behind the results, and what each is."""


class Conversation:
    """The items of a request, as messages."""

    def __init__(self, request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
        self._request = request
        self._official = destination.quirks.openai_chat
        self._reasoning_back = destination.quirks.reasoning_back
        self._id_length = destination.quirks.call_id_length
        self._losses = losses
        self._order: list[_Turn | Message | FunctionOutput] = []
        self._open: _Turn | None = None
        self._thoughts: list[Reasoning] = []
        """Reasoning whose message is not known yet."""
        self._turns: dict[str, _Turn] = {}
        """Call ids and where they were last used."""
        self._signatures: dict[str, str] = {}
        """What Google's chat endpoint wants back with a call."""
        self._extras: list[dict[str, Any]] = []
        """The content of the last user message that is not the user's own."""

    def messages(self) -> list[dict[str, Any]]:
        for item in self._request.items:
            if isinstance(item, Message) and item.phase:
                self._losses.hint("phase")
            match item:
                case Message(role="assistant"):
                    self._add_answer(item)
                case Message():
                    self._close()
                    self._order.append(item)
                case FunctionCall():
                    self._add_call(item)
                case FunctionOutput():
                    self._add_result(item)
                case Reasoning():
                    self._thoughts.append(item)
                case OpaqueItem(type=kind) if kind == CALL:
                    self._losses.hint(CALL)
                case OpaqueItem():
                    self._losses.item(item, f"An item of type '{item.type}' has no place in a chat completion.")
        self._close()
        out: list[dict[str, Any]] = []
        if self._request.instructions:
            out.append({"role": self._role("developer"), "content": self._request.instructions})
        for entry in self._order:
            match entry:
                case Message():
                    self._put_message(entry, out)
                case FunctionOutput():
                    self._check_unmatched(entry)
                    extras: list[tuple[str, Part]] = []
                    out.append(self._result(entry, extras))
                    self._put_extras(extras, out)
                case _Turn():
                    self._put_turn(entry, out)
        return out

    # -- grouping

    def _turn(self) -> _Turn:
        """The assistant's message that goes on, with the reasoning that came before."""
        if self._open is None:
            self._open = _Turn()
            self._order.append(self._open)
        self._open.thoughts.extend(self._thoughts)
        self._thoughts.clear()
        return self._open

    def _close(self) -> None:
        if self._thoughts:
            self._turn()
        self._open = None

    def _add_answer(self, item: Message) -> None:
        if self._open is not None and self._open.content and not self._open.calls:
            self._open = None  # an answer of its own, with the reasoning that is waiting
        turn = self._turn()
        if turn.content and item.content and not self._official:
            turn.content.append(TextPart(text="\n"))  # words before a call and behind it, which become one text
        turn.content.extend(item.content)
        if item.name and turn.name not in ("", item.name):
            self._losses.hint("name")  # one message has one name
        turn.name = turn.name or item.name

    def _add_call(self, item: FunctionCall) -> None:
        turn = self._turn()
        turn.calls.append(item)
        self._turns[item.call_id] = turn

    def _add_result(self, item: FunctionOutput) -> None:
        turn = self._turns.get(item.call_id)
        if turn is None:
            self._close()
            self._order.append(item)
            return
        if turn is self._open:
            self._close()
        turn.results.append(item)

    # -- rendering

    def _role(self, role: Role) -> str:
        return "system" if role == "developer" and not self._official else role

    def _put_message(self, item: Message, out: list[dict[str, Any]]) -> None:
        if item.role == "user" and not item.name and out and out[-1]["content"] is self._extras:
            # One message: the templates of many models want users and assistants to take turns.
            self._extras.extend(self._parts(item.content))
            self._extras = []
            return
        message: dict[str, Any] = {"role": self._role(item.role), "content": self._content(item.content)}
        if item.name:
            message["name"] = item.name
        out.append(message)

    def _put_turn(self, turn: _Turn, out: list[dict[str, Any]]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if turn.name:
            message["name"] = turn.name
        said: list[Part] = []
        for part in turn.content:
            if isinstance(part, ImagePart):
                turn.extras.append(("An image that you made:", part))
            else:
                said.append(part)
        self._put_said(message, said)
        self._put_thoughts(message, turn.thoughts)
        if turn.calls:
            message["tool_calls"] = [self._call(call) for call in turn.calls]
        elif message["content"] is None and "refusal" not in message:
            if not turn.extras and len(message) == 2:
                return  # reasoning that this provider cannot read, and nothing else
            message["content"] = ""
        out.append(message)
        self._check_answered(turn)
        for result in turn.results:
            out.append(self._result(result, turn.extras))
        self._put_extras(turn.extras, out)

    def _put_said(self, message: dict[str, Any], parts: list[Part]) -> None:
        refusals = [part.refusal for part in parts if isinstance(part, RefusalPart)]
        texts = [part for part in parts if not isinstance(part, RefusalPart)]
        if refusals and not self._official:
            texts.extend(TextPart(text=refusal) for refusal in refusals)
        elif refusals:
            message["refusal"] = "".join(refusals)
        if texts:
            message["content"] = self._content(texts, joint="")

    def _put_thoughts(self, message: dict[str, Any], thoughts: list[Reasoning]) -> None:
        plain: list[str] = []
        details: list[Any] = []
        for thought in thoughts:
            seal = thought.seal
            if seal is not None and seal.kind == "reasoning_details":
                details.extend(jsonio.anything(seal.data.encode()))
            elif seal is not None and seal.kind == "reasoning_content":
                plain.append(seal.data)
            elif seal is not None and seal.kind == "thought_signature" and seal.call_id:
                self._signatures[seal.call_id] = seal.data
            elif self._reasoning_back:
                plain.extend(thought.content or thought.summary)
            else:
                self._losses.hint("reasoning_items")
        if plain:
            message[self._reasoning_back or "reasoning_content"] = "".join(plain)
        if details:
            message["reasoning_details"] = merged_details(details)

    def _call(self, call: FunctionCall) -> dict[str, Any]:
        if not call.custom:
            function = {"name": call.name, "arguments": call.arguments or "{}"}
        elif self._official:
            return {
                "id": self._id(call.call_id),
                "type": "custom",
                "custom": {"name": call.name, "input": call.arguments},
            }
        else:
            function = {"name": call.name, "arguments": jsonio.encode({WRAPPED_INPUT: call.arguments}).decode()}
        called = {"id": self._id(call.call_id), "type": "function", "function": function}
        if signature := self._signatures.pop(call.call_id, ""):
            called["extra_content"] = {"google": {"thought_signature": signature}}
        return called

    def _id(self, call_id: str) -> str:
        """The id, or, where the provider does not take it, another one that is always the same."""
        length = self._id_length
        if length is None:
            return call_id if len(call_id) <= _LONGEST_ID else f"call_{_digest(call_id)[:24]}"
        fits = len(call_id) == length and call_id.isascii() and call_id.isalnum()
        return call_id if fits else _digest(call_id)[:length]

    def _result(self, item: FunctionOutput, extras: list[tuple[str, Part]]) -> dict[str, Any]:
        """The tool's message; what it cannot hold goes to `extras`."""
        texts: list[Part] = []
        others = 0
        for part in item.content:
            if isinstance(part, ImagePart | AudioPart) or (isinstance(part, FilePart) and not part.text):
                extras.append((f"Returned by the tool call {item.call_id}:", part))
                others += 1
            else:
                texts.append(part)
        if others and not text_of(texts):
            texts.append(TextPart(text="The result is in the next user message."))
        if item.is_error and not text_of(texts).lower().startswith("error"):
            first = texts[0] if texts else None
            if isinstance(first, TextPart):
                texts[0] = msgspec.structs.replace(first, text=f"Error: {first.text}")
            else:
                texts.insert(0, TextPart(text="Error"))
        return {"role": "tool", "tool_call_id": self._id(item.call_id), "content": self._content(texts)}

    def _put_extras(self, extras: list[tuple[str, Part]], out: list[dict[str, Any]]) -> None:
        if not extras:
            return
        content: list[dict[str, Any]] = []
        said = ""
        for what, part in extras:
            if what != said:
                content.append({"type": "text", "text": what})
                said = what
            content.extend(self._parts([part]))
        self._extras = content
        out.append({"role": "user", "content": content})

    def _content(self, parts: Iterable[Part], joint: str = "\n") -> str | list[dict[str, Any]]:
        """A plain text where that says the same: many servers take no array of texts."""
        parts = list(parts)
        texts = [part.text for part in parts if isinstance(part, TextPart) and not self._marks(part)]
        if len(texts) == len(parts) and (not self._official or len(texts) < 2):
            return joint.join(texts)
        return self._parts(parts) or ""

    def _parts(self, parts: Iterable[Part]) -> list[dict[str, Any]]:
        """What is refused is not among them, where the route allows that."""
        return [rendered for part in parts if (rendered := self._part(part)) is not None]

    def _marks(self, part: TextPart | ImagePart | FilePart) -> bool:
        """Whether the part's breakpoint goes with it."""
        if part.breakpoint and not self._official:
            self._losses.hint("breakpoint")
        return part.breakpoint and self._official

    def _part(self, part: Part) -> dict[str, Any] | None:
        rendered: dict[str, Any] | None
        match part:
            case TextPart():
                rendered = {"type": "text", "text": part.text}
            case ImagePart(url=""):
                return self._refused("an image by 'file_id'", "Send it as a URL or a data URL.")
            case ImagePart():
                image = {"url": part.url, "detail": part.detail} if part.detail else {"url": part.url}
                rendered = {"type": "image_url", "image_url": image}
            case FilePart():
                rendered = self._file(part)
            case AudioPart():
                return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
            case RefusalPart():
                return {"type": "refusal", "refusal": part.refusal}
            case OpaquePart():
                self._losses.refuse_part(part, f"Its chat messages cannot hold a part of type '{part.type[:64]}'.")
                return None
        if rendered is not None and self._marks(part):
            rendered["prompt_cache_breakpoint"] = {"mode": "explicit"}
        return rendered

    def _file(self, part: FilePart) -> dict[str, Any] | None:
        if part.text:
            return {"type": "text", "text": part.titled_text}
        if part.url:
            return self._refused("a file by its URL", "Send the file's data.")
        if part.file_id and not self._official:
            return self._refused("a file by 'file_id'", "Send the file's data.")
        if part.file_id:
            file = {"file_id": part.file_id, "filename": part.filename} if part.filename else {"file_id": part.file_id}
        else:
            file = {"file_data": part.data, "filename": part.data_name}
        return {"type": "file", "file": file}

    def _refused(self, what: str, why: str = "") -> dict[str, Any] | None:
        """None, where the route allows to leave the part out."""
        self._losses.refuse("items", f"Its chat messages cannot hold {what}.{f' {why}' if why else ''}")
        return None

    # -- calls and results (protocol §1.8)

    def _check_answered(self, turn: _Turn) -> None:
        """OpenAI answers 400 in terms that are not the client's; other servers are content."""
        if not self._official:
            return
        answered = {result.call_id for result in turn.results}
        for call in turn.calls:
            if call.call_id not in answered:
                raise unanswered(self._request, call)

    def _check_unmatched(self, item: FunctionOutput) -> None:
        if self._official:
            raise uncalled(self._request, item)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
