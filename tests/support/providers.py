"""The simulator as every kind of provider, for clients that must not notice which one answers."""

from typing import Any

__all__ = ["FOUR", "PATHS", "PROVIDERS", "asked_path"]

FOUR = """
[server]
port = 0
[providers.openai]
base_url = "{sim}"
credentials = ["sk-of-the-provider"]
[providers.compatible]
kind = "openai-compatible"
base_url = "{sim}"
speaks = ["chat"]
[providers.anthropic]
base_url = "{sim}"
credentials = ["sk-ant-of-the-provider"]
[providers.gemini]
base_url = "{sim}"
credentials = ["AIza-of-the-provider"]
"""

PATHS = {
    "openai": "/v1/responses",
    "compatible": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "Content",
}
"""What the path of a conversation ends with at each of them. OpenAI's clients of chat find chat there as well."""

PROVIDERS = tuple(PATHS)


def asked_path(request: Any) -> str:
    """The path of a request that reached a provider, without its query."""
    return str(request.path.partition("?")[0])
