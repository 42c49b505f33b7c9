"""A canonical request as a provider of Anthropic's Messages API wants it (protocol §5.1)."""

import base64
import binascii
import re
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from tidegate.dialects.codec import Losses, StreamDecoder, described_schema, text_of
from tidegate.dialects.dialect import Destination, Endpoint
from tidegate.dialects.messages.decoder import MessagesDecoder, decode_message
from tidegate.dialects.messages.native import input_of, native_blocks
from tidegate.dialects.messages.thinking import put_thinking
from tidegate.dialects.pairs import unanswered, uncalled
from tidegate.dialects.websearch import CALL, WebSearch, read_web_search
from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest
from tidegate.wire.events import Event
from tidegate.wire.items import (
    AudioPart,
    CanonicalRequest,
    FilePart,
    FunctionCall,
    FunctionOutput,
    HostedTool,
    ImagePart,
    Item,
    Message,
    OpaqueItem,
    OpaquePart,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    Tool,
    parse_data_url,
)

__all__ = ["DEFAULT_MAX_TOKENS", "MessagesUpstream", "going_on", "with_content_before"]

DEFAULT_MAX_TOKENS = 8192
"""`max_tokens` where neither the client nor the provider's record says how many: every request must have a limit."""

MAX_BREAKPOINTS = 4
"""Blocks of one request that may have `cache_control`."""

_CACHED = {"type": "ephemeral"}
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_CALL_ID = re.compile(r"[^A-Za-z0-9_-]")
_SERVER_TOOL = re.compile(r"[a-z_]+_20\d{6}")
_text = jsonio.decoder(str)
_NOTHING = jsonio.raw({})
_ANY_OBJECT = jsonio.raw({"type": "object"})
_FREE_TEXT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}

Block = dict[str, Any]


class MessagesUpstream:
    """See :class:`tidegate.dialects.codec.UpstreamDialect`."""

    name: Endpoint = "messages"

    def encode_request(self, request: CanonicalRequest, destination: Destination, losses: Losses) -> bytes:
        _refuse_the_rest(request, losses)
        body: dict[str, Any] = {"model": destination.model}
        tools, choice = _tools(request, losses)
        conversation = _Conversation(request, destination, losses)
        conversation.read(request.items)
        if not tools and conversation.called:
            # A conversation with calls needs their tools, also when there is nothing left to call.
            tools = [{"name": name, "input_schema": _ANY_OBJECT} for name in conversation.called]
            choice = {"type": "none"}
        _limit_breakpoints([*tools, *conversation.blocks()], losses)
        body["max_tokens"] = request.max_output_tokens or destination.max_output_tokens or DEFAULT_MAX_TOKENS
        if conversation.system:
            body["system"] = _shortened(conversation.system)
        body["messages"] = conversation.messages()
        if tools:
            losses.put(body, "tools", _native(tools), "tools")
        if choice is not None:
            losses.put(body, "tool_choice", choice, "tool_choice")
        _put_format(body, request, destination, losses)
        put_thinking(body, request, destination, losses)
        _put_stops(body, request, losses)
        _put_user(body, request, losses)
        if request.prompt_cache_key and not any("cache_control" in block for block in conversation.blocks()):
            # The key says that the prefix is worth keeping; here the last block says so, and the prefix is the key.
            body["cache_control"] = _CACHED
        body["stream"] = request.stream
        return jsonio.encode(body)

    def decoder(self, destination: Destination, request: CanonicalRequest) -> StreamDecoder:
        return MessagesDecoder(destination, request)

    def decode_answer(self, body: bytes, destination: Destination, request: CanonicalRequest) -> list[Event]:
        return decode_message(body, destination, request)


def going_on(body: bytes, content: list[msgspec.Raw]) -> bytes:
    """The request `body` with what the provider has said so far behind it, so that it goes on (protocol §5.3)."""
    members = jsonio.members(body)
    last = jsonio.members(content[-1])
    if last["type"] == jsonio.raw("text"):  # the API takes no blanks at the end
        last["text"] = jsonio.raw(jsonio.decode(last["text"], _text).rstrip())
        content = [*content[:-1], jsonio.raw(last)]
    messages = [*jsonio.elements(members["messages"]), jsonio.raw({"role": "assistant", "content": content})]
    return jsonio.encode({**members, "messages": messages})


