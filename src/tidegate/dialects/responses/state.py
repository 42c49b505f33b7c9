"""What a request refers to that lies with the gateway: earlier responses, conversations, single items (protocol §1.9).

Nothing here looks anything up. A request says what it refers to, is given the items that were found, and reads as if
the client had sent all of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tidegate.wire import jsonio
from tidegate.wire.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from tidegate.dialects.responses.prompt import InputItem, PromptBody

__all__ = [
    "NO_ITEMS",
    "Apart",
    "Ground",
    "Kept",
    "NewId",
    "References",
    "check_pairs",
    "given_items",
    "is_reference",
    "kept_items",
    "prefix_of",
    "read_references",
    "with_history",
]

NewId = Callable[[str], str]
"""A fresh item id for a prefix such as `msg`."""

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "mcp_call": "mcp",
}
"""How the ids of an item begin, by type (protocol §1.4); others begin with `item`."""
_OFFICIAL = frozenset(_PREFIXES.values())

_OUTPUTS = {
    "function_call_output": ("function_call", "local_shell_call"),
    "custom_tool_call_output": ("custom_tool_call",),
    "computer_call_output": ("computer_call",),
    "local_shell_call_output": ("local_shell_call",),
    "shell_call_output": ("shell_call",),
    "apply_patch_call_output": ("apply_patch_call",),
    "tool_search_output": ("tool_search_call",),
}
"""Items that answer a call, and the types of the call. Codex answers a local shell like a function."""

_LOCAL_SHELL, _LOCAL_SHELL_OUTPUT = "local_shell_call", "local_shell_call_output"

_ANSWERED = frozenset({"function_call", "custom_tool_call", "tool_search_call"})
"""Calls that nobody but the client can answer, so that a turn without their output cannot go on."""


NO_ITEMS = jsonio.raw([])


class Apart(NamedTuple):
    """A completed response object in two: what it says, and the rest."""

    items: list[tuple[str, bytes]]
    """Its output, id and JSON of each item."""
    rest: bytes
    """The object with an output of `NO_ITEMS`, as JSON."""


class Kept:
    """An answer that is kept: what can be retrieved of it."""

    __slots__ = ("apart", "response")

    def __init__(self) -> None:
        self.response = b""
        """The last response object that was made for the client, as JSON."""
        self.apart: Apart | None = None
        """The same in two, where whoever made it had that at hand."""


class References(msgspec.Struct, frozen=True, kw_only=True):
    """What a request builds on. At most one of `previous` and `conversation` is set."""

    previous: str | None = None
    conversation: str | None = None
    items: tuple[str, ...] = ()
    """Ids of single items, each once."""


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a request builds on, as far as it is at hand before anything is looked up."""

    history: tuple[bytes, ...] | None = None
    """All items up to the end of the previous response; None when that has to be looked up."""
    named: dict[str, bytes] = {}
    """Single items by id."""

    def left(self, references: References) -> References | None:
        """What has to be looked up all the same."""
        items = tuple(name for name in references.items if name not in self.named)
        if self.history is not None:
            references = References(items=items)
        else:
            references = msgspec.structs.replace(references, items=items)
        return None if references == References() else references


def is_reference(item: "InputItem") -> bool:
    """Whether the item stands for another one; `type` may be left out (protocol §1.4)."""
    return item.type == "item_reference" or (item.type is None and item.id is not None and item.role is None)


def read_references(typed: "PromptBody") -> References | None:
    """What must be looked up before the request can be answered; None for nearly every request."""
    if typed.previous_response_id is None and typed.conversation is None and not isinstance(typed.input, list):
        return None
    items: tuple[str, ...] = ()
    if isinstance(typed.input, list):
        named = (item.id for item in typed.input if item.id is not None and is_reference(item))
        items = tuple(dict.fromkeys(named))
    conversation = typed.conversation
    if conversation is not None and not isinstance(conversation, str):
        conversation = conversation.id
    if typed.previous_response_id is None and conversation is None and not items:
        return None
    return References(previous=typed.previous_response_id, conversation=conversation, items=items)


def with_history(
    given: msgspec.Raw | None, typed: "PromptBody", history: Sequence[bytes], found: Mapping[str, bytes]
) -> msgspec.Raw:
    """`input` with what came before it, and with the items themselves where references stood.

    Raises NotFound for a reference to nothing that was found.
    """
    return jsonio.raw([*(msgspec.Raw(item) for item in history), *given_items(given, typed, found)])


