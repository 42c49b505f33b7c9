"""`storage.quota`: how much one key may have in store."""

import time
from pathlib import Path

import openai
import pytest

from tests.stored.conftest import KEPT
from tests.support.running import Running

TOML = (
    KEPT
    + """
[storage]
quota = "20KiB"
[[keys]]
name = "app"
secret = "key-0123456789abcdef0123456789abcd"
[[keys]]
name = "other"
secret = "key-abcdef0123456789abcdef01234567"
"""
)


def test_a_key_that_has_its_share_stores_no_more(tmp_path: Path) -> None:
    with Running(TOML.replace("{data}", str(tmp_path))) as gateway:
        app = openai.OpenAI(base_url=gateway.url, api_key="key-0123456789abcdef0123456789abcd", max_retries=0)
        other = openai.OpenAI(base_url=gateway.url, api_key="key-abcdef0123456789abcdef01234567", max_retries=0)
        kept: list[str] = []

        def fill() -> None:
            for _ in range(20):
                kept.append(app.responses.create(model="openai/echo", input="x" * 4000).id)

        with pytest.raises(openai.RateLimitError) as caught:
            fill()
        assert 2 <= len(kept) < 20
        assert caught.value.code == "storage_quota_exceeded"
        assert caught.value.type == "insufficient_quota"
        assert app.responses.create(model="openai/echo", input="x", store=False).status == "completed"
        assert other.responses.create(model="openai/echo", input="x").status == "completed"
        for name in kept:
            app.responses.delete(name)
        until = time.monotonic() + 10
        while True:
            try:
                assert app.responses.create(model="openai/echo", input="x").status == "completed"
                break
            except openai.RateLimitError:
                assert time.monotonic() < until
                time.sleep(0.2)
