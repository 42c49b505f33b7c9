"""Model servers that already run on this machine, found by asking the ports they usually have."""

import asyncio
from collections.abc import Collection, Mapping

import msgspec

from tidegate.config.schema import Config, ProviderConfig
from tidegate.gateway.models import Model, fetch_listing
from tidegate.providers.discovery import local_ports, recognise
from tidegate.upstream.provider import Upstream
from tidegate.upstream.wheel import Wheel

__all__ = ["discover"]

PROBE_TIMEOUT_S = 1.5


async def discover(config: Config, wheel: Wheel, *, own_ports: Collection[int]) -> Config:
    """`config` with a provider for every local server that lists models. No credential is sent, and none of our own
    ports is asked (design §9)."""
    loop = asyncio.get_running_loop()
    ports = [port for port in local_ports() if port not in own_ports]
    found = await asyncio.gather(*(_probe(port, loop, wheel) for port in ports))
    taken = {provider.base_url for provider in config.providers.values()}
    added: dict[str, ProviderConfig] = {}
    defaults = config.defaults
    default = defaults.model
    for port, models in zip(ports, found, strict=True):
        if models is None:
            continue
        record = recognise(port, [model.owned_by for model in models])
        base_url = f"http://127.0.0.1:{port}/v1"
        name = record.kind if record.kind not in {**config.providers, **added} else f"{record.kind}-{port}"
        if base_url not in taken:
            added[name] = ProviderConfig(kind=record.kind, base_url=base_url)
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


async def _probe(port: int, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> tuple[Model, ...] | None:
    """What the server on `port` lists; None when nothing there lists models."""
    config = ProviderConfig(kind="openai-compatible", base_url=f"http://127.0.0.1:{port}/v1")
    no_proxy: Mapping[str, str] = {}
    upstream = Upstream(f"127.0.0.1:{port}", config, loop, wheel, environment=no_proxy)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await fetch_listing(upstream, quiet=True)
    except TimeoutError:
        return None
    finally:
        upstream.close()
