"""The simulator that comes with Tidegate: answers without a key, by script."""

from typing import Final

from tidegate.dialects.dialect import Speech
from tidegate.providers.record import OPENAI_OPERATIONS, Provider

SIM: Final = Provider(
    kind="sim",
    title="Tidegate simulator",
    embedded=True,
    auth="none",
    speaks=("responses", "chat", "completions", "messages", "embeddings", "speech", "transcription", "translation"),
    speech_events=("*",),
    speech=(("*", Speech(formats=("mp3", "wav", "pcm"))),),
    operations=OPENAI_OPERATIONS,
    default_model="demo",
    default_speech_model="demo",
    default_transcription_model="demo",
)
