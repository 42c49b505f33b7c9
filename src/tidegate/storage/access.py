"""Organizations, projects, virtual keys, admins, and the record of who changed them.

Each change counts the version up in its own transaction, and leaves the version in the row: whoever knows a version reads
what came after it. Counting comes first, so that on a server changes follow one another; what is refused changes nothing.
Rows are inserted as they are given: ids, times and digests are made above.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from tidegate.storage.statement import Row, Sql, Work

__all__ = [
    "Act",
    "AdminRow",
    "AuditRow",
    "Changes",
    "KeyRow",
    "NewText",
    "OrganizationRow",
    "ProjectRow",
    "Refusal",
    "TextRow",
    "changes",
    "version",
]

NEWEST: Final = 2**62
"""Comes behind every row number: where a page begins that begins at the newest."""


class Refusal(Enum):
    """Why a change was not made."""

    UNKNOWN = "unknown"
    """There is no such thing, or it was revoked or deleted."""
    NO_PARENT = "no_parent"
    """The organization or project that it would belong to is not there."""
    TAKEN = "taken"
    DELETED = "deleted"
    """Something that was deleted had this name, and what it kept may still be there."""
    IN_USE = "in_use"
    LAST = "last"
    """Nobody could make changes any more."""


class OrganizationRow(NamedTuple):
    number: int
    name: str
    settings: bytes
    created_at: float
    created_by: str


class ProjectRow(NamedTuple):
    number: int
    organization: str
    name: str
    settings: bytes
    created_at: float
    created_by: str


class KeyRow(NamedTuple):
    """A virtual key; `settings` is the JSON of what it may do."""

    number: int
    id: str
    organization: str
    project: str
    name: str
    settings: bytes
    created_at: float
    created_by: str
    expires_at: float | None
    revoked_at: float | None


class AdminRow(NamedTuple):
    number: int
    id: str
    name: str
    role: str
    created_at: float
    created_by: str
    expires_at: float | None
    revoked_at: float | None


class TextRow(NamedTuple):
    """A text that opens a virtual key or an admin key: `owner` is the key's id. After a rotation there may be two."""

    owner: str
    digest: bytes
    pepper: str
    last4: str
    created_at: float
    expires_at: float | None


class NewText(NamedTuple):
    """A text that is to open a key: its keyed digest, which pepper that was made with, and its last four characters."""

    digest: bytes
    pepper: str
    last4: str


class AuditRow(NamedTuple):
    """Who did what to what. The digests are those of the object as it is shown, before and after; empty for none."""

    number: int
    at: float
    actor: str
    actor_name: str
    action: str
    target: str
    before: str
    after: str
    request_id: str


class Act(NamedTuple):
    """The part of an audit entry that is known before the change."""

    at: float
    actor: str
    actor_name: str
    action: str
    request_id: str


KeyDigest = Callable[[KeyRow, Sequence[TextRow]], str]
"""Makes the digest of a key for the audit log, from its row and its texts, the newest first."""


class Changes(NamedTuple):
    """What has changed since a version. Of keys only those that changed; all of the rest, which is little."""

    version: int
    has_keys: bool
    """Whether there is any key, also a revoked one."""
    organizations: list[OrganizationRow]
    projects: list[ProjectRow]
    admins: list[AdminRow]
    keys: list[KeyRow]
    texts: list[TextRow]
    """Those of `keys` and of all admins."""


_COUNT = Sql("UPDATE counters SET next = next + 1 WHERE name = 'access' RETURNING next")
_VERSION = Sql("SELECT next FROM counters WHERE name = 'access'")

_ORGANIZATION = "number, name, settings, created_at, created_by"
_PROJECT = "number, organization, name, settings, created_at, created_by"
_KEY = "number, id, organization, project, name, settings, created_at, created_by, expires_at, revoked_at"
_ADMIN = "number, id, name, role, created_at, created_by, expires_at, revoked_at"
_TEXT = "owner, digest, pepper, last4, created_at, expires_at"

