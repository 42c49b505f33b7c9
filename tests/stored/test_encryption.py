"""Content at rest under a master key, and its rotation by configuration alone."""

import asyncio
from pathlib import Path

import openai
import pytest

from tests.stored.conftest import KEPT
from tests.support.running import Running
from tidegate.config.secret import Secret
from tidegate.storage.records import StorageUnusable
from tidegate.storage.storage import Storage

CANARY = "the harbour pilot is called Margarethe"
OLD, NEW = "old-master-key-0123456789abcdef0123", "new-master-key-0123456789abcdef0123"


def keeping(folder: Path, *master_keys: str) -> Running:
    keys = ", ".join(f'"{key}"' for key in master_keys)
    return Running(KEPT.replace("{data}", str(folder)) + f"\n[storage]\nmaster_keys = [{keys}]\n")


def ask(gateway: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("tidegate.db*"))


@pytest.mark.security("SEC-REST-CONTENT")
def test_nothing_of_a_conversation_can_be_read_in_the_file(tmp_path: Path) -> None:
    with keeping(tmp_path / "open") as gateway:
        ask(gateway).responses.create(model="lab/echo", input=CANARY)
    assert CANARY.encode() in on_disk(tmp_path / "open")
    with keeping(tmp_path / "sealed", OLD) as gateway:
        client = ask(gateway)
        given = client.responses.create(model="lab/echo", input=CANARY)
        list(client.responses.create(model="lab/echo", input=CANARY, stream=True))
        client.conversations.create(items=[{"type": "message", "role": "user", "content": CANARY}])
        assert CANARY in client.responses.retrieve(given.id).output_text
    assert CANARY.encode() not in on_disk(tmp_path / "sealed")


@pytest.mark.security("SEC-REST-ROTATE")
def test_a_master_key_is_changed_by_putting_the_new_one_first(tmp_path: Path) -> None:
    with keeping(tmp_path, OLD) as gateway:
        given = ask(gateway).responses.create(model="lab/echo", input=CANARY)
    with keeping(tmp_path, NEW, OLD) as gateway:
        assert CANARY in ask(gateway).responses.retrieve(given.id).output_text
    with keeping(tmp_path, NEW) as gateway:
        assert CANARY in ask(gateway).responses.retrieve(given.id).output_text
    with pytest.raises(StorageUnusable):
        asyncio.run(Storage.open(f"sqlite:///{tmp_path / 'tidegate.db'}", master_keys=[Secret(OLD)]))
