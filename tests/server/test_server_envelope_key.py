"""The key of reasoning envelopes is made once, and only its owner can read it."""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tidegate.config.load import load
from tidegate.config.schema import Config
from tidegate.dialects.envelope import KEY_BYTES
from tidegate.server.envelope_key import VARIABLE, KeyUnusable, data_folder, envelope_key


def config(data_dir: Path | str = "") -> Config:
    return load(f"[server]\ndata_dir = '{data_dir}'\n", "tidegate.toml", {})


def test_it_is_made_once_and_survives(tmp_path: Path) -> None:
    first = envelope_key(config(tmp_path / "data"), {})
    assert len(first) == KEY_BYTES
    assert envelope_key(config(tmp_path / "data"), {}) == first
    assert envelope_key(config(tmp_path / "other"), {}) != first
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["envelope.key"]


@pytest.mark.security("SEC-API8-FILES")
@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    envelope_key(config(tmp_path / "data"), {})
    path = tmp_path / "data" / "envelope.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        envelope_key(config(tmp_path / "data"), {})


def test_the_environment_gives_it_to_several_gateways(tmp_path: Path) -> None:
    environment = {VARIABLE: "s" * 32}
    assert envelope_key(config(tmp_path / "a"), environment) == envelope_key(config(tmp_path / "b"), environment)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyUnusable, match="at least 32"):
        envelope_key(config(), {VARIABLE: "short"})


def test_a_damaged_file_is_not_replaced_in_silence(tmp_path: Path) -> None:
    envelope_key(config(tmp_path), {})
    path = tmp_path / "envelope.key"
    path.write_text("")
    with pytest.raises(KeyUnusable, match="holds no key"):
        envelope_key(config(tmp_path), {})


def test_where_nothing_can_be_kept_the_key_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as lines:
        assert len(envelope_key(config(tmp_path / "file" / "data"), {})) == KEY_BYTES
    assert [line["event"] for line in lines] == ["envelope_key_not_kept"]
    assert envelope_key(config(), {}) != envelope_key(config(), {})


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="the custom of other systems")
def test_what_a_killed_process_has_left_does_not_bar_the_way(tmp_path: Path) -> None:
    """In a container every process has the same id."""
    (tmp_path / f"envelope.key.{os.getpid()}").write_text("half")
    assert envelope_key(config(tmp_path), {}) == envelope_key(config(tmp_path), {})


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX")
def test_a_link_to_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "envelope.key").symlink_to(tmp_path / "absent")
    with capture_logs() as lines:
        envelope_key(config(tmp_path), {})
    assert [line["reason"] for line in lines] == ["it is a link to nothing"]


def test_the_usual_folder_is_the_users() -> None:
    assert data_folder(config(), {"HOME": "/home/ann"}) == Path("/home/ann/.local/share/tidegate")
    assert data_folder(config(), {"HOME": "/home/ann", "XDG_DATA_HOME": "/data"}) == Path("/data/tidegate")
    assert data_folder(config("/srv"), {"HOME": "/home/ann"}) == Path("/srv")
    assert data_folder(config(), {}) is None
