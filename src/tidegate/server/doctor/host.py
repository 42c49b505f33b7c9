"""This machine: the addresses to listen on, the limit of open files, and what has to be installed."""

import asyncio
import sys
from importlib.util import find_spec
from typing import Final

from tidegate.config.schema import Config, ProviderConfig
from tidegate.providers.registry import REGISTRY
from tidegate.server.compose import CannotListen, bind_address
from tidegate.server.doctor.finding import Verdict, bad, fine, skipped, warning
from tidegate.server.doctor.world import World, in_thread
from tidegate.upstream.fetch import Fetched, fetch
from tidegate.upstream.provider import Upstream
from tidegate.upstream.wheel import Wheel
from tidegate.wire import jsonio
from tidegate.wire.errors import TidegateError

__all__ = ["check_address", "check_extras", "check_file_limit", "check_local_audio"]

ASK_S: Final = 2.0
"""How long whoever listens on our port may take to say who it is."""

PER_STREAM: Final = 2
"""Descriptors of an open stream: the client's connection and the provider's."""

OWN_FILES: Final = 64
"""Descriptors of everything else: the log, the database, listeners."""

MODEST_FILES: Final = 1024
LEAST_FILES: Final = 128

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


async def check_address(host: str, port: int, setting: str, world: World, wheel: Wheel) -> Verdict:
    """Whether the address is free, or already a Tidegate's. `setting` says how to choose another port."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    details: dict[str, object] = {"host": host, "port": port}
    if not port:
        return fine(f"{host}, any free port", **details)
    name = _EVERYWHERE.get(host, host)
    try:
        name = str((await world.resolver(name, port))[0][4][0])
    except (OSError, UnicodeError):
        return bad(f"the name {host} cannot be resolved", "Name an address of this machine.", **details)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(name, port), ASK_S)
    except (OSError, TimeoutError):
        pass  # nobody there; binding tells whether it may be ours
    else:
        writer.close()
        return await _who_listens(name, port, shown, setting, wheel, details)
    try:
        await in_thread(lambda: bind_address(host, port, setting).close())
    except CannotListen as error:
        return bad(str(error), "Name an address of this machine, and a port that the user may open.", **details)
    return fine(f"{shown} is free", running=False, **details)


async def _who_listens(
    host: str, port: int, shown: str, setting: str, wheel: Wheel, details: dict[str, object]
) -> Verdict:
    origin = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = ProviderConfig(kind="openai-compatible", base_url=origin)
    upstream = Upstream("listener", config, asyncio.get_running_loop(), wheel, environment={})
    advice = f"Stop that program, or choose another port with {setting}."
    try:
        about = await _ask(upstream, "/")
        if about.get("name") != "tidegate":
            # The admin API's own listener has no page at `/`; its words for what it lacks are ours.
            health = await _ask(upstream, "/healthz")
            if health != {"status": "ok"} or "admin" not in setting:
                return bad(f"another program listens on {shown}", advice, **details)
            return fine(f"a running Tidegate answers on {shown}", running=True, **details)
        details["version"] = about.get("version")
        ready = await _ask(upstream, "/readyz")
    finally:
        upstream.close()
    found = f"Tidegate {about.get('version')} runs on {shown}"
    if ready.get("status") == "draining":
        return warning(
            f"{found}, and is about to stop: it takes no new requests", "Start it again.", running=True, **details
        )
    return fine(found, running=True, **details)


async def _ask(upstream: Upstream, path: str) -> dict[str, object]:
    """The object that the listener answers, or an empty one."""
    try:
        answer: Fetched = await fetch(upstream.pool, upstream.get(path), timeout_s=ASK_S, body_limit=65536)
        found = jsonio.anything(answer.body)
    except (TidegateError, jsonio.InvalidJSON):
        return {}
    return found if isinstance(found, dict) else {}


def check_file_limit(world: World) -> Verdict:
    """Whether many streams can be open at the same time."""
    limit = world.file_limit()
    if limit is None:
        return fine("no limit")
    streams = max(0, (limit - OWN_FILES) // PER_STREAM)
    found = f"{limit} open files: enough for about {streams} streams at a time"
    advice = "Raise it with `ulimit -n 65536` before the start, or LimitNOFILE= in the systemd unit."
    details = {"limit": limit, "streams": streams}
    if limit < LEAST_FILES:
        return bad(found, advice, **details)
    if limit < MODEST_FILES:
        return warning(found, advice, **details)
    return fine(found, **details)


def check_extras(config: Config) -> Verdict:
    """Whether the optional packages are installed that the configuration makes use of."""
    needed: dict[str, tuple[str, ...]] = {}
    if config.storage.url.startswith("postgres"):
        needed["postgres"] = ("asyncpg",)
    if config.limits.valkey is not None:
        needed["valkey"] = ("redis",)
    for provider in config.providers.values():
        record = REGISTRY[provider.kind]
        if record.extra and not provider.base_url:
            needed[record.extra] = record.modules
    if not needed:
        return fine("none is needed", needed=[])
    missing = [extra for extra, modules in needed.items() if any(find_spec(module) is None for module in modules)]
    if missing:
        return bad(
            f"not installed: {', '.join(missing)}",
            f"pip install 'tidegate[{','.join(missing)}]'",
            needed=list(needed),
            missing=missing,
        )
    return fine(f"{', '.join(needed)}: installed", needed=list(needed), missing=[])


async def check_local_audio(config: Config) -> Verdict:
    """Whether the libraries of the local audio engine load: they bring native code, which may not suit the machine."""
    record = REGISTRY["local-audio"]
    if not any(one.kind == record.kind and not one.base_url for one in config.providers.values()):
        return skipped("not configured")
    # In a process of its own: native code that does not suit the machine takes its process with it.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import {', '.join(record.modules)}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = told.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"exit status {process.returncode}"
        return bad(f"its libraries do not load: {last}", f"pip install --force-reinstall 'tidegate[{record.extra}]'")
    return fine(f"its libraries load ({', '.join(record.modules)})")
