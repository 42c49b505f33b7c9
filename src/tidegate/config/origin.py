"""The effective configuration as a list of values, each with where it came from: what `tidegate config show` prints."""

import json
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit, urlunsplit

import msgspec

from tidegate.config.limits import Limits
from tidegate.config.problem import join
from tidegate.config.schema import Config, ProviderConfig, Timeouts
from tidegate.config.secret import Secret
from tidegate.config.units import Duration, Size
from tidegate.providers.record import Clocks

DEFAULT = "default"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list. `value` is written as TOML would have it, secrets masked."""

    path: str
    value: str
    origin: str


def flatten(config: Config) -> list[Shown]:
    """Every effective value in the order of the documentation. Defaults of a provider's kind are filled in."""
    origins = config.origins
    lines: list[Shown] = []
    for section in ("server", "defaults"):
        lines.extend(_struct(getattr(config, section), section, origins))
    for name, provider in config.providers.items():
        lines.extend(_provider(provider, join("providers", name), origins))
    for number, key in enumerate(config.keys):
        lines.extend(_struct(key, f"keys[{number}]", origins))
    for name, project in config.projects.items():
        lines.extend(_struct(project, join("projects", name), origins))
    for name, organization in config.organizations.items():
        lines.extend(_struct(organization, join("organizations", name), origins))
    lines.extend(_struct(config.limits, "limits", origins))
    for alias, model in config.models.items():
        path = join("models", alias)
        if model.target:
            lines.append(_line(f"{path}.target", model.target, origins))
        for number, target in enumerate(model.targets):
            lines.extend(_set(target, f"{path}.targets[{number}]", origins))
        for name in ("strategy", "sticky", "fallback", "fallback_on", "continue_broken", "unsupported"):
            lines.append(_line(f"{path}.{name}", getattr(model, name), origins))
    for name, price in config.prices.items():
        lines.extend(_set(price, join("prices", name), origins))
    for section in ("routing", "admin", "egress", "storage", "ledger", "logging"):
        lines.extend(_struct(getattr(config, section), section, origins))
    return lines


def _struct(value: msgspec.Struct, path: str, origins: Mapping[str, str]) -> Iterator[Shown]:
    for name in value.__struct_fields__:
        member = getattr(value, name)
        if isinstance(member, Limits):
            yield from _limits(member, f"{path}.{name}", origins)
        elif name == "url":
            yield _line(f"{path}.{name}", _without_password(member), origins)
        else:
            yield _line(f"{path}.{name}", member, origins)


def _limits(limits: Limits, path: str, origins: Mapping[str, str]) -> Iterator[Shown]:
    """Those that are set: what is not limited has no line."""
    for kind in limits.__struct_fields__:
        value = getattr(limits, kind)
        if isinstance(value, msgspec.Struct):
            for window in value.__struct_fields__:
                if getattr(value, window) is not None:
                    yield _line(f"{path}.{kind}.{window}", getattr(value, window), origins)
        elif value is not None:
            yield _line(f"{path}.{kind}", value, origins)


