"""The units of work that are measured, and what the design allows them to cost."""

import msgspec

from bench.orders import RequestsOrder, StreamsOrder
from bench.targets import Target
from bench.workloads import Dialect, stream_request, whole_request

__all__ = ["BUDGETS", "WORKS", "Budget", "Work"]

CONNECTIONS = 32
STREAMS = 200


class Budget(msgspec.Struct, frozen=True):
    """Upper limits: as a multiple of nginx, or, where `unit` is not empty, in that unit."""

    must: float
    aim: float | None = None
    unit: str = ""


BUDGETS = {
    "request": Budget(3.0, 2.0),
    "chunk": Budget(1.7, 1.3),
    "chunk, journal on": Budget(2.0, 1.3),
    "chunk, chat → Responses": Budget(2.5, 1.6),
    "memory, plain upstream": Budget(15.0, unit="KB"),
    "memory, TLS upstream": Budget(50.0, unit="KB"),
    "start": Budget(1.0, unit="s"),
    "latency p50": Budget(0.5, unit="ms"),
    "closing": Budget(1000.0, unit="ms"),
    "latency p99": Budget(2.0, unit="ms"),
    "stall": Budget(5.0, unit="ms"),
}
"""Design §10, and promise P6 for what is closed when clients leave."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work. `baseline` is the dialect that nginx relays beside it, where it is another."""

    name: str
    unit: str
    """`request` or `chunk`."""
    dialect: Dialect
    provider: str = "plain"
    baseline: Dialect | None = None
    rate: int = 0
    """Units per second; 0 is a closed loop."""
    connections: int = CONNECTIONS
    extra_bytes: int = 0
    sdk_headers: bool = False
    secure: bool = False
    store: bool = False
    """The answer is kept: its frames go into the journal."""
    budget: str = ""
    quick: bool = False
    direct: bool = False
    """Measured against the bare upstream too, for its delays."""

    def order(self, target: Target, core: int, *, warmup_s: float, seconds: float) -> RequestsOrder | StreamsOrder:
        """The order for the load process."""
        gateway = target.is_gateway
        dialect = self.dialect if gateway or self.baseline is None else self.baseline
        provider = "secure" if self.secure else self.provider
        port = target.secure_port if self.secure else target.port
        pids = target.pids()
        if self.unit == "chunk":
            stream = target.dressed(
                stream_request(dialect, provider, f"flow-{STREAMS * 1000 // self.rate}", store=self.store)
            )
            return StreamsOrder(port, stream, STREAMS, warmup_s, seconds, pids, core)
        whole = target.dressed(
            whole_request(
                dialect, provider, extra_bytes=self.extra_bytes, store=self.store, sdk_headers=self.sdk_headers
            )
        )
        return RequestsOrder(port, whole, self.connections, self.rate, warmup_s, seconds, pids, core)


LATENCY = Work(
    name="latency at 100 requests/s", unit="request", dialect="chat", rate=100, connections=4, quick=True, direct=True
)

WORKS = (
    Work(name="request, chat", unit="request", dialect="chat", budget="request", quick=True),
    Work(name="request, Responses", unit="request", dialect="responses", budget="request", quick=True),
    Work(name="request, Responses, stored", unit="request", dialect="responses", store=True, quick=True),
    Work(name="request, chat, 1,000/s", unit="request", dialect="chat", rate=1000, budget="request"),
    Work(name="request, chat, 3,000/s", unit="request", dialect="chat", rate=3000, budget="request"),
    Work(name="request, Responses, 1,000/s", unit="request", dialect="responses", rate=1000, budget="request"),
    Work(name="request, chat, the SDK's headers", unit="request", dialect="chat", sdk_headers=True),
    Work(name="request, chat, 60 KB", unit="request", dialect="chat", extra_bytes=60_000),
    Work(name="request, Responses, 60 KB", unit="request", dialect="responses", extra_bytes=60_000),
    Work(name="chunk, chat, 4,000/s", unit="chunk", dialect="chat", rate=4000, budget="chunk", quick=True),
    Work(
        name="chunk, chat, 10,000/s", unit="chunk", dialect="chat", rate=10_000, budget="chunk", quick=True, direct=True
    ),
    Work(name="chunk, Responses, 4,000/s", unit="chunk", dialect="responses", rate=4000, budget="chunk", quick=True),
    Work(name="chunk, Responses, 10,000/s", unit="chunk", dialect="responses", rate=10_000, budget="chunk", quick=True),
    Work(
        name="chunk, Responses, 10,000/s, journal on",
        unit="chunk",
        dialect="responses",
        rate=10_000,
        store=True,
        budget="chunk, journal on",
        quick=True,
    ),
    Work(name="chunk, chat, 10,000/s, TLS upstream", unit="chunk", dialect="chat", rate=10_000, secure=True),
    Work(
        name="chunk, chat → Responses, 10,000/s",
        unit="chunk",
        dialect="responses",
        provider="chatonly",
        baseline="chat",
        rate=10_000,
        budget="chunk, chat → Responses",
        quick=True,
    ),
    LATENCY,
)
