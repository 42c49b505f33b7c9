"""A secret in a file of the data folder: made once, and readable by its owner only."""

import errno
import os
import secrets
from pathlib import Path
from typing import Final

__all__ = ["SHORTEST", "KeyUnusable", "existing_secret", "kept_secret"]

SHORTEST: Final = 32
"""Fewest characters of a secret: it is random, or it is none."""


class KeyUnusable(ValueError):
    """The secret cannot be used as it is; the message says why and what to do."""


def kept_secret(path: Path, size: int) -> str:
    """What the file holds; where there is none, it is made with `size` random bytes. Raises KeyUnusable, OSError."""
    return existing_secret(path) or _make(path, size)


def existing_secret(path: Path) -> str | None:
    """What the file holds; None where there is none. Raises KeyUnusable, OSError."""
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


def _make(path: Path, size: int) -> str:
    """A new key. Another process that makes one at the same time wins or loses as a whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = secrets.token_hex(size)
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
            kept = existing_secret(path)
            if kept is None:
                raise FileNotFoundError(errno.ENOENT, "it is a link to nothing") from None
            return kept
    finally:
        draft.unlink()
    return text
