"""xAI."""

from typing import Final

from tidegate.providers.record import NOT_IN_RESPONSES, Provider

XAI: Final = Provider(
    kind="xai",
    title="xAI",
    base_url="https://api.x.ai/v1",
    env=("XAI_API_KEY",),
    speaks=("responses", "chat"),
    refuses={
        "responses": NOT_IN_RESPONSES,
        "chat": frozenset({"logit_bias"}),
    },
    encrypted_reasoning=True,
    stores=True,
    reasons_silently=("grok-4*",),
    # Thoughts are counted apart from `completion_tokens`, and with them from `max_tokens`.
    thinks_apart=("*",),
    documentation="https://docs.x.ai/docs/api-reference",
)
