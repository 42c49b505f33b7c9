"""The members with which every chunk, and every whole answer, begins."""

from typing import Literal

from tidegate.dialects.dialect import Call
from tidegate.wire import jsonio

__all__ = ["HEAD", "head"]

HEAD = ("id", "object", "created", "model")


def head(
    call: Call, model: str, kind: Literal["chat.completion", "chat.completion.chunk", "text_completion"]
) -> jsonio.Members:
    """One id for the whole answer, our clock, and the `model` that answers."""
    prefix = "cmpl-" if kind == "text_completion" else "chatcmpl-"
    return {
        "id": jsonio.raw(prefix + call.response_id.removeprefix("resp_")),
        "object": jsonio.raw(kind),
        "created": jsonio.raw(call.created_at),
        "model": jsonio.raw(model),
    }
