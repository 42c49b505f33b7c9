"""Managing who may use the gateway: what the admin API and the command line both do.

Changes are on the disk when they return, and hold in this process at once; other processes on the same database see them
within `WATCH_S`. An outage of the database leaves everything as it was last known.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_network
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from tidegate.access import keytext
from tidegate.access.directory import Directory, key_settings, settings
from tidegate.access.keys import DEFAULT
from tidegate.access.objects import (
    Admin,
    AdminWithText,
    AuditEntry,
    EarlierText,
    Key,
    KeyChange,
    KeySettings,
    KeyWithText,
    NewAdmin,
    NewKey,
    NewOrganization,
    NewProject,
    Organization,
    OrganizationChange,
    Page,
    Project,
    ProjectChange,
    Role,
    Settings,
    Status,
    digest,
)
from tidegate.access.pepper import Pepper
from tidegate.storage import access
from tidegate.storage.access import (
    NEWEST,
    Act,
    AdminRow,
    AuditRow,
    KeyRow,
    NewText,
    OrganizationRow,
    ProjectRow,
    Refusal,
    TextRow,
)
from tidegate.storage.statement import Work
from tidegate.storage.storage import Storage
from tidegate.telemetry.log import get_logger
from tidegate.wire import jsonio
from tidegate.wire.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable

__all__ = ["HOUSE", "Actor", "Administration", "nobody_named"]

WATCH_S: Final = 0.5
"""How often the version in the database is looked at: a change through another process holds here within that."""

OWNER: Final[Role] = "owner"

_KEY_ID: Final = "key_"
_ADMIN_ID: Final = "adm_"
_AUDIT_ID: Final = "audit_"

T = TypeVar("T")


class Actor(NamedTuple):
    """Who makes a change, and in which request."""

    id: str
    name: str
    request_id: str = ""


HOUSE: Final = Actor("", "tidegate")
"""The gateway itself."""


class Administration:
    """See the module. One per process and database; lives on one event loop."""

    def __init__(
        self,
        storage: Storage,
        peppers: Sequence[Pepper],
        *,
        file_projects: Callable[[], frozenset[str]] = frozenset,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`file_projects` names the projects, of the default organization, that keys in the configuration belong to.
        `clock` gives the Unix time. Without a pepper nothing can be made that has a key."""
        self.directory = Directory()
        self.peppers = tuple(peppers)
        self.on_change: Callable[[], None] | None = None
        """Told when the directory has changed, or something in it has expired."""
        self._storage = storage
        self._file_projects = file_projects
        self._clock = clock
        self._refreshing = asyncio.Lock()

    # -- following the database ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Fill the directory. Raises StorageUnavailable."""
        await self.refresh()
        if DEFAULT not in {row.name for row in self.directory.organizations()} or DEFAULT not in {
            row.name for row in self.directory.projects(DEFAULT)
        }:
            await self._storage.change(partial(access.ensure, DEFAULT, DEFAULT, b"{}", self._clock()))
            await self.refresh()
        others = self.directory.count_other_peppers(frozenset(pepper.version for pepper in self.peppers))
        if others:
            get_logger().error(
                "keys_of_another_pepper",
                count=others,
                hint="These keys open nothing here. Give TIDEGATE_PEPPER the value they were made with, or restore "
                "pepper.key in the data folder.",
            )

    async def refresh(self) -> None:
        """Take in what has changed."""
        async with self._refreshing:
            directory = self.directory
            found = await self._storage.look(partial(access.changes, directory.version))
            if found.version < directory.version:  # another database than before: a backup was restored
                directory = self.directory = Directory()
                found = await self._storage.look(partial(access.changes, 0))
            if found.version == directory.version:
                return
            directory.apply(found)
        if self.on_change is not None:
            self.on_change()

    async def watch(self) -> None:
        """Follow what other processes change, and what expires, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            if self.directory.has_expired(self._clock()) and self.on_change is not None:
                self.on_change()
            try:
                if await self._storage.look(access.version) != self.directory.version:
                    await self.refresh()
            except StorageUnavailable:
                continue  # the storage has told it; what is known holds
            except Exception:  # whatever it was, revocations must go on to be seen
                get_logger().exception("access_not_refreshed")

    async def _change(self, work: Callable[[], Work[T]]) -> T:
        done = await self._storage.change(work)
        with contextlib.suppress(StorageUnavailable):  # it is done all the same, and will be seen when that is over
            await self.refresh()
        return done

    def _act(self, actor: Actor, action: str) -> Act:
        return Act(self._clock(), actor.id, actor.name, action, actor.request_id)

    # -- organizations ------------------------------------------------------------------------------------------

    def organizations(self, after: str | None, limit: int) -> Page[Organization]:
        """A page of the organizations, newest first. Raises NotFound when `after` is none of them."""
        return _page([_organization(row) for row in self.directory.organizations()], "name", after, limit)

    def organization(self, name: str) -> Organization:
        """Raises NotFound."""
        for row in self.directory.organizations():
            if row.name == name:
                return _organization(row)
        raise _no_organization(name)

    async def create_organization(self, actor: Actor, new: NewOrganization) -> Organization:
        """Raises Conflict when the name is taken."""
        _check_name(new.name)
        kept = jsonio.encode(Settings(limits=new.limits, metadata=new.metadata))
        act = self._act(actor, "organization.create")
        made = await self._change(
            partial(access.create_organization, act, new.name, kept, lambda row: digest(_organization(row)))
        )
        if isinstance(made, Refusal):
            raise _name_refused("organization", new.name, made)
        return _organization(made)

    async def change_organization(self, actor: Actor, name: str, change: OrganizationChange) -> Organization:
        """Raises NotFound."""
        act = self._act(actor, "organization.change")
        done = await self._change(
            partial(
                access.change_organization, act, name, _settings_editor(change), lambda row: digest(_organization(row))
            )
        )
        if isinstance(done, Refusal):
            raise _no_organization(name)
        return _organization(done)

    async def delete_organization(self, actor: Actor, name: str) -> None:
        """Raises NotFound, and Conflict while it has projects."""
        if name == DEFAULT:
            raise Conflict(f"The organization '{DEFAULT}' is always there.", code="always_there")
        act = self._act(actor, "organization.delete")
        refusal = await self._change(
            partial(access.delete_organization, act, name, lambda row: digest(_organization(row)))
        )
        if refusal is Refusal.IN_USE:
            raise Conflict(
                f"The organization '{name}' still has projects. Delete them first; `tidegate projects list "
                f"--organization {name}`, or GET /admin/v1/organizations/{name}/projects, lists them.",
                code="organization_in_use",
            )
        if refusal is not None:
            raise _no_organization(name)

    # -- projects -----------------------------------------------------------------------------------------------

    def projects(self, organization: str, after: str | None, limit: int) -> Page[Project]:
        """A page of an organization's projects, newest first. Raises NotFound."""
        self.organization(organization)
        return _page([_project(row) for row in self.directory.projects(organization)], "name", after, limit)

    def project(self, organization: str, name: str) -> Project:
        """Raises NotFound."""
        for row in self.directory.projects(organization):
            if row.name == name:
                return _project(row)
        raise _no_project(organization, name)

    async def create_project(self, actor: Actor, organization: str, new: NewProject) -> Project:
        """Raises NotFound, and Conflict when the name is taken."""
        _check_name(new.name)
        kept = jsonio.encode(Settings(limits=new.limits, end_user_limits=new.end_user_limits, metadata=new.metadata))
        act = self._act(actor, "project.create")
        made = await self._change(
            partial(access.create_project, act, organization, new.name, kept, lambda row: digest(_project(row)))
        )
        if made is Refusal.NO_PARENT:
            raise _no_organization(organization)
        if isinstance(made, Refusal):
            raise _name_refused("project", new.name, made)
        return _project(made)

    async def change_project(self, actor: Actor, organization: str, name: str, change: ProjectChange) -> Project:
        """Raises NotFound."""
        act = self._act(actor, "project.change")
        work = partial(
            access.change_project,
            act,
            organization,
            name,
            _settings_editor(change),
            lambda row: digest(_project(row)),
        )
        done = await self._change(work)
        if isinstance(done, Refusal):
            raise _no_project(organization, name)
        return _project(done)

    async def delete_project(self, actor: Actor, organization: str, name: str) -> None:
        """Raises NotFound, and Conflict while it has keys."""
        if (organization, name) == (DEFAULT, DEFAULT):
            raise Conflict(
                f"The project '{DEFAULT}' of the organization '{DEFAULT}' is always there.", code="always_there"
            )
        if organization == DEFAULT and name in self._file_projects():
            raise Conflict(
                f"Keys in the configuration file belong to the project '{name}'. Remove them there first.",
                code="project_in_use",
            )
        act = self._act(actor, "project.delete")
        refusal = await self._change(
            partial(access.delete_project, act, organization, name, lambda row: digest(_project(row)))
        )
        if refusal is Refusal.IN_USE:
            raise Conflict(
                f"The project '{name}' still has keys. Revoke them first; `tidegate keys list --organization {organization} "
                f"--project {name}`, or GET /admin/v1/keys?organization={organization}&project={name}, lists them.",
                code="project_in_use",
            )
        if refusal is not None:
            raise _no_project(organization, name)

    # -- keys ---------------------------------------------------------------------------------------------------

    async def keys(self, organization: str, project: str, *, revoked: bool, after: str | None, limit: int) -> Page[Key]:
        """A page of the keys, newest first. Empty names stand for all. Raises NotFound when `after` is no key, and for names
        that nobody bears."""
        before = NEWEST
        if after is not None:
            row = await self._storage.look(partial(access.key, after)) if _is_id(after, _KEY_ID) else None
            if row is None:
                raise _no_cursor(after)
            before = row.number
        rows = await self._storage.look(
            partial(access.keys, organization, project, revoked=revoked, before=before, count=limit + 1)
        )
        if not rows:  # what was deleted may still have revoked keys
            error = nobody_named(self.directory, self._file_projects(), organization, project)
            if error is not None:
                raise error
        shown = [self._key(row, await self._texts(row)) for row in rows[:limit]]
        return _as_page(shown, "id", has_more=len(rows) > limit)

    async def key(self, id_: str) -> Key:
        """A key, also a revoked one. Raises NotFound."""
        row = await self._storage.look(partial(access.key, id_)) if _is_id(id_, _KEY_ID) else None
        if row is None:
            raise _no_key(id_)
        return self._key(row, await self._texts(row))

    async def find_key(self, name: str) -> Key:
        """The key with this id, or the only one with this name that is not revoked. Raises NotFound, and Conflict when
        there are several."""
        if _is_id(name, _KEY_ID):
            return await self.key(name)
        rows = await self._storage.look(partial(access.keys_named, name))
        if not rows:
            raise _no_key(name)
        if len(rows) > 1:
            ids = ", ".join(f"{row.id} ({row.organization}/{row.project})" for row in rows)
            raise Conflict(
                f"Several keys have the name '{name}': {ids}. Say which one by its id.", code="name_not_unique"
            )
        return self._key(rows[0], await self._texts(rows[0]))

    async def create_key(self, actor: Actor, new: NewKey) -> KeyWithText:
        """A new key. Raises NotFound for an unknown project, Conflict when the name is taken, and InvalidRequest."""
        _check_name(new.name)
        _check_addresses(new.addresses)
        id_ = keytext.new_id()
        text = keytext.new_text(keytext.VIRTUAL, id_)
        kept = {name: getattr(new, name) for name in KeySettings.__struct_fields__}
        row = KeyRow(
            0,
            _KEY_ID + id_,
            new.organization,
            new.project,
            new.name,
            jsonio.encode(KeySettings(**kept)),
            0.0,
            "",
            None if new.expires_at is None else float(new.expires_at),
            None,
        )
        act = self._act(actor, "key.create")
        made = await self._change(partial(access.create_key, act, row, self._digested(text), self._key_digest))
        if made is Refusal.NO_PARENT:
            self.organization(new.organization)  # It may be this one that is not there.
            error = _no_project(new.organization, new.project)
            error.message += " Make it first."
            raise error
        if isinstance(made, Refusal):
            raise _name_refused("key", new.name, made)
        return self._with_text(made, text)

    async def change_key(self, actor: Actor, id_: str, change: KeyChange) -> Key:
        """Raises NotFound, also for a revoked key, Conflict when the name is taken, and InvalidRequest."""
        if change.name is not UNSET:
            _check_name(change.name)
        if change.addresses is not UNSET:
            _check_addresses(change.addresses)
        act = self._act(actor, "key.change")
        done = await self._change(
            partial(access.change_key, act, self._known_id(id_), partial(_edited_key, change), self._key_digest)
        )
        if done is Refusal.TAKEN:
            raise _name_refused("key", str(change.name), done)
        if isinstance(done, Refusal):
            raise _no_key(id_)
        return self._key(done, await self._texts(done))

    async def rotate_key(self, actor: Actor, id_: str, overlap_s: float) -> KeyWithText:
        """Give a key a new text; the old one holds for `overlap_s` seconds more. Raises NotFound."""
        text = keytext.new_text(keytext.VIRTUAL, self._known_id(id_).removeprefix(_KEY_ID))
        act = self._act(actor, "key.rotate")
        done = await self._change(
            partial(access.rotate_key, act, id_, self._digested(text), act.at + overlap_s, self._key_digest)
        )
        if isinstance(done, Refusal):
            raise _no_key(id_)
        return self._with_text(done, text)

    async def revoke_key(self, actor: Actor, id_: str) -> Key:
        """Take a key out of use for ever, at once. Raises NotFound."""
        act = self._act(actor, "key.revoke")
        done = await self._change(partial(access.revoke_key, act, self._known_id(id_), self._key_digest))
        if isinstance(done, Refusal):
            raise _no_key(id_)
        return self._key(done, await self._texts(done))

    async def _texts(self, row: KeyRow) -> Sequence[TextRow]:
        """The texts of a key; those of revoked ones are not in memory."""
        if row.revoked_at is None:
            return self.directory.texts_of(row.id)
        return await self._storage.look(partial(access.texts, row.id))

    @staticmethod
    def _known_id(id_: str) -> str:
        if not _is_id(id_, _KEY_ID):
            raise _no_key(id_)
        return id_

    def _digested(self, text: str) -> NewText:
        if not self.peppers:
            raise StorageUnavailable(
                "Keys cannot be made: there is no place to keep their pepper. Set server.data_dir or TIDEGATE_PEPPER."
            )
        pepper = self.peppers[0]
        return NewText(pepper.digest(text.encode("ascii")), pepper.version, text[-4:])

    def _key(self, row: KeyRow, texts: Sequence[TextRow]) -> Key:
        return Key(**self._key_members(row, texts))

    def _with_text(self, row: KeyRow, text: str) -> KeyWithText:
        members = self._key_members(row, self.directory.texts_of(row.id))
        return KeyWithText(**{**members, "last4": text[-4:]}, key=text)

    def _key_digest(self, row: KeyRow, texts: Sequence[TextRow]) -> str:
        return digest(self._key(row, texts))

    def _key_members(self, row: KeyRow, texts: Sequence[TextRow]) -> dict[str, Any]:
        now = self._clock()
        newest = max(texts, key=lambda text: (text.expires_at is None, text.created_at), default=None)
        kept = key_settings(row)
        return {
            **{name: getattr(kept, name) for name in KeySettings.__struct_fields__},
            "id": row.id,
            "name": row.name,
            "organization": row.organization,
            "project": row.project,
            "status": _status(row, now),
            "last4": "" if newest is None else newest.last4,
            "created_at": int(row.created_at),
            "created_by": row.created_by,
            "expires_at": _whole(row.expires_at),
            "revoked_at": _whole(row.revoked_at),
            "earlier": tuple(
                EarlierText(last4=text.last4, created_at=int(text.created_at), expires_at=int(text.expires_at))
                for text in texts
                if text.expires_at is not None and text.expires_at > now
            ),
        }

    # -- admins -------------------------------------------------------------------------------------------------

    async def admins(self, *, revoked: bool, after: str | None, limit: int) -> Page[Admin]:
        """A page of the admins, newest first. Raises NotFound when `after` is none."""
        before = NEWEST
        if after is not None:
            row = await self._storage.look(partial(access.admin, after)) if _is_id(after, _ADMIN_ID) else None
            if row is None:
                raise _no_cursor(after)
            before = row.number
        rows = await self._storage.look(partial(access.admins, revoked=revoked, before=before, count=limit + 1))
        return _as_page([self.admin(row) for row in rows[:limit]], "id", has_more=len(rows) > limit)

    async def create_admin(self, actor: Actor, new: NewAdmin) -> AdminWithText:
        """A new admin key. Raises Conflict when the name is taken."""
        _check_name(new.name)
        row, text = self._new_admin(new)
        act = self._act(actor, "admin.create")
        made = await self._change(partial(access.create_admin, act, row, self._digested(text), self._admin_digest))
        if isinstance(made, Refusal):
            raise _name_refused("admin", new.name, made)
        return AdminWithText(**_members(self.admin(made)), key=text)

    async def create_first_admin(self) -> str | None:
        """The text of a new owner's key, where there never was an admin; else None."""
        if self.directory.admins or not self.peppers:
            return None
        row, text = self._new_admin(NewAdmin(name="first", role=OWNER))
        work = partial(
            access.create_admin,
            self._act(HOUSE, "admin.create"),
            row,
            self._digested(text),
            self._admin_digest,
            first=True,
        )
        return None if isinstance(await self._change(work), Refusal) else text

    @staticmethod
    def _new_admin(new: NewAdmin) -> tuple[AdminRow, str]:
        id_ = keytext.new_id()
        ends = None if new.expires_at is None else float(new.expires_at)
        return AdminRow(0, _ADMIN_ID + id_, new.name, new.role, 0.0, "", ends, None), keytext.new_text(
            keytext.ADMIN, id_
        )

    async def find_admin(self, name: str) -> Admin:
        """The admin with this id, or this name. Raises NotFound."""
        for row in self.directory.admins.values():
            if name in (row.id, row.name):
                return self.admin(row)
        raise _no_admin(name)

    async def revoke_admin(self, actor: Actor, id_: str) -> Admin:
        """Take an admin key out of use for ever. Raises NotFound, and Conflict for the last owner."""
        if not _is_id(id_, _ADMIN_ID):
            raise _no_admin(id_)
        act = self._act(actor, "admin.revoke")
        done = await self._change(partial(access.revoke_admin, act, id_, OWNER, self._admin_digest))
        if done is Refusal.LAST:
            raise Conflict("This is the last owner. Make another one before you revoke it.", code="last_owner")
        if isinstance(done, Refusal):
            raise _no_admin(id_)
        return self.admin(done)

    def admin(self, row: AdminRow) -> Admin:
        """An admin as it is shown."""
        return Admin(
            id=row.id,
            name=row.name,
            role=msgspec.convert(row.role, Role),
            status=_status(row, self._clock()),
            created_at=int(row.created_at),
            created_by=row.created_by,
            expires_at=_whole(row.expires_at),
            revoked_at=_whole(row.revoked_at),
        )

    def _admin_digest(self, row: AdminRow) -> str:
        return digest(self.admin(row))

    # -- audit --------------------------------------------------------------------------------------------------

    async def audit(self, after: str | None, limit: int) -> Page[AuditEntry]:
        """A page of the audit log, newest first. Raises NotFound when `after` is no entry."""
        before = NEWEST
        if after is not None:
            number = after.removeprefix(_AUDIT_ID)
            if not after.startswith(_AUDIT_ID) or not (number.isascii() and number.isdecimal()) or len(number) > 18:
                raise _no_cursor(after)
            before = int(number)
        rows = await self._storage.look(partial(access.audit, before, limit + 1))
        return _as_page([_audit_entry(row) for row in rows[:limit]], "id", has_more=len(rows) > limit)


