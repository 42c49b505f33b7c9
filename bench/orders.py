"""What the load process is told to do, and what it reports: the words between `bench.client` and `bench.load`."""

from typing import Self

import msgspec

__all__ = ["HoldOrder", "Order", "Percentiles", "Report", "RequestsOrder", "StreamsOrder", "TalksOrder"]


class RequestsOrder(msgspec.Struct, tag="requests"):
    """Send `request` over and over: each connection again at once, or all together at `rate` per second."""

    port: int
    request: bytes
    connections: int
    rate: int
    warmup_s: float
    seconds: float
    pids: list[int]
    core: int


class StreamsOrder(msgspec.Struct, tag="streams"):
    """Open `streams` endless streams, and count frames once all of them flow."""

    port: int
    request: bytes
    streams: int
    warmup_s: float
    seconds: float
    pids: list[int]
    core: int
    first_frames: int = 8
    """How many frames each must have brought before the window begins."""


class TalksOrder(msgspec.Struct, tag="talks"):
    """Ask for `rate` streamed answers a second, spread evenly, each of which ends by itself."""

    port: int
    request: bytes
    rate: int
    warmup_s: float
    seconds: float


class HoldOrder(msgspec.Struct, tag="hold"):
    """Have `streams` streams open, each past its first frame; 0 closes them, all at once. Who does not read leaves what
    follows the first frame to the buffers."""

    port: int
    request: bytes
    streams: int
    reading: bool = True


Order = RequestsOrder | StreamsOrder | TalksOrder | HoldOrder


class Percentiles(msgspec.Struct):
    """In milliseconds, of `count` values."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, values_ms: list[float]) -> Self:
        """The percentiles of `values_ms`, which are sorted in place."""
        if not values_ms:
            return cls()
        values_ms.sort()
        last = len(values_ms) - 1
        return cls(
            len(values_ms),
            values_ms[last // 2],
            values_ms[round(last * 0.99)],
            values_ms[round(last * 0.999)],
            values_ms[last],
        )


class Report(msgspec.Struct):
    """What happened in the window. `units` are requests or frames; `reads` how many reads brought the frames."""

    units: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    others_s: float = 0.0
    """CPU seconds that everything else used on the tested core."""
    reads: int = 0
    delay: Percentiles = msgspec.field(default_factory=Percentiles)
    first: Percentiles = msgspec.field(default_factory=Percentiles)
    """From a question to the first frame of its answer."""
    gap: Percentiles = msgspec.field(default_factory=Percentiles)
    """Between two reads that bring frames of one answer."""
    began_ns: int = 0
    """When closing began, on the monotonic clock."""
    problem: str = ""
