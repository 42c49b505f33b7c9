"""Answer: what is said, before any dialect. One piece is one token and one delta."""

import itertools
import re
from typing import Literal

import msgspec

Finish = Literal["stop", "length", "content_filter", "tool_calls", "none"]

CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\u3000-\u303f\uff00-\uffef"
_PIECE = re.compile(rf"\s*(?:[{CJK}]{{1,2}}|[^\s{CJK}]+)|\s+")


class Call(msgspec.Struct, frozen=True):
    """A call of one tool; the arguments (for a custom tool its raw input) come in pieces."""

    name: str
    arguments: tuple[str, ...]
    custom: bool = False
    namespace: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One choice's answer. Parts are said in the order of the members."""

    reasoning: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    refusal: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"
    stop: str | None = None
    """The stop sequence that ended it."""

    @property
    def reasoning_tokens(self) -> int:
        return len(self.reasoning)

    @property
    def tokens(self) -> int:
        return (
            len(self.reasoning) + len(self.text) + len(self.refusal) + sum(len(call.arguments) for call in self.calls)
        )


def pieces(text: str) -> tuple[str, ...]:
    """Words with the blanks before them; of Chinese, Japanese and Korean one or two characters. Joined they are `text`."""
    return tuple(_PIECE.findall(text))


def even_pieces(text: str, count: int) -> tuple[str, ...]:
    """`text` in at most `count` pieces of about one length, none empty."""
    count = min(count, len(text))
    bounds = [len(text) * i // count for i in range(count + 1)] if count else []
    return tuple(text[a:b] for a, b in itertools.pairwise(bounds))


def stopped(answer: Answer, stops: tuple[str, ...]) -> Answer:
    """The answer, its text ended before the first stop sequence. Calls, which would come after the text, go too."""
    text = "".join(answer.text)
    found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return answer
    left, stop = min(found)
    kept: list[str] = []
    for piece in answer.text:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    return msgspec.structs.replace(answer, text=tuple(kept), refusal=(), calls=(), finish="stop", stop=stop)


def limited(answer: Answer, limit: int | None) -> Answer:
    """The answer cut to `limit` tokens, reasoning counted; a cut answer finishes with `length`."""
    if limit is None or answer.tokens <= limit:
        return answer
    reasoning = answer.reasoning[:limit]
    left = limit - len(reasoning)
    text = answer.text[:left]
    left -= len(text)
    refusal = answer.refusal[:left]
    left -= len(refusal)
    calls: list[Call] = []
    for call in answer.calls:
        if left <= 0:
            break
        calls.append(msgspec.structs.replace(call, arguments=call.arguments[:left]))
        left -= len(call.arguments)
    return Answer(reasoning=reasoning, text=text, refusal=refusal, calls=tuple(calls), finish="length")
