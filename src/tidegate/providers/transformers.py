"""Hugging Face `transformers serve`."""

from typing import Final

from tidegate.providers.record import LOCAL_CLOCKS, NOT_IN_RESPONSES, Provider

# On Responses: 422 for chat members, silence about `text` and `tool_choice`, a stream unless told `stream: false`,
# no `event:` lines. On chat and completions: no `[DONE]`, and `stream_options` is not taken.
TRANSFORMERS: Final = Provider(
    kind="transformers",
    title="Transformers serve",
    base_url="http://127.0.0.1:8000/v1",
    auth="none",
    speaks=("responses", "chat", "completions"),
    refuses={
        "responses": NOT_IN_RESPONSES | {"text", "tool_choice", "top_logprobs"},
        "chat": frozenset(
            {
                "logprobs",
                "max_completion_tokens",
                "n",
                "presence_penalty",
                "response_format",
                "tool_choice",
                "top_logprobs",
            }
        ),
        "completions": frozenset({"best_of", "echo", "logprobs", "n", "presence_penalty"}),
    },
    include_usage=False,
    cut_reported_as_completed=True,
    clocks=LOCAL_CLOCKS,
    local_ports=(8000,),
    documentation="https://huggingface.co/docs/transformers/serving",
)
