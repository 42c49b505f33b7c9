"""The data folder: whether it can be written, whether its secrets are kept from others, and the room on its disk."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from tidegate.config.schema import Config
from tidegate.server import envelope_key, pepper
from tidegate.server.database import database_url
from tidegate.server.doctor.finding import Verdict, bad, fine, skipped, warning
from tidegate.server.doctor.world import World
from tidegate.server.envelope_key import data_folder
from tidegate.server.kept_secret import SHORTEST, KeyUnusable, existing_secret

__all__ = ["check_disk", "check_folder", "check_secrets", "shown_size", "sqlite_path"]

MEBIBYTE: Final = 1024**2

LEAST_FREE: Final = 64 * MEBIBYTE
"""With less room SQLite's log (64 MiB) may not fit, and the gateway stops storing."""

COMFORTABLE_FREE: Final = 1024 * MEBIBYTE


def sqlite_path(config: Config, environment: Mapping[str, str]) -> Path | None:
    """The file of the database; None when it is none, or there is no place for it."""
    try:
        url = database_url(config, environment)
    except OSError:
        return None
    if url is None or not url.startswith("sqlite:"):
        return None
    return Path(unquote(url.removeprefix("sqlite:///")))


def shown_size(count: float) -> str:
    """A size for people."""
    if count < 1024:
        return f"{count:.0f} bytes"
    units = iter(("KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    count /= 1024
    while count >= 1024 and (larger := next(units, "")):
        unit = larger
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"


def existing(path: Path) -> Path:
    """The path, or the nearest place above it that is there and can be looked at."""
    while path != path.parent:
        try:
            path.stat()
        except OSError:
            path = path.parent
        else:
            break
    return path


def why_not_writable(folder: Path) -> str:
    """Why no file can be made in the folder; empty when one can. Permissions alone do not tell: the disk may be mounted
    read-only, or full. The file that is made for it has no name, and is gone at once."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return (error.strerror or str(error)).lower()


def check_folder(config: Config, world: World) -> Verdict:
    """Whether there is a place for keys, uploads and the database."""
    folder = data_folder(config, world.environment)
    if folder is None:
        return warning(
            "there is no data folder, because the user has no home: nothing can be kept",
            "Set server.data_dir or TIDEGATE_DATA.",
        )
    details = {"path": str(folder)}
    advice = "Give it to the user that runs Tidegate, or name another one with server.data_dir or TIDEGATE_DATA."
    ground = existing(folder)
    if not ground.is_dir():
        return bad(f"{ground} is no folder", "Remove it, or name another place with server.data_dir.", **details)
    if why := why_not_writable(ground):
        what = "cannot be written to" if ground == folder else f"can neither be reached nor made in {ground}"
        return bad(f"{folder} {what}: {why}", advice, **details)
    if ground != folder:
        return fine(f"{folder} will be made at the first start", **details)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if os.name == "posix" and mode & 0o022:
        return warning(f"others can write to {folder}", f"chmod go-w {folder}", **details)
    return fine(str(folder), **details)


def check_secrets(config: Config, world: World) -> Verdict:
    """Whether the gateway's own secrets are there or can be made, and nobody else can read them."""
    folder = data_folder(config, world.environment)
    kept = []
    for variable, file in ((envelope_key.VARIABLE, envelope_key.FILE), (pepper.VARIABLE, pepper.FILE)):
        given = world.environment.get(variable, "")
        if given:
            if any(len(one.strip()) < SHORTEST for one in given.split(",")):
                return bad(
                    f"{variable} is shorter than {SHORTEST} characters", f"Set {variable} to `openssl rand -hex 32`."
                )
            kept.append(variable)
        elif folder is not None:
            path = folder / file
            try:
                if existing_secret(path) is not None:
                    kept.append(file)
            except KeyUnusable as error:
                return bad(str(error), "Tidegate does not start until this is mended.", path=str(path))
            except OSError as error:
                return bad(
                    f"{path} cannot be read: {(error.strerror or str(error)).lower()}",
                    f"Give it to the user that runs Tidegate: chown, then chmod 600 {path}.",
                    path=str(path),
                )
    database = sqlite_path(config, world.environment)
    if database is not None and os.name == "posix":
        with contextlib.suppress(OSError):  # what is not there is no secret, and its own check tells the rest
            if database.stat().st_mode & 0o077:
                return warning(
                    f"others can read the database {database}", f"chmod 600 {database} {database}-*", kept=kept
                )
    if not kept:
        return fine("none yet; made at the first start", kept=kept)
    return fine(f"{' and '.join(kept)}: for their owner's eyes only", kept=kept)


def check_disk(config: Config, world: World) -> Verdict:
    """Room for the database, uploads and journals."""
    folder = data_folder(config, world.environment)
    database = sqlite_path(config, world.environment)
    places = [place for place in (folder, database.parent if database else None) if place is not None]
    if not places:
        return skipped("nothing is kept on this machine's disks")
    free, place = min(((world.free_bytes(str(existing(place))), place) for place in places), key=lambda one: one[0])
    found = f"{shown_size(free)} free in {place}"
    details = {"path": str(place), "free_bytes": free}
    if free < LEAST_FREE:
        return bad(found, "Make room: responses are not stored, or refused, when the disk is full.", **details)
    if free < COMFORTABLE_FREE:
        return warning(found, "Make room, or shorten storage.retention.", **details)
    return fine(found, **details)