_RECORD = Sql("""
    INSERT INTO audit (at, actor, actor_name, action, target, before, after, request_id)
    VALUES (:at, :actor, :actor_name, :action, :target, :before, :after, :request_id)
""")
_AUDIT = Sql("""
    SELECT number, at, actor, actor_name, action, target, before, after, request_id FROM audit
    WHERE number < :before ORDER BY number DESC LIMIT :count
""")


def version() -> Work[int]:
    """The present version."""
    [[found]] = yield _VERSION()
    return int(found)


def _record(act: Act, target: str, before: str, after: str) -> Work[None]:
    yield _RECORD(**act._asdict(), target=target, before=before, after=after)


def audit(before: int, count: int) -> Work[list[AuditRow]]:
    """Audit entries older than a row number, newest first."""
    rows = yield _AUDIT(before=before, count=count)
    return [AuditRow(*row) for row in rows]


# -- what gateways hold in memory -----------------------------------------------------------------------------------

_HAS_KEYS = Sql("SELECT EXISTS (SELECT 1 FROM virtual_keys)")
_ORGANIZATIONS = Sql(f"SELECT {_ORGANIZATION} FROM organizations WHERE deleted_at IS NULL ORDER BY number")
_PROJECTS = Sql(f"SELECT {_PROJECT} FROM projects WHERE deleted_at IS NULL ORDER BY number")
_ADMINS = Sql(f"SELECT {_ADMIN} FROM admins WHERE revoked_at IS NULL")
_ADMIN_TEXTS = Sql("""
    SELECT t.owner, t.digest, t.pepper, t.last4, t.created_at, t.expires_at
    FROM admins a CROSS JOIN key_texts t WHERE t.owner = a.id AND a.revoked_at IS NULL
""")
_KEYS = Sql(f"SELECT {_KEY} FROM virtual_keys WHERE changed > :after AND (revoked_at IS NULL OR :revoked = 1)")
_KEY_TEXTS = Sql("""
    SELECT t.owner, t.digest, t.pepper, t.last4, t.created_at, t.expires_at
    FROM virtual_keys k CROSS JOIN key_texts t WHERE t.owner = k.id AND k.changed > :after AND k.revoked_at IS NULL
""")


def has_keys() -> Work[bool]:
    """Whether there is any key, also a revoked one."""
    [[found]] = yield _HAS_KEYS()
    return bool(found)


def changes(after: int) -> Work[Changes]:
    """What came behind a version; behind none, everything that is in force."""
    found = yield from version()
    any_keys = yield from has_keys()
    organizations = yield _ORGANIZATIONS()
    projects = yield _PROJECTS()
    admins = yield _ADMINS()
    keys = yield _KEYS(after=after, revoked=int(after > 0))
    texts = [*(yield _ADMIN_TEXTS()), *(yield _KEY_TEXTS(after=after))]
    return Changes(
        found,
        any_keys,
        [OrganizationRow(*row) for row in organizations],
        [ProjectRow(*row) for row in projects],
        [AdminRow(*row) for row in admins],
        [KeyRow(*row) for row in keys],
        [_text(row) for row in texts],
    )


def _text(row: Row) -> TextRow:
    owner, digest, *rest = row
    return TextRow(owner, bytes(digest), *rest)


# -- organizations and projects -------------------------------------------------------------------------------------

_ORGANIZATION_NAMED = Sql(f"SELECT {_ORGANIZATION}, deleted_at FROM organizations WHERE name = :name")
_INSERT_ORGANIZATION = Sql(f"""
    INSERT INTO organizations (name, settings, created_at, created_by) VALUES (:name, :settings, :at, :actor)
    RETURNING {_ORGANIZATION}
""")
_CHANGE_ORGANIZATION = Sql(f"""
    UPDATE organizations SET settings = :settings WHERE number = :number RETURNING {_ORGANIZATION}
""")
_DELETE_ORGANIZATION = Sql("UPDATE organizations SET deleted_at = :at WHERE number = :number")
_HAS_PROJECTS = Sql("SELECT 1 FROM projects WHERE organization = :organization AND deleted_at IS NULL LIMIT 1")

