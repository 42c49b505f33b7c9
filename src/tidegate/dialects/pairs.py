"""Calls without results, and results without calls, in a history that no provider would take: what the client is told.

The words are those of the client's own API, because clients look for them: Claude Code, say, to offer the way back to
before the call.
"""

from tidegate.wire.errors import InvalidRequest
from tidegate.wire.items import CanonicalRequest, FunctionCall, FunctionOutput

__all__ = ["unanswered", "uncalled"]


def unanswered(request: CanonicalRequest, call: FunctionCall) -> InvalidRequest:
    """For a call that has no result where one has to be."""
    match request.client:
        case "chat":
            said = (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
                f"The following tool_call_ids did not have response messages: {call.call_id}"
            )
        case "messages":
            said = (
                f"`tool_use` ids were found without `tool_result` blocks immediately after: {call.call_id}. Each `tool_use` "
                "block must have a corresponding `tool_result` block in the next message."
            )
        case "gemini":
            said = (
                "Please ensure that the number of function response parts is equal to the number of function call parts of "
                f"the function call turn. The call of '{call.name}' has no response."
            )
        case _:
            said = f"No tool output found for function call {call.call_id}."
    return InvalidRequest(said, param=_place(request))


def uncalled(request: CanonicalRequest, output: FunctionOutput) -> InvalidRequest:
    """For a result that stands behind no call of its own."""
    match request.client:
        case "chat":
            said = (
                "Messages with role 'tool' must be a response to a preceding message with 'tool_calls': there is no call "
                f"'{output.call_id}' before it, or it has its result."
            )
        case "messages":
            said = (
                f"unexpected `tool_use_id` found in `tool_result` blocks: {output.call_id}. Each `tool_result` block must "
                "have a corresponding `tool_use` block in the previous message."
            )
        case "gemini":
            said = (
                "Please ensure that function response turn comes immediately after a function call turn. The response of "
                f"'{output.name or output.call_id}' has no call."
            )
        case _:
            said = f"No tool call found for function call output with call_id {output.call_id}."
    return InvalidRequest(said, param=_place(request))


def _place(request: CanonicalRequest) -> str:
    return request.names.get("items", "input")
