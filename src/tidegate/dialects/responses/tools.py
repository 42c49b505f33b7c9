"""The client's tools: what the model may call, and under which names."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tidegate.dialects.names import LONGEST_NAME, shortened
from tidegate.dialects.validation import invalid, missing
from tidegate.wire import jsonio
from tidegate.wire.items import FunctionCall, HostedTool, Tool

__all__ = ["TOOL_SEARCH", "ToolNames", "flat_name", "read_tools"]

TOOL_SEARCH = "tool_search"
"""The tool that finds others."""


class _Tool(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = jsonio.EMPTY
    strict: bool | None = None
    format: msgspec.Raw = jsonio.EMPTY
    tools: list[msgspec.Raw] | None = None
    execution: str | None = None


_tool = jsonio.decoder(_Tool)


class ToolNames:
    """Tools inside a namespace are flat everywhere but here: how the client calls them."""

    __slots__ = ("_has_function", "_has_search", "_spaces", "described")

    def __init__(self) -> None:
        self._has_search = False
        self._has_function = False
        self._spaces: dict[str, tuple[str, str]] = {}
        self.described = False
        """A namespace says what its tools are for, and there is no namespace elsewhere."""

    def add(self, namespace: str, name: str) -> str:
        """The flat name of the tool."""
        flat = flat_name(namespace, name)
        self._spaces[flat] = (namespace, name)
        return flat

    def within(self, name: str) -> list[str]:
        """The flat names of the tools that are called `name` within a namespace."""
        return [flat for flat, (_, own) in self._spaces.items() if own == name]

    def note(self, tool: "_Tool") -> None:
        """What this API has beside functions and custom tools."""
        if tool.type == TOOL_SEARCH and tool.execution == "client":
            self._has_search = True
        elif tool.name == TOOL_SEARCH:
            self._has_function = True

    @property
    def searches(self) -> bool:
        """Whether a call of `tool_search` is a search of the client's tools, and no call of a function of that name."""
        return self._has_search and not self._has_function

    def resolve(self, name: str, namespace: str = "") -> tuple[str, str]:
        """Name and namespace as the client knows them. `namespace` is what the provider said, which knows flat names
        only unless the namespace is its own."""
        known = self._spaces.get(name) if not namespace else None
        return (known[1], known[0]) if known is not None else (name, namespace)

    def as_client_knows(self, call: FunctionCall) -> FunctionCall:
        name, namespace = self.resolve(call.name, call.namespace)
        if name == call.name and namespace == call.namespace:
            return call
        return msgspec.structs.replace(call, name=name, namespace=namespace)


def flat_name(namespace: str, name: str) -> str:
    """`ns__name`; one that is too long for providers ends in a digest, so that it stays the tool's own."""
    flat = f"{namespace}__{name}"
    return flat if len(flat) <= LONGEST_NAME else shortened(flat)


def read_tools(values: Iterable[msgspec.Raw], names: ToolNames, path: str) -> list[Tool | HostedTool]:
    """`tools` of a request, or of an item. Namespaces are flattened. Raises InvalidRequest that names a place under
    `path`."""
    found: list[Tool | HostedTool] = []
    for index, value in enumerate(values):
        at = f"{path}[{index}]"
        tool = _read(value, at)
        if tool.type == "namespace":
            if not tool.name:
                raise missing(f"{at}.name")
            names.described = names.described or bool(tool.description)
            for place, inner in enumerate(tool.tools or ()):
                within = _read(inner, f"{at}.tools[{place}]")
                found.append(_canonical(within, inner, f"{at}.tools[{place}]", names, tool.name))
        else:
            found.append(_canonical(tool, value, at, names, ""))
    return found


def _read(value: msgspec.Raw, at: str) -> _Tool:
    try:
        return jsonio.decode(value, _tool)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch) as error:
        place = getattr(error, "path", "")
        raise invalid(f"{at}.{place}" if place else at, f"{getattr(error, 'what', error)}.") from None


def _canonical(tool: _Tool, value: msgspec.Raw, at: str, names: ToolNames, namespace: str) -> Tool | HostedTool:
    names.note(tool)
    if tool.type not in ("function", "custom"):
        return HostedTool(type=tool.type, value=value)
    if not tool.name:
        raise missing(f"{at}.name", "Responses tools are flat: the name stands beside the type.")
    members: dict[str, Any] = {
        "name": names.add(namespace, tool.name) if namespace else tool.name,
        "description": tool.description or "",
    }
    if tool.type == "custom":
        return Tool(custom=True, format=_given(tool.format), **members)
    return Tool(parameters=_given(tool.parameters), strict=tool.strict, **members)


def _given(value: msgspec.Raw) -> msgspec.Raw:
    return jsonio.EMPTY if jsonio.is_null(value) else value
