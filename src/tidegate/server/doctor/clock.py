"""This machine's clock, held against those of the providers."""

from collections.abc import Mapping
from statistics import median
from typing import Final

from tidegate.server.doctor.finding import Verdict, fine, skipped, warning

__all__ = ["check_clock"]

MOST_OFF_S: Final = 60.0
"""From here on certificates, expiry dates of keys and signed requests suffer."""


def check_clock(offsets: Mapping[str, float]) -> Verdict:
    """How far this clock is ahead of each provider's, in seconds. The middle one counts: a provider's may be wrong too."""
    if not offsets:
        return skipped("no provider told the time")
    off = median(offsets.values())
    details = {"offset_s": round(off, 1), "providers": {name: round(one, 1) for name, one in offsets.items()}}
    told = f"{len(offsets)} provider{'' if len(offsets) == 1 else 's'}"
    if abs(off) > MOST_OFF_S:
        return warning(
            f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} what {told} told",
            "Synchronise it by NTP (timedatectl set-ntp true). If it is right, the provider's is wrong.",
            **details,
        )
    return fine(f"agrees with {told} to {max(1, round(abs(off)))} s", **details)
