"""Any server that speaks the OpenAI API at an address of the operator's choice."""

from typing import Final

from tidegate.providers.record import Provider

# Nothing is refused on its behalf: an unknown server is the only one who knows what it takes, so its own answer counts. It
# may lead anywhere, also to models that read files.
OPENAI_COMPATIBLE: Final = Provider(
    kind="openai-compatible",
    title="OpenAI-compatible server",
    auth="optional-bearer",
    names_files=("*",),
    speaks=("chat", "completions", "speech", "transcription", "translation"),
)
