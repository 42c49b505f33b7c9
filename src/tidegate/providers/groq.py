"""Groq."""

from typing import Final

from tidegate.dialects.dialect import Quirks, Speech
from tidegate.providers.record import NOT_IN_RESPONSES, Provider

GROQ: Final = Provider(
    kind="groq",
    title="Groq",
    base_url="https://api.groq.com/openai/v1",
    env=("GROQ_API_KEY",),
    speaks=("responses", "chat", "speech", "transcription", "translation"),
    refuses={
        "responses": NOT_IN_RESPONSES,
        "chat": frozenset({"logit_bias", "logprobs", "n", "top_logprobs"}),
    },
    whole_transcripts=("*",),
    speech=(("canopylabs/orpheus-*", Speech(formats=("wav",))),),
    default_model="openai/gpt-oss-20b",
    quirks=Quirks(max_tokens_name="max_completion_tokens", refuses_reasoning=True),
    documentation="https://console.groq.com/docs/openai",
)
