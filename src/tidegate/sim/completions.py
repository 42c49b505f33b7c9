"""Completions: an answer as `text_completion` chunks or as one `text_completion` body."""

from typing import Any

from tidegate.sim.answer import Answer
from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt
from tidegate.sim.sse import DONE, Event, Stream
from tidegate.sim.stamp import SYSTEM_FINGERPRINT, Stamp, padding, token_counts


def stream(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> Stream:
    """The chunks in OpenAI's order; those of several choices alternate."""
    usage = _usage(answers, prompt, options)
    with_null = prompt.include_usage and options.usage in ("present", "zero", "always")

    def chunk(choices: list[dict[str, Any]], **more: Any) -> Event:
        null = {"usage": None} if with_null else {}
        return Event({**_head(prompt, stamp), "choices": choices, **null, **more})

    events: list[Event] = []
    for turn in range(max(len(answer.text) for answer in answers)):
        for index, answer in enumerate(answers):
            if turn < len(answer.text):
                offset = sum(map(len, answer.text[:turn])) if prompt.logprobs is not None else 0
                choice = _choice(index, (answer.text[turn],), None, prompt.logprobs, offset)
                more = {"obfuscation": padding(turn)} if options.obfuscation else {}
                events.append(chunk([choice], **more))
    for index, answer in enumerate(answers):
        if answer.finish != "none":
            inline = {"usage": usage} if options.usage == "inline" and index == len(answers) - 1 else {}
            events.append(chunk([_choice(index, (), answer.finish, None, 0)], **inline))
    if usage is not None and options.usage != "inline" and (prompt.include_usage or options.usage == "always"):
        events.append(chunk([], usage=usage))
    if options.done is not False:
        events.append(DONE)
    return Stream(events, min(1, len(events)))


def body(answers: list[Answer], prompt: Prompt, options: Options, stamp: Stamp) -> dict[str, Any]:
    """The whole answer as one object."""
    usage = _usage(answers, prompt, options)
    choices = [
        _choice(index, answer.text, None if answer.finish == "none" else answer.finish, prompt.logprobs, 0)
        for index, answer in enumerate(answers)
    ]
    return {**_head(prompt, stamp), "choices": choices, **({} if usage is None else {"usage": usage})}


def _head(prompt: Prompt, stamp: Stamp) -> dict[str, Any]:
    return {
        "id": stamp.completion_id,
        "object": "text_completion",
        "created": stamp.created,
        "model": prompt.model,
        "system_fingerprint": SYSTEM_FINGERPRINT,
    }


def _choice(index: int, said: tuple[str, ...], finish: str | None, logprobs: int | None, offset: int) -> dict[str, Any]:
    probs: dict[str, Any] | None = None
    if logprobs is not None and said:
        offsets = [offset + sum(map(len, said[:i])) for i in range(len(said))]
        tops = [{piece: -0.1, **{f"alt{i}": -0.1 - i for i in range(1, logprobs)}} for piece in said]
        probs = {
            "tokens": list(said),
            "token_logprobs": [-0.1] * len(said),
            "top_logprobs": tops,
            "text_offset": offsets,
        }
    return {"text": "".join(said), "index": index, "logprobs": probs, "finish_reason": finish}


def _usage(answers: list[Answer], prompt: Prompt, options: Options) -> dict[str, Any] | None:
    counts = token_counts(answers, prompt.tokens, options)
    if counts is None:
        return None
    prompted, completed, _ = counts
    return {"prompt_tokens": prompted, "completion_tokens": completed, "total_tokens": prompted + completed}
