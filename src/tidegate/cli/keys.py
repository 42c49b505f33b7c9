"""`tidegate keys`: what clients present."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.managing import (
    add_revoke,
    as_limits,
    config_option,
    every,
    expiry,
    given,
    json_option,
    manage,
    organization_option,
    pairs,
    print_all,
    print_one,
    rules_options,
    seconds,
)

if TYPE_CHECKING:
    from tidegate.access.administration import Actor, Administration

__all__ = ["keys"]

_CLEARABLE = ("models", "endpoints", "addresses", "model", "profile", "unsupported", "metadata", "limits", "expires_at")


@click.group("keys")
def keys() -> None:
    """Make, list and revoke virtual keys: what clients present."""


@keys.command("create")
@click.argument("name")
@organization_option
@click.option("--project", default="default", show_default=True, help="Project that its usage belongs to.")
@rules_options
@json_option
@config_option
def keys_create(
    name: str,
    organization: str,
    project: str,
    limits: Sequence[str],
    metadata: Sequence[str],
    expires_in: str | None,
    path: str | None,
    as_json: bool,
    **rules: Any,
) -> None:
    """Make a key. Its text is shown once."""
    from tidegate.access.objects import NewKey
    from tidegate.dialects import validation

    members = given(
        **rules,
        limits=as_limits(limits),
        metadata=pairs(metadata, "--metadata"),
        expires_at=expiry(expires_in),
    )

    async def work(administration: "Administration", actor: "Actor") -> Any:
        named = {"name": name, "organization": organization, "project": project}
        return await administration.create_key(actor, validation.convert({**named, **members}, NewKey))

    print_one(manage(path, work), as_json)


@keys.command("list")
@click.option("--organization", default="", help="Only keys of this organization.")
@click.option("--project", default="", help="Only keys of projects with this name.")
@click.option("--revoked", is_flag=True, help="Also revoked keys.")
@json_option
@config_option
def keys_list(organization: str, project: str, revoked: bool, path: str | None, as_json: bool) -> None:
    """List the keys, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await every(
            lambda after: administration.keys(organization, project, revoked=revoked, after=after, limit=100)
        )

    columns = ("id", "name", "organization", "project", "status", "last4", "created_at", "expires_at")
    print_all(manage(path, work), columns, as_json)


@keys.command("show")
@click.argument("key")
@json_option
@config_option
def keys_show(key: str, path: str | None, as_json: bool) -> None:
    """Show a key, by its id or its name."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.find_key(key)

    print_one(manage(path, work), as_json)


@keys.command("update")
@click.argument("key")
@click.option("--name", help="Another name.")
@rules_options
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(_CLEARABLE),
    help="Have none of this any more. Repeatable.",
)
@json_option
@config_option
def keys_update(
    key: str,
    name: str | None,
    limits: Sequence[str],
    metadata: Sequence[str],
    expires_in: str | None,
    clear: Sequence[str],
    path: str | None,
    as_json: bool,
    **rules: Any,
) -> None:
    """Change what a key may do. What no option names stays as it is."""
    from tidegate.access.objects import KeyChange, KeySettings
    from tidegate.dialects import validation

    members = given(
        **rules,
        name=name,
        limits=as_limits(limits),
        metadata=pairs(metadata, "--metadata"),
        expires_at=expiry(expires_in),
    )
    empty = {**{each: getattr(KeySettings(), each) for each in KeySettings.__struct_fields__}, "expires_at": None}
    for each in clear:
        if each in members:
            raise click.BadParameter(f"'{each}' is set by another option as well.", param_hint="--clear")
        members[each] = empty[each]

    async def work(administration: "Administration", actor: "Actor") -> Any:
        change = validation.convert(members, KeyChange)
        found = await administration.find_key(key)
        return await administration.change_key(actor, found.id, change)

    print_one(manage(path, work), as_json)


@keys.command("rotate")
@click.argument("key")
@click.option(
    "--overlap",
    default="0s",
    show_default=True,
    help="How long the old text still holds beside the new one, as in 24h.",
)
@json_option
@config_option
def keys_rotate(key: str, overlap: str, path: str | None, as_json: bool) -> None:
    """Give a key a new text, which is shown once."""
    from tidegate.access.objects import Rotation
    from tidegate.dialects import validation

    rotation = {"overlap_seconds": int(seconds(overlap, "--overlap"))}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        overlap_s = validation.convert(rotation, Rotation).overlap_seconds
        found = await administration.find_key(key)
        return await administration.rotate_key(actor, found.id, overlap_s)

    print_one(manage(path, work), as_json)


add_revoke(
    keys,
    "KEY",
    "Take a key out of use for ever. Streams that run go on to their end.",
    lambda administration, name: administration.find_key(name),
    lambda administration, actor, found: administration.revoke_key(actor, found),
)
