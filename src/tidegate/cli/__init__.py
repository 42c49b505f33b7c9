"""The command line: `tidegate serve`, `tidegate doctor`, `tidegate config …`, `tidegate keys …` and its like, `tidegate usage`,
`tidegate budget`, `tidegate sim`."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tidegate import __version__
from tidegate.cli.admins import admins, audit
from tidegate.cli.budget import budget
from tidegate.cli.doctor import doctor
from tidegate.cli.keys import keys
from tidegate.cli.options import config_option
from tidegate.cli.organizations import organizations
from tidegate.cli.projects import projects
from tidegate.cli.usage import usage
from tidegate.config.automatic import automatic
from tidegate.config.jsonschema import json_schema
from tidegate.config.load import find_file, load_file, unreadable
from tidegate.config.origin import flatten
from tidegate.config.problem import ConfigInvalid
from tidegate.config.schema import Config, Document

if TYPE_CHECKING:
    from tidegate.server.compose import Announcement

__all__ = ["UsageError", "load_config", "main", "read_config"]


class UsageError(click.ClickException):
    """An error that the person at the keyboard can mend: message only, no traceback."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="tidegate")
def main() -> None:
    """Tidegate: one address that speaks the APIs of OpenAI, Anthropic and Gemini, and any provider behind it."""


for _group in (keys, projects, organizations, admins, audit):
    main.add_command(_group)
main.add_command(doctor)
main.add_command(usage)
main.add_command(budget)


@main.command()
@config_option
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one. [default: 8080]")
def serve(path: str | None, host: str | None, port: int | None) -> None:
    """Start the gateway."""
    from tidegate.server.compose import CannotListen, bind, make_server, take_over
    from tidegate.server.supervisor import ADMIN, SocketUnusable, inherited

    command_line: dict[str, object] = {}
    if host is not None:
        command_line["server.host"] = host
    if port is not None:
        command_line["server.port"] = port
    try:
        handed = inherited(os.environ, os.getpid())
    except SocketUnusable as error:
        raise UsageError(str(error)) from None
    sock = handed.get("")
    if sock is not None:
        if command_line:
            raise UsageError(
                "--host and --port mean nothing beside a listening socket that is handed over (LISTEN_FDS)."
            )
        # What holds for an address that others reach is decided by the socket's own.
        command_line["server.host"], command_line["server.port"] = sock.getsockname()[:2]
    admin_sock = handed.get(ADMIN)
    if admin_sock is not None:
        command_line["admin.host"], command_line["admin.port"] = admin_sock.getsockname()[:2]
    config = load_config(path, command_line)
    try:
        sock = bind(config) if sock is None else take_over(sock)
        server = make_server(
            config, os.environ, _announce, admin_socket=None if admin_sock is None else take_over(admin_sock)
        )
    except CannotListen as error:
        raise UsageError(str(error)) from None
    with contextlib.suppress(KeyboardInterrupt):  # before uvicorn takes signals for itself, or after
        server.run(sockets=[sock])
    click.echo("Stopped.")


@main.group("config")
def config_group() -> None:
    """Check and show the configuration."""


@config_group.command("check")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def config_check(path: str | None, as_json: bool) -> None:
    """Report every problem of the configuration. All at once; exit status 1 if there is one."""
    try:
        config = read_config(path)
    except OSError as error:
        raise _unreadable(error) from None
    except ConfigInvalid as error:
        if as_json:
            click.echo(
                json.dumps({"ok": False, "problems": [_problem(one) for one in error.problems]}, ensure_ascii=False)
            )
        else:
            click.echo(error.render(), err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps({"ok": True, "problems": []}))
    else:
        click.echo(f"{config.source or 'No file, automatic configuration'}: no problems.")


@config_group.command("show")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the values as JSON.")
@click.option("--changed", is_flag=True, help="Only values that are not defaults.")
def config_show(path: str | None, as_json: bool, changed: bool) -> None:
    """Print every effective value and where it came from. Secrets are masked."""
    shown = [one for one in flatten(load_config(path)) if not changed or one.origin != "default"]
    if as_json:
        click.echo(
            json.dumps(
                [{"path": one.path, "value": one.value, "origin": one.origin} for one in shown], ensure_ascii=False
            )
        )
        return
    from rich.console import Console
    from rich.table import Table

    from tidegate.cli.cell import cell

    table = Table("key", "value", "origin", box=None, pad_edge=False)
    for one in shown:
        table.add_row(
            cell(one.path), cell(one.value), cell(one.origin), style=None if one.origin != "default" else "dim"
        )
    Console(width=None if sys.stdout.isatty() else 400).print(table)


