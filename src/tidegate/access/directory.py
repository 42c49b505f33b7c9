"""What is managed in the database, held in memory: nothing on the path of a request asks the database.

It is filled once, and then follows version after version; each takes only what has changed.
"""

import heapq
from typing import Final

from tidegate.access.objects import KeySettings, Settings
from tidegate.config.limits import NO_LIMITS, Limits
from tidegate.storage.access import AdminRow, Changes, KeyRow, OrganizationRow, ProjectRow, TextRow
from tidegate.wire import jsonio

__all__ = ["Directory", "key_settings", "settings"]

_settings: Final = jsonio.decoder(Settings)
_key_settings: Final = jsonio.decoder(KeySettings)


def settings(row: OrganizationRow | ProjectRow) -> Settings:
    """The settings of an organization or project."""
    return jsonio.decode(row.settings, _settings)


def key_settings(row: KeyRow) -> KeySettings:
    """The settings of a key."""
    return jsonio.decode(row.settings, _key_settings)


class Directory:
    """Organizations, projects, virtual keys and admin keys as they stand at one version."""

    def __init__(self) -> None:
        self.version = 0
        self.has_keys = False
        """Whether there is any virtual key, also a revoked one: then nobody is let in without."""
        self.keys: dict[str, KeyRow] = {}
        """The keys that are not revoked, by id."""
        self.admins: dict[str, AdminRow] = {}
        self._organizations: dict[str, OrganizationRow] = {}
        self._projects: dict[tuple[str, str], ProjectRow] = {}
        self._texts: dict[bytes, TextRow] = {}
        self._texts_of: dict[str, tuple[TextRow, ...]] = {}
        self._ends: list[float] = []
        """When something expires, the soonest first; some of it may have been changed since."""

    def apply(self, changes: Changes) -> None:
        """Take in what came behind this version."""
        self.version = changes.version
        self.has_keys = changes.has_keys
        self._organizations = {row.name: row for row in changes.organizations}
        self._projects = {(row.organization, row.name): row for row in changes.projects}
        for gone in [*self.admins, *(row.id for row in changes.keys)]:
            self.keys.pop(gone, None)
            for text in self._texts_of.pop(gone, ()):
                del self._texts[text.digest]
        self.admins = {row.id: row for row in changes.admins}
        for row in changes.keys:
            if row.revoked_at is None:
                self.keys[row.id] = row
                self._remember(row.expires_at)
        for text in changes.texts:
            self._texts[text.digest] = text
            self._texts_of[text.owner] = (*self._texts_of.get(text.owner, ()), text)
            self._remember(text.expires_at)

    def _remember(self, end: float | None) -> None:
        if end is not None:
            heapq.heappush(self._ends, end)

    def has_expired(self, now: float) -> bool:
        """Whether something may have expired since this was last asked."""
        found = False
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
            found = True
        return found

    def text(self, digest: bytes) -> TextRow | None:
        """The text with this keyed digest."""
        return self._texts.get(digest)

    def texts_of(self, owner: str) -> tuple[TextRow, ...]:
        """The texts of a key."""
        return self._texts_of.get(owner, ())

    def count_other_peppers(self, versions: frozenset[str]) -> int:
        """How many texts were made with other peppers, and so open nothing here."""
        return sum(text.pepper not in versions for text in self._texts.values())

    def organization_limits(self, name: str) -> Limits:
        """What an organization may use; no limits for one that is not managed."""
        row = self._organizations.get(name)
        return NO_LIMITS if row is None else settings(row).limits

    def project_settings(self, organization: str, name: str) -> Settings:
        """What is kept of a project; nothing for one that is not managed."""
        row = self._projects.get((organization, name))
        return Settings() if row is None else settings(row)

    def organizations(self) -> list[OrganizationRow]:
        """All organizations, the newest first."""
        return list(reversed(self._organizations.values()))

    def projects(self, organization: str) -> list[ProjectRow]:
        """The projects of an organization, or with an empty name all, the newest first."""
        rows = reversed(self._projects.values())
        return [row for row in rows if not organization or row.organization == organization]
