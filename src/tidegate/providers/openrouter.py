"""OpenRouter."""

from typing import Final

from tidegate.providers.record import NOT_IN_RESPONSES, Provider

# Its Responses endpoint keeps nothing, answers 400 to `store: true`, and takes the two penalties.
OPENROUTER: Final = Provider(
    kind="openrouter",
    title="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    env=("OPENROUTER_API_KEY",),
    speaks=("responses", "chat", "completions", "speech"),
    refuses={"responses": NOT_IN_RESPONSES - {"frequency_penalty", "presence_penalty"}},
    reasons_silently=("openai/o1*", "openai/o3*", "openai/o4*", "openai/gpt-5*-pro*", "*deep-research*"),
    default_model="openrouter/auto",
    documentation="https://openrouter.ai/docs/api-reference/overview",
)
