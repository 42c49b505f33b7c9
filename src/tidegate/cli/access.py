"""The commands that manage keys, projects, organizations and admins, straight on the database of the configuration.

Running gateways see a change within a second. Whoever can read the database's file and the pepper may do everything here.
"""

import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.table import Table

    from tidegate.access.administration import Actor, Administration

__all__ = ["GROUPS"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Work = Callable[["Administration", "Actor"], Awaitable[T]]

_CLEARABLE = ("models", "endpoints", "addresses", "model", "profile", "unsupported", "metadata", "limits", "expires_at")


class _Refused(click.ClickException):
    """What was asked cannot be done; with `--json` the message is an object, as the admin API would send it."""

    exit_code = 1

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self._body = body
        self._as_json = bool(click.get_current_context().params.get("as_json"))

    def show(self, file: Any = None) -> None:
        if self._as_json:
            click.echo(self._body.decode(), err=True)
        else:
            super().show(file)


def _manage(path: str | None, work: Work[T]) -> T:
    """Do the work on the database of the configuration."""
    import asyncio

    from tidegate import cli
    from tidegate.access.administration import Actor, Administration
    from tidegate.server.database import open_storage
    from tidegate.server.kept_secret import KeyUnusable
    from tidegate.server.pepper import peppers
    from tidegate.storage.records import StorageUnusable
    from tidegate.telemetry import log
    from tidegate.wire.errors import TidegateError

    config = cli.load_config(path, will_have_keys=True)
    log.configure("error", "console", sys.stderr)

    async def main() -> T:
        storage = await open_storage(config, os.environ)
        if storage is None:
            raise cli.UsageError(
                "This configuration keeps nothing, so that there is nothing to manage. Set storage.url or server.data_dir."
            )
        try:
            administration = Administration(
                storage,
                peppers(config, os.environ),
                file_projects=lambda: frozenset(key.project for key in config.keys),
            )
            await administration.start()
            return await work(administration, Actor(f"cli:{_user()}", "command line"))
        finally:
            await storage.close()

    try:
        return asyncio.run(main())
    except TidegateError as error:
        raise _Refused(error.message, error.body()) from None
    except (KeyUnusable, StorageUnusable) as error:
        raise cli.UsageError(str(error)) from None


def _user() -> str:
    """Who sits at the command line; a container may have a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


# -- options --------------------------------------------------------------------------------------------------------


def _config(command: F) -> F:
    return click.option(
        "--config",
        "path",
        type=click.Path(dir_okay=False),
        help="Configuration file, which names the database. [default: TIDEGATE_CONFIG, else ./tidegate.toml if it is there]",
    )(command)


def _json(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, as the admin API would send it.")(command)


def _organization(command: F) -> F:
    return click.option(
        "--organization", default="default", show_default=True, help="Organization that it belongs to."
    )(command)


def _limits(command: F) -> F:
    return click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="WHAT=NUMBER",
        help="What it may use: requests, tokens or cost per minute, day or month, as in requests.minute=60 or "
        "cost.month=100 (US dollars), or streams=10. Repeatable; all limits are replaced together.",
    )(command)


def _metadata(command: F) -> F:
    return click.option(
        "--metadata", multiple=True, metavar="NAME=TEXT", help="A text of your own. Repeatable; replaced together."
    )(command)


def _expires_in(command: F) -> F:
    return click.option("--expires-in", metavar="DURATION", help="Time after which it is refused, as in 90d or 12h.")(
        command
    )


def _rules(command: F) -> F:
    """The options that say what a key may do."""
    for option in (
        click.option(
            "--allow-model",
            "models",
            multiple=True,
            metavar="PATTERN",
            help="A model that it may use, as in openai/*. Repeatable.",
        ),
        click.option(
            "--allow-endpoint",
            "endpoints",
            multiple=True,
            metavar="NAME",
            help="An endpoint that it may use, as in chat. Repeatable.",
        ),
        click.option(
            "--allow-address",
            "addresses",
            multiple=True,
            metavar="NETWORK",
            help="A network from which it may be used, as in 10.0.0.0/8. Repeatable.",
        ),
        click.option("--default-model", "model", help="Model of requests that name none."),
        click.option("--profile", help="Compatibility profile."),
        click.option("--unsupported", help="refuse or drop: what becomes of what a provider cannot honour."),
    ):
        command = option(command)
    return _expires_in(_limits(_metadata(command)))


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form NAME=VALUE.", param_hint=option)
        found[name] = value
    return found


def _as_limits(given: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _pairs(given, "--limit").items():
        what, dot, window = name.partition(".")
        if dot:
            found.setdefault(what, {})[window] = value
        else:
            found[what] = value
    return found


def _expiry(expires_in: str | None) -> int | None:
    import time

    return None if expires_in is None else int(time.time() + _seconds(expires_in, "--expires-in"))


def _seconds(text: str, option: str) -> float:
    from tidegate.config.units import Duration

    try:
        duration = Duration.parse(text)
    except ValueError:
        duration = Duration("inf")
    if duration.off:
        raise click.BadParameter(
            'expected a duration such as "90d" or "12h"; the units are d, h, m, s and ms.', param_hint=option
        )
    return float(duration)


def _given(**members: Any) -> dict[str, Any]:
    """The members that an option gave."""
    return {name: value for name, value in members.items() if value not in (None, (), {}, "")}


# -- output ---------------------------------------------------------------------------------------------------------


def _print(shown: Any, as_json: bool) -> None:
    """One object."""
    from tidegate.wire import jsonio

    text = jsonio.encode(shown).decode()
    if as_json:
        click.echo(text)
        return
    members = json.loads(text)
    secret = members.pop("key", None)
    members.pop("object")
    table = _table("member", "value")
    for name, value in members.items():
        if value not in (None, [], {}, ""):
            table.add_row(name, _cell(name, value))
    _show(table)
    if secret is not None:
        click.echo(f"\nThe key. It is shown now and never again:\n  {secret}")


def _print_all(shown: Sequence[Any], columns: Sequence[str], as_json: bool) -> None:
    """A list of objects."""
    from tidegate.wire import jsonio

    text = jsonio.encode({"object": "list", "data": shown}).decode()
    if as_json:
        click.echo(text)
        return
    table = _table(*columns)
    for members in json.loads(text)["data"]:
        table.add_row(*(_cell(name, members[name]) for name in columns))
    _show(table)


def _table(*columns: str) -> "Table":
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False)


def _show(table: "Table") -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 400).print(table)


def _cell(name: str, value: Any) -> str:
    from datetime import UTC, datetime

    from tidegate.cli.cell import cell

    if value is None:
        return ""
    if name == "at" or name.endswith("_at"):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


async def _every(page: Callable[[str | None], Awaitable[Any]]) -> list[Any]:
    """All entries of a list that is read in pages."""
    found: list[Any] = []
    after = None
    while True:
        part = await page(after)
        found += part.data
        if not part.has_more:
            return found
        after = part.last_id


# -- keys -----------------------------------------------------------------------------------------------------------


@click.group("keys")
def keys() -> None:
    """Make, list and revoke virtual keys: what clients present."""


@keys.command("create")
@click.argument("name")
@_organization
@click.option("--project", default="default", show_default=True, help="Project that its usage belongs to.")
@_rules
@_json
@_config
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

    members = _given(
        **rules,
        limits=_as_limits(limits),
        metadata=_pairs(metadata, "--metadata"),
        expires_at=_expiry(expires_in),
    )

    async def work(administration: "Administration", actor: "Actor") -> Any:
        named = {"name": name, "organization": organization, "project": project}
        return await administration.create_key(actor, validation.convert({**named, **members}, NewKey))

    _print(_manage(path, work), as_json)


@keys.command("list")
@click.option("--organization", default="", help="Only keys of this organization.")
@click.option("--project", default="", help="Only keys of projects with this name.")
@click.option("--revoked", is_flag=True, help="Also revoked keys.")
@_json
@_config
def keys_list(organization: str, project: str, revoked: bool, path: str | None, as_json: bool) -> None:
    """List the keys, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await _every(
            lambda after: administration.keys(organization, project, revoked=revoked, after=after, limit=100)
        )

    columns = ("id", "name", "organization", "project", "status", "last4", "created_at", "expires_at")
    _print_all(_manage(path, work), columns, as_json)


@keys.command("show")
@click.argument("key")
@_json
@_config
def keys_show(key: str, path: str | None, as_json: bool) -> None:
    """Show a key, by its id or its name."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.find_key(key)

    _print(_manage(path, work), as_json)


@keys.command("update")
@click.argument("key")
@click.option("--name", help="Another name.")
@_rules
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(_CLEARABLE),
    help="Have none of this any more. Repeatable.",
)
@_json
@_config
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

    members = _given(
        **rules,
        name=name,
        limits=_as_limits(limits),
        metadata=_pairs(metadata, "--metadata"),
        expires_at=_expiry(expires_in),
    )
    empty = {**{each: getattr(KeySettings(), each) for each in KeySettings.__struct_fields__}, "expires_at": None}
    for each in clear:
        if each in members:
            raise click.BadParameter(f"'{each}' is set by another option as well.", param_hint="--clear")
        members[each] = empty[each]

    async def work(administration: "Administration", actor: "Actor") -> Any:
        found = await administration.find_key(key)
        return await administration.change_key(actor, found.id, validation.convert(members, KeyChange))

    _print(_manage(path, work), as_json)


@keys.command("rotate")
@click.argument("key")
@click.option(
    "--overlap",
    default="0s",
    show_default=True,
    help="How long the old text still holds beside the new one, as in 24h.",
)
@_json
@_config
def keys_rotate(key: str, overlap: str, path: str | None, as_json: bool) -> None:
    """Give a key a new text, which is shown once."""
    from tidegate.access.objects import Rotation
    from tidegate.dialects import validation

    rotation = {"overlap_seconds": int(_seconds(overlap, "--overlap"))}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        found = await administration.find_key(key)
        seconds = validation.convert(rotation, Rotation).overlap_seconds
        return await administration.rotate_key(actor, found.id, seconds)

    _print(_manage(path, work), as_json)


@keys.command("revoke")
@click.argument("key")
@_json
@_config
def keys_revoke(key: str, path: str | None, as_json: bool) -> None:
    """Take a key out of use for ever. Streams that run go on to their end."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        found = await administration.find_key(key)
        return await administration.revoke_key(actor, found.id)

    _print(_manage(path, work), as_json)


# -- projects -------------------------------------------------------------------------------------------------------


@click.group("projects")
def projects() -> None:
    """Make, list and delete projects: what keys belong to, and what shares its stored responses."""


@projects.command("create")
@click.argument("name")
@_organization
@_limits
@click.option(
    "--end-user-limit",
    "end_user_limits",
    multiple=True,
    metavar="WHAT=NUMBER",
    help="What each single end user may use, written as --limit. Repeatable; replaced together.",
)
@_metadata
@_json
@_config
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

    members = {"name": name, **_settings(limits, end_user_limits, metadata)}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.create_project(actor, organization, validation.convert(members, NewProject))

    _print(_manage(path, work), as_json)


@projects.command("list")
@_organization
@_json
@_config
def projects_list(organization: str, path: str | None, as_json: bool) -> None:
    """List the projects of an organization, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        async def page(after: str | None) -> Any:
            return administration.projects(organization, after, 100)

        return await _every(page)

    _print_all(_manage(path, work), ("name", "organization", "created_at", "limits"), as_json)


@projects.command("show")
@click.argument("name")
@_organization
@_json
@_config
def projects_show(name: str, organization: str, path: str | None, as_json: bool) -> None:
    """Show a project."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return administration.project(organization, name)

    _print(_manage(path, work), as_json)


@projects.command("update")
@click.argument("name")
@_organization
@_limits
@click.option(
    "--end-user-limit",
    "end_user_limits",
    multiple=True,
    metavar="WHAT=NUMBER",
    help="What each single end user may use, written as --limit. Repeatable; replaced together.",
)
@_metadata
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(("limits", "end_user_limits", "metadata")),
    help="Have none of this any more. Repeatable.",
)
@_json
@_config
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

    members: dict[str, Any] = {**_settings(limits, end_user_limits, metadata), **{each: {} for each in clear}}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        change = validation.convert(members, ProjectChange)
        return await administration.change_project(actor, organization, name, change)

    _print(_manage(path, work), as_json)


