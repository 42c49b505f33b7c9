"""From the text of a `tidegate.toml` to the snapshot, or to the full list of what is wrong with it."""

import os.path
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, cast

import msgspec

from tidegate.config.checks import HasManagedKeys, check, no_managed_keys
from tidegate.config.decode import decode
from tidegate.config.locate import Locator, parse_path
from tidegate.config.problem import ConfigInvalid, Problem, join
from tidegate.config.schema import Config, Document, ProviderConfig
from tidegate.config.secret import Secret
from tidegate.config.substitute import FromEnvironment, substitute
from tidegate.dialects.validation import nearest
from tidegate.providers.registry import REGISTRY

ENVIRONMENT_KEY: Final = "TIDEGATE_KEY"
"""Adds one static key, for containers."""

COMMAND_LINE: Final = "command line"
"""Origin of values given as options."""

OVERRIDES: Final[Mapping[str, str]] = {
    "TIDEGATE_HOST": "server.host",
    "TIDEGATE_PORT": "server.port",
    "TIDEGATE_DATA": "server.data_dir",
}
"""Environment variables that stand above the file, and the key each one sets."""

ReadText = Callable[[str], str]

_LINE_IN_MESSAGE: Final = re.compile(r" ?\(at (?:line (\d+), column (\d+)|end of document)\)")


def load(
    text: str,
    source: str,
    env: Mapping[str, str],
    *,
    command_line: Mapping[str, object] | None = None,
    read: ReadText | None = None,
    folder: str = "",
    has_managed_keys: HasManagedKeys = no_managed_keys,
) -> Config:
    """The checked configuration. Raises `ConfigInvalid` with every problem at once.

    `command_line` maps paths such as `server.port` to values that stand above the environment, which stands above the
    file. `read` fetches the text of a credentials file; without it such a file is a problem. Relative paths in the
    document are taken from `folder`. `has_managed_keys` looks into the database that the document names.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid([_syntax(error, text)], source) from None
    locator = Locator(text)

    def place(path: str) -> str:
        line = locator.line(path)
        return f"{source}:{line}" if line else source

    try:
        return build(
            raw,
            source,
            env,
            place=place,
            command_line=command_line or {},
            read=read,
            folder=folder,
            has_managed_keys=has_managed_keys,
        )
    except ConfigInvalid as invalid:
        problems = [
            problem if problem.origin else msgspec.structs.replace(problem, line=locator.line(problem.path))
            for problem in invalid.problems
        ]
        problems.sort(key=lambda problem: problem.line or 0)
        raise ConfigInvalid(problems, source) from None


def load_file(
    path: str,
    env: Mapping[str, str],
    *,
    command_line: Mapping[str, object] | None = None,
    has_managed_keys: HasManagedKeys = no_managed_keys,
) -> Config:
    """Reads the file, and the credentials files it names, and loads it. Raises `ConfigInvalid` or `OSError`."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigInvalid([Problem(path="", message="is not UTF-8 text", line=line)], path) from None

    def read(name: str) -> str:
        with open(name, encoding="utf-8") as file:
            return file.read()

    folder = os.path.dirname(os.path.abspath(path))
    return load(text, path, env, command_line=command_line, read=read, folder=folder, has_managed_keys=has_managed_keys)


def unreadable(error: OSError) -> str:
    """What a person is told of a file that cannot be read."""
    return f"Cannot read {error.filename}: {error.strerror or error}."


def find_file(env: Mapping[str, str]) -> str | None:
    """The file to load when the command line names none: `TIDEGATE_CONFIG`, else `tidegate.toml` in this folder."""
    return env.get("TIDEGATE_CONFIG") or ("tidegate.toml" if os.path.exists("tidegate.toml") else None)


