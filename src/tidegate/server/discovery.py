"""Model servers that run on this machine, found by asking the ports they usually have."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, repeat
from typing import Final

import msgspec

from tidegate.config.schema import Config, ProviderConfig
from tidegate.dialects.dialect import Endpoint
from tidegate.dialects.failure import lacks_path
from tidegate.gateway.models import Model, fetch_listing
from tidegate.providers.discovery import local_ports, recognise
from tidegate.providers.record import Provider
from tidegate.telemetry.log import get_logger
from tidegate.upstream.fetch import fetch
from tidegate.upstream.provider import Upstream
from tidegate.upstream.wheel import Wheel
from tidegate.wire.errors import TidegateError

__all__ = ["discover", "pauses"]

PROBE_TIMEOUT_S = 1.5

PAUSES_S: Final = (5.0, 15.0, 60.0, 300.0)
"""How long to wait before looking again; the last pause stays. People start the gateway and an engine together, or the
engine when they need it."""


def pauses() -> Iterator[float]:
    """Seconds between one look and the next, without end."""
    return chain(PAUSES_S, repeat(PAUSES_S[-1]))


async def discover(config: Config, wheel: Wheel, *, own_ports: Collection[int], gateways: set[int]) -> Config:
    """`config` with a provider for every local server that lists models, beside those that it has. No credential is sent,
    and none of our own ports is asked (design §9). Nor is another Tidegate taken for an engine, which would do the same with
    us; `gateways` are the ports where one was seen, and each that is new is told in the log."""
    loop = asyncio.get_running_loop()
    taken = {provider.base_url for provider in config.providers.values()}
    ports = [port for port in local_ports() if port not in own_ports and _base_url(port) not in taken]
    seen: set[int] = set()
    found = await asyncio.gather(*(_probe(port, loop, wheel, seen) for port in ports))
    for port in sorted(seen - gateways):
        get_logger().info(
            "local_gateway_left_out",
            base_url=_base_url(port),
            hint="Another Tidegate is no model server. To send requests on to it, name it in a configuration file.",
        )
    gateways.clear()
    gateways.update(seen)
    added: dict[str, ProviderConfig] = {}
    defaults = config.defaults
    default = defaults.model
    engines = [
        None if models is None else recognise(port, [model.owned_by for model in models])
        for port, models in zip(ports, found, strict=True)
    ]
    spoken = await asyncio.gather(
        *(_spoken(port, record, loop, wheel) for port, record in zip(ports, engines, strict=True))
    )
    for port, models, record, speaks in zip(ports, found, engines, spoken, strict=True):
        if models is None or record is None:
            continue
        name = record.kind if record.kind not in {**config.providers, **added} else f"{record.kind}-{port}"
        added[name] = ProviderConfig(kind=record.kind, base_url=_base_url(port), speaks=speaks)
        if models and (not default or default.startswith("sim/")):
            default = f"{name}/{models[0].id}"  # the simulator is never the default beside a real provider
    if not added:
        return config
    providers = dict(config.providers)
    # Our own servers stay at the end, where they stand in nobody's way.
    ours = {name: providers.pop(name) for name in list(providers) if providers[name].record().embedded}
    providers.update(added)
    providers.update(ours)
    origins = {f"providers.{name}.base_url": "found on this machine" for name in added}
    if default != defaults.model:
        origins["defaults.model"] = "found on this machine"
        defaults = msgspec.structs.replace(
            defaults,
            model=default,
            speech_model=_unless_simulated(defaults.speech_model),
            transcription_model=_unless_simulated(defaults.transcription_model),
        )
    return msgspec.structs.replace(
        config,
        providers=providers,
        defaults=defaults,
        origins={**config.origins, **origins},
    )


def _unless_simulated(model: str) -> str:
    return "" if model.startswith("sim/") else model


def _base_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


def _upstream(port: int, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> Upstream:
    """The server on `port`, without a credential and without a proxy."""
    config = ProviderConfig(kind="openai-compatible", base_url=_base_url(port))
    no_proxy: Mapping[str, str] = {}
    return Upstream(f"127.0.0.1:{port}", config, loop, wheel, environment=no_proxy)


async def _spoken(
    port: int, record: Provider | None, loop: asyncio.AbstractEventLoop, wheel: Wheel
) -> tuple[Endpoint, ...] | None:
    """What the engine on `port` serves, where that is less than engines of its kind do; else None. Older ones have no
    Responses: an empty request is refused by those that have, without any work."""
    if record is None or "responses" not in record.speaks:
        return None
    upstream = _upstream(port, loop, wheel)
    path = "/v1" + upstream.record.paths["responses"]
    try:
        request = upstream.request("responses", b"{}", stream=False)
        answer = await fetch(upstream.pool, request, timeout_s=PROBE_TIMEOUT_S)
    except TidegateError:
        return None
    finally:
        upstream.close()
    # LM Studio answers a path that it does not have with 200, and an error that repeats it.
    if answer.status in (200, 404) and lacks_path(answer.body, path):
        return tuple(one for one in record.speaks if one != "responses")
    return None


async def _probe(
    port: int, loop: asyncio.AbstractEventLoop, wheel: Wheel, gateways: set[int]
) -> tuple[Model, ...] | None:
    """What the server on `port` lists; None when nothing there lists models, or it is one of our own kind, which adds its port
    to `gateways`."""
    upstream = _upstream(port, loop, wheel)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await fetch_listing(upstream, quiet=True, on_gateway=lambda: gateways.add(port))
    except TimeoutError:
        return None
    finally:
        upstream.close()
