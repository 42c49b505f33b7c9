"""Moonshot AI (Kimi)."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import Provider

MOONSHOT: Final = Provider(
    kind="moonshot",
    title="Moonshot AI (Kimi)",
    base_url="https://api.moonshot.ai/v1",
    regions=("https://api.moonshot.cn/v1",),
    env=("MOONSHOT_API_KEY",),
    speaks=("chat",),
    refuses={"chat": frozenset({"logit_bias", "logprobs", "top_logprobs"})},
    quirks=Quirks(reasoning_back="reasoning_content"),
    documentation="https://platform.moonshot.ai/docs/api/chat",
)
