"""Output items of a response as JSON: the same bytes for a stream's `done`, its last snapshot, and a whole answer."""

from collections.abc import Iterable

import msgspec

from tidegate.dialects.responses.tools import TOOL_SEARCH, ToolNames
from tidegate.dialects.responses.toolsearch import search_call
from tidegate.wire import jsonio
from tidegate.wire.items import (
    FunctionCall,
    ImagePart,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    RefusalPart,
    TextPart,
    parse_data_url,
)

__all__ = [
    "call_item",
    "image_item",
    "is_json",
    "item_id",
    "logprob_entries",
    "message_item",
    "output_items",
    "reasoning_item",
    "refusal_part",
    "text_part",
    "thought_parts",
    "with_call_id",
    "with_id",
]

_NO_MEMBER = b""
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "image_generation_call": "ig",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "tool_search_call": "tsc",
    "compaction": "cmp",
}
"""The official prefixes of item ids (protocol §1.4)."""


def item_id(response_id: str, kind: str, at: int) -> str:
    """The id of the item at `output_index` `at`: stable, and unlike that of any other item of any response."""
    return f"{_PREFIXES.get(kind, kind)}_{response_id.removeprefix('resp_')[:44]}{at:04x}"


def with_call_id(call: FunctionCall, name: str) -> FunctionCall:
    """The call with an id that its result can name: some engines give none. `name` is the item's."""
    return call if call.call_id else msgspec.structs.replace(call, call_id=f"call_{name.partition('_')[2]}")


def text_part(text: bytes, annotations: Iterable[bytes] = (), logprobs: Iterable[bytes] = ()) -> bytes:
    """`text` is the inside of a JSON string."""
    return b'{"type":"output_text","text":"%b","annotations":[%b],"logprobs":[%b]}' % (
        text,
        b",".join(annotations),
        b",".join(logprobs),
    )


def refusal_part(text: bytes) -> bytes:
    return b'{"type":"refusal","refusal":"%b"}' % text


def thought_parts(kind: str, texts: Iterable[bytes]) -> bytes:
    """An array of parts of type `kind`, `summary_text` or `reasoning_text`."""
    return b"[%b]" % b",".join(b'{"type":"%b","text":"%b"}' % (kind.encode(), text) for text in texts)


def message_item(name: str, status: str, parts: Iterable[bytes]) -> bytes:
    return b'{"id":"%b","type":"message","role":"assistant","status":"%b","content":[%b]}' % (
        name.encode(),
        status.encode(),
        b",".join(parts),
    )


def reasoning_item(
    name: str, summary: Iterable[bytes], content: Iterable[bytes], encrypted: str = "", *, incomplete: bool = False
) -> bytes:
    """Members that have nothing to say are left out: null is no value for them (protocol §2)."""
    thoughts = list(content)
    return b'{"id":"%b","type":"reasoning","summary":%b%b%b%b}' % (
        name.encode(),
        thought_parts("summary_text", summary),
        b',"content":' + thought_parts("reasoning_text", thoughts) if thoughts else _NO_MEMBER,
        b',"encrypted_content":' + jsonio.encode(encrypted) if encrypted else _NO_MEMBER,
        b',"status":"incomplete"' if incomplete else _NO_MEMBER,
    )


def call_item(name: str, status: str, call: FunctionCall, text: bytes) -> bytes:
    """`text` is the inside of a JSON string; `call.arguments` is not looked at."""
    space = b',"namespace":' + jsonio.encode(call.namespace) if call.namespace else _NO_MEMBER
    return b'{"id":"%b","type":"%b","status":"%b","call_id":%b,"name":%b%b,"%b":"%b"}' % (
        name.encode(),
        b"custom_tool_call" if call.custom else b"function_call",
        status.encode(),
        jsonio.encode(call.call_id),
        jsonio.encode(call.name),
        space,
        b"input" if call.custom else b"arguments",
        text,
    )


def image_item(name: str, status: str, media_type: str, data: str) -> bytes:
    """A generated image; without `data` it is still being made."""
    kind = media_type.partition(";")[0].removeprefix("image/").partition("+")[0]
    form = b',"output_format":' + jsonio.encode(kind) if kind in _IMAGE_FORMATS else _NO_MEMBER
    return b'{"id":"%b","type":"image_generation_call","status":"%b"%b,"result":%b}' % (
        name.encode(),
        status.encode(),
        form,
        jsonio.encode(data or None),
    )


