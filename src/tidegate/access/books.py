"""What the ledger knows of the use of a day or a month: see :class:`tidegate.access.limits.Books`."""

from tidegate.access.limits import Used
from tidegate.access.scopes import Scope, end_user_of
from tidegate.storage.reader import Reader
from tidegate.storage.storage import Storage

__all__ = ["LedgerBooks"]


class LedgerBooks:
    """See the module."""

    def __init__(self, storage: Storage | Reader) -> None:
        self._storage = storage

    async def used(self, scope: Scope, since: float, before: float) -> Used:
        """Raises StorageUnavailable."""
        return await self._storage.usage_spent(scope.level, _who(scope), since, before)


def _who(scope: Scope) -> dict[str, str]:
    if scope.level == "organization":
        return {"organization": scope.id}
    if scope.level == "key":
        return {"key_id": scope.id}
    project, end_user = end_user_of(scope) if scope.level == "end_user" else (scope.id, "")
    organization, _, name = project.partition("/")
    found = {"organization": organization, "project": name}
    return {**found, "end_user": end_user} if scope.level == "end_user" else found
