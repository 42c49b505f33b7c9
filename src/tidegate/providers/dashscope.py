"""Alibaba Cloud Model Studio (Qwen), in its OpenAI-compatible mode."""

from typing import Final

from tidegate.providers.record import NOT_IN_RESPONSES, Provider

# Responses ignores every OpenAI member that its documentation does not list; a key works in its own region only.
DASHSCOPE: Final = Provider(
    kind="dashscope",
    title="Alibaba Cloud Model Studio (Qwen)",
    base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
    regions=(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "https://dashscope-us.aliyuncs.com/compatible-mode/v1",
    ),
    env=("DASHSCOPE_API_KEY",),
    speaks=("responses", "chat"),
    refuses={
        "responses": NOT_IN_RESPONSES,
        "chat": frozenset({"frequency_penalty", "logit_bias"}),
    },
    stores=True,
    # `max_tokens` limits the answer alone, `thinking_budget` the thoughts.
    thinks_apart=("*",),
    names_files=("*",),
    default_model="qwen-plus",
    documentation="https://help.aliyun.com/en/model-studio/compatibility-of-openai-with-dashscope",
)