def build(
    raw: dict[str, object],
    source: str,
    env: Mapping[str, str],
    *,
    place: Callable[[str], str],
    command_line: Mapping[str, object],
    read: ReadText | None = None,
    folder: str = "",
    has_managed_keys: HasManagedKeys = no_managed_keys,
) -> Config:
    """The snapshot from parsed TOML; `place` says where a path was written. Raises `ConfigInvalid`."""
    problems: list[Problem] = []
    used: dict[str, tuple[str, ...]] = {}
    filled = cast("dict[str, object]", substitute(raw, env, problems, used))
    origins = {path: place(path) for path in _leaves(filled)}
    for path, names in used.items():
        origins[path] = f"{origins[path]}, environment {', '.join(names)}"
    _override(filled, env, command_line, origins)
    decoded = decode(Document, filled, problems)
    if decoded is None:
        raise ConfigInvalid([_with_origin(_scrubbed(problem, used, env), origins) for problem in problems], source)
    document = cast("Document", decoded)
    providers = {
        name: _fill(name, config, env, origins, problems, read, folder) for name, config in document.providers.items()
    }
    server = document.server
    if folder and server.data_dir and origins.get("server.data_dir", "").startswith(f"{source}:"):
        server = msgspec.structs.replace(server, data_dir=os.path.join(folder, server.data_dir))
    document = msgspec.structs.replace(document, providers=providers, server=server)
    spoilt = {problem.path for problem in problems}
    problems.extend(problem for problem in check(document, has_managed_keys) if not _follows(problem.path, spoilt))
    if problems:
        raise ConfigInvalid([_with_origin(_scrubbed(problem, used, env), origins) for problem in problems], source)
    sections: dict[str, Any] = {name: getattr(document, name) for name in Document.__struct_fields__}
    return Config(**sections, source=source, origins=origins)


def _follows(path: str, spoilt: Collection[str]) -> bool:
    """Whether a fault only follows from one found before: in the value, in what surrounds it, or in a list's member."""
    return any(
        path == other or path.startswith((f"{other}.", f"{other}[")) or other.startswith(f"{path}[") for other in spoilt
    )


def _scrubbed(problem: Problem, used: Mapping[str, tuple[str, ...]], env: Mapping[str, str]) -> Problem:
    """The problem, naming the variable where it would quote its value: a secret may stand in the wrong place."""
    for name in used.get(problem.path, ()):
        if len(env[name]) >= 4:  # A shorter one is no secret, and may be part of any word.
            # A value that is part of a word of ours was not quoted.
            quoted = re.compile(rf"(?<![^\W_]){re.escape(env[name])}(?![^\W_])")
            message, nearest_name = (
                quoted.sub(lambda _, shown=f"${{{name}}}": shown, text)  # type: ignore[misc]
                for text in (problem.message, problem.nearest)
            )
            problem = msgspec.structs.replace(problem, message=message, nearest=nearest_name)
    return problem


def _with_origin(problem: Problem, origins: Mapping[str, str]) -> Problem:
    """The problem, with its origin when the value did not come from the file."""
    origin = origins.get(problem.path, "")
    outside = origin.startswith("environment ") or origin == COMMAND_LINE
    return msgspec.structs.replace(problem, origin=origin) if outside else problem


def _syntax(error: Exception, text: str) -> Problem:
    """tomllib's message, with its place taken out of the text."""
    if isinstance(error, RecursionError):
        return Problem(path="", message="is nested too deeply")
    match = _LINE_IN_MESSAGE.search(str(error))
    plain = _LINE_IN_MESSAGE.sub("", str(error)).replace("Cannot overwrite a value", "a key is given twice")
    line, column = (match[1], match[2]) if match else (None, None)
    return Problem(
        path="",
        message=f"is not TOML: {plain[:1].lower()}{plain[1:]}" + (f", column {column}" if column else ""),
        line=int(line) if line else max(1, len(text.splitlines())),
    )


def _leaves(raw: object, path: str = "") -> list[str]:
    """The paths of all values, tables excepted; a list counts as one value and each of its members as another."""
    if isinstance(raw, dict):
        return [leaf for name, item in raw.items() for leaf in _leaves(item, join(path, name))]
    inner = (
        [leaf for number, item in enumerate(raw) for leaf in _leaves(item, f"{path}[{number}]")]
        if isinstance(raw, list)
        else []
    )
    return [path, *inner]


