"""What the commands have in common that manage keys, projects, organizations and admins, straight on the database of the
configuration.

Running gateways see a change within a second. Whoever can read the database's file and the pepper may do everything here.
"""

import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tidegate.wire.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.table import Table

    from tidegate.access.administration import Actor, Administration
    from tidegate.wire.errors import TidegateError

__all__ = [
    "F",
    "add_revoke",
    "as_limits",
    "config_option",
    "every",
    "expires_in_option",
    "expiry",
    "given",
    "json_option",
    "limits_option",
    "manage",
    "metadata_option",
    "organization_option",
    "pairs",
    "print_all",
    "print_one",
    "rules_options",
    "seconds",
    "settings",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Work = Callable[["Administration", "Actor"], Awaitable[T]]


class _Refused(click.ClickException):
    """What was asked cannot be done; with `--json` the message is an object, as the admin API would send it."""

    exit_code = 1

    def __init__(self, error: "TidegateError") -> None:
        super().__init__(error.message)
        self._body = error.body()
        self._as_json = bool(click.get_current_context().params.get("as_json"))

    def show(self, file: Any = None) -> None:
        if self._as_json:
            click.echo(self._body.decode(), err=True)
        else:
            super().show(file)


class _Mistaken(_Refused):
    """It was asked wrongly."""

    exit_code = 2


def manage(path: str | None, work: Work[T]) -> T:
    """Do the work on the database of the configuration, and say which that is."""
    import asyncio

    from tidegate import cli
    from tidegate.access.administration import Actor, Administration
    from tidegate.cli.place import say_database
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
        done = asyncio.run(main())
    except TidegateError as error:
        if not click.get_current_context().params.get("as_json"):  # then the object stands alone
            say_database(config)
        raise (_Mistaken if isinstance(error, InvalidRequest) else _Refused)(error) from None
    except (KeyUnusable, StorageUnusable) as error:
        raise cli.UsageError(str(error)) from None
    say_database(config)
    return done


def _user() -> str:
    """Who sits at the command line; a container may have a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


# -- options --------------------------------------------------------------------------------------------------------


def config_option(command: F) -> F:
    return click.option(
        "--config",
        "path",
        type=click.Path(dir_okay=False),
        help="Configuration file, which names the database. [default: TIDEGATE_CONFIG, else ./tidegate.toml if it is there]",
    )(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, as the admin API would send it.")(command)


def organization_option(command: F) -> F:
    return click.option(
        "--organization", default="default", show_default=True, help="Organization that it belongs to."
    )(command)


def limits_option(command: F) -> F:
    return click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="WHAT=NUMBER",
        help="What it may use: requests, tokens or cost per minute, day or month, as in requests.minute=60 or "
        "cost.month=100 (US dollars), or streams=10. Repeatable; all limits are replaced together.",
    )(command)


def metadata_option(command: F) -> F:
    return click.option(
        "--metadata", multiple=True, metavar="NAME=TEXT", help="A text of your own. Repeatable; replaced together."
    )(command)


def expires_in_option(command: F) -> F:
    return click.option("--expires-in", metavar="DURATION", help="Time after which it is refused, as in 90d or 12h.")(
        command
    )


def rules_options(command: F) -> F:
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
    return expires_in_option(limits_option(metadata_option(command)))


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form NAME=VALUE.", param_hint=option)
        found[name] = value
    return found


def as_limits(given: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs(given, "--limit").items():
        what, dot, window = name.partition(".")
        if not dot and what in ("requests", "tokens", "cost"):
            raise click.BadParameter(
                f"{what!r} needs a time: {what}.minute={value}, {what}.day={value} or {what}.month={value}.",
                param_hint="--limit",
            )
        if dot and window not in ("minute", "day", "month"):
            raise click.BadParameter(
                f"{name!r}: limits hold per minute, day or month, as in {what}.minute={value}.", param_hint="--limit"
            )
        if dot:
            found.setdefault(what, {})[window] = value
        else:
            found[what] = value
    return found


def expiry(expires_in: str | None) -> int | None:
    import time

    return None if expires_in is None else int(time.time() + seconds(expires_in, "--expires-in"))


def seconds(text: str, option: str) -> float:
    """A duration that people give at the command line. Raises BadParameter, also for one without a unit: a number alone
    means seconds in the configuration, and days or hours to most who leave the unit out."""
    from tidegate.config.units import Duration

    if text.strip().isdecimal() and text.strip("0 "):
        raise click.BadParameter(
            f'{text.strip()} of what? Give the unit, as in "90d" or "12h"; the units are d, h, m, s and ms.',
            param_hint=option,
        )
    try:
        duration = Duration.parse(text)
    except ValueError:
        duration = Duration("inf")
    if duration.off:
        raise click.BadParameter(
            'expected a duration such as "90d" or "12h"; the units are d, h, m, s and ms.', param_hint=option
        )
    return float(duration)


def given(**members: Any) -> dict[str, Any]:
    """The members that an option gave."""
    return {name: value for name, value in members.items() if value not in (None, (), {}, "")}


def settings(limits: Sequence[str], end_user_limits: Sequence[str], metadata: Sequence[str]) -> dict[str, Any]:
    return given(
        limits=as_limits(limits),
        end_user_limits=as_limits(end_user_limits),
        metadata=pairs(metadata, "--metadata"),
    )


# -- output ---------------------------------------------------------------------------------------------------------


def print_one(shown: Any, as_json: bool) -> None:
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


def print_all(shown: Sequence[Any], columns: Sequence[str], as_json: bool) -> None:
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
    """In the width that it has: where the terminal is narrower, it wraps the lines, and ids stay whole, to be copied."""
    from rich.console import Console

    Console(width=400).print(table)


def _cell(name: str, value: Any) -> str:
    from datetime import UTC, datetime

    from tidegate.cli.cell import cell

    if value is None:
        return ""
    if name == "at" or name.endswith("_at"):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if name == "earlier":
        return "\n".join(f"{cell(one['last4'])} until {_cell('expires_at', one['expires_at'])}" for one in value)
    if name in ("limits", "end_user_limits"):  # as they are given
        return " ".join(
            f"{what}.{window}={most}" if window else f"{what}={most}"
            for what, windows in value.items()
            for window, most in (windows.items() if isinstance(windows, dict) else [("", windows)])
        )
    return cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


async def every(page: Callable[[str | None], Awaitable[Any]]) -> list[Any]:
    """All entries of a list that is read in pages."""
    found: list[Any] = []
    after = None
    while True:
        part = await page(after)
        found += part.data
        if not part.has_more:
            return found
        after = part.last_id


def add_revoke(
    group: click.Group,
    what: str,
    words: str,
    find: Callable[["Administration", str], Awaitable[Any]],
    revoke: "Callable[[Administration, Actor, str], Awaitable[Any]]",
) -> None:
    """Give a group the command that takes out of use what it makes."""

    @group.command("revoke", help=words)
    @click.argument("name", metavar=what)
    @json_option
    @config_option
    def command(name: str, path: str | None, as_json: bool) -> None:
        async def work(administration: "Administration", actor: "Actor") -> Any:
            return await revoke(administration, actor, (await find(administration, name)).id)

        print_one(manage(path, work), as_json)
