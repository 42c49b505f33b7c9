"""The key of reasoning envelopes: made once, kept where only its owner can read it, so that it survives restarts."""

import hashlib
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from tidegate.config.schema import Config, Document
from tidegate.dialects.envelope import KEY_BYTES
from tidegate.server.kept_secret import SHORTEST, KeyUnusable, kept_secret
from tidegate.telemetry import log

__all__ = ["VARIABLE", "KeyUnusable", "data_folder", "envelope_key"]

VARIABLE = "TIDEGATE_ENVELOPE_KEY"
"""Environment variable with the secret from which the key is made; several gateways that share clients share it."""

FILE = "envelope.key"


def envelope_key(config: Config, environment: Mapping[str, str]) -> bytes:
    """`KEY_BYTES` bytes, from the environment or from the file in the data folder, which is made when it is missing.

    Where nothing can be kept, the key lasts as long as the process, and a line in the log says so. Raises KeyUnusable.
    """
    given = environment.get(VARIABLE)
    if given:
        if len(given) < SHORTEST:
            raise KeyUnusable(
                f"{VARIABLE} has {len(given)} characters; it needs at least {SHORTEST} (openssl rand -hex 32)."
            )
        return _derive(given)
    folder = data_folder(config, environment)
    if folder is None:
        return secrets.token_bytes(KEY_BYTES)
    try:
        return _derive(kept_secret(folder / FILE, KEY_BYTES))
    except OSError as error:
        log.get_logger().warning(
            "envelope_key_not_kept",
            path=str(folder / FILE),
            reason=error.strerror or str(error),
            hint=f"Reasoning that clients carry will not survive a restart. Set server.data_dir or {VARIABLE}.",
        )
        return secrets.token_bytes(KEY_BYTES)


def data_folder(config: Document, environment: Mapping[str, str]) -> Path | None:
    """`server.data_dir`, else the user's data folder by the system's custom; None where the user has no home."""
    if config.server.data_dir:
        return Path(config.server.data_dir)
    if sys.platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return Path(local) / "Tidegate" if local else None
    home = environment.get("HOME")
    if sys.platform == "darwin":
        return Path(home) / "Library" / "Application Support" / "Tidegate" if home else None
    shared = environment.get("XDG_DATA_HOME") or (f"{home}/.local/share" if home else "")
    return Path(shared) / "tidegate" if shared else None


def _derive(secret: str) -> bytes:
    return hashlib.sha512(b"tidegate reasoning envelope\0" + secret.encode()).digest()
