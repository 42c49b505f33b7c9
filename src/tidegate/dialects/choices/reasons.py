"""Why a choice finished: the words of the API, and what other engines say for them."""

from typing import Literal, get_args

__all__ = ["FINISH_REASONS", "FinishReason", "known_reason"]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
FINISH_REASONS = frozenset(get_args(FinishReason))
"""The enumeration of the API (protocol §3.1)."""

_SYNONYMS = {
    "complete": "stop",
    "completed": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "max_length": "length",
    "max_output_tokens": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "model_length": "length",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "recitation": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "spii": "content_filter",
}
"""Finish reasons of engines that did not keep to the enumeration, in small letters, and what they mean."""

_FAILED_REASONS = frozenset(
    {"abort", "aborted", "canceled", "cancelled", "error", "insufficient_system_resource", "network_error", "timeout"}
)
"""Not an ending but a break that an engine reports in the place of one."""


def known_reason(reason: str) -> str | None:
    """The reason inside the enumeration; None for one that reports a break. One that we cannot place means `stop`."""
    if reason in FINISH_REASONS:
        return reason
    reason = reason.lower()
    if reason in _FAILED_REASONS:
        return None
    return reason if reason in FINISH_REASONS else _SYNONYMS.get(reason, "stop")
