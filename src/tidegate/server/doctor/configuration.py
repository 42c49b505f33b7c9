"""The configuration, and what it says about who may call."""

from tidegate.config.checks import is_loopback
from tidegate.config.problem import ConfigInvalid
from tidegate.config.schema import Config
from tidegate.server.database import has_managed_keys
from tidegate.server.doctor.finding import Verdict, bad, fine, warning
from tidegate.server.doctor.world import World, in_thread

__all__ = ["Configuration", "protection"]


class Configuration:
    """Reads the configuration; afterwards `config` is there, unless it has faults."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.config: Config | None = None

    async def check(self) -> Verdict:
        try:
            config = self.config = await in_thread(self._world.load)
        except ConfigInvalid as error:
            problems = [problem.render(error.source) for problem in error.problems]
            return bad(error.render(), "Mend them and run `tidegate config check`.", problems=problems)
        except OSError as error:
            return bad(
                f"cannot read {error.filename}: {error.strerror or error}",
                "Name another file with --config, or make this one readable.",
            )
        source = config.source or "no file: providers come from the environment and from this machine"
        changed = sum(origin.startswith("environment ") for origin in config.origins.values())
        beside = f"; {changed} value{'' if changed == 1 else 's'} from the environment" if changed else ""
        return fine(
            f"{source}{beside}", source=config.source, from_environment=changed, providers=list(config.providers)
        )


async def protection(config: Config, world: World) -> Verdict:
    """Who may call."""
    host, configured = config.server.host, len(config.keys)
    managed = await in_thread(lambda: has_managed_keys(config, world.environment))
    details = {
        "host": host,
        "configured_keys": configured,
        "managed_keys": managed,
        "open": not (configured or managed),
    }
    public = not is_loopback(host)
    if configured or managed:
        parts = []
        if configured:
            parts.append(f"{configured} configured key{'' if configured == 1 else 's'}")
        if managed:
            parts.append("managed keys")
        reach = "other machines" if public else "this machine only"
        return fine(f"{' and '.join(parts)}; {host} is reached from {reach}", **details)
    if public:
        return warning(
            f"open, and {host} can be reached from other machines: whoever reaches the port spends your credentials",
            "Make a key with `tidegate keys create`, or listen on 127.0.0.1.",
            **details,
        )
    return fine(f"open to this machine only ({host})", **details)
