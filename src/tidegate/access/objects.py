"""What the admin API and the command line take and show.

What is taken forbids members that it does not know, so that nobody sets by the way what is not his to set: ids, owners,
digests, dates of birth. What is shown is listed here member by member; nothing is shown that is not.
"""

import hashlib
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tidegate.config.limits import NO_LIMITS, Limits
from tidegate.config.schema import Profile, Unsupported
from tidegate.dialects import validation
from tidegate.dialects.dialect import Endpoint
from tidegate.wire import jsonio

__all__ = [
    "ROLES",
    "Admin",
    "AdminWithText",
    "AuditEntry",
    "Deleted",
    "EarlierText",
    "Key",
    "KeyChange",
    "KeySettings",
    "KeyWithText",
    "Me",
    "NewAdmin",
    "NewKey",
    "NewOrganization",
    "NewProject",
    "Organization",
    "OrganizationChange",
    "Page",
    "Project",
    "ProjectChange",
    "Role",
    "Rotation",
    "Settings",
    "Status",
    "digest",
]

T = TypeVar("T")

Role = Literal["viewer", "admin", "owner"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "admin", "owner")
"""Each may do what those before it may."""

Status = Literal["active", "expired", "revoked"]

EARLIEST: Final = 1_577_836_800
LATEST: Final = 253_402_300_799
"""Unix times of 2020 and of the end of the year 9999: what lies outside was meant in other units."""

DAY_S: Final = 86_400

# -- members --------------------------------------------------------------------------------------------------------

