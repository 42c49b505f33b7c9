"""What this gateway offers, in the forms of three APIs' model lists, and a page at a time where their clients page.

Sources: https://platform.claude.com/docs/en/api/models/list and https://ai.google.dev/api/models#method:-models.list.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tidegate.dialects.validation import invalid
from tidegate.gateway.models import Model

__all__ = ["ANTHROPIC_QUERY", "GOOGLE_QUERY", "anthropic_list", "entry", "google_entry", "google_list", "openai_list"]

MOST_MODELS: Final = 1000
"""Most models of one page, in both APIs that have pages."""

ANTHROPIC_PAGE: Final = 20
GOOGLE_PAGE: Final = 50
"""How many there are on a page when the client does not say."""

ANTHROPIC_QUERY: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_MODELS, "default": ANTHROPIC_PAGE},
    "after_id": {"type": "string"},
    "before_id": {"type": "string"},
}
GOOGLE_QUERY: Final[dict[str, dict[str, Any]]] = {
    "pageSize": {"type": "integer", "minimum": 0, "default": GOOGLE_PAGE},
    "pageToken": {"type": "string"},
}
"""The schemas of their parameters."""


def openai_list(models: Sequence[Model]) -> dict[str, Any]:
    """All of them, for OpenAI's clients, which do not page, and for Codex, which looks for `models`: what would stand there
    replaces its own instructions, so that nothing does."""
    return {"object": "list", **_entries(models, has_more=False), "models": []}


def anthropic_list(models: Sequence[Model], query: Mapping[str, str]) -> dict[str, Any]:
    """The page that `limit`, and `after_id` or `before_id`, ask for; `has_more` is of the same direction.
    Raises InvalidRequest."""
    limit = _number(query.get("limit", str(ANTHROPIC_PAGE)))
    if limit is None or not 1 <= limit <= MOST_MODELS:
        raise invalid("limit", f"expected a whole number from 1 to {MOST_MODELS}.")
    after, before = query.get("after_id"), query.get("before_id")
    if before is None:
        start = 0 if after is None else _place(models, after, "after_id") + 1
        return _entries(models[start : start + limit], has_more=start + limit < len(models))
    if after is not None:
        raise invalid("before_id", "expected only one of 'before_id' and 'after_id'.")
    end = _place(models, before, "before_id")
    return _entries(models[max(end - limit, 0) : end], has_more=end > limit)


def google_list(models: Sequence[Model], query: Mapping[str, str]) -> dict[str, Any]:
    """The page that `pageSize` and `pageToken` ask for; `nextPageToken` is there where another follows. Google's API takes
    both names in snake case as well, reads nothing and 0 as unsaid, and a size above the largest as the largest.
    Raises InvalidRequest."""
    size = _number(query.get("pageSize") or query.get("page_size") or "0")
    if size is None:
        raise invalid("pageSize", "expected a whole number.")
    size = min(size, MOST_MODELS) or GOOGLE_PAGE
    token = query.get("pageToken") or query.get("page_token")
    start = _place(models, _name_in(token), "pageToken") + 1 if token else 0
    page = models[start : start + size]
    answer: dict[str, Any] = {"models": [google_entry(model) for model in page]}
    if start + size < len(models):
        answer["nextPageToken"] = urlsafe_b64encode(page[-1].id.encode()).decode()
    return answer


def entry(model: Model) -> dict[str, Any]:
    """An entry of `GET /v1/models`, which clients of OpenAI's API and of Anthropic's read alike: each finds its own
    members and passes over the other's."""
    created_at = datetime.fromtimestamp(model.created, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "type": "model",
        "display_name": model.id,
        "created_at": created_at,
        "lifecycle": "active",
    }


def google_entry(model: Model) -> dict[str, Any]:
    """The same in the form of Google's `GET /v1beta/models`."""
    return {
        "name": f"models/{model.id}",
        "version": "",
        "displayName": model.id,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
    }


def _entries(page: Sequence[Model], *, has_more: bool) -> dict[str, Any]:
    return {
        "data": [entry(model) for model in page],
        "has_more": has_more,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def _place(models: Sequence[Model], name: str, param: str) -> int:
    """Where the model stands that a page begins or ends at."""
    for place, model in enumerate(models):
        if model.id == name:
            return place
    raise invalid(param, "it names no model of this list.")


def _name_in(token: str) -> str:
    """The last model of the page before; of a token that is not ours, a name that no model has."""
    try:
        return urlsafe_b64decode(token).decode()
    except ValueError:
        return ""


def _number(given: str) -> int | None:
    return int(given) if given.isascii() and given.isdecimal() and len(given) <= 9 else None
