"""OpenRouter."""

from typing import Final

from tidegate.providers.record import NOT_IN_RESPONSES, Provider

# Members by which a request names other models than its own: which of them a key may use, and what they cost, nobody here
# could tell.
_OTHER_MODELS: Final = frozenset({"models", "preset"})

# Its Responses endpoint keeps nothing, answers 400 to `store: true`, and takes the two penalties.
OPENROUTER: Final = Provider(
    kind="openrouter",
    title="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    env=("OPENROUTER_API_KEY",),
    speaks=("responses", "chat", "completions", "speech"),
    refuses={
        "responses": NOT_IN_RESPONSES - {"frequency_penalty", "presence_penalty"} | _OTHER_MODELS,
        "chat": _OTHER_MODELS,
        "completions": _OTHER_MODELS,
        "speech": _OTHER_MODELS,
    },
    reasons_silently=("openai/o1*", "openai/o3*", "openai/o4*", "openai/gpt-5*-pro*", "*deep-research*"),
    default_model="openrouter/auto",
    documentation="https://openrouter.ai/docs/api-reference/overview",
)
