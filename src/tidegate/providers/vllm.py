"""vLLM."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import LOCAL_CLOCKS, Provider

# Responses takes `stop`, `seed` and `logit_bias` beyond OpenAI's members and ignores the rest of the chat ones.
VLLM: Final = Provider(
    kind="vllm",
    title="vLLM",
    base_url="http://127.0.0.1:8000/v1",
    env=("VLLM_API_KEY",),
    auth="optional-bearer",
    speaks=("responses", "chat", "completions", "speech", "transcription", "translation"),
    refuses={
        "responses": frozenset({"frequency_penalty", "max_tokens", "n", "presence_penalty", "response_format"}),
    },
    stores=True,
    cut_reported_as_completed=True,
    clocks=LOCAL_CLOCKS,
    local_ports=(8000,),
    owned_by="vllm",
    quirks=Quirks(reasoning_back="reasoning_content", transcript_usage="stream_include_usage"),
    documentation="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
)
