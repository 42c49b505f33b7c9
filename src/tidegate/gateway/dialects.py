"""Every dialect that clients may speak here, and every one that providers may."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.chat.upstream import ChatUpstream
from tidegate.dialects.codec import UpstreamDialect
from tidegate.dialects.completions import CompletionsDialect
from tidegate.dialects.dialect import Dialect, Endpoint
from tidegate.dialects.embeddings import EmbeddingsDialect
from tidegate.dialects.gemini import GeminiUpstream
from tidegate.dialects.messages import CountTokensDialect, MessagesDialect, MessagesUpstream
from tidegate.dialects.responses import CompactDialect, InputTokensDialect, ResponsesDialect
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.dialects.speech import SpeechDialect
from tidegate.dialects.transcription import TranscriptionDialect, TranslationDialect

__all__ = ["CLIENT_DIALECTS", "UPSTREAM_DIALECTS"]

CLIENT_DIALECTS: Final[tuple[Dialect, ...]] = (
    ResponsesDialect(),
    InputTokensDialect(),
    CompactDialect(),
    ChatDialect(),
    CompletionsDialect(),
    MessagesDialect(),
    CountTokensDialect(),
    EmbeddingsDialect(),
    SpeechDialect(),
    TranscriptionDialect(),
    TranslationDialect(),
)
"""Every endpoint that relays model output."""

UPSTREAM_DIALECTS: Final[Mapping[Endpoint, UpstreamDialect]] = MappingProxyType(
    {
        "responses": ResponsesUpstream(),
        "chat": ChatUpstream(),
        "messages": MessagesUpstream(),
        "gemini": GeminiUpstream(),
    }
)
"""What the hub can translate any conversation into. Text completions have no conversation, and embeddings no text."""
