"""Items of hosted tools as a stream tells them (protocol §1.7): how each begins, and the events between that and its end.

Providers of other dialects tell such an item when it is over: the steps come together, and in their order.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tidegate.wire import jsonio

__all__ = ["begun", "steps"]

_EMPTY_TEXT: Final = jsonio.raw("")
_IN_PROGRESS: Final = jsonio.raw("in_progress")
_FAILED: Final = (jsonio.raw("failed"), jsonio.raw("incomplete"))

_SEARCHES: Final = ("in_progress", "searching", "completed")
_STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "web_search_call": _SEARCHES,
    "file_search_call": _SEARCHES,
    "code_interpreter_call": ("in_progress", "code", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
    "mcp_call": ("in_progress", "arguments", "completed"),
}
_TELLS_FAILURE: Final = frozenset({"mcp_call", "mcp_list_tools"})
"""Whose events have a name for an end that failed; for others only the item says so."""
_WORDS: Final = {"code": "response.code_interpreter_call_code", "arguments": "response.mcp_call_arguments"}
"""Steps in which a member of the item is told piece by piece, and how their events begin."""

_RESULTS: Final[Mapping[str, Mapping[str, msgspec.Raw]]] = {
    "file_search_call": {"results": jsonio.NULL},
    "code_interpreter_call": {"code": _EMPTY_TEXT, "outputs": jsonio.NULL},
    "image_generation_call": {"result": jsonio.NULL},
    "mcp_list_tools": {"tools": jsonio.raw([]), "error": jsonio.NULL},
    "mcp_call": {"arguments": _EMPTY_TEXT, "output": jsonio.NULL, "error": jsonio.NULL},
}
"""Members that an item gets on its way, and what stands there before."""
_CARRIED: Final = ("anthropic_blocks", "google_parts")
"""Members that carry what another API's provider said, results among it."""


def begun(kind: str, item: jsonio.Members) -> jsonio.Members:
    """The item as it is when it begins."""
    members = {name: value for name, value in item.items() if name not in _CARRIED}
    if "status" in members:
        members["status"] = _IN_PROGRESS
    for name, value in _RESULTS.get(kind, {}).items():
        if name in members:
            members[name] = value
    return members


def steps(kind: str, item: jsonio.Members, where: bytes) -> list[tuple[bytes, bytes]]:
    """The events between the beginning of an item and its end: name and members. `where` are those that name the item."""
    failed = item.get("status", jsonio.NULL) in _FAILED or not jsonio.is_blank(item.get("error", jsonio.NULL))
    out: list[tuple[bytes, bytes]] = []
    for step in _STEPS.get(kind, ()):
        if step in _WORDS:
            stem = _WORDS[step].encode()
            text = item.get(step, jsonio.NULL)
            if not bytes(text).startswith(b'"'):
                text = _EMPTY_TEXT
            if text != _EMPTY_TEXT:
                out.append((stem + b".delta", b'%b,"delta":%b' % (where, bytes(text))))
            out.append((stem + b".done", b'%b,"%b":%b' % (where, step.encode(), bytes(text))))
        elif step != "completed" or not failed:
            out.append((f"response.{kind}.{step}".encode(), where))
        elif kind in _TELLS_FAILURE:
            out.append((f"response.{kind}.failed".encode(), where))
    return out
