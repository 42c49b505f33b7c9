"""`tidegate projects`: what keys belong to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.managing import (
    F,
    config_option,
    every,
    json_option,
    limits_option,
    manage,
    metadata_option,
    organization_option,
    print_all,
    print_one,
    settings,
)

if TYPE_CHECKING:
    from tidegate.access.administration import Actor, Administration

__all__ = ["projects"]


def _end_user_limits(command: F) -> F:
    return click.option(
        "--end-user-limit",
        "end_user_limits",
        multiple=True,
        metavar="WHAT=NUMBER",
        help="What each single end user may use, written as --limit. Repeatable; replaced together.",
    )(command)


@click.group("projects")
def projects() -> None:
    """Make, list and delete projects. Keys belong to them, and those of one project share their stored responses."""


@projects.command("create")
@click.argument("name")
@organization_option
@limits_option
@_end_user_limits
@metadata_option
@json_option
@config_option
def projects_create(
    name: str,
    organization: str,
    limits: Sequence[str],
    end_user_limits: Sequence[str],
    metadata: Sequence[str],
    path: str | None,
    as_json: bool,
) -> None:
    """Make a project."""
    from tidegate.access.objects import NewProject
    from tidegate.dialects import validation

    members = {"name": name, **settings(limits, end_user_limits, metadata)}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.create_project(actor, organization, validation.convert(members, NewProject))

    print_one(manage(path, work), as_json)


@projects.command("list")
@organization_option
@json_option
@config_option
def projects_list(organization: str, path: str | None, as_json: bool) -> None:
    """List the projects of an organization, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        async def page(after: str | None) -> Any:
            return administration.projects(organization, after, 100)

        return await every(page)

    print_all(manage(path, work), ("name", "organization", "created_at", "limits"), as_json)


@projects.command("show")
@click.argument("name")
@organization_option
@json_option
@config_option
def projects_show(name: str, organization: str, path: str | None, as_json: bool) -> None:
    """Show a project."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return administration.project(organization, name)

    print_one(manage(path, work), as_json)


@projects.command("update")
@click.argument("name")
@organization_option
@limits_option
@_end_user_limits
@metadata_option
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(("limits", "end_user_limits", "metadata")),
    help="Have none of this any more. Repeatable.",
)
@json_option
@config_option
def projects_update(
    name: str,
    organization: str,
    limits: Sequence[str],
    end_user_limits: Sequence[str],
    metadata: Sequence[str],
    clear: Sequence[str],
    path: str | None,
    as_json: bool,
) -> None:
    """Change a project. What no option names stays as it is."""
    from tidegate.access.objects import ProjectChange
    from tidegate.dialects import validation

    members: dict[str, Any] = {**settings(limits, end_user_limits, metadata), **{each: {} for each in clear}}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        change = validation.convert(members, ProjectChange)
        return await administration.change_project(actor, organization, name, change)

    print_one(manage(path, work), as_json)


@projects.command("delete")
@click.argument("name")
@organization_option
@config_option
def projects_delete(name: str, organization: str, path: str | None) -> None:
    """Delete a project that has no keys. Its name is not given away again."""

    async def work(administration: "Administration", actor: "Actor") -> None:
        await administration.delete_project(actor, organization, name)

    manage(path, work)
    click.echo(f"Deleted: {organization}/{name}.")
