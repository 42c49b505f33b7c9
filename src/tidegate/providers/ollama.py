"""Ollama."""

from typing import Final

from tidegate.providers.record import LOCAL_CLOCKS, NOT_IN_RESPONSES, Provider

# Ignores what it does not know. OLLAMA_API_KEY belongs to the hosted service and is not sent to a local server.
OLLAMA: Final = Provider(
    kind="ollama",
    title="Ollama",
    base_url="http://127.0.0.1:11434/v1",
    auth="optional-bearer",
    speaks=("responses", "chat", "completions"),
    refuses={
        "responses": NOT_IN_RESPONSES | {"tool_choice"},
        "chat": frozenset({"logit_bias", "n", "tool_choice"}),
        "completions": frozenset({"best_of", "echo", "logit_bias", "n"}),
    },
    cut_reported_as_completed=True,
    clocks=LOCAL_CLOCKS,
    local_ports=(11434,),
    owned_by="library",
    documentation="https://docs.ollama.com/api/openai-compatibility",
)
