"""The llama.cpp server."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import LOCAL_CLOCKS, Provider

# Responses requests become chat requests inside the server, sampling members included.
LLAMACPP: Final = Provider(
    kind="llamacpp",
    title="llama.cpp server",
    base_url="http://127.0.0.1:8080/v1",
    auth="optional-bearer",
    speaks=("responses", "chat", "completions"),
    cut_reported_as_completed=True,
    clocks=LOCAL_CLOCKS,
    local_ports=(8080,),
    owned_by="llamacpp",
    quirks=Quirks(reasoning_back="reasoning_content"),
    documentation="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
)
