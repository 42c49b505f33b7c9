"""Where what is kept lies: the database of the configuration, else a file in the data folder."""

from collections.abc import Mapping

from tidegate.config.schema import Config
from tidegate.server.envelope_key import data_folder
from tidegate.storage.storage import Settings, Storage
from tidegate.telemetry import log

__all__ = ["open_storage"]

FILE = "tidegate.db"


async def open_storage(config: Config, environment: Mapping[str, str]) -> Storage | None:
    """The storage, ready; None where nothing is kept: by `storage.url = "off"`, or because there is no place for it,
    which a line in the log tells. Raises StorageUnusable for a database that was named and cannot be used."""
    settings = config.storage
    url = settings.url
    if url == "off":
        return None
    if not url:
        folder = data_folder(config, environment)
        try:
            if folder is None:
                raise OSError("there is no data folder")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            log.get_logger().warning(
                "storage_off",
                reason=error.strerror or str(error),
                hint="Responses cannot be stored. Set server.data_dir or storage.url.",
            )
            return None
        url = f"sqlite:///{(folder / FILE).absolute()}"
    storage = await Storage.open(
        url,
        settings=Settings(when_unavailable=settings.when_unavailable, lease_s=float(settings.lease)),
        master_keys=settings.master_keys,
    )
    if len(settings.master_keys) > 1 and (count := await storage.rewrap()):
        log.get_logger().info("storage_keys_rewrapped", count=count)
    return storage
