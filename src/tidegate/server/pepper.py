"""Where the pepper of stored keys comes from: the environment, or a file in the data folder that is made once."""

from collections.abc import Mapping
from typing import Final

from tidegate.access.pepper import Pepper
from tidegate.config.schema import Document
from tidegate.server.envelope_key import data_folder
from tidegate.server.kept_secret import SHORTEST, KeyUnusable, existing_secret, kept_secret
from tidegate.telemetry import log

__all__ = ["VARIABLE", "existing_peppers", "peppers"]

VARIABLE: Final = "TIDEGATE_PEPPER"
"""Environment variable with the pepper; several gateways on one database share it. Former ones may follow, after commas:
the first is for new keys, the others still find old ones."""

FILE: Final = "pepper.key"
BYTES: Final = 32


def peppers(config: Document, environment: Mapping[str, str]) -> tuple[Pepper, ...]:
    """The peppers, the one for new keys first; none where none can be kept, which a line in the log tells.

    Raises KeyUnusable.
    """
    if given := _given(environment):
        return given
    folder = data_folder(config, environment)
    try:
        if folder is None:
            raise OSError("there is no data folder")
        return tuple(Pepper(line) for line in kept_secret(folder / FILE, BYTES).split())
    except OSError as error:
        log.get_logger().warning(
            "pepper_not_kept",
            reason=error.strerror or str(error),
            hint=f"Keys cannot be managed. Set server.data_dir or {VARIABLE}.",
        )
        return ()


def existing_peppers(config: Document, environment: Mapping[str, str]) -> tuple[Pepper, ...]:
    """The same, of those that are there: none is made. Raises KeyUnusable, OSError."""
    if given := _given(environment):
        return given
    folder = data_folder(config, environment)
    text = None if folder is None else existing_secret(folder / FILE)
    return () if text is None else tuple(map(Pepper, text.split()))


def _given(environment: Mapping[str, str]) -> tuple[Pepper, ...]:
    given = environment.get(VARIABLE, "")
    if not given:
        return ()
    found = [one.strip() for one in given.split(",") if one.strip()]
    if not found or any(len(one) < SHORTEST for one in found):
        raise KeyUnusable(f"{VARIABLE} needs at least {SHORTEST} characters each (openssl rand -hex 32).")
    return tuple(map(Pepper, found))
