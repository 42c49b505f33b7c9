"""`tool_search` of the Responses API for providers that do not know it (protocol §5.1).

A client that searches its own tools (`"execution": "client"`, as Codex does) gets the model's question as a
`tool_search_call` and answers with a `tool_search_output`, whose tools may be called from then on. For all other APIs that
is a function like any other: it is offered as one, its calls and results go on as those of one, and the tools that were
found join the rest. A search by the provider has nothing to find there, since deferred tools are all loaded at once.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from tidegate.dialects.responses.tools import TOOL_SEARCH, ToolNames, read_tools
from tidegate.wire import jsonio
from tidegate.wire.items import (
    CanonicalRequest,
    FunctionCall,
    FunctionOutput,
    HostedTool,
    Item,
    OpaqueItem,
    TextPart,
    Tool,
)

__all__ = ["as_functions", "search_call"]

_CALL: Final = "tool_search_call"
_OUTPUT: Final = "tool_search_output"
_PARAMETERS: Final = jsonio.raw({"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]})


class _Search(msgspec.Struct):
    execution: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = jsonio.EMPTY


class _Item(msgspec.Struct):
    call_id: str | None = None
    arguments: msgspec.Raw = jsonio.EMPTY
    tools: list[msgspec.Raw] | None = None


_search = jsonio.decoder(_Search)
_item = jsonio.decoder(_Item)


def as_functions(request: CanonicalRequest, hint: Callable[[str], None]) -> CanonicalRequest:
    """The request without `tool_search`. `hint` is told the names of what is left out. Raises InvalidRequest for found tools
    that are none."""
    searched = any(isinstance(item, OpaqueItem) and item.type in (_CALL, _OUTPUT) for item in request.items)
    if not searched and not any(isinstance(tool, HostedTool) and tool.type == TOOL_SEARCH for tool in request.tools):
        return request
    names = {tool.name for tool in request.tools if isinstance(tool, Tool)}
    tools = [_as_function(tool) if TOOL_SEARCH not in names else tool for tool in request.tools]
    found: list[Tool | HostedTool] = []
    items = list(_items(request, found, hint)) if searched else request.items
    for tool in found:
        if isinstance(tool, HostedTool) or tool.name not in names:
            tools.append(tool)
            names |= {tool.name} if isinstance(tool, Tool) else set()
    return msgspec.structs.replace(request, tools=tools, items=items)


def _as_function(tool: Tool | HostedTool) -> Tool | HostedTool:
    if isinstance(tool, Tool) or tool.type != TOOL_SEARCH:
        return tool
    try:
        given = jsonio.decode(tool.value, _search)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        return tool
    if given.execution != "client":
        return tool
    parameters = _PARAMETERS if jsonio.is_null(given.parameters) else given.parameters
    return Tool(name=TOOL_SEARCH, description=given.description or "", parameters=parameters)


def _items(request: CanonicalRequest, found: list[Tool | HostedTool], hint: Callable[[str], None]) -> Iterator[Item]:
    """`found` grows by the tools that searches have found."""
    where = request.names.get("items", "input")
    for item in request.items:
        if not isinstance(item, OpaqueItem) or item.type not in (_CALL, _OUTPUT):
            yield item
            continue
        try:
            read = jsonio.decode(item.value, _item)
        except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
            yield item
            continue
        loaded = read_tools(read.tools or (), ToolNames(), f"{where}[].tools")
        found.extend(loaded)
        if not read.call_id:
            hint(f"{where}[].{item.type}")  # the provider's own search
        elif item.type == _CALL:
            arguments = "{}" if jsonio.is_null(read.arguments) else bytes(read.arguments).decode()
            yield FunctionCall(call_id=read.call_id, name=TOOL_SEARCH, arguments=arguments)
        else:
            loaded_names = ", ".join(tool.name for tool in loaded if isinstance(tool, Tool))
            said = f"These tools can be called now: {loaded_names}" if loaded_names else "No tool was found."
            yield FunctionOutput(call_id=read.call_id, content=[TextPart(text=said)])


def search_call(name: str, call_id: str, arguments: str) -> msgspec.Raw:
    """The item of a search, whose id is `name`. What the model wrote is a JSON object, or was cut off."""
    try:
        given = jsonio.members(arguments.encode("utf-8", "replace") or b"{}")
        status = "completed"
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        given, status = {}, "incomplete"
    return jsonio.raw(
        {
            "id": name,
            "type": _CALL,
            "execution": "client",
            "call_id": call_id,
            "arguments": given,
            "status": status,
        }
    )
