"""Fireworks AI."""

from typing import Final

from tidegate.providers.record import NOT_IN_RESPONSES, Provider

FIREWORKS: Final = Provider(
    kind="fireworks",
    title="Fireworks AI",
    base_url="https://api.fireworks.ai/inference/v1",
    env=("FIREWORKS_API_KEY",),
    speaks=("responses", "chat", "completions"),
    refuses={"responses": NOT_IN_RESPONSES},
    stores=True,
    documentation="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
)
