"""The whole examination: which checks there are, which of them run side by side, and in which order they are told."""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from tidegate import __version__
from tidegate.config.schema import Config
from tidegate.dialects.validation import nearest
from tidegate.server.discovery import discover
from tidegate.server.doctor.bench import Bench, Progress
from tidegate.server.doctor.clock import check_clock
from tidegate.server.doctor.configuration import Configuration, protection
from tidegate.server.doctor.database import examine_database
from tidegate.server.doctor.finding import CHECKS, PROVIDER_CHECKS, Finding, Report, Verdict, skipped
from tidegate.server.doctor.folder import check_disk, check_folder, check_secrets
from tidegate.server.doctor.host import check_address, check_extras, check_file_limit, check_local_audio
from tidegate.server.doctor.names import check_names
from tidegate.server.doctor.provider import Examined, ProviderExamination
from tidegate.server.doctor.valkey import check_valkey
from tidegate.server.doctor.world import World, in_thread
from tidegate.upstream.wheel import Wheel

__all__ = ["UnknownProvider", "examine"]

WITHOUT_CONFIGURATION: Final = frozenset({"configuration", "file_descriptors"})


class UnknownProvider(ValueError):
    """A provider was named that is not configured."""


async def examine(
    world: World,
    *,
    timeout_s: float,
    only: Collection[str] = (),
    progress: Progress | None = None,
) -> Report:
    """The report. `timeout_s` is the longest wait for any provider, the database, and each other check; `only` names the
    providers to look at, and leaves out what is not about them. Raises UnknownProvider."""
    begun = time.perf_counter()
    bench = Bench(timeout_s, progress)
    wheel = Wheel(asyncio.get_running_loop())
    reading = Configuration(world)
    try:
        await bench.look("configuration", reading.check())
        config = reading.config
        if config is None:
            if not only:
                await bench.look("file_descriptors", _at_once(lambda: check_file_limit(world)))
            for check in CHECKS:
                if check not in WITHOUT_CONFIGURATION and check not in PROVIDER_CHECKS and not only:
                    bench.note(check, skipped("the configuration cannot be read"))
        elif only:
            config = await _with_local_servers(config, wheel)
            _check_named(config, only)
            await _examine_providers(bench, world, wheel, config, only)
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(_examine_machine(bench, world, wheel, config))
                group.create_task(examine_database(bench, config, world))
                group.create_task(_examine_providers(bench, world, wheel, config, only))
    finally:
        wheel.close()
    names = list(config.providers) if config is not None else []
    checks = tuple(sorted(bench.findings, key=lambda one: _place(one, names)))
    return Report(
        ok=all(one.status != "failed" for one in checks),
        version=__version__,
        source=config.source if config is not None else "",
        duration_ms=round((time.perf_counter() - begun) * 1000, 1),
        checks=checks,
    )


def _place(finding: Finding, names: list[str]) -> tuple[int, int, int]:
    """Providers stand together, in the order of the configuration."""
    number = CHECKS.index(finding.check)
    if finding.check not in PROVIDER_CHECKS:
        return number, 0, 0
    position = names.index(finding.subject) if finding.subject in names else len(names)
    return CHECKS.index(PROVIDER_CHECKS[0]), position, number


async def _at_once(check: Callable[[], Verdict]) -> Verdict:
    return check()


async def _examine_machine(bench: Bench, world: World, wheel: Wheel, config: Config) -> None:
    server, admin = config.server, config.admin
    async with asyncio.TaskGroup() as group:

        def look(check: str, work: Coroutine[Any, Any, Verdict]) -> None:
            group.create_task(bench.look(check, work))

        look("protection", protection(config, world))
        look("listen_address", check_address(server.host, server.port, "--port or server.port", world, wheel))
        if admin.address is None:
            bench.note("admin_address", skipped("served on the port of the rest" if admin.enabled else "switched off"))
        else:
            look("admin_address", check_address(*admin.address, "admin.port", world, wheel))
        look("data_folder", in_thread(lambda: check_folder(config, world)))
        look("secret_files", in_thread(lambda: check_secrets(config, world)))
        look("disk_space", in_thread(lambda: check_disk(config, world)))
        look("file_descriptors", _at_once(lambda: check_file_limit(world)))
        look("extras", _at_once(lambda: check_extras(config)))
        look("local_audio", check_local_audio(config))
        look("valkey", check_valkey(config, world, bench.timeout_s))


async def _with_local_servers(config: Config, wheel: Wheel) -> Config:
    """As the gateway does it: without a file, servers on this machine are providers too."""
    if not config.automatic:
        return config
    return await discover(config, wheel, own_ports=[config.server.port], gateways=set())


def _check_named(config: Config, only: Collection[str]) -> None:
    for name in only:
        if name not in config.providers:
            near = nearest(name, config.providers)
            hint = f"Did you mean '{near}'?" if near else f"There are: {', '.join(config.providers) or 'none'}."
            raise UnknownProvider(f"No provider '{name}' is configured. {hint}")


async def _examine_providers(bench: Bench, world: World, wheel: Wheel, config: Config, only: Collection[str]) -> None:
    if not only:
        config = await _with_local_servers(config, wheel)
    chosen = {name: one for name, one in config.providers.items() if not only or name in only}
    examinations = [
        ProviderExamination(bench, world, wheel, name, one, config.origins).examine() for name, one in chosen.items()
    ]
    found: dict[str, Examined] = dict(zip(chosen, await asyncio.gather(*examinations), strict=True))
    offsets = {name: one.clock_off_s for name, one in found.items() if one.clock_off_s is not None}
    await bench.look("system_clock", _at_once(lambda: check_clock(offsets)))
    if not only:
        listed = {name: one.models for name, one in found.items()}
        await bench.look("model_names", _at_once(lambda: check_names(config, listed)))
