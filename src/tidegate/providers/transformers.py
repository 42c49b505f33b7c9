"""Hugging Face `transformers serve`."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import LOCAL_CLOCKS, NOT_IN_RESPONSES, Provider

# As it answered on the wire in version 5.23; `make test-engine` asks a real one again.
#
# Requests. On Responses a member that OpenAI's SDK does not know gets 422, all that stands in `refuses` below is else
# ignored in silence, and `stream` is true unless told otherwise. `logit_bias` is a 500 on chat and ignored on
# completions; `suffix` is merely appended to the answer.
# Answers. No `event:` lines, no `[DONE]`, members left out that the API sends as null, `created_at` a float, `@main`
# (the revision) after the model's name, and usage beside the finish reason. The response object has none of the
# request's members, or false ones (`tools` is always empty). A call is announced when it is complete, at a wrong
# `output_index`, and followed by a second opening of the message before it; a Responses answer cut by the limit, which
# is 1024 tokens when the request has none, says `completed`. A transcript streams as bare pieces of text, without JSON and
# without `[DONE]`; of the form only `file`, `model` and `stream` count, and a field that it has never heard of gets 422.
TRANSFORMERS: Final = Provider(
    kind="transformers",
    title="Transformers serve",
    base_url="http://127.0.0.1:8000/v1",
    auth="none",
    speaks=("responses", "chat", "completions", "transcription"),
    refuses={
        "responses": (NOT_IN_RESPONSES - {"seed"})
        | {"max_tool_calls", "parallel_tool_calls", "reasoning", "text", "tool_choice", "top_logprobs", "truncation"},
        "chat": frozenset(
            {
                "audio",
                "function_call",
                "functions",
                "logit_bias",
                "logprobs",
                "modalities",
                "n",
                "parallel_tool_calls",
                "prediction",
                "presence_penalty",
                "reasoning_effort",
                "response_format",
                "tool_choice",
                "top_logprobs",
                "verbosity",
                "web_search_options",
            }
        ),
        "completions": frozenset({"best_of", "echo", "logit_bias", "logprobs", "n", "presence_penalty", "suffix"}),
        "transcription": frozenset(
            {
                "chunking_strategy",
                "include",
                "keywords",
                "known_speaker_names",
                "known_speaker_references",
                "language",
                "languages",
                "prompt",
                "response_format",
                "temperature",
                "timestamp_granularities",
            }
        ),
    },
    include_usage=False,
    cut_reported_as_completed=True,
    quirks=Quirks(
        model_suffix="@main",
        loose_chunks=True,
        loose_items=True,
        echoes_request=False,
        output_limit=1024,
        transcripts="raw",
    ),
    clocks=LOCAL_CLOCKS,
    local_ports=(8000,),
    documentation="https://huggingface.co/docs/transformers/serving",
)
