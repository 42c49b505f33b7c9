"""Mistral AI."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import Provider

# Answers 422 to every member it does not know, `stream_options` among them; usage comes in the last chunk anyway.
MISTRAL: Final = Provider(
    kind="mistral",
    title="Mistral AI",
    base_url="https://api.mistral.ai/v1",
    env=("MISTRAL_API_KEY",),
    speaks=("chat",),
    refuses={
        "chat": frozenset(
            {"logit_bias", "logprobs", "max_completion_tokens", "seed", "store", "top_logprobs", "user"},
        ),
    },
    include_usage=False,
    quirks=Quirks(call_id_length=9, refuses_reasoning=True),
    default_model="mistral-small-latest",
    documentation="https://docs.mistral.ai/api",
)