_PROJECT_NAMED = Sql(f"""
    SELECT {_PROJECT}, deleted_at FROM projects WHERE organization = :organization AND name = :name
""")
_INSERT_PROJECT = Sql(f"""
    INSERT INTO projects (organization, name, settings, created_at, created_by)
    VALUES (:organization, :name, :settings, :at, :actor) RETURNING {_PROJECT}
""")
_CHANGE_PROJECT = Sql(f"UPDATE projects SET settings = :settings WHERE number = :number RETURNING {_PROJECT}")
_DELETE_PROJECT = Sql("UPDATE projects SET deleted_at = :at WHERE number = :number")
_PROJECT_HAS_KEYS = Sql("""
    SELECT 1 FROM virtual_keys WHERE organization = :organization AND project = :name AND revoked_at IS NULL LIMIT 1
""")


def ensure(organization: str, project: str, settings: bytes, at: float) -> Work[None]:
    """Have an organization and a project in it, without an entry in the audit log: they belong to the house."""
    if not (yield _ORGANIZATION_NAMED(name=organization)):
        yield from _counted()
        if not (yield _ORGANIZATION_NAMED(name=organization)):
            yield _INSERT_ORGANIZATION(name=organization, settings=settings, at=at, actor="")
    if not (yield _PROJECT_NAMED(organization=organization, name=project)):
        yield from _counted()
        if not (yield _PROJECT_NAMED(organization=organization, name=project)):
            yield _INSERT_PROJECT(organization=organization, name=project, settings=settings, at=at, actor="")


def _counted() -> Work[int]:
    """The version that this transaction makes."""
    [[found]] = yield _COUNT()
    return int(found)


def _organization(name: str) -> Work[OrganizationRow | Refusal]:
    rows = yield _ORGANIZATION_NAMED(name=name)
    if not rows:
        return Refusal.UNKNOWN
    return Refusal.DELETED if rows[0][-1] is not None else OrganizationRow(*rows[0][:-1])


def _project(organization: str, name: str) -> Work[ProjectRow | Refusal]:
    rows = yield _PROJECT_NAMED(organization=organization, name=name)
    if not rows:
        return Refusal.UNKNOWN
    return Refusal.DELETED if rows[0][-1] is not None else ProjectRow(*rows[0][:-1])


def create_organization(
    act: Act, name: str, settings: bytes, digest: Callable[[OrganizationRow], str]
) -> Work[OrganizationRow | Refusal]:
    yield from _counted()
    found = yield from _organization(name)
    if found is not Refusal.UNKNOWN:
        return found if isinstance(found, Refusal) else Refusal.TAKEN
    [row] = yield _INSERT_ORGANIZATION(name=name, settings=settings, at=act.at, actor=act.actor)
    made = OrganizationRow(*row)
    yield from _record(act, name, "", digest(made))
    return made


def change_organization(
    act: Act, name: str, edit: Callable[[bytes], bytes], digest: Callable[[OrganizationRow], str]
) -> Work[OrganizationRow | Refusal]:
    """`edit` gives the new settings from the old ones."""
    yield from _counted()
    found = yield from _organization(name)
    if isinstance(found, Refusal):
        return Refusal.UNKNOWN
    [row] = yield _CHANGE_ORGANIZATION(settings=edit(found.settings), number=found.number)
    after = OrganizationRow(*row)
    yield from _record(act, name, digest(found), digest(after))
    return after


def delete_organization(act: Act, name: str, digest: Callable[[OrganizationRow], str]) -> Work[Refusal | None]:
    """Refused while it has projects."""
    yield from _counted()
    found = yield from _organization(name)
    if isinstance(found, Refusal):
        return Refusal.UNKNOWN
    if (yield _HAS_PROJECTS(organization=name)):
        return Refusal.IN_USE
    yield _DELETE_ORGANIZATION(at=act.at, number=found.number)
    yield from _record(act, name, digest(found), "")
    return None


