"""Who calls: virtual keys from the configuration and the database, looked up by digest in memory."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec

from tidegate.access.directory import Directory, key_settings
from tidegate.access.keytext import ADMIN, is_well_formed, prefix_of
from tidegate.access.pepper import Pepper
from tidegate.access.scopes import DEFAULT, Scope, project_named
from tidegate.config.limits import NO_LIMITS, Limits
from tidegate.config.schema import KeyConfig, OrganizationConfig, ProjectConfig
from tidegate.storage.access import AdminRow, KeyRow, TextRow
from tidegate.wire import jsonio
from tidegate.wire.errors import Forbidden, InvalidKey

__all__ = ["DEFAULT", "KEY_HEADERS", "OPEN", "KeyRing", "Principal", "Scope"]

KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")
"""Headers, besides `authorization`, in which clients of one API or another send their key."""

REMEMBERED: Final = 65_536
"""Most managed keys that are found by one plain digest; the others take a keyed one more."""

_HINT = "Send it in the header 'Authorization: Bearer <key>', or in x-api-key, api-key or x-goog-api-key."
_MAPPED_BITS: Final = 96
_NO_TEXT = TextRow("", bytes(32), "", "", 0.0, None)


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
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    """The key's metadata, as a JSON object, for the ledger."""
    scopes: tuple[Scope, ...] = ()
    """Organization, project and key, in this order, as far as they have limits."""
    end_user_limits: Limits = NO_LIMITS
    """Limits of each single end user of this key's project."""

    def permit(self, client: str, endpoint: str) -> None:
        """Raises Forbidden when this principal may not call from the address `client`, or not use the endpoint. Without
        an endpoint, only the address is looked at."""
        if self.addresses and not self._may_come_from(client):
            raise Forbidden(
                f"The key '{self.key}' may not be used from the address {client or 'of this request'}.",
                code="address_not_allowed",
            )
        if endpoint and self.endpoints and endpoint not in self.endpoints:
            raise Forbidden(
                f"The key '{self.key}' may not use the endpoint '{endpoint}'. It may use: {', '.join(self.endpoints)}.",
                code="endpoint_not_allowed",
            )

    def _may_come_from(self, client: str) -> bool:
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.addresses)

    def may_use(self, model: str) -> bool:
        """Whether a request may name this model."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)

    def authorise(self, model: str, param: str = "model") -> None:
        """Raises Forbidden when this principal may not use the model that it named in `param`."""
        if not self.may_use(model):
            raise Forbidden(
                f"The key '{self.key}' may not use the model '{model}'. It may use: {', '.join(self.models)}.",
                param=param,
                code="model_not_allowed",
            )


def network_of(text: str) -> IPv4Network | IPv6Network:
    """An allowed address or network. Addresses of IPv4 are compared as such, in whatever form they come: so the networks of
    those that are mapped into IPv6 (RFC 4291 §2.5.5.2) are taken for what they mean. Raises ValueError."""
    network = ip_network(text)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


OPEN = Principal(key="", project=DEFAULT)
"""Everybody, as long as no key is configured."""


class KeyRing:
    """All keys. Those of the configuration are found by the SHA-256 of their text; they are random, so that a plain digest
    gives nothing away. Managed ones are found by a keyed digest, and from then on by the plain one as well. A lookup by
    digest takes the same time for near misses as for anything else.

    A ring is good for one configuration and one version of the directory; a change of either makes a new one.
    """

    def __init__(
        self,
        keys: Iterable[KeyConfig],
        directory: Directory | None = None,
        peppers: Sequence[Pepper] = (),
        clock: Callable[[], float] = time.time,
        *,
        projects: Mapping[str, ProjectConfig] | None = None,
        organizations: Mapping[str, OrganizationConfig] | None = None,
        unlimited: Callable[[str, str], None] | None = None,
    ) -> None:
        """`unlimited` is told the level and the id of each that somebody counts against and that has no limits. `clock` gives the Unix time. What the configuration says of `projects` and `organizations` wins over the
        directory."""
        self._projects = projects or {}
        self._organizations = organizations or {}
        self._directory = directory or Directory()
        self._peppers = tuple(peppers)
        self._clock = clock
        self._unlimited = unlimited
        self._known = {key.sha256(): self._configured(key) for key in keys}
        self._from_file = tuple(self._known.values())
        self._everybody = self._opened()
        self._most_known = len(self._known) + REMEMBERED
        self.open = not self._known and not self._directory.has_keys
        """True while there is no key: everybody who reaches the port may call."""

    def authenticate(self, headers: Mapping[bytes, bytes], given: bytes | None = None) -> Principal:
        """The principal of a request. `headers` holds the lower-case names, `given` is a key that stands in the address.
        Raises InvalidKey."""
        if self.open:
            return self._everybody
        key = _extract(headers, given)
        if key is None:
            raise InvalidKey(f"You did not provide an API key. {_HINT}")
        digest = hashlib.sha256(key).digest()
        principal = self._known.get(digest) or self._find(key, digest)
        if self.has_expired(principal):
            raise InvalidKey("The API key that you provided has expired.")
        return principal

    def has_expired(self, principal: Principal) -> bool:
        return principal.expires_at is not None and self._clock() >= principal.expires_at

    def authenticate_admin(self, headers: Mapping[bytes, bytes]) -> AdminRow | Principal:
        """Who sends a request to the admin API: an admin, or the holder of a virtual key. Raises InvalidKey, also in open
        mode."""
        key = _extract(headers, None)
        if key is None:
            raise InvalidKey("You did not provide an admin key. Send it in the header 'Authorization: Bearer <key>'.")
        if prefix_of(key) != ADMIN:
            if self.open:
                raise _unknown()
            return self.authenticate(headers)
        text = self._text(key)
        admin = self._directory.admins.get(text.owner) if text is not None else None
        if admin is None:
            raise _unknown()
        if admin.expires_at is not None and self._clock() >= admin.expires_at:
            raise InvalidKey("The admin key that you provided has expired.")
        return admin

    def _text(self, key: bytes) -> TextRow | None:
        """The text of a managed key. Every key that is looked for costs the same, whether it is found or not."""
        if prefix_of(key) and not is_well_formed(key):
            raise InvalidKey("The API key that you provided is mistyped or cut: its checksum does not match.")
        found: TextRow | None = None
        for pepper in self._peppers:
            digest = pepper.digest(key)
            text = self._directory.text(digest)
            if hmac.compare_digest(digest, (text or _NO_TEXT).digest):
                found = text
        return found

    def _find(self, key: bytes, digest: bytes) -> Principal:
        if prefix_of(key) == ADMIN:
            raise InvalidKey("This is an admin key, which opens only /admin/v1. Use a virtual key.")
        text = self._text(key)
        row = self._directory.keys.get(text.owner) if text is not None else None
        if text is None or row is None:
            raise _unknown()
        principal = self._managed(row, text)
        if len(self._known) < self._most_known:
            self._known[digest] = principal
        return principal

    def _managed(self, row: KeyRow, text: TextRow) -> Principal:
        kept = key_settings(row)
        ends = [end for end in (row.expires_at, text.expires_at) if end is not None]
        return Principal(
            key=row.name,
            key_id=row.id,
            organization=row.organization,
            project=row.project,
            model=kept.model,
            profile=kept.profile or "",
            unsupported=kept.unsupported or "",
            models=kept.models,
            endpoints=kept.endpoints,
            addresses=tuple(network_of(one) for one in kept.addresses),
            expires_at=min(ends) if ends else None,
            tags=jsonio.raw(kept.metadata),
            scopes=self._scopes(row.organization, row.project, row.id, kept.limits, row.name),
            end_user_limits=self._end_user_limits(row.organization, row.project),
        )

    def _configured(self, key: KeyConfig) -> Principal:
        return Principal(
            key=key.name,
            key_id=key.name,
            project=key.project,
            model=key.model,
            profile=key.profile or "",
            unsupported=key.unsupported or "",
            models=key.models,
            scopes=self._scopes(DEFAULT, key.project, key.name, key.limits),
            end_user_limits=self._end_user_limits(DEFAULT, key.project),
        )

    def _opened(self) -> Principal:
        """Everybody, with the limits of the project that they belong to."""
        scopes = self._scopes(OPEN.organization, OPEN.project, "", NO_LIMITS)
        limits = self._end_user_limits(OPEN.organization, OPEN.project)
        if not scopes and limits is NO_LIMITS:
            return OPEN
        return msgspec.structs.replace(OPEN, scopes=scopes, end_user_limits=limits)

    def _scopes(
        self, organization: str, project: str, key_id: str, limits: Limits, name: str = ""
    ) -> tuple[Scope, ...]:
        directory = self._directory
        file_organization = self._organizations.get(organization)
        file_project = project_named(self._projects, organization, project)
        all_scopes = (
            Scope(
                "organization",
                organization,
                directory.organization_limits(organization) if file_organization is None else file_organization.limits,
            ),
            Scope(
                "project",
                f"{organization}/{project}",
                (file_project or directory.project_settings(organization, project)).limits,
            ),
            Scope("key", key_id, limits, name),
        )
        if self._unlimited is not None:
            for scope in all_scopes:
                if scope.limits == NO_LIMITS:
                    self._unlimited(scope.level, scope.id)
        return tuple(scope for scope in all_scopes if scope.limits != NO_LIMITS)

    def _end_user_limits(self, organization: str, project: str) -> Limits:
        """:data:`NO_LIMITS` itself where there are none."""
        file_project = project_named(self._projects, organization, project)
        limits = (file_project or self._directory.project_settings(organization, project)).end_user_limits
        return NO_LIMITS if limits == NO_LIMITS else limits

    def limited(self) -> list[Scope]:
        """All that have limits: organizations and projects, whether anybody has a key of theirs or not, and keys."""
        directory = self._directory
        principals = self.principals
        projects = {(one.organization, one.project) for one in principals}
        projects |= {(row.organization, row.name) for row in directory.projects("")}
        for name in self._projects:
            organization, slash, project = name.partition("/")
            projects.add((organization, project) if slash else (DEFAULT, name))
        organizations = {organization for organization, _ in projects} | set(self._organizations)
        organizations |= {row.name for row in directory.organizations()}
        found = {
            (scope.level, scope.id): scope
            for organization, project in [*((name, "") for name in sorted(organizations)), *sorted(projects)]
            for scope in self._scopes(organization, project, "", NO_LIMITS)
        }
        found |= {(scope.level, scope.id): scope for one in principals for scope in one.scopes if scope.level == "key"}
        ranks = ("organization", "project", "key")
        return sorted(found.values(), key=lambda scope: ranks.index(scope.level))

    def end_user(self, name: str) -> Scope | None:
        """The scope of an end user by its id; None where end users of that project have no limits."""
        project, _, user = name.rpartition("/")
        organization, _, project = project.partition("/")
        limits = self._end_user_limits(organization, project)
        return None if limits is NO_LIMITS or not user else Scope("end_user", name, limits)

    @property
    def principals(self) -> Sequence[Principal]:
        """Everybody who may call."""
        if self.open:
            return (self._everybody,)
        directory = self._directory
        managed = [
            self._managed(row, text) for row in directory.keys.values() for text in directory.texts_of(row.id)[:1]
        ]
        return [*self._from_file, *managed]


def _unknown() -> InvalidKey:
    return InvalidKey(f"The API key that you provided is not known to this gateway, or was revoked. {_HINT}")


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
