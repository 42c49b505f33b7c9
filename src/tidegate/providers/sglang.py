"""SGLang."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import LOCAL_CLOCKS, Provider

# Its Responses endpoint loses the stream's text and the tool calls of all but a few models, so it is not offered here;
# `speaks` in the configuration can say otherwise.
SGLANG: Final = Provider(
    kind="sglang",
    title="SGLang",
    base_url="http://127.0.0.1:30000/v1",
    auth="optional-bearer",
    speaks=("chat", "completions"),
    cut_reported_as_completed=True,
    clocks=LOCAL_CLOCKS,
    local_ports=(30000,),
    owned_by="sglang",
    quirks=Quirks(reasoning_back="reasoning_content"),
    documentation="https://docs.sglang.ai/basic_usage/openai_api.html",
)
