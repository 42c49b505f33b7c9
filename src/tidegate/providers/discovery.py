"""Which servers may be running on this machine, and which engine one of them is."""

from collections.abc import Iterable

from tidegate.providers.record import Provider
from tidegate.providers.registry import REGISTRY


def local_ports() -> tuple[int, ...]:
    """The ports on which a local server may answer, each once, in the registry's order."""
    return tuple(dict.fromkeys(port for record in REGISTRY.values() for port in record.local_ports))


def recognise(port: int, owners: Iterable[str]) -> Provider:
    """The engine whose model list, fetched from this port, says these values of `owned_by`.

    An engine names itself there whatever its port; else the port decides among the engines that do not; else it is
    some OpenAI-compatible server.
    """
    seen = {owner for owner in owners if owner}
    local = [record for record in REGISTRY.values() if record.local_ports]
    for record in local:
        if record.owned_by and record.owned_by in seen:
            return record
    return next(
        (record for record in local if port in record.local_ports and not record.owned_by),
        REGISTRY["openai-compatible"],
    )
