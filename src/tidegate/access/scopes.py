"""Whom a request counts against."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from tidegate.config.limits import Limits
from tidegate.config.schema import ProjectConfig

__all__ = ["DEFAULT", "Scope", "end_user_of", "end_user_scope", "project_named"]

DEFAULT: Final = "default"
"""Name of the organization, and of the project in it, that are always there."""


class Scope(msgspec.Struct, frozen=True, gc=False):
    """One of those that a request counts against, with what it may use."""

    level: Literal["organization", "project", "key", "end_user"]
    id: str
    """The organization's name, `organization/project`, or the key's id; of an end user the project's id, a slash and
    the name that the request gives, in which slashes are escaped."""
    limits: Limits
    name: str = ""
    """Of a managed key, whose id says nothing to people."""

    @property
    def shown(self) -> str:
        """For people."""
        level = self.level.replace("_", " ")
        if not self.id:
            return level
        return f"{level} '{self.name}' ({self.id})" if self.name not in ("", self.id) else f"{level} '{self.id}'"


def end_user_scope(organization: str, project: str, name: str, limits: Limits) -> Scope:
    """The scope of one end user of a project."""
    escaped = name.replace("%", "%25").replace("/", "%2F") if "/" in name or "%" in name else name
    return Scope("end_user", f"{organization}/{project}/{escaped}", limits)


def end_user_of(scope: Scope) -> tuple[str, str]:
    """The project's id, and the name that requests give."""
    project, _, escaped = scope.id.rpartition("/")
    return project, escaped.replace("%2F", "/").replace("%25", "%")


def project_named(projects: Mapping[str, ProjectConfig], organization: str, project: str) -> ProjectConfig | None:
    """What the configuration says of a project."""
    found = projects.get(f"{organization}/{project}")
    return projects.get(project) if found is None and organization == DEFAULT else found
