"""LM Studio."""

from typing import Final

from tidegate.providers.record import LOCAL_CLOCKS, NOT_IN_RESPONSES, Provider

LMSTUDIO: Final = Provider(
    kind="lmstudio",
    title="LM Studio",
    base_url="http://127.0.0.1:1234/v1",
    env=("LM_API_TOKEN",),
    auth="optional-bearer",
    speaks=("responses", "chat", "completions"),
    refuses={
        "responses": NOT_IN_RESPONSES,
        "chat": frozenset({"n"}),
        "completions": frozenset({"n"}),
    },
    stores=True,
    clocks=LOCAL_CLOCKS,
    local_ports=(1234,),
    owned_by="organization_owner",
    documentation="https://lmstudio.ai/docs/developer/openai-compat",
)