def create_project(
    act: Act, organization: str, name: str, settings: bytes, digest: Callable[[ProjectRow], str]
) -> Work[ProjectRow | Refusal]:
    yield from _counted()
    if isinstance((yield from _organization(organization)), Refusal):
        return Refusal.NO_PARENT
    found = yield from _project(organization, name)
    if found is not Refusal.UNKNOWN:
        return found if isinstance(found, Refusal) else Refusal.TAKEN
    [row] = yield _INSERT_PROJECT(organization=organization, name=name, settings=settings, at=act.at, actor=act.actor)
    made = ProjectRow(*row)
    yield from _record(act, f"{organization}/{name}", "", digest(made))
    return made


def change_project(
    act: Act, organization: str, name: str, edit: Callable[[bytes], bytes], digest: Callable[[ProjectRow], str]
) -> Work[ProjectRow | Refusal]:
    """`edit` gives the new settings from the old ones."""
    yield from _counted()
    found = yield from _project(organization, name)
    if isinstance(found, Refusal):
        return Refusal.UNKNOWN
    [row] = yield _CHANGE_PROJECT(settings=edit(found.settings), number=found.number)
    after = ProjectRow(*row)
    yield from _record(act, f"{organization}/{name}", digest(found), digest(after))
    return after


def delete_project(act: Act, organization: str, name: str, digest: Callable[[ProjectRow], str]) -> Work[Refusal | None]:
    """Refused while it has keys that are not revoked."""
    yield from _counted()
    found = yield from _project(organization, name)
    if isinstance(found, Refusal):
        return Refusal.UNKNOWN
    if (yield _PROJECT_HAS_KEYS(organization=organization, name=name)):
        return Refusal.IN_USE
    yield _DELETE_PROJECT(at=act.at, number=found.number)
    yield from _record(act, f"{organization}/{name}", digest(found), "")
    return None


# -- keys -----------------------------------------------------------------------------------------------------------

_KEY_BY_ID = Sql(f"SELECT {_KEY} FROM virtual_keys WHERE id = :id")
_KEYS_NAMED = Sql(f"SELECT {_KEY} FROM virtual_keys WHERE name = :name AND revoked_at IS NULL ORDER BY number LIMIT 20")
_NAME_TAKEN = Sql("""
    SELECT 1 FROM virtual_keys WHERE organization = :organization AND project = :project AND name = :name
    AND revoked_at IS NULL AND id <> :id
""")
_PAGE = Sql(f"""
    SELECT {_KEY} FROM virtual_keys WHERE number < :before
    AND (organization = :organization OR :organization = '') AND (project = :project OR :project = '')
    AND (revoked_at IS NULL OR :revoked = 1) ORDER BY number DESC LIMIT :count
""")
_INSERT_KEY = Sql(f"""
    INSERT INTO virtual_keys (id, organization, project, name, settings, created_at, created_by, expires_at, changed)
    VALUES (:id, :organization, :project, :name, :settings, :at, :actor, :expires_at, :version) RETURNING {_KEY}
""")
_CHANGE_KEY = Sql(f"""
    UPDATE virtual_keys SET name = :name, settings = :settings, expires_at = :expires_at, changed = :version
    WHERE number = :number RETURNING {_KEY}
""")
_TOUCH_KEY = Sql("UPDATE virtual_keys SET changed = :version WHERE number = :number")
_REVOKE_KEY = Sql(f"""
    UPDATE virtual_keys SET revoked_at = :at, changed = :version WHERE number = :number RETURNING {_KEY}
""")
_INSERT_TEXT = Sql("""
    INSERT INTO key_texts (owner, digest, pepper, last4, created_at) VALUES (:owner, :digest, :pepper, :last, :at)
""")
_TEXTS = Sql(f"SELECT {_TEXT} FROM key_texts WHERE owner = :owner ORDER BY number DESC")
_END_TEXTS = Sql("""
    UPDATE key_texts SET expires_at = :until WHERE owner = :owner AND (expires_at IS NULL OR expires_at > :until)
""")
_DROP_TEXTS = Sql("DELETE FROM key_texts WHERE owner = :owner AND expires_at <= :at")
_DROP_ALL_TEXTS = Sql("DELETE FROM key_texts WHERE owner = :owner")