def given_items(given: msgspec.Raw | None, typed: "PromptBody", found: Mapping[str, bytes]) -> list[Any]:
    """The request's own input as items that can be encoded, those of `found`, by id, where references stand. Raises
    NotFound for a reference to nothing that was found."""
    if isinstance(typed.input, str):
        return [{"type": "message", "role": "user", "content": typed.input}]
    if typed.input is None or given is None:
        return []
    items: list[Any] = []
    for place, (item, raw) in enumerate(zip(typed.input, jsonio.elements(given), strict=True)):
        if not is_reference(item):
            items.append(raw)
        elif item.id is not None and item.id in found:
            items.append(msgspec.Raw(found[item.id]))
        else:
            raise NotFound(f"Item with id '{item.id}' not found.", param=f"input[{place}].id")
    return items


def check_pairs(items: "Iterable[InputItem]") -> None:
    """Every output needs its call, and every call of a client's tool its output. Raises InvalidRequest, in the words of
    the official API (protocol §1.8).

    What has no `call_id` cannot be judged: the provider's own searches, for one. Outputs of a local shell name their call
    by `id`. A call of an asynchronous tool may be answered in a later turn.
    """
    open_calls: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for item in items:
        kind = item.type or ""
        calls = _OUTPUTS.get(kind)
        if calls is not None:
            name = item.call_id or (item.id if kind == _LOCAL_SHELL_OUTPUT else None)
            if name is None:
                continue
            if not any((call, name) in seen for call in calls):
                raise InvalidRequest(f"No tool call found for {_words(kind)} with call_id {name}.", param="input")
            open_calls.pop(name, None)
        elif item.call_id is not None:
            seen.add((kind, item.call_id))
            if kind in _ANSWERED and not item.is_async:
                open_calls[item.call_id] = kind
            elif kind == _LOCAL_SHELL and item.id is not None:
                seen.add((kind, item.id))
    for call_id, kind in open_calls.items():
        raise InvalidRequest(f"No tool output found for {_words(kind)} {call_id}.", param="input")


_SAID = b'{"type":"message","id":"%b","status":"completed","role":"user","content":[{"type":"input_text","text":%b}]}'
"""What the user says, in the form of :func:`_kept`."""


def kept_items(
    given: msgspec.Raw | None,
    typed: "str | list[InputItem] | None",
    new_id: NewId,
    taken: Iterable[str] = (),
) -> list[tuple[str, bytes]]:
    """An input as the items that are kept: id and JSON of each, in order. Items that stand for others are left out: those
    are kept already. An id that comes again, or is `taken`, gives way to a new one, so that each names one item."""
    if typed is None or given is None:
        return []
    if isinstance(typed, str):
        fresh = new_id("msg")
        return [(fresh, _SAID % (fresh.encode("ascii"), jsonio.encode(typed)))]
    kept: list[tuple[str, bytes]] = []
    names = set(taken)
    for item, raw in zip(typed, jsonio.elements(given), strict=True):
        if not is_reference(item):
            name = None if item.id in names else item.id
            one = _kept(
                jsonio.members(raw), item.type or "message", new_id, name=name, role=item.role, content=item.content
            )
            names.add(one[0])
            kept.append(one)
    return kept


def _kept(
    item: jsonio.Members, kind: str, new_id: NewId, *, name: str | None = None, role: str | None = None, content: object
) -> tuple[str, bytes]:
    """A message gets the full form that clients are shown: type, id, status, and its content in parts."""
    name = name or new_id(_PREFIXES.get(kind, "item"))
    whole: dict[str, Any] = {"type": kind, **item, "id": name}
    if kind == "message":
        whole.setdefault("status", "completed")
        whole.setdefault("role", role)
        if isinstance(content, str):
            part: dict[str, Any] = {"type": "input_text", "text": content}
            if role == "assistant":
                part = {"type": "output_text", "text": content, "annotations": []}
            whole["content"] = [part]
    return name, jsonio.encode(whole)


def prefix_of(name: str) -> str:
    """How an id begins that takes the place of this one, which a client may have chosen: nothing of its own goes on."""
    prefix = name.partition("_")[0]
    return prefix if prefix in _OFFICIAL else "item"


def _words(kind: str) -> str:
    """`function call output` for `function_call_output`."""
    return kind.replace("_", " ")
