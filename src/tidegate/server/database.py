"""Where what is kept lies: the database of the configuration, else a file in the data folder."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tidegate.access.ledger import interrupted
from tidegate.config.schema import Config, Document
from tidegate.server.envelope_key import data_folder
from tidegate.storage.storage import Settings, Storage
from tidegate.telemetry import log

__all__ = ["database_place", "database_url", "has_managed_keys", "open_storage"]

FILE = "tidegate.db"

CONNECT_S = 5.0
"""How long a database server may take to answer whether it holds keys."""


async def open_storage(config: Config, environment: Mapping[str, str]) -> Storage | None:
    """The storage, ready; None where nothing is kept: by `storage.url = "off"`, or because there is no place for it,
    which a line in the log tells. Raises StorageUnusable for a database that was named and cannot be used."""
    settings = config.storage
    try:
        url = database_url(config, environment, make_folder=True)
    except OSError as error:
        log.get_logger().warning(
            "storage_off",
            reason=error.strerror or str(error),
            hint="Responses cannot be stored. Set server.data_dir or storage.url.",
        )
        return None
    if url is None:
        return None
    storage = await Storage.open(
        url,
        settings=Settings(
            when_unavailable=settings.when_unavailable,
            lease_s=float(settings.lease),
            usage_age_s=config.ledger.retention.seconds(),
        ),
        master_keys=settings.master_keys,
        estimate=interrupted,
    )
    if len(settings.master_keys) > 1 and (count := await storage.rewrap()):
        log.get_logger().info("storage_keys_rewrapped", count=count)
    return storage


def database_url(config: Document, environment: Mapping[str, str], *, make_folder: bool = False) -> str | None:
    """The address of the database; None when storage is off. Raises OSError when there is no place for it."""
    url = config.storage.url
    if url == "off":
        return None
    if url:
        return url
    folder = data_folder(config, environment)
    if folder is None:
        raise OSError("there is no data folder")
    if make_folder:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"sqlite:///{(folder / FILE).absolute()}"


def database_place(config: Document, environment: Mapping[str, str]) -> str:
    """Where the database is, for people: the path of its file, or the address of its server without user and password. Empty
    when storage is off, or has no place."""
    try:
        url = database_url(config, environment)
    except OSError:
        return ""
    if url is None:
        return ""
    if url.startswith("sqlite:"):
        return str(Path(unquote(url.removeprefix("sqlite:///"))).absolute())
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def has_managed_keys(config: Document, environment: Mapping[str, str]) -> bool:
    """Whether the database of a configuration holds keys; it is neither made nor changed. Blocks; not for an event loop.
    One that cannot be read holds none: whoever starts the gateway learns the reason then."""
    try:
        url = database_url(config, environment)
        if url is None:
            return False
        if url.startswith("sqlite:"):
            return _sqlite_has_keys(Path(unquote(url.removeprefix("sqlite:///"))))
        return asyncio.run(_server_has_keys(url))
    except (OSError, sqlite3.Error, ImportError):
        return False


def _sqlite_has_keys(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT 1 FROM virtual_keys LIMIT 1").fetchone() is not None


async def _server_has_keys(url: str) -> bool:
    import asyncpg  # only where it is in use

    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_S)
        try:
            if not await connection.fetchval("SELECT to_regclass('virtual_keys') IS NOT NULL"):
                return False
            return bool(await connection.fetchval("SELECT EXISTS (SELECT 1 FROM virtual_keys)"))
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ValueError) as error:
        raise OSError(str(error)) from error