Name = Annotated[
    str,
    Meta(
        description="A letter or digit, then letters, digits, `.`, `_` and `-`.",
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=64,
    ),
]
KeyName = Annotated[
    str,
    Meta(
        description="What people call it: letters of any script, spaces, no control characters.",
        pattern="^[^\\x00-\\x1f\\x7f]+$",
        min_length=1,
        max_length=64,
    ),
]
Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(description="Up to 16 texts of your own.", max_length=16),
]
ExpiresAt = Annotated[
    Annotated[
        int, Meta(ge=EARLIEST, le=LATEST, extra={validation.WORDS: "a time in seconds since 1970, in the future"})
    ]
    | None,
    Meta(description="Unix time in seconds from which on it is refused; null for never."),
]
_ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Models = Annotated[
    tuple[_ModelName, ...],
    Meta(description="Models that may be used; `*` stands for any text, as in `openai/*`. Empty: all.", max_length=256),
]
Endpoints = Annotated[tuple[Endpoint, ...], Meta(description="Endpoints that may be used. Empty: all.", max_length=32)]
Addresses = Annotated[
    tuple[Annotated[str, Meta(min_length=2, max_length=64)], ...],
    Meta(description="Addresses or networks from which it may be used, as in `10.0.0.0/8`. Empty: all.", max_length=64),
]
DefaultModel = Annotated[
    str, Meta(description="Model of requests that name none. Empty: `defaults.model`.", max_length=256)
]
ProfileName = Annotated[Profile | None, Meta(description="Compatibility profile. Null: `defaults.profile`.")]
WhatOfUnsupported = Annotated[
    Unsupported | None, Meta(description="`refuse` or `drop`. Null: as the alias, else `defaults.unsupported`.")
]
KeyLimits = Annotated[Limits, Meta(description="What the key may use.")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of an organization or project besides its name."""

    limits: Limits = NO_LIMITS
    end_user_limits: Limits = NO_LIMITS
    metadata: dict[str, str] = {}


class KeySettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a key besides what it is found by."""

    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[str, ...] = ()
    model: str = ""
    profile: Profile | None = None
    unsupported: Unsupported | None = None
    metadata: dict[str, str] = {}
    limits: Limits = NO_LIMITS


# -- what is taken --------------------------------------------------------------------------------------------------


class NewOrganization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An organization that is to be made."""

    name: Name
    limits: Limits = NO_LIMITS
    metadata: Metadata = {}


class OrganizationChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to become of an organization. Members that are left out stay; each other one is replaced whole."""

    limits: Limits | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class NewProject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project that is to be made."""

    name: Name
    limits: Limits = NO_LIMITS
    end_user_limits: Annotated[Limits, Meta(description="What each single end user of the project may use.")] = (
        NO_LIMITS
    )
    metadata: Metadata = {}


class ProjectChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to become of a project. Members that are left out stay; each other one is replaced whole."""

    limits: Limits | UnsetType = UNSET
    end_user_limits: Limits | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A virtual key that is to be made."""

    name: KeyName
    organization: Name = "default"
    project: Name = "default"
    expires_at: ExpiresAt = None
    models: Models = ()
    endpoints: Endpoints = ()
    addresses: Addresses = ()
    model: DefaultModel = ""
    profile: ProfileName = None
    unsupported: WhatOfUnsupported = None
    metadata: Metadata = {}
    limits: KeyLimits = NO_LIMITS


class KeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to become of a key. Members that are left out stay; each other one is replaced whole."""

    name: KeyName | UnsetType = UNSET
    expires_at: ExpiresAt | UnsetType = UNSET
    models: Models | UnsetType = UNSET
    endpoints: Endpoints | UnsetType = UNSET
    addresses: Addresses | UnsetType = UNSET
    model: DefaultModel | UnsetType = UNSET
    profile: ProfileName | UnsetType = UNSET
    unsupported: WhatOfUnsupported | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    limits: KeyLimits | UnsetType = UNSET


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a key is to be rotated."""

    overlap_seconds: Annotated[
        int, Meta(description="How long the old text still holds beside the new one.", ge=0, le=90 * DAY_S)
    ] = 0


class NewAdmin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An admin key that is to be made."""

    name: KeyName
    role: Annotated[Role, Meta(description="What it may do.")]
    expires_at: ExpiresAt = None


# -- what is shown --------------------------------------------------------------------------------------------------


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """An organization."""

    object: Literal["organization"] = "organization"
    name: str
    created_at: int
    created_by: str
    limits: Limits
    metadata: dict[str, str]


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project of an organization."""

    object: Literal["project"] = "project"
    name: str
    organization: str
    created_at: int
    created_by: str
    limits: Limits
    end_user_limits: Limits
    metadata: dict[str, str]


class EarlierText(msgspec.Struct, frozen=True, kw_only=True):
    """A text of a key from before its rotation, that still holds."""

    last4: str
    created_at: int
    expires_at: int


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual key. Of its text only the last four characters are known."""

    object: Literal["key"] = "key"
    id: str
    name: str
    organization: str
    project: str
    status: Status
    last4: str
    created_at: int
    created_by: str
    expires_at: int | None
    revoked_at: int | None
    models: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    addresses: tuple[str, ...]
    model: str
    profile: Profile | None
    unsupported: Unsupported | None
    metadata: dict[str, str]
    limits: Limits
    earlier: tuple[EarlierText, ...]


class KeyWithText(Key, frozen=True, kw_only=True):
    """A virtual key that has just got a text, which is shown now and never again."""

    key: str


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """An admin key."""

    object: Literal["admin"] = "admin"
    id: str
    name: str
    role: Role
    status: Status
    created_at: int
    created_by: str
    expires_at: int | None
    revoked_at: int | None


class AdminWithText(Admin, frozen=True, kw_only=True):
    """An admin key that has just been made; its text is shown now and never again."""

    key: str


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done. The digests are SHA-256, in hexadecimal, of the object as it is shown without its status,
    before and after; null where there was none."""

    object: Literal["audit_entry"] = "audit_entry"
    id: str
    at: int
    actor: str
    actor_name: str
    action: str
    target: str
    before: str | None
    after: str | None
    request_id: str


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a key belongs to."""

    object: Literal["me"] = "me"
    type: Literal["admin", "key"]
    id: str
    name: str
    role: Role | None
    organization: str | None
    project: str | None
    expires_at: int | None
    model: str
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    addresses: tuple[str, ...]
    limits: dict[Literal["organization", "project", "key", "end_user"], Limits]


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is there no more."""

    object: Literal["deleted"] = "deleted"
    name: str
    deleted: Literal[True] = True


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list; the next one is asked for with `after`, the `last_id` of this one."""

    object: Literal["list"] = "list"
    data: tuple[T, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


def digest(shown: msgspec.Struct) -> str:
    """What the audit log keeps of an object."""
    members: dict[str, Any] = msgspec.to_builtins(shown)
    members.pop("status", None)  # it changes by itself
    return hashlib.sha256(jsonio.encode(members)).hexdigest()
