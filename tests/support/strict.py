"""The types of the official SDK as judges. The SDK itself builds its objects without looking at them."""

from typing import Any, TypeVar

import pydantic
from openai import BaseModel
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

__all__ = ["check", "check_event"]

T = TypeVar("T", bound=BaseModel)

_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
_ADAPTERS: dict[type[BaseModel], pydantic.TypeAdapter[Any]] = {
    kind: pydantic.TypeAdapter(kind) for kind in (Response, ChatCompletion, ChatCompletionChunk, Completion, Model)
}
_NOT_TYPED = frozenset({"keepalive"})


def check(kind: type[T], content: object) -> T:
    """`content` (JSON text, a plain object, or an SDK object) read by the SDK's own type, strictly."""
    found = _ADAPTERS[kind].validate_python(_plain(content))
    assert isinstance(found, kind)
    return found


def check_event(content: object) -> Any:
    """One event of a Responses stream, as above."""
    plain = _plain(content)
    assert isinstance(plain, dict)
    if plain["type"] in _NOT_TYPED:
        return None
    found = _EVENT.validate_python(plain)
    assert found.type == plain["type"]
    return found


def _plain(content: object) -> object:
    if isinstance(content, pydantic.BaseModel):
        return content.model_dump(exclude_unset=True, warnings="error")
    return content
