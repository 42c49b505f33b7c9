"""Durations, sizes and amounts of money as people write them: `"1m30s"`, `"500ms"`, `30`; `"32MiB"`, `65536`; `1.25`."""

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_BYTES: Final = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_SIZE: Final = re.compile(r"(\d+)\s*([kmg]?i?b)", re.IGNORECASE | re.ASCII)

DURATION_FORM: Final = 'a duration such as "30s", "1m30s" or "500ms", or a number of seconds'
SIZE_FORM: Final = 'a size such as "32MiB" or "64KiB", or a number of bytes'
_PICO: Final = 10**12
_MOST_DOLLARS: Final = 1_000_000
DOLLARS_FORM: Final = f"an amount of US dollars such as 1.25, from 0 to {_MOST_DOLLARS}, with at most 6 decimals"


class Duration(float):
    """Seconds. Infinity means that the clock is off, written `"off"`."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "Duration":
        """Reads the written form. Raises `ValueError` for anything else, negative numbers included."""
        if isinstance(value, bool):
            raise ValueError(DURATION_FORM)
        if isinstance(value, int | float):
            if not 0 <= value < math.inf:
                raise ValueError(DURATION_FORM)
            return cls(value)
        if not isinstance(value, str):
            raise ValueError(DURATION_FORM)
        text = value.strip().lower()
        if text == "off":
            return cls(math.inf)
        if len(text) > 30:  # Beyond any sense, and a longer number would overflow into infinity, which means "off".
            raise ValueError(DURATION_FORM)
        if text.isascii() and text.isdigit():
            return cls(int(text))
        parts = _DURATION_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(DURATION_FORM)
        return cls(sum(float(number) * _SECONDS[unit] for number, unit in parts))

    @property
    def off(self) -> bool:
        """Whether this clock never fires."""
        return math.isinf(self)

    def seconds(self) -> float | None:
        """The plain number, or None for a clock that is off."""
        return None if self.off else float(self)

    def __str__(self) -> str:
        if self.off:
            return "off"
        rest, text = round(self * 1000), ""
        for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
            count, rest = divmod(rest, length)
            text += f"{count}{unit}" if count else ""
        return text or "0s"

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


class Size(int):
    """Bytes."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "Size":
        """Reads the written form. Raises `ValueError` for anything else, negative numbers included."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 30 else None
        if match is None:
            raise ValueError(SIZE_FORM)
        return cls(int(match[1]) * _BYTES[match[2].lower()])

    def __str__(self) -> str:
        for unit, length in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if self and self % length == 0:
                return f"{int(self) // length}{unit}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        return f"Size({str(self)!r})"


class Dollars(int):
    """US dollars, exactly: the value is their number of pico-dollars (10^-12)."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "Dollars":
        """Reads the written form. Raises `ValueError` for anything else, negative amounts included."""
        if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 30:
            raise ValueError(DOLLARS_FORM)
        try:
            amount = Decimal(str(value).strip())
        except InvalidOperation:
            raise ValueError(DOLLARS_FORM) from None
        if not amount.is_finite() or not 0 <= amount <= _MOST_DOLLARS or amount != round(amount, 6):
            raise ValueError(DOLLARS_FORM)
        return cls(amount * _PICO)

    def __str__(self) -> str:
        return f"{Decimal(int(self)) / _PICO:f}"

    def __repr__(self) -> str:
        return f"Dollars({str(self)!r})"
