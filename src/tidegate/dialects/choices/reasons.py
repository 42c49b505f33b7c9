"""Why a choice finished: the words of the API, and what other engines say for them."""

from typing import Final, Literal, get_args

__all__ = ["COMPLETE", "FINISH_REASONS", "FinishReason", "is_finish", "known_reason"]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
FINISH_REASONS: Final = frozenset(get_args(FinishReason))
"""The enumeration of the API (protocol §3.1)."""

COMPLETE: Final = frozenset({"stop", "tool_calls", "function_call"})
"""Reasons with which nothing is missing. Of one that nobody knows that cannot be said."""

_SYNONYMS: Final = {
    "complete": "stop",
    "completed": "stop",
    "done": "stop",
    "end": "stop",
    "end_of_text": "stop",
    "end_turn": "stop",
    "endoftext": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "finished": "stop",
    "normal": "stop",
    "stop_sequence": "stop",
    "stop_token": "stop",
    "limit": "length",
    "max_length": "length",
    "max_output_tokens": "length",
    "max_tokens": "length",
    "maximum_tokens": "length",
    "model_context_window_exceeded": "length",
    "model_length": "length",
    "repetition": "length",
    "time_limit": "length",
    "token_limit": "length",
    "function_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "blocklist": "content_filter",
    "content_filtered": "content_filter",
    "error_toxic": "content_filter",
    "escalation": "content_filter",
    "guardrail_intervened": "content_filter",
    "image_prohibited_content": "content_filter",
    "image_recitation": "content_filter",
    "image_safety": "content_filter",
    "language": "content_filter",
    "model_armor": "content_filter",
    "prohibited_content": "content_filter",
    "recitation": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "spii": "content_filter",
}
"""Finish reasons of engines that did not keep to the enumeration, in small letters, and what they mean: of Mistral, Together,
Cohere, Zhipu, Baidu, Ollama, vLLM, Text Generation Inference, watsonx, and of endpoints that hand on the words of Anthropic,
Bedrock and Google. What an engine cut off, for whatever limit, is `length`."""

_FAILED_REASONS: Final = frozenset(
    {
        "abort",
        "aborted",
        "canceled",
        "cancelled",
        "error",
        "error_limit",
        "failed",
        "insufficient_system_resource",
        "malformed_function_call",
        "malformed_model_output",
        "malformed_response",
        "malformed_tool_use",
        "missing_thought_signature",
        "network_error",
        "timeout",
        "unexpected_tool_call",
        "user_cancel",
    }
)
"""Not an ending but a break that an engine reports in the place of one."""

_NO_REASONS: Final = frozenset({"", "null", "none", "not_finished", "finish_reason_unspecified"})
"""What some engines say in every chunk before the last."""


def is_finish(reason: str) -> bool:
    """Whether it says that its choice has ended."""
    return reason in FINISH_REASONS or reason.lower() not in _NO_REASONS


def known_reason(reason: str) -> str | None:
    """The reason inside the enumeration; None for one that reports a break. One that we cannot place stays what it is: it
    may be a break, or a cut, as well as an end."""
    if reason in FINISH_REASONS:
        return reason
    small = reason.lower().partition(":")[0].replace("-", "_")  # Google's chat endpoint: `content_filter: RECITATION`
    if small in _FAILED_REASONS:
        return None
    return small if small in FINISH_REASONS else _SYNONYMS.get(small, reason)
