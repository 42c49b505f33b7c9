"""The page about the storage tells the numbers of the code, in both languages."""

from typing import get_args

import pytest

from tests.docs.pages import LANGUAGES, read
from tidegate.storage.processes import INTERRUPTED
from tidegate.storage.storage import Settings
from tidegate.storage.writer import HIGH_WATER


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_tells_the_defaults(language: str) -> None:
    page = read(language, "storage.md")
    settings = Settings()
    modes = get_args(Settings.__annotations__["when_unavailable"])
    assert f"{settings.spool_bytes // 1024**2} MiB" in page
    assert f"{settings.flush_s * 1000:g} ms" in page
    assert f"{settings.lease_s:g} {'seconds' if language == 'en' else '秒'}" in page
    assert HIGH_WATER == 0.75
    assert ("three quarters" if language == "en" else "四分之三") in page
    assert all(f"`{mode}`" in page for mode in modes)
    assert f"`{settings.when_unavailable}`, the default" in page or f"`{settings.when_unavailable}`（默认）" in page
    assert f"`{INTERRUPTED}`" in page
