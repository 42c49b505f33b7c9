"""OpenAI Chat Completions (`POST /v1/chat/completions`), spoken by clients and by providers."""

from tidegate.dialects.chat.request import ChatBody, ChatDialect, ChatRequest, StreamOptions, forward_choices

__all__ = ["ChatBody", "ChatDialect", "ChatRequest", "StreamOptions", "forward_choices"]