def _organization(row: OrganizationRow) -> Organization:
    kept = settings(row)
    return Organization(
        name=row.name,
        created_at=int(row.created_at),
        created_by=row.created_by,
        limits=kept.limits,
        metadata=kept.metadata,
    )


def _project(row: ProjectRow) -> Project:
    kept = settings(row)
    return Project(
        name=row.name,
        organization=row.organization,
        created_at=int(row.created_at),
        created_by=row.created_by,
        limits=kept.limits,
        end_user_limits=kept.end_user_limits,
        metadata=kept.metadata,
    )


def _audit_entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=f"{_AUDIT_ID}{row.number}",
        at=int(row.at),
        actor=row.actor,
        actor_name=row.actor_name,
        action=row.action,
        target=row.target,
        before=row.before or None,
        after=row.after or None,
        request_id=row.request_id,
    )


def _settings_editor(change: OrganizationChange | ProjectChange) -> Callable[[bytes], bytes]:
    """What makes new settings out of old ones."""
    decoder = jsonio.decoder(Settings)

    def edit(kept: bytes) -> bytes:
        return jsonio.encode(msgspec.structs.replace(jsonio.decode(kept, decoder), **_given(change)))

    return edit


def _edited_key(change: KeyChange, row: KeyRow) -> KeyRow:
    given = _given(change)
    name = given.pop("name", row.name)
    expires_at = given.pop("expires_at", row.expires_at)
    kept = msgspec.structs.replace(key_settings(row), **given)
    return row._replace(
        name=name, expires_at=None if expires_at is None else float(expires_at), settings=jsonio.encode(kept)
    )