def with_content_before(body: bytes, said: list[msgspec.Raw]) -> bytes:
    """The answer in `body` as if it had been one with what was `said` before the provider paused."""
    try:
        members = jsonio.members(body)
        return jsonio.encode({**members, "content": [*said, *jsonio.elements(members["content"])]})
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch, KeyError):
        return body  # whoever reads it says what is wrong with it


def _refuse_the_rest(request: CanonicalRequest, losses: Losses) -> None:
    """What this API has no counterpart for (protocol §5.5)."""
    if request.n > 1:
        losses.refuse("n", "It gives one answer to a request; send the request once for each.")
    if request.seed is not None:
        losses.refuse("seed")
    if request.frequency_penalty:
        losses.refuse("frequency_penalty")
    if request.presence_penalty:
        losses.refuse("presence_penalty")
    if not jsonio.is_null(request.logit_bias) and request.logit_bias != _NOTHING:
        losses.refuse("logit_bias")
    if request.top_logprobs is not None:
        losses.refuse("top_logprobs", "It has no log probabilities.")
    if request.verbosity not in ("", "medium"):
        losses.hint("verbosity")
    if request.metadata:
        losses.hint("metadata")


# -- the conversation -------------------------------------------------------------------------------------------


class _Turn:
    """One message under construction. `results` counts the tool results at its beginning."""

    __slots__ = ("blocks", "results", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self.blocks: list[Block] = []
        self.results = 0


class _Conversation:
    """Items, regrouped into turns: all calls of one step in one assistant message, all their results at the beginning of
    the user message behind it."""

    def __init__(self, request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
        self._losses = losses
        self._request = request
        self._param = request.names.get("items", "items")
        self._system_turns = destination.traits.system_turns
        self.system: list[Block] = []
        self.called: dict[str, None] = {}
        """Names of tools that were called, in order."""
        self._turns: list[_Turn] = []
        self._open: list[tuple[FunctionCall, str]] = []
        """Calls of the last turn that have no result yet, with the ids that they have here."""
        self._outputs: dict[str, deque[FunctionOutput]] = {}
        self._placed: set[int] = set()
        self._used: set[str] = set()
        if request.instructions.strip():
            self.system.append({"type": "text", "text": request.instructions})

    def read(self, items: list[Item]) -> None:
        """Raises InvalidRequest for a call without its result, or the other way round."""
        for item in items:
            if isinstance(item, FunctionOutput):
                self._outputs.setdefault(item.call_id, deque()).append(item)
        for place, item in enumerate(items):
            if isinstance(item, Message):
                self._losses.told_of(item)
            match item:
                case Message(role="user"):
                    self._finish_calls()
                    self._add("user", self._blocks(item.content))
                case Message(role="assistant"):
                    self._say(self._blocks(item.content, assistant=True))
                case Message():
                    self._add_system(item, items[place + 1 :])
                case FunctionCall():
                    self._add_call(item)
                case FunctionOutput():
                    self._finish_calls()
                    if id(item) not in self._placed:
                        raise uncalled(self._request, item)
                case Reasoning():
                    self._add_thought(item)
                case OpaqueItem():
                    self._add_opaque(item)
        self._finish_calls()
        self._tidy()
        if not self._turns and self.system:
            # This API answers no instructions without a question: the last of them is what there is to ask.
            alone = self._request.instructions.strip() and len(self.system) == 1
            self._losses.hint("instructions" if alone else f"{self._param}[].role")
            self._add("user", [self.system.pop()])
        if not self._turns:
            raise InvalidRequest(f"Invalid '{self._param}': this model needs at least one message.", param=self._param)

    def blocks(self) -> Iterable[Block]:
        """All blocks that may be marked for the cache, in the order of the prompt."""
        yield from self.system
        for turn in self._turns:
            yield from turn.blocks

    def messages(self) -> list[dict[str, Any]]:
        return [{"role": turn.role, "content": _shortened(turn.blocks)} for turn in self._turns]

    def _add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(_Turn(role))
        self._turns[-1].blocks.extend(blocks)

    def _say(self, blocks: list[Block]) -> None:
        """Words of the assistant. Calls stand last in its messages: words behind them are a 400."""
        if not self._open:
            self._add("assistant", blocks)
            return
        before = self._turns[-1].blocks
        first = next(at for at, block in enumerate(before) if block.get("id") == self._open[0][1])
        before[first:first] = blocks

    def _add_call(self, call: FunctionCall) -> None:
        self.called[call.name] = None
        known = self._fresh_id(call.call_id)
        self._add("assistant", [{"type": "tool_use", "id": known, "name": call.name, "input": input_of(call)}])
        self._open.append((call, known))

    def _fresh_id(self, call_id: str) -> str:
        """The id in the letters that this API takes, and unlike all before it: some engines count from 0 in each turn."""
        plain = _CALL_ID.sub("_", call_id) or "call"
        known, number = plain, 1
        while known in self._used:
            number += 1
            known = f"{plain}_{number}"
        self._used.add(known)
        return known

    def _finish_calls(self) -> None:
        """The results of the open calls, wherever they stand among the items."""
        if not self._open:
            return
        results: list[Block] = []
        for call, known in self._open:
            waiting = self._outputs.get(call.call_id)
            if not waiting:
                raise unanswered(self._request, call)
            output = waiting.popleft()
            self._placed.add(id(output))
            results.append(self._result(output, known))
        self._open.clear()
        self._add("user", results)
        self._turns[-1].results = len(results)

    def _result(self, output: FunctionOutput, known: str) -> Block:
        result: Block = {"type": "tool_result", "tool_use_id": known}
        blocks = self._blocks(output.content)
        if any(block.pop("cache_control", None) for block in blocks):
            result["cache_control"] = _CACHED
        if blocks:
            result["content"] = _shortened(blocks)
        elif text := text_of(output.content):
            result["content"] = text
        if output.is_error:
            result["is_error"] = True
        return result

    def _add_system(self, message: Message, rest: list[Item]) -> None:
        blocks = self._blocks(message.content)
        if any(block["type"] != "text" for block in blocks):
            self._losses.refuse("items", "Its instructions are text.")
            blocks = [block for block in blocks if block["type"] == "text"]
        if not self._turns and not self._open:
            self.system.extend(blocks)
            return
        if not blocks:
            return
        following = next((one for one in rest if not _is_system(one)), None)
        if self._system_turns and not (isinstance(following, Message) and following.role == "user"):
            self._finish_calls()
            if self._turns[-1].role != "assistant":
                self._add("system", blocks)
                return
        self._losses.hint(f"{self._param}[].role")
        self.system.extend(blocks)

    def _add_thought(self, item: Reasoning) -> None:
        """The provider's own block, byte for byte. What it has not signed is left out (protocol §5.4)."""
        seal = item.seal
        if seal is not None and seal.data and seal.kind == "signature":
            self._add("assistant", [{"type": "thinking", "thinking": seal.text, "signature": seal.data}])
        elif seal is not None and seal.data and seal.kind == "redacted":
            self._add("assistant", [{"type": "redacted_thinking", "data": seal.data}])
        else:
            self._losses.hint("reasoning_items")

    def _add_opaque(self, item: OpaqueItem) -> None:
        """Blocks of this API that came through another one go back as they were (see the decoder)."""
        if (blocks := native_blocks(item.value)) is not None:
            self._add("assistant", [{"native": block} for block in blocks])
        elif item.type == CALL:
            self._losses.hint(CALL)
        else:
            self._losses.item(item, f"It has no items of type '{item.type}'.")

    def _blocks(self, parts: list[Part], *, assistant: bool = False) -> list[Block]:
        found: list[Block] = []
        for part in parts:
            block = self._block(part, assistant=assistant)
            if block is not None:
                if getattr(part, "breakpoint", False):
                    block["cache_control"] = _CACHED
                found.append(block)
            elif getattr(part, "breakpoint", False) and found:
                found[-1]["cache_control"] = _CACHED
        return found

    def _block(self, part: Part, *, assistant: bool) -> Block | None:
        """None for a text of nothing but blanks, which this API refuses, and for what was left out by leave."""
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                return {"type": "text", "text": text} if text.strip() else None
            case ImagePart() | FilePart() | AudioPart() if assistant:
                self._losses.hint(
                    "said_media"
                )  # a model made it: it comes back with the history, and here an answer is text
            case ImagePart():
                return self._image(part)
            case FilePart():
                return self._document(part)
            case AudioPart():
                self._losses.refuse("items", "It takes no audio.")
            case OpaquePart():
                self._losses.refuse_part(part, f"It has no content of type '{part.type[:64]}'.")
        return None

    def _image(self, part: ImagePart) -> Block | None:
        if part.detail not in ("", "auto"):
            self._losses.hint("detail")
        if part.file_id:
            self._losses.refuse("items", f"The image file '{part.file_id}' is kept elsewhere; send its data or a URL.")
            return None
        if not part.url.startswith("data:"):
            return {"type": "image", "source": {"type": "url", "url": part.url}}
        found = parse_data_url(part.url)
        if found is None:
            raise InvalidRequest("Invalid image: a data URL must be base64.", param=self._param)
        media_type, data = found
        if media_type == "image/jpg":
            media_type = "image/jpeg"
        if media_type not in _IMAGES:
            self._losses.refuse("items", f"It takes no images of type '{media_type}'.")
            return None
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}

    def _document(self, part: FilePart) -> Block | None:
        source: dict[str, str]
        if part.file_id:
            self._losses.refuse("items", f"The file '{part.file_id}' is kept elsewhere; send its data.")
            return None
        if part.url:
            source = {"type": "url", "url": part.url}
        elif part.data:
            found = parse_data_url(part.data)
            if found is None:
                raise InvalidRequest("Invalid file: its data must be a base64 data URL.", param=self._param)
            media_type, data = found
            if media_type == "application/pdf":
                source = {"type": "base64", "media_type": media_type, "data": data}
            elif media_type.startswith("text/") or media_type == "application/json":
                source = {"type": "text", "media_type": "text/plain", "data": self._decoded(data)}
            else:
                self._losses.refuse("items", f"It takes PDF and text, no files of type '{media_type}'.")
                return None
        else:
            source = {"type": "text", "media_type": "text/plain", "data": part.text}
        block: Block = {"type": "document", "source": source}
        if part.filename:
            block["title"] = part.filename
        return block

    def _decoded(self, data: str) -> str:
        try:
            return base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidRequest("Invalid file: its data is not the base64 of UTF-8 text.", param=self._param) from None

    def _tidy(self) -> None:
        """What this API refuses at the end of an assistant's message: thinking, and blanks behind the last text."""
        for turn in self._turns:
            while turn.role == "assistant" and turn.blocks and turn.blocks[-1].get("type") in _THOUGHTS:
                turn.blocks.pop()
                self._losses.hint("reasoning_items")
        self._turns = [turn for turn in self._turns if turn.blocks]
        if self._turns and self._turns[-1].role == "assistant":
            last = self._turns[-1].blocks[-1]
            if last.get("type") == "text":
                last["text"] = last["text"].rstrip()


_THOUGHTS = ("thinking", "redacted_thinking")


def _is_system(item: Item) -> bool:
    return isinstance(item, Message) and item.role in ("system", "developer")


def _shortened(blocks: list[Block]) -> Any:
    """One plain text as a string, all else as the list."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return _native(blocks)


def _native(blocks: list[Block]) -> list[Any]:
    """With what came as this API's own in the place of what holds it."""
    return [block.get("native", block) for block in blocks]


def _limit_breakpoints(blocks: list[Block], losses: Losses) -> None:
    """The last ones stay: the longest prefixes are worth most."""
    marked = [block for block in blocks if "cache_control" in block]
    for block in marked[:-MAX_BREAKPOINTS]:
        del block["cache_control"]
        losses.hint("breakpoint")


# -- tools ------------------------------------------------------------------------------------------------------


def _tools(request: CanonicalRequest, losses: Losses) -> tuple[list[Block], Block | None]:
    """The tools, and the choice among them."""
    choice = request.tool_choice
    allowed = set(choice.names) if choice is not None and choice.mode == "allowed" else None
    tools: list[Block] = []
    for tool in request.tools:
        if isinstance(tool, HostedTool):
            if (hosted := _hosted(tool, losses)) is not None:
                tools.append(hosted)
        elif allowed is None or tool.name in allowed:
            tools.append(_tool(tool, losses))
    result: Block | None = None
    if choice is not None:
        if choice.mode == "function":
            result = {"type": "tool", "name": choice.names[0]}
        elif choice.mode == "none":
            result = {"type": "none"}
        elif choice.mode == "required" or (choice.mode == "allowed" and choice.required):
            result = {"type": "any"}
        else:
            result = {"type": "auto"}
    if not tools:
        if result is not None and result["type"] in ("any", "tool"):
            losses.refuse("tool_choice", "There is no tool to choose.")
        return [], None
    if request.parallel_tool_calls is False and (result is None or result["type"] != "none"):
        result = {**(result or {"type": "auto"}), "disable_parallel_tool_use": True}
    return tools, result


class _Format(msgspec.Struct):
    type: str = ""


_format = jsonio.decoder(_Format)


def _tool(tool: Tool, losses: Losses) -> Block:
    found: Block = {"name": tool.name}
    if tool.custom:
        grammar = ""
        if _has_grammar(tool):
            # What a grammar would force is asked for in words (protocol §5.1).
            grammar = f"\n\nFormat of `input`: {bytes(tool.format).decode()}"
            losses.hint("grammar")
        if text := (tool.description + grammar).strip():
            found["description"] = text
        found["input_schema"] = _FREE_TEXT
    else:
        if tool.description:
            found["description"] = tool.description
        found["input_schema"] = _schema(tool.parameters)
        if tool.strict:
            found["strict"] = True
    if tool.breakpoint:
        found["cache_control"] = _CACHED
    return found


def _has_grammar(tool: Tool) -> bool:
    if jsonio.is_null(tool.format):
        return False
    try:
        return jsonio.decode(tool.format, _format).type != "text"
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return True


def _schema(parameters: msgspec.Raw) -> msgspec.Raw:
    """The schema as it came, with the `type` that this API demands and clients leave out."""
    if jsonio.is_null(parameters):
        return _ANY_OBJECT
    try:
        members = jsonio.members(parameters)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return parameters
    return parameters if "type" in members else jsonio.raw({"type": "object", **members})


def _hosted(tool: HostedTool, losses: Losses) -> Any:
    if _SERVER_TOOL.fullmatch(tool.type):
        return {"native": tool.value}
    search = read_web_search(tool)
    if search is not None:
        return _web_search(search, losses)
    losses.hosted(tool, f"It has no tool of type '{tool.type}'.")
    return None


def _web_search(search: WebSearch, losses: Losses) -> Block:
    found: Block = {"type": "web_search_20250305", "name": "web_search"}
    search.put_domains(found, losses, "It takes domains to allow, or domains to block.")
    if search.user_location:
        found["user_location"] = search.user_location
    if search.max_uses is not None:
        found["max_uses"] = search.max_uses
    search.tell(losses, ("search_context_size",))
    return found


# -- other members ----------------------------------------------------------------------------------------------


def _put_format(body: dict[str, Any], request: CanonicalRequest, destination: Destination, losses: Losses) -> None:
    form = request.format
    if form is None or form.type == "text":
        return
    if form.type == "json_object":
        losses.refuse("format", "Give a schema: it has 'json_schema' only.")
    elif not destination.traits.formats:
        losses.refuse("format", "This model has no output format; offer a tool with the schema.")
    else:
        schema = _ANY_OBJECT if jsonio.is_null(form.schema) else form.schema
        schema = described_schema(msgspec.structs.replace(form, schema=schema), losses)
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}


def _put_stops(body: dict[str, Any], request: CanonicalRequest, losses: Losses) -> None:
    stops = [stop for stop in request.stop if stop.strip()]
    if len(stops) < len(request.stop):
        losses.refuse("stop", "A stop sequence must have more in it than blanks.")
    if stops:
        losses.put(body, "stop_sequences", stops, "stop")


_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only", "priority": "auto"}


def _put_user(body: dict[str, Any], request: CanonicalRequest, losses: Losses) -> None:
    name = "safety_identifier" if request.safety_identifier else "user"
    if user := request.safety_identifier or request.user:
        losses.put(body, "metadata", {"user_id": user}, name)
    if request.service_tier:
        tier = _TIERS.get(request.service_tier)
        if tier is None:
            losses.hint("service_tier")
        else:
            losses.put(body, "service_tier", tier, "service_tier")
