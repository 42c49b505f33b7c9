"""Stamp: the ids and the time of one answer, so that everything built from it is a pure function."""

import secrets
import time
from typing import Any

import msgspec

from tidegate.sim.answer import Answer
from tidegate.sim.options import Options

SYSTEM_FINGERPRINT = "fp_71de6a7e51"


class Stamp(msgspec.Struct, frozen=True):
    """`seed` is 32 hexadecimal digits; ids made from it have the prefix and the length of the official ones."""

    seed: str
    created: int | float

    def id(self, prefix: str, index: int = 0) -> str:
        """An item's id: `prefix` + 48 hexadecimal digits."""
        return f"{prefix}_{self.seed}{index:016x}"

    def call_id(self, index: int) -> str:
        """A tool call's id: `call_` + 24 digits."""
        return f"call_{self.seed[:16]}{index:08x}"

    @property
    def chat_id(self) -> str:
        return f"chatcmpl-{self.seed[:29]}"

    @property
    def completion_id(self) -> str:
        return f"cmpl-{self.seed[:29]}"


def new_stamp(options: Options) -> Stamp:
    """A stamp of now."""
    now = time.time()
    return Stamp(secrets.token_hex(16), now if options.floats else int(now))


def token_counts(answers: list[Answer], prompt_tokens: int, options: Options) -> tuple[int, int, int] | None:
    """Prompt, completion and reasoning tokens of all choices together; None if the script keeps them to itself."""
    if options.usage == "absent":
        return None
    if options.usage == "zero":
        return 0, 0, 0
    return prompt_tokens, sum(answer.tokens for answer in answers), sum(answer.reasoning_tokens for answer in answers)


def padding(index: int) -> str:
    """What OpenAI adds to deltas so that their length does not tell the token's. Here it is not random."""
    return ("tide" * 4)[: 8 + index % 8]


def logprob(piece: str, top: int) -> dict[str, Any]:
    """A token's log probability, the same for every token."""
    alternatives = [
        {"token": piece if i == 0 else f"alt{i}", "logprob": -0.1 - i, "bytes": list(piece.encode())}
        for i in range(top)
    ]
    return {"token": piece, "logprob": -0.1, "bytes": list(piece.encode()), "top_logprobs": alternatives}
