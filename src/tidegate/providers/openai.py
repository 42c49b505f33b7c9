"""OpenAI itself."""

from typing import Final

from tidegate.dialects.dialect import Quirks, Speech
from tidegate.providers.record import NOT_IN_RESPONSES, OPENAI_OPERATIONS, Provider

OPENAI: Final = Provider(
    kind="openai",
    title="OpenAI",
    base_url="https://api.openai.com/v1",
    env=("OPENAI_API_KEY",),
    base_url_env=("OPENAI_BASE_URL",),
    speaks=("responses", "chat", "completions", "embeddings", "speech", "transcription", "translation"),
    operations=OPENAI_OPERATIONS,
    refuses={"responses": NOT_IN_RESPONSES},
    responses_only=(
        "o1-pro*",
        "o3-pro*",
        "codex-*",
        "gpt-5*-codex*",
        "gpt-5*-pro*",
        "*deep-research*",
        "computer-use-*",
    ),
    whole_transcripts=("whisper-*",),
    encrypted_reasoning=True,
    stores=True,
    reasons_silently=("o1*", "o3*", "o4*", "gpt-5*-pro*", "*deep-research*"),
    speech_events=("gpt-*",),
    speech=(("tts-1*", Speech(refuses=frozenset({"instructions"}))),),
    default_model="gpt-5.2",
    default_speech_model="gpt-4o-mini-tts",
    default_transcription_model="gpt-4o-mini-transcribe",
    quirks=Quirks(openai_chat=True, max_tokens_name="max_completion_tokens", refuses_reasoning=True),
    documentation="https://platform.openai.com/docs/api-reference",
)
