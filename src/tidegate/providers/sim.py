"""The simulator that comes with Tidegate: answers without a key, by script."""

from typing import Final

from tidegate.providers.record import Provider

SIM: Final = Provider(
    kind="sim",
    title="Tidegate simulator",
    embedded=True,
    auth="none",
    speaks=("responses", "chat", "completions", "messages", "embeddings"),
    default_model="demo",
)