@projects.command("delete")
@click.argument("name")
@_organization
@_config
def projects_delete(name: str, organization: str, path: str | None) -> None:
    """Delete a project that has no keys. Its name is not given away again."""

    async def work(administration: "Administration", actor: "Actor") -> None:
        await administration.delete_project(actor, organization, name)

    _manage(path, work)
    click.echo(f"Deleted: {organization}/{name}.")


def _settings(limits: Sequence[str], end_user_limits: Sequence[str], metadata: Sequence[str]) -> dict[str, Any]:
    return _given(
        limits=_as_limits(limits),
        end_user_limits=_as_limits(end_user_limits),
        metadata=_pairs(metadata, "--metadata"),
    )


# -- organizations --------------------------------------------------------------------------------------------------


@click.group("organizations")
def organizations() -> None:
    """Make, list and delete organizations: what projects belong to."""


@organizations.command("create")
@click.argument("name")
@_limits
@_metadata
@_json
@_config
def organizations_create(
    name: str, limits: Sequence[str], metadata: Sequence[str], path: str | None, as_json: bool
) -> None:
    """Make an organization."""
    from tidegate.access.objects import NewOrganization
    from tidegate.dialects import validation

    members = {"name": name, **_settings(limits, (), metadata)}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.create_organization(actor, validation.convert(members, NewOrganization))

    _print(_manage(path, work), as_json)


