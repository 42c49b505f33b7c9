"""Environment variables in string values: `${NAME}` and `${NAME:-text for when it is unset or empty}`."""

import re
from collections.abc import Mapping
from typing import Final

from tidegate.config.problem import Problem, join

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_NAME: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class FromEnvironment(str):
    """Text in which a reference was replaced: never quoted in a message, and may spell a number or boolean."""

    __slots__ = ()


def substitute(
    raw: object, env: Mapping[str, str], problems: list[Problem], used: dict[str, tuple[str, ...]], path: str = ""
) -> object:
    """A copy of parsed TOML with the references replaced; `$${` stands for a literal `${`.

    Notes for each path the variables its value was taken from. A variable that is not set adds a problem and leaves
    the reference in place.
    """
    if isinstance(raw, dict):
        return {name: substitute(item, env, problems, used, join(path, name)) for name, item in raw.items()}
    if isinstance(raw, list):
        return [substitute(item, env, problems, used, f"{path}[{number}]") for number, item in enumerate(raw)]
    if not isinstance(raw, str) or "${" not in raw:
        return raw
    names: list[str] = []
    replaced = False

    def replace(match: re.Match[str]) -> str:
        nonlocal replaced
        if match[1] is None:
            return "${"
        reference = _NAME.fullmatch(match[1])
        if reference is None:
            problems.append(Problem(path=path, message="`${…}` takes the name of an environment variable"))
            return match[0]
        name, otherwise = reference[1], reference[2]
        if env.get(name) or (name in env and otherwise is None):
            names.append(name)
            replaced = True
            return env[name]
        if otherwise is not None:
            replaced = True
            return str(otherwise)
        problems.append(Problem(path=path, message=f"the environment variable {name} is not set"))
        return match[0]

    result = _REFERENCE.sub(replace, raw)
    if names:
        used[path] = tuple(dict.fromkeys(names))
    return FromEnvironment(result) if replaced else result