def _override(
    raw: dict[str, object],
    env: Mapping[str, str],
    command_line: Mapping[str, object],
    origins: dict[str, str],
) -> None:
    """Puts the environment's values, then the command line's, in the place of the file's."""
    for name, path in OVERRIDES.items():
        if not env.get(name):
            continue
        _put(raw, path, FromEnvironment(env[name]))
        origins[path] = f"environment {name}"
    for path, value in command_line.items():
        _put(raw, path, value)
        origins[path] = COMMAND_LINE
    if env.get(ENVIRONMENT_KEY):
        keys = raw.setdefault("keys", [])
        if isinstance(keys, list):
            for member in ("name", "secret"):
                origins[f"keys[{len(keys)}].{member}"] = f"environment {ENVIRONMENT_KEY}"
            keys.append({"name": "environment", "secret": env[ENVIRONMENT_KEY].strip()})


def _put(raw: dict[str, object], path: str, value: object) -> None:
    place = [str(member) for member in parse_path(path)]
    table = raw
    for name in place[:-1]:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # The decoder reports what stands there instead of a table.
        table = inner
    table[place[-1]] = value


def _fill(
    name: str,
    config: ProviderConfig,
    env: Mapping[str, str],
    origins: dict[str, str],
    problems: list[Problem],
    read: ReadText | None,
    folder: str,
) -> ProviderConfig:
    """Settles what follows from the rest: the kind, the address, and the credentials from file or environment."""
    path = join("providers", name)
    kind = config.kind or (name if name in REGISTRY else "openai-compatible")
    known = REGISTRY.get(kind)
    if known is None:
        kinds = "" if nearest(kind, REGISTRY) else f"; the kinds are {', '.join(REGISTRY)}"
        problems.append(Problem(path=f"{path}.kind", message=f"unknown kind{kinds}", nearest=nearest(kind, REGISTRY)))
        return msgspec.structs.replace(config, kind=kind)
    base_url = config.base_url.rstrip("/") or known.base_url
    credentials = tuple(Secret(credential.reveal().strip()) for credential in config.credentials)
    if config.credentials_file:
        if credentials:
            problems.append(
                Problem(path=f"{path}.credentials_file", message="stands beside `credentials`; keep one of the two")
            )
        elif read is None:
            problems.append(
                Problem(path=f"{path}.credentials_file", message="can be used only in a configuration read from a file")
            )
        else:
            credentials = _read_credentials(config.credentials_file, f"{path}.credentials_file", read, folder, problems)
            origins[f"{path}.credentials"] = f"file {config.credentials_file}"
    # A key from the environment goes to the address it was issued for and to no other.
    elif not credentials and base_url in (known.base_url, *known.regions):
        variable = next((variable for variable in known.env if env.get(variable, "").strip()), "")
        if variable:
            credentials = (Secret(env[variable].strip()),)
            origins[f"{path}.credentials"] = f"environment {variable}"
    ca_bundle = os.path.join(folder, config.ca_bundle) if config.ca_bundle and folder else config.ca_bundle
    if ca_bundle and read is not None:
        _read(ca_bundle, f"{path}.ca_bundle", read, problems)
    models = config.models or (() if base_url else known.models)
    return msgspec.structs.replace(
        config, kind=kind, base_url=base_url, credentials=credentials, ca_bundle=ca_bundle, models=models
    )


def _read_credentials(name: str, path: str, read: ReadText, folder: str, problems: list[Problem]) -> tuple[Secret, ...]:
    text = _read(os.path.join(folder, name), path, read, problems)
    if text is None:
        return ()
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    credentials = tuple(Secret(line) for line in lines if line and not line.startswith("#"))
    if not credentials:
        problems.append(Problem(path=path, message=f"there is no credential in {name}"))
    return credentials


def _read(name: str, path: str, read: ReadText, problems: list[Problem]) -> str | None:
    try:
        return read(name)
    except OSError as error:
        problems.append(Problem(path=path, message=f"cannot read {name}: {(error.strerror or str(error)).lower()}"))
    except UnicodeDecodeError:
        problems.append(Problem(path=path, message=f"{name} is not UTF-8 text"))
    return None
