"""The neutral vocabulary that dialects share."""

import msgspec

from tidegate.wire import jsonio

__all__ = ["BYTES_PER_TOKEN", "Usage", "estimate_tokens"]

BYTES_PER_TOKEN = 4
"""For estimates: four bytes of UTF-8 are about one token in English, and about one in Chinese too (three bytes a
character, somewhat under one token each)."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer, in the terms of the Responses API: `input_tokens` includes the cached ones, `output_tokens`
    includes reasoning. `estimated` marks figures that no provider gave."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def as_responses(self) -> jsonio.Raw:
        """The `usage` object of a response, with both details objects."""
        return jsonio.raw(
            {
                "input_tokens": self.input_tokens,
                "input_tokens_details": {
                    "cached_tokens": self.cached_tokens,
                    "cache_write_tokens": self.cache_write_tokens,
                },
                "output_tokens": self.output_tokens,
                "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
                "total_tokens": self.total_tokens,
            }
        )

    def as_chat(self) -> jsonio.Raw:
        """The `usage` object of a chat or text completion."""
        return jsonio.raw(
            {
                "prompt_tokens": self.input_tokens,
                "completion_tokens": self.output_tokens,
                "total_tokens": self.total_tokens,
                "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
                "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            }
        )


def estimate_tokens(size: int) -> int:
    """About how many tokens `size` bytes of text are; at least one for any text."""
    return (size + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN
