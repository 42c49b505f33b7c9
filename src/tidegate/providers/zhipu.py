"""Zhipu AI (GLM)."""

from typing import Final

from tidegate.dialects.dialect import Quirks, Speech
from tidegate.providers.record import Provider

ZHIPU: Final = Provider(
    kind="zhipu",
    title="Zhipu AI (GLM)",
    base_url="https://open.bigmodel.cn/api/paas/v4",
    regions=("https://api.z.ai/api/paas/v4",),
    env=("ZHIPUAI_API_KEY", "ZAI_API_KEY"),
    speaks=("chat", "speech"),
    refuses={
        "chat": frozenset(
            {"frequency_penalty", "logit_bias", "logprobs", "n", "presence_penalty", "top_logprobs"},
        ),
        "speech": frozenset({"instructions"}),
    },
    speech=(("*", Speech(formats=("wav", "pcm"))),),
    quirks=Quirks(reasoning_back="reasoning_content"),
    documentation="https://docs.bigmodel.cn/cn/guide/develop/openai/introduction",
)
