"""What a provider says is wrong with a request, in the terms of a client that speaks another API."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tidegate.dialects.dialect import Endpoint
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError
from tidegate.wire.items import CanonicalRequest

__all__ = ["in_clients_terms"]

_SHARED: Final = {
    name: (name,)
    for name in (
        "frequency_penalty", "logit_bias", "metadata", "n", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
        "safety_identifier", "seed", "service_tier", "stop", "temperature", "tool_choice", "tools", "top_k", "top_logprobs",
        "top_p", "user",
    )
}  # fmt: skip
_EFFORT: Final = ("effort", "reasoning_budget", "reasons")
"""What of a client's request a provider may have got an effort for."""

_MADE_OF: Final[Mapping[Endpoint, Mapping[str, tuple[str, ...]]]] = {
    "responses": {
        **_SHARED,
        "input": ("items",),
        "instructions": ("instructions",),
        "max_output_tokens": ("max_output_tokens",),
        "reasoning.effort": _EFFORT,
        "reasoning.summary": ("reasoning_summary",),
        "text.format": ("format",),
        "text.verbosity": ("verbosity",),
    },
    "chat": {
        **_SHARED,
        "logprobs": ("top_logprobs",),
        "max_completion_tokens": ("max_output_tokens",),
        "max_tokens": ("max_output_tokens",),
        "messages": ("items",),
        "reasoning_effort": _EFFORT,
        "response_format": ("format",),
        "verbosity": ("verbosity",),
    },
}
"""Members of a provider's request, and of which ones of the canonical request they are made. Only OpenAI's APIs say in a
member of the error which one they mean."""

_WITHOUT_PARAM: Final = frozenset({"messages"})
"""Clients that are told of an error in its message alone (https://platform.claude.com/docs/en/api/errors)."""

_DEEPER: Final = re.compile(r"[.\[]")


def in_clients_terms(error: TidegateError, endpoint: Endpoint, asked: CanonicalRequest) -> None:
    """Rewrites the `param` of an error that a provider gave to `asked` at its `endpoint`: the client's own name for the
    member; none where nobody can be certain of it. The provider's name then stands in the message, and always for a
    client whose errors have no such member."""
    theirs = error.param
    if theirs is None or asked.client == endpoint:
        return
    error.param = _clients_name(theirs, endpoint, asked)
    if (error.param != theirs or asked.client in _WITHOUT_PARAM) and not _names(error.message, theirs):
        error.message = f"{error.message.rstrip()} (The provider says so of '{theirs}'.)"


def _clients_name(theirs: str, endpoint: Endpoint, asked: CanonicalRequest) -> str | None:
    known = _MADE_OF.get(endpoint, {})
    made_of = next((known[path] for path in _outwards(theirs) if path in known), ())
    given = next((name for name in made_of if _is_given(getattr(asked, name))), None)
    if given is None or (given == "items" and _stands_elsewhere(asked, endpoint)):
        return None
    return asked.names.get(given, given)


def _names(message: str, member: str) -> bool:
    """Whether the message has the name as a word of its own: most have an `n` in them."""
    return re.search(rf"(?<!\w){re.escape(member)}(?!\w)", message) is not None


def _outwards(path: str) -> Iterable[str]:
    """The path, and those of the members around it: `text.format.schema`, `text.format`, `text`."""
    yield path
    for cut in reversed([found.start() for found in _DEEPER.finditer(path)]):
        yield path[:cut]


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", (), [], {}, jsonio.EMPTY)


def _stands_elsewhere(asked: CanonicalRequest, endpoint: Endpoint) -> bool:
    """Whether the provider's messages may be what the client has said in another member than its own messages."""
    names = asked.names
    return endpoint == "chat" and bool(asked.instructions) and names.get("instructions") != names.get("items")
