"""What this machine has: the configuration, the folder, the address, limits and packages."""

import contextlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.stage import told
from tests.support.canned import Canned, json_answer
from tests.support.extras import needs_local_audio
from tests.support.running import Running
from tidegate.config.load import load, load_file
from tidegate.config.schema import Config

SIM = "[providers.sim]\n"


def data(folder: Path, more: str = "", *, port: int = 0) -> str:
    return f'[server]\nport = {port}\ndata_dir = "{folder}"\n{more}\n{SIM}'


@pytest.fixture
def not_root() -> Iterator[None]:
    """Root may write everywhere, so that nothing could be missing."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody but root may enter."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    yield folder
    folder.chmod(0o700)


# -- configuration ----------------------------------------------------------------------------------------------------


def test_all_faults_of_the_configuration_are_told_at_once_and_the_rest_is_left() -> None:
    def faulty() -> Config:
        return load('[server]\nporte = 1\n[providers.lab]\nkind = "nobody"\n', "tidegate.toml", {})

    seen = told("", source=faulty)
    found = seen("configuration")
    assert found.status == "failed"
    assert "tidegate.toml:2" in found.found
    assert "server.porte" in found.found
    assert len(found.details["problems"]) == 1 or "providers.lab.kind" in found.found
    assert seen("database").status == "skipped"
    assert seen("file_descriptors").status == "ok"
    assert not seen.report.ok


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    found = told("", source=lambda: load_file(str(tmp_path / "gone.toml"), {}))("configuration")
    assert found.status == "failed"
    assert "gone.toml" in found.found
    assert "No such file" in found.found


def test_values_from_the_environment_are_counted() -> None:
    found = told(SIM, environment={"TIDEGATE_PORT": "0"})("configuration")
    assert found.found == "tidegate.toml; 1 value from the environment"


@pytest.mark.parametrize(
    ("server", "status", "words"),
    [
        ('host = "127.0.0.1"', "ok", "open to this machine only"),
        ('host = "0.0.0.0"\nallow_open = true', "warning", "spends your credentials"),
    ],
)
def test_open_mode_and_the_address_belong_together(server: str, status: str, words: str) -> None:
    found = told(f"[server]\nport = 0\n{server}\n{SIM}")("protection")
    assert found.status == status
    assert words in found.found


def test_configured_and_managed_keys_protect(tmp_path: Path) -> None:
    keys = '[[keys]]\nname = "app"\nsecret = "0123456789abcdef0123456789abcdef"\n'
    assert "1 configured key;" in told(f'[server]\nport = 0\nhost = "0.0.0.0"\n{SIM}{keys}')("protection").found
    with contextlib.closing(sqlite3.connect(tmp_path / "tidegate.db")) as database, database:
        database.execute("CREATE TABLE virtual_keys (id)")
        database.execute("INSERT INTO virtual_keys VALUES (1)")
    database.close()
    assert told(data(tmp_path))("protection").details["managed_keys"] is True


# -- folder -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_there_and_one_that_will_be_made(tmp_path: Path) -> None:
    assert told(data(tmp_path))("data_folder").status == "ok"
    seen = told(data(tmp_path / "new" / "folder"))
    assert "will be made" in seen("data_folder").found
    assert seen("database").status == "ok"
    assert seen("database_schema").status == "skipped"
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    found = told(data(tmp_path / "taken" / "data"))("data_folder")
    assert found.status == "failed"


def test_a_folder_without_rights(not_root: None) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tidegate-doctor-") as name:
        folder = Path(name)
        folder.chmod(0o500)
        seen = told(data(folder))
        folder.chmod(0o700)
    assert seen("data_folder").status == "failed"
    assert "permission denied" in seen("data_folder").found
    assert "user that runs Tidegate" in seen("data_folder").advice
    assert seen("database").status == "failed"


def test_a_folder_that_may_not_be_entered(closed: Path, not_root: None) -> None:
    seen = told(data(closed / "data"))
    assert seen("data_folder").status == "failed"
    assert seen("secret_files").status == "failed"
    assert [one.found for one in seen.report.checks if "broke" in one.found] == []


def test_a_database_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "tidegate.db").touch(mode=0o644)
    found = told(data(tmp_path))("secret_files")
    assert found.status == "warning"
    assert "chmod 600" in found.advice


def test_a_secret_that_others_can_read(tmp_path: Path) -> None:
    secret = tmp_path / "pepper.key"
    secret.write_text("0123456789abcdef" * 4)
    secret.chmod(0o644)
    found = told(data(tmp_path))("secret_files")
    assert found.status == "failed"
    assert f"chmod 600 {secret}" in found.found
    secret.chmod(0o600)
    assert told(data(tmp_path))("secret_files").status == "ok"
    assert "0123456789abcdef" not in str(found)
    short = told(data(tmp_path), environment={"TIDEGATE_PEPPER": "short"})("secret_files")
    assert "TIDEGATE_PEPPER is shorter" in short.found


@pytest.mark.parametrize(("free", "status"), [(1024**2, "failed"), (200 * 1024**2, "warning"), (1024**4, "ok")])
def test_a_disk_that_fills_up(tmp_path: Path, free: int, status: str) -> None:
    found = told(data(tmp_path), free_bytes=lambda folder: free)("disk_space")
    assert found.status == status
    assert found.details["free_bytes"] == free


# -- address ----------------------------------------------------------------------------------------------------------


def test_a_free_port_stays_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    assert told(data(tmp_path, port=port))("listen_address").found.endswith("is free")
    socket.create_server(("127.0.0.1", port)).close()


def test_a_running_tidegate_is_recognised_and_not_disturbed(tmp_path: Path) -> None:
    with Running(data(tmp_path)) as gateway:
        seen = told(data(tmp_path, port=gateway.port))
        assert seen("listen_address").status == "ok"
        assert seen("listen_address").details["running"] is True
        for check in ("database", "database_schema", "database_writable", "database_integrity"):
            assert seen(check).status == "ok", seen(check)
        gateway.call(lambda: setattr(gateway.server._parts.gateway, "draining", True))
        assert told(data(tmp_path, port=gateway.port))("listen_address").status == "warning"
        assert [line for line in gateway.log_lines if line["level"] in ("warning", "error")] == []


def test_a_port_of_another_program(tmp_path: Path) -> None:
    with Canned(json_answer({"name": "another"})) as other:
        found = told(data(tmp_path, port=int(other.url.split(":")[2].split("/")[0])))("listen_address")
    assert found.status == "failed"
    assert "another program" in found.found
    assert "--port" in found.advice


def test_a_listener_that_never_speaks_and_an_address_of_another_machine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = told(data(tmp_path, port=other.getsockname()[1]), timeout_s=0.5)("listen_address")
    assert found.status == "failed"
    keys = '[[keys]]\nname = "app"\nsecret = "0123456789abcdef0123456789abcdef"\n'
    nowhere = told(f'[server]\nport = 1\nhost = "nowhere.invalid"\n{SIM}{keys}')("listen_address")
    assert "cannot be resolved" in nowhere.found
    elsewhere = told(f'[server]\nport = 1\nhost = "192.0.2.1"\n{SIM}{keys}', timeout_s=3)("listen_address")
    assert elsewhere.status == "failed"


def test_the_admin_apis_own_listener(tmp_path: Path) -> None:
    with Running(data(tmp_path, "[admin]\nport = 0")) as gateway:
        admin = gateway.announcement.admin_port
        found = told(data(tmp_path, f"[admin]\nport = {admin}"))("admin_address")
    assert (found.status, found.details["running"]) == ("ok", True)


# -- limits and packages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "status"), [(64, "failed"), (512, "warning"), (65536, "ok"), (None, "ok")])
def test_a_low_limit_of_open_files(limit: int | None, status: str) -> None:
    found = told(SIM, file_limit=lambda: limit)("file_descriptors")
    assert found.status == status
    assert found.details.get("limit") == limit


@needs_local_audio
def test_the_local_audio_engine_loads() -> None:
    seen = told("[providers.local-audio]\n")
    assert seen("local_audio").status == "ok"
    assert seen("extras").details["needed"] == ["local-audio"]


def test_what_is_not_kept_is_not_looked_for() -> None:
    seen = told(SIM)
    assert "switched off" in seen("database").found
    assert seen.statuses("sim") == ["skipped"] * 5
    assert seen.report.ok