_IMAGE_FORMATS = frozenset({"png", "webp", "jpeg", "gif", "svg"})


def with_id(value: msgspec.Raw, name: str) -> bytes:
    """An item as it came, with an id if it has none: items are told apart by it."""
    members = jsonio.members(value)
    if not jsonio.is_null(members.get("id", jsonio.EMPTY)):
        return bytes(value)
    return jsonio.encode({"id": jsonio.raw(name), **{key: one for key, one in members.items() if key != "id"}})


class _TopLogprob(msgspec.Struct):
    token: str
    logprob: float | None
    bytes: list[int] | None = None


class _Logprob(msgspec.Struct):
    token: str
    logprob: float | None
    bytes: list[int] | None = None
    top_logprobs: list[_TopLogprob] | None = None


_logprob = jsonio.decoder(_Logprob)


def logprob_entries(values: Iterable[msgspec.Raw]) -> list[bytes]:
    """Entries with `bytes` and `top_logprobs`, which the API promises as arrays and chat servers leave out or null."""
    entries = []
    for value in values:
        try:
            found = jsonio.decode(value, _logprob)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            entries.append(jsonio.one_line(bytes(value)))
            continue
        for one in (found, *(found.top_logprobs or ())):
            if one.bytes is None:
                one.bytes = list(one.token.encode())
        if found.top_logprobs is None:
            found.top_logprobs = []
        entries.append(jsonio.encode(found))
    return entries


def output_items(items: Iterable[Item], response_id: str, names: ToolNames, *, start: int, cut: bool) -> list[bytes]:
    """The items of one choice, the first at `output_index` `start`. `cut`: the last one is incomplete, if it can be."""
    found: list[Item | ImagePart] = []
    for item in items:
        found.extend(_split(item) if isinstance(item, Message) else (item,))
    out = []
    for place, one in enumerate(found):
        status = "incomplete" if cut and place == len(found) - 1 else "completed"
        out.append(_item(one, response_id, names, start + place, status))
    return out


def _split(message: Message) -> list[Item | ImagePart]:
    """A message, and the images in it, which are items of their own here, in their order."""
    found: list[Item | ImagePart] = []
    for part in message.content:
        if isinstance(part, ImagePart):
            found.append(part)
        elif isinstance(last := found[-1] if found else None, Message):
            last.content.append(part)
        else:
            found.append(Message(role="assistant", content=[part]))
    return found or [message]


def _item(item: Item | ImagePart, response_id: str, names: ToolNames, at: int, status: str) -> bytes:
    match item:
        case Message():
            parts = []
            for part in item.content:
                if isinstance(part, TextPart):
                    annotations = (bytes(one) for one in part.annotations)
                    parts.append(text_part(_inside(part.text), annotations, logprob_entries(part.logprobs)))
                elif isinstance(part, RefusalPart):
                    parts.append(refusal_part(_inside(part.refusal)))
            return message_item(item_id(response_id, "message", at), status, parts)
        case FunctionCall(name=name) if names.searches and name == TOOL_SEARCH:
            own = item_id(response_id, "tool_search_call", at)
            return bytes(search_call(own, with_call_id(item, own).call_id, item.arguments))
        case FunctionCall():
            call = names.as_client_knows(item)
            kind = "custom_tool_call" if call.custom else "function_call"
            text = call.arguments or ("" if call.custom else "{}")
            if status == "incomplete" and not call.custom and is_json(text):
                status = "completed"
            name = item_id(response_id, kind, at)
            return call_item(name, status, with_call_id(call, name), _inside(text))
        case Reasoning():
            return reasoning_item(
                item_id(response_id, "reasoning", at),
                map(_inside, filter(None, item.summary)),
                map(_inside, filter(None, item.content)),
                item.encrypted,
                incomplete=status == "incomplete",
            )
        case ImagePart():
            media_type, data = parse_data_url(item.url) or ("", "")
            return image_item(item_id(response_id, "image_generation_call", at), "completed", media_type, data)
        case OpaqueItem():
            return with_id(item.value, item_id(response_id, item.type, at))
        case _:
            raise AssertionError(f"{type(item).__name__} is no output of a model")


def is_json(text: str | bytes) -> bool:
    """Whether arguments are complete: a cut call breaks off inside its JSON."""
    try:
        jsonio.decode(text.encode() if isinstance(text, str) else text, _value)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return False
    return True


_value = jsonio.decoder(msgspec.Raw)


def _inside(text: str) -> bytes:
    return jsonio.encode(text)[1:-1]