def _given(change: msgspec.Struct) -> dict[str, Any]:
    """The members of a change that were not left out."""
    return {name: value for name, value in _members(change).items() if value is not UNSET}


def _members(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _status(row: KeyRow | AdminRow, now: float) -> Status:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "active"


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _is_id(text: str, prefix: str) -> bool:
    rest = text.removeprefix(prefix)
    return text.startswith(prefix) and len(rest) == keytext.ID_LENGTH and rest.isascii() and rest.isalnum()


def _page(shown: list[T], member: str, after: str | None, limit: int) -> Page[T]:
    """A page of a whole list that is in memory."""
    start = 0
    if after is not None:
        names = [getattr(one, member) for one in shown]
        if after not in names:
            raise _no_cursor(after)
        start = names.index(after) + 1
    return _as_page(shown[start : start + limit], member, has_more=len(shown) > start + limit)


def _as_page(shown: Sequence[T], member: str, *, has_more: bool) -> Page[T]:
    ids = [getattr(one, member) for one in shown]
    return Page(
        data=tuple(shown), first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
    )


def _check_name(name: str) -> None:
    """What the pattern of the schema lets through: it ends before a line break at the end of the text."""
    if name.endswith("\n"):
        raise InvalidRequest("Invalid 'name': it ends with a line break.", param="name", code="invalid_value")


def _check_addresses(addresses: Sequence[str]) -> None:
    for number, address in enumerate(addresses):
        try:
            ip_network(address)
        except ValueError as error:
            raise InvalidRequest(
                f"Invalid 'addresses[{number}]': {error}. Expected an address or a network such as 10.0.0.0/8.",
                param=f"addresses[{number}]",
                code="invalid_value",
            ) from None


def nobody_named(
    directory: Directory, file_projects: frozenset[str], organization: str, project: str
) -> NotFound | None:
    """The error for a list that is asked of an organization or project that is not there: an empty list would hide that its
    name is misspelt. Empty names stand for all; keys in the configuration belong to `file_projects`."""
    if organization and organization not in {row.name for row in directory.organizations()}:
        return _no_organization(organization)
    projects = {row.name for row in directory.projects(organization)}
    if organization in ("", DEFAULT):
        projects |= file_projects
    return _no_project(organization, project) if project and project not in projects else None


def _no_organization(name: str) -> NotFound:
    return NotFound(f"There is no organization '{name}'.", param="organization")


def _no_project(organization: str, name: str) -> NotFound:
    where = f" in the organization '{organization}'" if organization else ""
    return NotFound(f"There is no project '{name}'{where}.", param="project")


def _no_key(id_: str) -> NotFound:
    return NotFound(f"There is no key '{id_}', or it was revoked.", param="id")


def _no_admin(id_: str) -> NotFound:
    return NotFound(f"There is no admin '{id_}', or it was revoked.", param="id")


def _no_cursor(after: str) -> NotFound:
    return NotFound(f"There is nothing '{after}' in this list.", param="after")


def _name_refused(kind: str, name: str, refusal: Refusal) -> Conflict:
    if refusal is Refusal.DELETED:
        return Conflict(
            f"The {kind} '{name}' was deleted, and what it stored may still be there. Choose another name.",
            param="name",
            code="name_taken",
        )
    return Conflict(
        f"There is {'an' if kind[0] in 'ao' else 'a'} {kind} '{name}' already.", param="name", code="name_taken"
    )
