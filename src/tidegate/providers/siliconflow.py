"""SiliconFlow."""

from typing import Final

from tidegate.dialects.dialect import Speech
from tidegate.providers.record import Provider

SILICONFLOW: Final = Provider(
    kind="siliconflow",
    title="SiliconFlow",
    base_url="https://api.siliconflow.cn/v1",
    regions=("https://api.siliconflow.com/v1",),
    env=("SILICONFLOW_API_KEY",),
    speaks=("chat", "speech"),
    refuses={"chat": frozenset({"logit_bias"}), "speech": frozenset({"instructions"})},
    speech=(("*", Speech(formats=("mp3", "opus", "wav", "pcm"))),),
    documentation="https://docs.siliconflow.cn/docs/api/chat-completions-post",
)
