"""SiliconFlow."""

from typing import Final

from tidegate.providers.record import Provider

SILICONFLOW: Final = Provider(
    kind="siliconflow",
    title="SiliconFlow",
    base_url="https://api.siliconflow.cn/v1",
    regions=("https://api.siliconflow.com/v1",),
    env=("SILICONFLOW_API_KEY",),
    speaks=("chat",),
    refuses={"chat": frozenset({"logit_bias"})},
    documentation="https://docs.siliconflow.cn/docs/api/chat-completions-post",
)