def _provider(provider: ProviderConfig, path: str, origins: Mapping[str, str]) -> Iterator[Shown]:
    record = provider.record()
    yield _line(f"{path}.kind", provider.kind, origins)
    yield _line(f"{path}.base_url", record.base_url, origins)
    yield _line(f"{path}.credentials", provider.credentials, origins)
    if provider.credentials_file:
        yield _line(f"{path}.credentials_file", provider.credentials_file, origins)
    for name, value in provider.headers.items():
        yield _line(join(f"{path}.headers", name), value, origins)
    proxy = None if provider.proxy is None else _without_password(provider.proxy.reveal())
    yield _line(f"{path}.proxy", proxy, origins)
    yield _line(f"{path}.ca_bundle", provider.ca_bundle, origins)
    yield from _timeouts(provider.timeouts, record.clocks, f"{path}.timeouts", origins)
    yield from _set(provider.routing, f"{path}.routing", origins)
    for name in ("max_concurrent", "queue", "queue_timeout"):
        yield _line(f"{path}.{name}", getattr(provider, name), origins)
    yield _line(f"{path}.speaks", record.speaks, origins)
    for endpoint in record.speaks:
        yield _line(f"{path}.paths.{endpoint}", record.paths[endpoint], origins)
    yield _line(f"{path}.models", provider.models, origins)
    for endpoint in record.speaks:
        refused = tuple(sorted(record.refuses.get(endpoint, ())))
        yield _line(f"{path}.refuses.{endpoint}", refused, origins)
    for endpoint in record.speaks:
        known = tuple(sorted(record.operations.get(endpoint, ())))
        if known:
            yield _line(f"{path}.operations.{endpoint}", known, origins)
    yield _line(f"{path}.include_usage", record.include_usage, origins)
    yield _line(f"{path}.speech_events", record.speech_events, origins)
    yield _line(f"{path}.encrypted_reasoning", record.encrypted_reasoning, origins)
    yield _line(f"{path}.reasons_silently", record.reasons_silently, origins)
    yield _line(f"{path}.max_output", dict(record.max_output), origins)
    yield _line(f"{path}.max_input", dict(record.max_input), origins)
    yield _line(f"{path}.thinks_apart", record.thinks_apart, origins)
    yield _line(f"{path}.tool_rounds", dict(record.tool_rounds), origins)
    yield _line(f"{path}.state", record.state, origins)
    yield _line(f"{path}.price_list", provider.price_list, origins)


def _timeouts(timeouts: Timeouts, clocks: Clocks, path: str, origins: Mapping[str, str]) -> Iterator[Shown]:
    for name in ("connect", "first_event", "idle"):
        yield _line(f"{path}.{name}", Duration(getattr(clocks, name)), origins)
    if timeouts.total is None:
        unstreamed = "off" if clocks.total_unstreamed is None else str(Duration(clocks.total_unstreamed))
        streamed = "off" if clocks.total is None else str(Duration(clocks.total))
        yield Shown(path=f"{path}.total", value=f'"{streamed}" for streams, else "{unstreamed}"', origin=DEFAULT)
    else:
        yield _line(f"{path}.total", timeouts.total, origins)
    yield _line(f"{path}.send_stall", Duration(clocks.send_stall), origins)


def _set(value: msgspec.Struct, path: str, origins: Mapping[str, str]) -> Iterator[Shown]:
    """The members that are set: the others follow something else, and are not repeated."""
    for name in value.__struct_fields__:
        member = getattr(value, name)
        if isinstance(member, Timeouts):
            yield from _set(member, f"{path}.{name}", origins)
        elif name == "tiers":
            for number, tier in enumerate(member):
                yield from _set(tier, f"{path}.{name}[{number}]", origins)
        elif member is not None:
            yield _line(f"{path}.{name}", member, origins)


def _line(path: str, value: object, origins: Mapping[str, str]) -> Shown:
    return Shown(path=path, value=written(value), origin=_origin(path, origins))


def _origin(path: str, origins: Mapping[str, str]) -> str:
    """Where a value came from; for a list with members from elsewhere, both places."""
    own = origins.get(path, DEFAULT)
    members = [origin for member, origin in origins.items() if member.startswith(f"{path}[")]
    variables = dict.fromkeys(
        part for origin in members for part in origin.split(", ") if part.startswith("environment ") and part not in own
    )
    return ", ".join([own, *variables])


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="********@" + parts.netloc.rpartition("@")[2]))


def written(value: object) -> str:
    """A value as TOML has it. `unset` for None, which TOML cannot write."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Secret):
        return f'"{value.masked()}"'
    if isinstance(value, str | Duration | Size):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(written(member) for member in value)}]"
    if isinstance(value, dict):
        members = ", ".join(f"{join('', name)} = {written(member)}" for name, member in value.items())
        return f"{{ {members} }}" if members else "{}"
    return str(value)