def key(id_: str) -> Work[KeyRow | None]:
    """A key, also a revoked one."""
    rows = yield _KEY_BY_ID(id=id_)
    return KeyRow(*rows[0]) if rows else None


def keys_named(name: str) -> Work[list[KeyRow]]:
    """The keys with this name that are not revoked, at most twenty."""
    rows = yield _KEYS_NAMED(name=name)
    return [KeyRow(*row) for row in rows]


def keys(organization: str, project: str, *, revoked: bool, before: int, count: int) -> Work[list[KeyRow]]:
    """Keys older than a row number, newest first. Empty names stand for all."""
    rows = yield _PAGE(before=before, organization=organization, project=project, revoked=int(revoked), count=count)
    return [KeyRow(*row) for row in rows]


def texts(owner: str) -> Work[list[TextRow]]:
    """The texts of a key, newest first."""
    rows = yield _TEXTS(owner=owner)
    return [_text(row) for row in rows]


def create_key(act: Act, new: KeyRow, text: NewText, digest: KeyDigest) -> Work[KeyRow | Refusal]:
    """Of `new` the number, who made it and when are not looked at."""
    version = yield from _counted()
    if isinstance((yield from _organization(new.organization)), Refusal) or isinstance(
        (yield from _project(new.organization, new.project)), Refusal
    ):
        return Refusal.NO_PARENT
    if (yield _NAME_TAKEN(organization=new.organization, project=new.project, name=new.name, id=new.id)):
        return Refusal.TAKEN
    [row] = yield _INSERT_KEY(
        id=new.id,
        organization=new.organization,
        project=new.project,
        name=new.name,
        settings=new.settings,
        at=act.at,
        actor=act.actor,
        expires_at=new.expires_at,
        version=version,
    )
    yield _INSERT_TEXT(owner=new.id, digest=text.digest, pepper=text.pepper, last=text.last4, at=act.at)
    made = KeyRow(*row)
    yield from _record(act, new.id, "", digest(made, (yield from texts(new.id))))
    return made


def change_key(act: Act, id_: str, edit: Callable[[KeyRow], KeyRow], digest: KeyDigest) -> Work[KeyRow | Refusal]:
    """`edit` gives the row as it is to be; its name, settings and expiry are taken."""
    version = yield from _counted()
    before = yield from key(id_)
    if before is None or before.revoked_at is not None:
        return Refusal.UNKNOWN
    new = edit(before)
    if (yield _NAME_TAKEN(organization=before.organization, project=before.project, name=new.name, id=id_)):
        return Refusal.TAKEN
    [row] = yield _CHANGE_KEY(
        name=new.name, settings=new.settings, expires_at=new.expires_at, version=version, number=before.number
    )
    after = KeyRow(*row)
    found = yield from texts(id_)
    yield from _record(act, id_, digest(before, found), digest(after, found))
    return after


def rotate_key(act: Act, id_: str, text: NewText, until: float, digest: KeyDigest) -> Work[KeyRow | Refusal]:
    """Give a key a new text; the ones before it hold until then at most."""
    version = yield from _counted()
    found = yield from key(id_)
    if found is None or found.revoked_at is not None:
        return Refusal.UNKNOWN
    before = yield from texts(id_)
    yield _END_TEXTS(owner=id_, until=until)
    yield _DROP_TEXTS(owner=id_, at=act.at)
    yield _INSERT_TEXT(owner=id_, digest=text.digest, pepper=text.pepper, last=text.last4, at=act.at)
    yield _TOUCH_KEY(version=version, number=found.number)
    yield from _record(act, id_, digest(found, before), digest(found, (yield from texts(id_))))
    return found