@organizations.command("list")
@_json
@_config
def organizations_list(path: str | None, as_json: bool) -> None:
    """List the organizations, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        async def page(after: str | None) -> Any:
            return administration.organizations(after, 100)

        return await _every(page)

    _print_all(_manage(path, work), ("name", "created_at", "limits"), as_json)


@organizations.command("show")
@click.argument("name")
@_json
@_config
def organizations_show(name: str, path: str | None, as_json: bool) -> None:
    """Show an organization."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return administration.organization(name)

    _print(_manage(path, work), as_json)


@organizations.command("update")
@click.argument("name")
@_limits
@_metadata
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(("limits", "metadata")),
    help="Have none of this any more. Repeatable.",
)
@_json
@_config
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

    members: dict[str, Any] = {**_settings(limits, (), metadata), **{each: {} for each in clear}}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.change_organization(actor, name, validation.convert(members, OrganizationChange))

    _print(_manage(path, work), as_json)


@organizations.command("delete")
@click.argument("name")
@_config
def organizations_delete(name: str, path: str | None) -> None:
    """Delete an organization that has no projects. Its name is not given away again."""

    async def work(administration: "Administration", actor: "Actor") -> None:
        await administration.delete_organization(actor, name)

    _manage(path, work)
    click.echo(f"Deleted: {name}.")


