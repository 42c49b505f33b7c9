"""`tidegate organizations`: what projects belong to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.managing import (
    config_option,
    every,
    json_option,
    limits_option,
    manage,
    metadata_option,
    print_all,
    print_one,
    settings,
)

if TYPE_CHECKING:
    from tidegate.access.administration import Actor, Administration

__all__ = ["organizations"]


@click.group("organizations")
def organizations() -> None:
    """Make, list and delete organizations. Projects belong to them."""


@organizations.command("create")
@click.argument("name")
@limits_option
@metadata_option
@json_option
@config_option
def organizations_create(
    name: str, limits: Sequence[str], metadata: Sequence[str], path: str | None, as_json: bool
) -> None:
    """Make an organization."""
    from tidegate.access.objects import NewOrganization
    from tidegate.dialects import validation

    members = {"name": name, **settings(limits, (), metadata)}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.create_organization(actor, validation.convert(members, NewOrganization))

    print_one(manage(path, work), as_json)


@organizations.command("list")
@json_option
@config_option
def organizations_list(path: str | None, as_json: bool) -> None:
    """List the organizations, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        async def page(after: str | None) -> Any:
            return administration.organizations(after, 100)

        return await every(page)

    print_all(manage(path, work), ("name", "created_at", "limits"), as_json)


@organizations.command("show")
@click.argument("name")
@json_option
@config_option
def organizations_show(name: str, path: str | None, as_json: bool) -> None:
    """Show an organization."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return administration.organization(name)

    print_one(manage(path, work), as_json)


@organizations.command("update")
@click.argument("name")
@limits_option
@metadata_option
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(("limits", "metadata")),
    help="Have none of this any more. Repeatable.",
)
@json_option
@config_option
def organizations_update(
    name: str,
    limits: Sequence[str],
    metadata: Sequence[str],
    clear: Sequence[str],
    path: str | None,
    as_json: bool,
) -> None:
    """Change an organization. What no option names stays as it is."""
    from tidegate.access.objects import OrganizationChange
    from tidegate.dialects import validation

    members: dict[str, Any] = {**settings(limits, (), metadata), **{each: {} for each in clear}}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.change_organization(actor, name, validation.convert(members, OrganizationChange))

    print_one(manage(path, work), as_json)


@organizations.command("delete")
@click.argument("name")
@config_option
def organizations_delete(name: str, path: str | None) -> None:
    """Delete an organization that has no projects. Its name is not given away again."""

    async def work(administration: "Administration", actor: "Actor") -> None:
        await administration.delete_organization(actor, name)

    manage(path, work)
    click.echo(f"Deleted: {name}.")
