"""What a 401 or 403 is about: the account, one model, the place that the gateway calls from, or the request alone.

Providers answer 403 to all of them, and only the first is a reason to leave a credential alone. Their codes and types tell,
where they have any, else a few words of theirs. The table holds for every provider, as relays pass on what others said.
What is not in it is about the account: that calls for somebody who looks after it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

__all__ = ["About", "about", "reasons"]

About = Literal["account", "model", "place", "filter", "file"]
"""A `filter` has caught the request, or it names a `file` that belongs to somebody else."""

_OF_CODE: Final[Mapping[str, About]] = {
    "unsupported_country_region_territory": "place",  # OpenAI
    "model_not_found": "model",  # OpenAI, of a model that the project may not use
    "missing_scope": "model",  # OpenAI, of a restricted key
    "model_permission_blocked_org": "model",  # Groq
    "model_permission_blocked_project": "model",
    "Model.AccessDenied": "model",  # Alibaba
    "access_denied": "model",
    "AllocationQuota.FreeTierOnly": "model",
    "content_policy_violation": "filter",  # OpenRouter
    "content_filter": "filter",
}

_OF_TYPE: Final[Mapping[str, About]] = {
    "request_forbidden": "place",  # OpenAI
    "forbidden": "place",  # Anthropic's front, to addresses in countries that it does not serve
    "permission_error": "model",  # Anthropic
    "permissions_error": "model",  # Groq
}

_SAID: Final[tuple[tuple[str, About], ...]] = (
    ("has been disabled", "account"),  # Anthropic's organizations, Google's accounts: whatever the type
    ("violates usage guidelines", "filter"),  # xAI; the code is the same as for a team without access
    ("input was flagged", "filter"),  # OpenRouter, for models that are moderated
    ("Request blocked:", "filter"),  # OpenRouter's guardrails
    ("permission to access the File", "file"),  # Google, of a file that another key owns
    ("does not have access to model", "model"),  # OpenAI
    ("not allowed to sample from this model", "model"),
    ("must be verified to use the model", "model"),
    ("Missing scopes", "model"),
    ("Access to model denied", "model"),  # Alibaba
    ("not authorized to access model", "model"),
    ("location is not supported", "place"),  # Google
    ("not available in your region", "place"),
    ("Country, region, or territory not supported", "place"),
)

_NAMES = re.compile(r"SAFETY_CHECK_TYPE_[A-Z_]{1,64}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _/-]{0,63}")


def about(status: int, code: object, type_: object, text: str, metadata: object, *, page: bool = False) -> About:
    """What the refusal is about. `metadata` is OpenRouter's; `page`: the body is a web page, which no API sends but the
    network in front of it."""
    said = next((what for words, what in _SAID if words in text), None)
    if said is not None:
        return said
    if isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata):
        return "filter"
    found = _OF_CODE.get(str(code)) or _OF_TYPE.get(str(type_))
    if found is not None:
        return found
    return "place" if page and status == 403 else "account"


def reasons(text: str, metadata: Any) -> str:
    """What a filter has found, as far as it is told in names: nothing else of the text can be passed on, for it may hold
    ids of the account, or quote the credential."""
    found = _NAMES.findall(text)
    given = metadata.get("reasons") if isinstance(metadata, dict) else None
    if isinstance(given, list):
        found += [one for one in given[:8] if isinstance(one, str) and _NAME.fullmatch(one)]
    return ", ".join(dict.fromkeys(found))
