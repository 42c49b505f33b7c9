"""OpenAI text completions (`POST /v1/completions`), spoken by clients."""

from tidegate.dialects.completions.request import CompletionsBody, CompletionsDialect, CompletionsRequest

__all__ = ["CompletionsBody", "CompletionsDialect", "CompletionsRequest"]
