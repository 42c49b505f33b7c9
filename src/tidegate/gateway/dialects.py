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
from tidegate.dialects.gemini.resume import ARRAY, ArrayResume, GeminiResume
from tidegate.dialects.messages import CountTokensDialect, MessagesDialect, MessagesUpstream
from tidegate.dialects.profile import Profile
from tidegate.dialects.responses import CompactDialect, InputTokensDialect, ResponsesDialect
from tidegate.dialects.responses.upstream import ResponsesUpstream
from tidegate.dialects.resume import ChunkResume, MessagesResume, ResponsesResume, Resume
from tidegate.dialects.speech import SpeechDialect
from tidegate.dialects.transcription import TranscriptionDialect, TranslationDialect

__all__ = ["CLIENT_DIALECTS", "UPSTREAM_DIALECTS", "resumed"]

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


def resumed(dialect: str, after: int | None, begun: bytes, profile: Profile) -> Resume:
    """What picks up the stream of a run of this dialect behind event `after`, for a client with this profile. `begun` is the
    response object as it was when the stream began, where it is one of Responses."""
    match dialect:
        case "responses":
            return ResponsesResume(after, begun, profile)
        case "messages":
            return MessagesResume(after)
        case "gemini":
            return GeminiResume(after)
        case str() if dialect == ARRAY:
            return ArrayResume(after)
    return ChunkResume(after)