def revoke_key(act: Act, id_: str, digest: KeyDigest) -> Work[KeyRow | Refusal]:
    """Take a key out of use for ever. One that is revoked already stays as it is. What is known of its text stays too, so
    that people can tell which one it was."""
    version = yield from _counted()
    before = yield from key(id_)
    if before is None or before.revoked_at is not None:
        return before or Refusal.UNKNOWN
    found = yield from texts(id_)
    [row] = yield _REVOKE_KEY(at=act.at, version=version, number=before.number)
    yield _END_TEXTS(owner=id_, until=act.at)
    after = KeyRow(*row)
    yield from _record(act, id_, digest(before, found), digest(after, (yield from texts(id_))))
    return after


# -- admins ---------------------------------------------------------------------------------------------------------

_ADMIN_BY_ID = Sql(f"SELECT {_ADMIN} FROM admins WHERE id = :id")
_ADMIN_NAME_TAKEN = Sql("SELECT 1 FROM admins WHERE name = :name AND revoked_at IS NULL")
_HAS_ADMINS = Sql("SELECT 1 FROM admins LIMIT 1")
_OTHER_OWNER = Sql("""
    SELECT 1 FROM admins WHERE role = :role AND id <> :id AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > :at) LIMIT 1
""")
_INSERT_ADMIN = Sql(f"""
    INSERT INTO admins (id, name, role, created_at, created_by, expires_at)
    VALUES (:id, :name, :role, :at, :actor, :expires_at) RETURNING {_ADMIN}
""")
_REVOKE_ADMIN = Sql(f"UPDATE admins SET revoked_at = :at WHERE number = :number RETURNING {_ADMIN}")
_ADMIN_PAGE = Sql(f"""
    SELECT {_ADMIN} FROM admins WHERE number < :before AND (revoked_at IS NULL OR :revoked = 1)
    ORDER BY number DESC LIMIT :count
""")


def admin(id_: str) -> Work[AdminRow | None]:
    """An admin, also one that was revoked."""
    rows = yield _ADMIN_BY_ID(id=id_)
    return AdminRow(*rows[0]) if rows else None


def admins(*, revoked: bool, before: int, count: int) -> Work[list[AdminRow]]:
    """Admins older than a row number, newest first."""
    rows = yield _ADMIN_PAGE(before=before, revoked=int(revoked), count=count)
    return [AdminRow(*row) for row in rows]


def create_admin(
    act: Act, new: AdminRow, text: NewText, digest: Callable[[AdminRow], str], *, first: bool = False
) -> Work[AdminRow | Refusal]:
    """`first`: only when there never was one."""
    yield from _counted()
    if first and (yield _HAS_ADMINS()):
        return Refusal.TAKEN
    if (yield _ADMIN_NAME_TAKEN(name=new.name)):
        return Refusal.TAKEN
    [row] = yield _INSERT_ADMIN(
        id=new.id, name=new.name, role=new.role, at=act.at, actor=act.actor, expires_at=new.expires_at
    )
    yield _INSERT_TEXT(owner=new.id, digest=text.digest, pepper=text.pepper, last=text.last4, at=act.at)
    made = AdminRow(*row)
    yield from _record(act, new.id, "", digest(made))
    return made


def revoke_admin(act: Act, id_: str, keeps_role: str, digest: Callable[[AdminRow], str]) -> Work[AdminRow | Refusal]:
    """Take an admin key out of use for ever. Refused for the last one with the role `keeps_role`."""
    yield from _counted()
    before = yield from admin(id_)
    if before is None or before.revoked_at is not None:
        return before or Refusal.UNKNOWN
    if before.role == keeps_role and not (yield _OTHER_OWNER(role=keeps_role, id=id_, at=act.at)):
        return Refusal.LAST
    [row] = yield _REVOKE_ADMIN(at=act.at, number=before.number)
    yield _DROP_ALL_TEXTS(owner=id_)
    after = AdminRow(*row)
    yield from _record(act, id_, digest(before), digest(after))
    return after
