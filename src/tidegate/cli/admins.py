"""`tidegate admins` and `tidegate audit`: who may use the admin API, and who did what."""

from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.managing import (
    add_revoke,
    config_option,
    every,
    expires_in_option,
    expiry,
    json_option,
    manage,
    print_all,
    print_one,
)

if TYPE_CHECKING:
    from tidegate.access.administration import Actor, Administration

__all__ = ["admins", "audit"]


@click.group("admins")
def admins() -> None:
    """Make, list and revoke admin keys: what opens the admin API."""


@admins.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(("owner", "admin", "viewer")),
    default="owner",
    show_default=True,
    help="What it may do: owner everything, admin keys and projects, viewer only look.",
)
@expires_in_option
@json_option
@config_option
def admins_create(name: str, role: str, expires_in: str | None, path: str | None, as_json: bool) -> None:
    """Make an admin key, also when all others are lost. Its text is shown once."""
    from tidegate.access.objects import NewAdmin
    from tidegate.dialects import validation

    members = {"name": name, "role": role, "expires_at": expiry(expires_in)}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.create_admin(actor, validation.convert(members, NewAdmin))

    print_one(manage(path, work), as_json)


@admins.command("list")
@click.option("--revoked", is_flag=True, help="Also those that were revoked.")
@json_option
@config_option
def admins_list(revoked: bool, path: str | None, as_json: bool) -> None:
    """List the admins, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await every(lambda after: administration.admins(revoked=revoked, after=after, limit=100))

    columns = ("id", "name", "role", "status", "created_at", "created_by", "expires_at")
    print_all(manage(path, work), columns, as_json)


add_revoke(
    admins,
    "ADMIN",
    "Take an admin key out of use for ever, by its id or its name.",
    lambda administration, name: administration.find_admin(name),
    lambda administration, actor, found: administration.revoke_admin(actor, found),
)


@click.command("audit")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most entries.")
@json_option
@config_option
def audit(limit: int, path: str | None, as_json: bool) -> None:
    """Show who changed what, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return (await administration.audit(None, limit)).data

    print_all(manage(path, work), ("at", "actor", "actor_name", "action", "target", "id"), as_json)