@config_group.command("schema")
def config_schema() -> None:
    """Print the JSON schema of tidegate.toml, for editors."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9100, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--list", "list_scripts", is_flag=True, help="Print the scripts and faults it can play, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print as JSON.")
def sim(host: str, port: int, list_scripts: bool, as_json: bool) -> None:
    """Start a simulated provider. It is a real server that plays scripted answers and faults."""
    from tidegate import sim as simulator

    if list_scripts:
        if as_json:
            click.echo(json.dumps(_sim_catalogue(), ensure_ascii=False))
        else:
            click.echo(simulator.listing())
        return
    try:
        simulator.serve(host, port, lambda base_url: click.echo(f"The simulator listens on {base_url}"))
    except simulator.CannotListen as error:
        raise UsageError(f"{error} Choose another port with --port.") from None


def _sim_catalogue() -> dict[str, dict[str, str]]:
    from tidegate.sim import FAULTS, SCRIPTS

    return {
        "scripts": {name: script.summary for name, script in SCRIPTS.items()},
        "faults": {name: fault.summary for name, fault in FAULTS.items()},
    }


def load_config(
    path: str | None, command_line: Mapping[str, object] | None = None, *, will_have_keys: bool = False
) -> Config:
    """The configuration. `will_have_keys`: it is not to be served, so that it may be one that has no key yet.

    Raises UsageError.
    """
    try:
        return read_config(path, command_line, will_have_keys=will_have_keys)
    except OSError as error:
        raise _unreadable(error) from None
    except ConfigInvalid as error:
        raise UsageError(error.render()) from None


def read_config(
    path: str | None, command_line: Mapping[str, object] | None = None, *, will_have_keys: bool = False
) -> Config:
    """The same. Raises ConfigInvalid, and OSError for a file that cannot be read."""
    path = path or find_file(os.environ)

    def has_managed_keys(document: Document) -> bool:
        if will_have_keys:
            return True
        from tidegate.server.database import has_managed_keys  # only where it decides whether the gateway may start

        return has_managed_keys(document, os.environ)

    if path is None:
        return automatic(os.environ, command_line=command_line, has_managed_keys=has_managed_keys)
    return load_file(path, os.environ, command_line=command_line, has_managed_keys=has_managed_keys)


def _unreadable(error: OSError) -> UsageError:
    return UsageError(unreadable(error))


def _problem(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in problem.__struct_fields__}


_OWN_SERVERS = {
    "local-audio": "speech and transcription on this machine, no key needed",
    "sim": "simulated answers, no key needed",
}


def _announce(announcement: "Announcement") -> None:
    """What a person needs to know after the start: the address, who answers, and a line to try."""
    config, port, models = announcement.config, announcement.port, announcement.models
    address = _address(config.server.host, port)
    data = f"data in {announcement.database}" if announcement.database else "nothing is kept"
    lines = [
        f"Tidegate {__version__} listens on {_listening(config.server.host, port)}",
        f"Process {os.getpid()}, {data}",
        "",
        "Providers:",
    ]
    if not config.providers:
        lines.append(
            "  none: with a configuration file only its own providers count. Add one, such as [providers.openai]."
        )
    width = max((len(name) for name in config.providers), default=0)
    for name, provider in config.providers.items():
        record = provider.record()
        where = record.base_url or _OWN_SERVERS.get(record.kind, "")
        note = "" if provider.credentials or not record.needs_credential else "  (no credential)"
        lines.append(f"  {name:<{width}}  {where}{note}")
    if announcement.admin_port is not None:
        where = _listening(config.admin.host or "127.0.0.1", announcement.admin_port)
        lines += ["", f"The admin API listens on {where}"]
    if announcement.admin_key is not None:
        lines += [
            "",
            "The key of the first admin, an owner. It is shown now and never again:",
            f"  {announcement.admin_key}",
            "If it is lost, make another one here with `tidegate admins create NAME`.",
        ]
    real = [one.id for one in models if one.owned_by not in _OWN_SERVERS]
    model = config.defaults.model or next(iter(real or [one.id for one in models]), "")
    if not model:
        if config.providers:
            lines += ["", "No model is known yet: GET /v1/models lists them once a provider answers."]
        click.echo("\n".join([*lines, ""]))
        return
    key = ' \\\n  -H "Authorization: Bearer $TIDEGATE_API_KEY"' if announcement.needs_key else ""
    path, question = _example(config, model)
    body = json.dumps({"model": model, **question})
    lines += [
        "",
        "Try it:",
        f"curl -N {address}{path}{key} \\",
        "  -H 'Content-Type: application/json' \\",
        f"  -d '{body}'",
        "",
    ]
    click.echo("\n".join(lines))
    sys.stdout.flush()


_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104


def _address(host: str, port: int) -> str:
    """A URL under which this machine itself reaches what listens there."""
    return _url("127.0.0.1" if host in _ALL_ADDRESSES else host, port)


def _listening(host: str, port: int) -> str:
    """Where it listens, for whoever must know who reaches it."""
    everywhere = f" (all addresses); here: {_address(host, port)}" if host in _ALL_ADDRESSES else ""
    return f"{_url(host, port)}{everywhere}"


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _example(config: Config, model: str) -> tuple[str, dict[str, Any]]:
    """A path that the model's provider speaks, and a question in its form."""
    provider = config.providers.get(model.partition("/")[0])
    speaks = provider.record().speaks if provider is not None else ("responses",)
    if speaks[0] == "speech":
        return "/v1/audio/speech", {"input": "Hello!", "voice": "alloy", "stream_format": "sse"}
    if "responses" in speaks:
        return "/v1/responses", {"input": "Hello!", "stream": True}
    if "chat" in speaks:
        return "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello!"}], "stream": True}
    return "/v1/completions", {"prompt": "Hello!", "stream": True}
