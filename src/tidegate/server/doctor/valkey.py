"""Valkey, in which several gateways count together: whether it answers, takes scripts, and is quick enough."""

import time
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from tidegate.access.engines import redis_tls, redis_url
from tidegate.config.schema import Config
from tidegate.server.doctor.finding import Verdict, bad, fine, skipped, warning
from tidegate.server.doctor.world import World

__all__ = ["check_valkey"]

ROUNDS: Final = 3
"""Questions of which the quickest tells how long the way is: the first one also connects."""

_DEFAULT_PORT: Final = 6379


async def check_valkey(config: Config, world: World, timeout_s: float) -> Verdict:
    """Whether limits can be counted there. Nothing is written."""
    settings = config.limits
    if settings.valkey is None:
        return skipped("not configured: each gateway counts for itself")
    if find_spec("redis") is None:
        return skipped("the extra 'valkey' is not installed")
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

    url = redis_url(settings.valkey)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
    where = f"{host}:{port}" if host else parts.path
    without = (
        "requests with limits get a 503" if settings.when_unavailable == "refuse" else "each gateway counts for itself"
    )
    client = Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        **redis_tls(url),
    )
    try:
        if host:  # first by a lookup that can be left behind, which the driver's cannot
            await world.resolver(host, port)
        took = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            await client.eval("return 1", 0)
            took.append(time.perf_counter() - begun)
    except (AuthenticationError, NoPermissionError) as error:
        return bad(
            f"{where} refuses the user: {error}",
            "Mend user and password in limits.valkey, and let the user run scripts (EVAL, EVALSHA).",
        )
    except (RedisError, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return bad(f"{where} cannot be used: {reason}", f"Until it answers, {without}.")
    finally:
        await client.aclose()
    quickest = min(took)
    found = f"{where} answers in {quickest * 1000:.1f} ms"
    details = {"latency_ms": round(quickest * 1000, 2), "timeout_ms": round(float(settings.timeout) * 1000)}
    if quickest > float(settings.timeout) / 2:
        return warning(
            found, f"That is near limits.timeout ({settings.timeout}), after which {without}: raise it.", **details
        )
    return fine(found, **details)
