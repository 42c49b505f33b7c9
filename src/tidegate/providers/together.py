"""Together AI."""

from typing import Final

from tidegate.dialects.dialect import Speech
from tidegate.providers.record import Provider

TOGETHER: Final = Provider(
    kind="together",
    title="Together AI",
    base_url="https://api.together.ai/v1",
    regions=("https://api.together.xyz/v1",),
    env=("TOGETHER_API_KEY",),
    speaks=("chat", "completions", "speech"),
    refuses={"speech": frozenset({"instructions", "speed"})},
    speech=(("*", Speech(formats=("mp3", "wav"))),),
    documentation="https://docs.together.ai/docs/inference/openai-compatibility",
)
