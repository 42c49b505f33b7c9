"""Who calls: virtual keys from the configuration, looked up by digest."""

import hashlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from tidegate.config.schema import KeyConfig
from tidegate.wire.errors import Forbidden, InvalidKey

__all__ = ["KEY_HEADERS", "OPEN", "KeyRing", "Principal"]

KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")
"""Headers, besides `authorization`, in which clients of one API or another send their key."""

_HINT = "Send it in the header 'Authorization: Bearer <key>', or in x-api-key, api-key or x-goog-api-key."


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request is charged to, and what holds for it."""

    key: str
    project: str
    model: str = ""
    profile: str = ""
    unsupported: str = ""
    """`refuse` or `drop`; empty where the key does not say."""
    models: tuple[str, ...] = ()
    """Patterns of allowed model names; empty allows all."""

    def authorise(self, model: str) -> None:
        """Raises Forbidden when this principal may not use the model that it named."""
        if self.models and not any(fnmatchcase(model, pattern) for pattern in self.models):
            raise Forbidden(
                f"The key '{self.key}' may not use the model '{model}'. It may use: {', '.join(self.models)}.",
                param="model",
                code="model_not_allowed",
            )


OPEN = Principal(key="", project="default")
"""Everybody, as long as no key is configured."""


class KeyRing:
    """All keys by the SHA-256 of their text. Keys are random, so that a plain digest gives nothing away, and a lookup
    by digest takes the same time for near misses as for anything else."""

    def __init__(self, keys: Iterable[KeyConfig]) -> None:
        self._principals = {
            key.sha256(): Principal(
                key=key.name,
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
