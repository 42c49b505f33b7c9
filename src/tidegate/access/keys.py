"""Who calls: virtual keys from the configuration, looked up by digest."""

import hashlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

import msgspec

from tidegate.config.limits import NO_LIMITS, Limits
from tidegate.config.schema import KeyConfig
from tidegate.wire.errors import Forbidden, InvalidKey

__all__ = ["DEFAULT", "KEY_HEADERS", "OPEN", "KeyRing", "Principal", "Scope"]

DEFAULT: Final = "default"
"""Name of the organization, and of the project in it, that are always there."""

KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")
"""Headers, besides `authorization`, in which clients of one API or another send their key."""

_HINT = "Send it in the header 'Authorization: Bearer <key>', or in x-api-key, api-key or x-goog-api-key."


class Scope(msgspec.Struct, frozen=True, gc=False):
    """One of those that a request counts against, with what it may use."""

    level: Literal["organization", "project", "key", "end_user"]
    id: str
    """The organization's name, `organization/project`, or the key's id; of an end user the project's id, a slash and
    the name that the request gives."""
    limits: Limits


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request is charged to, and what holds for it."""

    key: str
    """Name of the key; empty in open mode."""
    key_id: str = ""
    """What the key is known by as long as it exists: of a key in the configuration its name."""
    organization: str = DEFAULT
    project: str
    model: str = ""
    profile: str = ""
    unsupported: str = ""
    """`refuse` or `drop`; empty where the key does not say."""
    models: tuple[str, ...] = ()
    """Patterns of allowed model names; empty allows all."""
    endpoints: tuple[str, ...] = ()
    """Names of the allowed endpoints; empty allows all."""
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks from which the key may be used; empty allows all."""
    expires_at: float | None = None
    """Unix time from which on the key is refused."""
    scopes: tuple[Scope, ...] = ()
    """Organization, project and key, in this order, as far as they have limits."""
    end_user_limits: Limits = NO_LIMITS
    """Limits of each single end user of this key's project."""

    def authorise(self, model: str) -> None:
        """Raises Forbidden when this principal may not use the model that it named."""
        if self.models and not any(fnmatchcase(model, pattern) for pattern in self.models):
            raise Forbidden(
                f"The key '{self.key}' may not use the model '{model}'. It may use: {', '.join(self.models)}.",
                param="model",
                code="model_not_allowed",
            )


OPEN = Principal(key="", project=DEFAULT)
"""Everybody, as long as no key is configured."""


class KeyRing:
    """All keys by the SHA-256 of their text. Keys are random, so that a plain digest gives nothing away, and a lookup
    by digest takes the same time for near misses as for anything else."""

    def __init__(self, keys: Iterable[KeyConfig]) -> None:
        self._principals = {
            key.sha256(): Principal(
                key=key.name,
                key_id=key.name,
                project=key.project,
                model=key.model,
                profile=key.profile or "",
                unsupported=key.unsupported or "",
                models=key.models,
            )
            for key in keys
        }

    @property
    def open(self) -> bool:
        """True while no key is configured: everybody who reaches the port may call."""
        return not self._principals

    def authenticate(self, headers: Mapping[bytes, bytes], given: bytes | None = None) -> Principal:
        """The principal of a request. `headers` holds the lower-case names, `given` is a key that stands in the address.
        Raises InvalidKey."""
        if not self._principals:
            return OPEN
        key = _extract(headers, given)
        if key is None:
            raise InvalidKey(f"You did not provide an API key. {_HINT}")
        principal = self._principals.get(hashlib.sha256(key).digest())
        if principal is None:
            raise InvalidKey(f"The API key that you provided is not known to this gateway. {_HINT}")
        return principal


def _extract(headers: Mapping[bytes, bytes], given: bytes | None) -> bytes | None:
    """The one place that reads a key from a request; two different keys are refused, not ranked."""
    found: bytes | None = None
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, rest = authorization.strip().partition(b" ")
        if scheme.lower() != b"bearer":
            raise InvalidKey(f"The Authorization header does not use the scheme Bearer. {_HINT}")
        found = rest.strip() or None
    for other in (*(headers.get(name) for name in KEY_HEADERS), given):
        if other is not None and (other := other.strip()):
            if found is not None and other != found:
                raise InvalidKey(f"The request carries two different API keys. {_HINT}")
            found = other
    return found
