"""DeepSeek."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import NOT_IN_RESPONSES, Provider

# While a request waits, DeepSeek sends SSE comments, which count as bytes: no model of its own is silent.
DEEPSEEK: Final = Provider(
    kind="deepseek",
    title="DeepSeek",
    base_url="https://api.deepseek.com",
    regions=("https://api.deepseek.com/v1",),
    env=("DEEPSEEK_API_KEY",),
    speaks=("responses", "chat"),
    refuses={
        "responses": NOT_IN_RESPONSES,
        "chat": frozenset({"logit_bias", "n"}),
    },
    default_model="deepseek-v4-flash",
    quirks=Quirks(reasoning_back="reasoning_content"),
    documentation="https://api-docs.deepseek.com/",
)