# -- admins and audit -----------------------------------------------------------------------------------------------


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
@_expires_in
@_json
@_config
def admins_create(name: str, role: str, expires_in: str | None, path: str | None, as_json: bool) -> None:
    """Make an admin key, also when all others are lost. Its text is shown once."""
    from tidegate.access.objects import NewAdmin
    from tidegate.dialects import validation

    members = {"name": name, "role": role, "expires_at": _expiry(expires_in)}

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await administration.create_admin(actor, validation.convert(members, NewAdmin))

    _print(_manage(path, work), as_json)


@admins.command("list")
@click.option("--revoked", is_flag=True, help="Also those that were revoked.")
@_json
@_config
def admins_list(revoked: bool, path: str | None, as_json: bool) -> None:
    """List the admins, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return await _every(lambda after: administration.admins(revoked=revoked, after=after, limit=100))

    columns = ("id", "name", "role", "status", "created_at", "created_by", "expires_at")
    _print_all(_manage(path, work), columns, as_json)


@admins.command("revoke")
@click.argument("admin")
@_json
@_config
def admins_revoke(admin: str, path: str | None, as_json: bool) -> None:
    """Take an admin key out of use for ever, by its id or its name."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        found = await administration.find_admin(admin)
        return await administration.revoke_admin(actor, found.id)

    _print(_manage(path, work), as_json)


@click.command("audit")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most entries.")
@_json
@_config
def audit(limit: int, path: str | None, as_json: bool) -> None:
    """Show who changed what, the newest first."""

    async def work(administration: "Administration", actor: "Actor") -> Any:
        return (await administration.audit(None, limit)).data

    _print_all(_manage(path, work), ("at", "actor", "actor_name", "action", "target", "id"), as_json)


GROUPS: tuple[click.Command, ...] = (keys, projects, organizations, admins, audit)
"""The commands of this module."""
