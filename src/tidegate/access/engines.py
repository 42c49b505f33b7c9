"""Which engine counts."""

import re
import ssl
from collections.abc import Callable
from typing import Any

from tidegate.access.limits import Books, Limiter
from tidegate.access.memory import MemoryLimiter
from tidegate.config.schema import LimitsSettings
from tidegate.config.secret import Secret

__all__ = ["make_limiter", "redis_tls", "redis_url"]


def make_limiter(settings: LimitsSettings, books: Books | None, warn: Callable[..., object]) -> Limiter:
    """The engine that the configuration asks for."""
    if settings.valkey is None:
        return MemoryLimiter(books=books, warn=warn, end_users=settings.end_users)
    from tidegate.access.valkey import ValkeyLimiter  # the package it stands on is an extra

    return ValkeyLimiter(
        redis_url(settings.valkey),
        prefix=settings.prefix,
        timeout_s=float(settings.timeout),
        refuses=settings.when_unavailable == "refuse",
        gateways=settings.gateways,
        books=books,
        warn=warn,
    )


def redis_url(valkey: Secret) -> str:
    """The address in the spelling that the driver knows. It may hold a password."""
    return re.sub(r"^valkey(s?)://", r"redis\1://", valkey.reveal())


def redis_tls(url: str) -> dict[str, Any]:
    """What the driver is told of TLS to `url`: by itself it takes whatever version the machine's OpenSSL was set to."""
    return {"ssl_min_version": ssl.TLSVersion.TLSv1_2} if url.startswith("rediss:") else {}
