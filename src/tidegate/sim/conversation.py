"""Conversation: what Anthropic's API refuses in one, as it says so."""

from typing import Any

from tidegate.sim.errors import Refusal
from tidegate.sim.thought import is_redacted, sign


def check(request: dict[str, Any]) -> None:
    """Raises Refusal for a conversation that Anthropic would answer with 400."""
    messages = request["messages"]
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        content = message.get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        path = f"messages.{number}"
        if message.get("role") not in ("user", "assistant", "system"):
            raise refusal(f"{path}.role: Input should be 'user', 'assistant' or 'system'")
        if content in ("", []) and number < len(messages) - 1:
            raise refusal(f"{path}: all messages must have non-empty content except for the optional final message")
        _check_results(path, blocks, open_calls)
        for place, block in enumerate(blocks):
            _check_block(f"{path}.content.{place}", block)
        open_calls = [str(block.get("id")) for block in blocks if block.get("type") == "tool_use"]
    if open_calls:
        raise refusal(_WITHOUT_RESULT.format(len(messages) - 1, ", ".join(open_calls)))
    _check_thinking(request)


_WITHOUT_RESULT = (
    "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must "
    "have a corresponding `tool_result` block in the next message."
)


def _check_results(path: str, blocks: list[dict[str, Any]], open_calls: list[str]) -> None:
    given = [str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]
    absent = [call for call in open_calls if call not in given]
    if absent:
        number = int(path.removeprefix("messages.")) - 1
        raise refusal(_WITHOUT_RESULT.format(number, ", ".join(absent)))
    for one in given:
        if one not in open_calls:
            raise refusal(
                f"{path}.content: unexpected `tool_use_id` found in `tool_result` blocks: {one}. Each `tool_result` block "
                "must have a corresponding `tool_use` block in the previous message."
            )
    kinds = [block.get("type") == "tool_result" for block in blocks]
    if kinds != sorted(kinds, reverse=True):
        raise refusal(
            f"{path}.content: `tool_result` blocks must come first in a message that answers `tool_use` blocks."
        )


def _check_block(path: str, block: dict[str, Any]) -> None:
    match block.get("type"):
        case "text":
            if not str(block.get("text", "")).strip():
                raise refusal(f"{path}: text content blocks must contain non-whitespace text")
        case "thinking":
            if block.get("signature") != sign(str(block.get("thinking"))):
                raise refusal(f"{path}: Invalid `signature` in `thinking` block")
        case "redacted_thinking":
            if not is_redacted(block.get("data")):
                raise refusal(f"{path}: Invalid `data` in `redacted_thinking` block")
        case "tool_use":
            if not isinstance(block.get("input"), dict):
                raise refusal(f"{path}.tool_use.input: Input should be a valid dictionary")
        case _:
            pass


def _check_thinking(request: dict[str, Any]) -> None:
    thinking = request.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "adaptive"):
        return
    if request.get("temperature") not in (None, 1):
        raise refusal("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    choice = request.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        raise refusal("Thinking may not be enabled when tool_choice forces tool use.")
    if kind == "enabled":
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        if not isinstance(budget, int) or budget < 1024:
            raise refusal("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= request.get("max_tokens", 0):
            raise refusal("`max_tokens` must be greater than `thinking.budget_tokens`.")
        _check_step(request["messages"])


def _check_step(messages: list[dict[str, Any]]) -> None:
    """With a budget, the step that the last results belong to must begin with its thoughts."""
    if len(messages) < 2 or not _begins_with(messages[-1], "tool_result"):
        return
    if not _begins_with(messages[-2], "thinking", "redacted_thinking"):
        raise refusal(
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or `redacted_thinking`, but found another "
            "type. When `thinking` is enabled, a final `assistant` message must start with a thinking block."
        )


def _begins_with(message: dict[str, Any], *kinds: str) -> bool:
    content = message.get("content")
    return isinstance(content, list) and bool(content) and content[0].get("type") in kinds


def refusal(message: str, status: int = 400) -> Refusal:
    """What Anthropic answers to a request that it does not take."""
    return Refusal(status, message)
