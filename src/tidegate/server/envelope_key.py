"""The key of reasoning envelopes: made once, kept where only its owner can read it, so that it survives restarts."""

import errno
import hashlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from tidegate.config.schema import Config
from tidegate.dialects.envelope import KEY_BYTES
from tidegate.telemetry import log

__all__ = ["VARIABLE", "KeyUnusable", "data_folder", "envelope_key"]

VARIABLE = "TIDEGATE_ENVELOPE_KEY"
"""Environment variable with the secret from which the key is made; several gateways that share clients share it."""

FILE = "envelope.key"
SHORTEST = 32
"""Fewest characters of a secret: it is random, or it is none."""


class KeyUnusable(ValueError):
    """The key cannot be used as it is; the message says why and what to do."""


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
        return _derive(_read(folder / FILE) or _make(folder / FILE))
    except OSError as error:
        log.get_logger().warning(
            "envelope_key_not_kept",
            path=str(folder / FILE),
            reason=error.strerror or str(error),
            hint=f"Reasoning that clients carry will not survive a restart. Set server.data_dir or {VARIABLE}.",
        )
        return secrets.token_bytes(KEY_BYTES)


def data_folder(config: Config, environment: Mapping[str, str]) -> Path | None:
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


def _read(path: Path) -> str | None:
    try:
        status = path.stat()
        if os.name == "posix" and status.st_mode & 0o077:
            raise KeyUnusable(f"{path} can be read by others than its owner: chmod 600 {path}")
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    if len(text) < SHORTEST:
        raise KeyUnusable(f"{path} holds no key. Restore it, or delete it to have a new one made.")
    return text


def _make(path: Path) -> str:
    """A new key. Another process that makes one at the same time wins or loses as a whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = secrets.token_hex(KEY_BYTES)
    # Not by the process id: in a container that is always the same, and what a killed process left would bar the way.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            kept = _read(path)
            if kept is None:
                raise FileNotFoundError(errno.ENOENT, "it is a link to nothing") from None
            return kept
    finally:
        draft.unlink()
    return text


def _derive(secret: str) -> bytes:
    return hashlib.sha512(b"tidegate reasoning envelope\0" + secret.encode()).digest()
