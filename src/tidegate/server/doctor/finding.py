"""What a check finds out, and all findings together. The names of checks and statuses are stable: scripts read them."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

__all__ = ["CHECKS", "PROVIDER_CHECKS", "Finding", "Report", "Status", "Verdict", "bad", "fine", "skipped", "warning"]

Status = Literal["ok", "warning", "failed", "skipped"]

MACHINE_CHECKS: Final = (
    "configuration",
    "protection",
    "listen_address",
    "admin_address",
    "data_folder",
    "secret_files",
    "disk_space",
    "file_descriptors",
    "extras",
    "local_audio",
)
DATABASE_CHECKS: Final = (
    "database",
    "database_schema",
    "database_writable",
    "database_integrity",
    "database_keys",
    "database_clock",
    "database_notify",
)
VALKEY_CHECKS: Final = ("valkey",)
PROVIDER_CHECKS: Final = (
    "provider_address",
    "provider_connection",
    "provider_tls",
    "provider_models",
    "provider_credentials",
)
LAST_CHECKS: Final = ("model_names", "system_clock")

CHECKS: Final = (*MACHINE_CHECKS, *DATABASE_CHECKS, *VALKEY_CHECKS, *PROVIDER_CHECKS, *LAST_CHECKS)
"""Every check, in the order of the report."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one check says. `details` are for machines, and never hold a secret."""

    status: Status
    found: str
    advice: str = ""
    """What to do about it."""
    details: Mapping[str, Any] = {}


def fine(found: str, **details: Any) -> Verdict:
    """All is well."""
    return Verdict(status="ok", found=found, details=details)


def warning(found: str, advice: str, **details: Any) -> Verdict:
    """It works, and may not for long or not as meant."""
    return Verdict(status="warning", found=found, advice=advice, details=details)


def bad(found: str, advice: str, **details: Any) -> Verdict:
    """It does not work."""
    return Verdict(status="failed", found=found, advice=advice, details=details)


def skipped(found: str) -> Verdict:
    """It could not be looked at, or need not be; `found` says why."""
    return Verdict(status="skipped", found=found)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with its place in the report."""

    check: str
    subject: str
    """The provider's name; empty for what belongs to none."""
    status: Status
    found: str
    advice: str
    duration_ms: float
    details: Mapping[str, Any]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole examination."""

    ok: bool
    """Whether nothing failed; warnings do not count."""
    version: str
    source: str
    """The configuration file; empty when there is none."""
    duration_ms: float
    checks: tuple[Finding, ...]
