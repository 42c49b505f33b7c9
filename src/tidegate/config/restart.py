"""What a reload leaves as it is: settings that are read once, at the start."""

from collections.abc import Iterator
from typing import Any, Final

from tidegate.config.load import COMMAND_LINE
from tidegate.config.schema import Config

__all__ = ["command_line_of", "waiting_for_restart"]

_READ_ONCE: Final = (
    "server.host",
    "server.port",
    "server.drain_delay",
    "server.drain",
    "server.data_dir",
    "limits",
    "admin",
    "storage",
    "ledger",
    "logging",
)
"""Settings, and sections all of whose settings are read once."""


def waiting_for_restart(running: Config, fresh: Config) -> list[str]:
    """The paths of settings that `fresh` changes to no effect, since the process began with `running`."""
    return [path for path in _paths(running) if _at(running, path) != _at(fresh, path)]


def command_line_of(config: Config) -> dict[str, object]:
    """The values that options of the command line gave, by path: they stand above a file that is read again."""
    return {path: _at(config, path) for path, origin in config.origins.items() if origin == COMMAND_LINE}


def _paths(config: Config) -> Iterator[str]:
    for path in _READ_ONCE:
        found = _at(config, path)
        if "." in path:
            yield path
        else:
            yield from (f"{path}.{name}" for name in found.__struct_fields__)


def _at(config: Config, path: str) -> Any:
    found: Any = config
    for name in path.split("."):
        found = getattr(found, name)
    return found
