"""The pepper of stored keys is made once, readable by its owner only, or comes from the environment."""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tidegate.config.load import load
from tidegate.config.schema import Config
from tidegate.server.kept_secret import KeyUnusable
from tidegate.server.pepper import VARIABLE, peppers


def config(data_dir: Path | str = "") -> Config:
    return load(f"[server]\ndata_dir = '{data_dir}'\n", "tidegate.toml", {})


def test_it_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    [first] = peppers(config(tmp_path / "data"), {})
    [again] = peppers(config(tmp_path / "data"), {})
    [other] = peppers(config(tmp_path / "other"), {})
    assert first.digest(b"key") == again.digest(b"key") != other.digest(b"key")
    assert first.version == again.version != other.version
    path = tmp_path / "data" / "pepper.key"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        with pytest.raises(KeyUnusable, match="chmod 600"):
            peppers(config(tmp_path / "data"), {})
    assert path.read_text().strip() not in repr(first)


def test_the_environment_gives_it_with_former_ones_behind(tmp_path: Path) -> None:
    new, old = "n" * 32, "o" * 32
    [alone] = peppers(config(tmp_path), {VARIABLE: old})
    both = peppers(config(tmp_path), {VARIABLE: f"{new}, {old}"})
    assert both[1].version == alone.version
    assert not list(tmp_path.iterdir())
    for wrong in ("short", f"{new},short", ","):
        with pytest.raises(KeyUnusable, match="at least 32"):
            peppers(config(tmp_path), {VARIABLE: wrong})


def test_where_nothing_can_be_kept_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as lines:
        assert peppers(config(tmp_path / "file" / "data"), {}) == ()
        assert peppers(config(), {}) == ()
    assert [line["event"] for line in lines] == ["pepper_not_kept", "pepper_not_kept"]
