"""The pages hang together: both languages alike, every link leads somewhere, every term is ours."""

import json
import re
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, LANGUAGES, READMES, ROOT, all_pages, anchors, blocks, headings, links, pages

PAIRS = [
    pytest.param(READMES["en"], READMES["zh"], id="README"),
    *(
        pytest.param(page, DOCS / "zh" / page.relative_to(DOCS / "en"), id=page.name)
        for page in sorted((DOCS / "en").rglob("*.md"))
    ),
]
each_page = pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())


@pytest.mark.row("S57")
@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_have_the_same_sections(english: Path, chinese: Path) -> None:
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_have_the_same_code(english: Path, chinese: Path) -> None:
    for left, right in zip_longest(blocks(english), blocks(chinese)):
        if left is not None and right is not None and "mermaid" in (left.language, right.language):
            assert left.language == right.language
            continue
        assert left is not None, right
        assert right is not None, left
        assert (left.language, left.code, left.mark) == (right.language, right.code, right.mark), right.where


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_have_tables_of_the_same_size(english: Path, chinese: Path) -> None:
    left, right = (len(re.findall(r"^\|", page.read_text("utf-8"), re.MULTILINE)) for page in (english, chinese))
    assert left == right


@each_page
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if fragment:
            assert fragment in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_links_stay_in_their_language(language: str) -> None:
    other = "zh" if language == "en" else "en"
    for page in pages(language):
        for link in links(page):
            leads_over = f"/{other}/" in f"/{link}" or link.endswith(READMES[other].name)
            allowed = page.name in ("README.md", "README.zh-CN.md")
            assert not leads_over or allowed, f"{page.relative_to(ROOT)}: {link}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_in_the_index(language: str) -> None:
    index = DOCS / language / "README.md"
    listed = {link for link in links(index) if not link.startswith("..")}
    assert listed == {page.name for page in (DOCS / language).glob("*.md")} - {"README.md"}


@each_page
def test_every_json_example_is_json(page: Path) -> None:
    for block in blocks(page):
        if block.language == "json":
            assert isinstance(json.loads(block.code), dict), block.where


@each_page
def test_every_page_begins_with_its_one_title(page: Path) -> None:
    assert page.read_text("utf-8").startswith("# ")
    assert [level for level, _ in headings(page)].count(1) == 1


@each_page
def test_the_clients_key_has_one_name_in_all_examples(page: Path) -> None:
    """The digest of it may be named after it. A key that is a setting of the gateway is another thing."""
    text = page.read_text("utf-8")
    sent = set(re.findall(r"(?:Bearer|[Kk]ey:) \$\{?(\w+)", text))
    kept = {
        name
        for block in blocks(page)
        if block.language == "toml"
        for name in re.findall(r'^secret = "(?:sha256:)?\$\{(\w+)\}"', block.code, re.MULTILINE)
    }
    assert sent | kept <= {"TIDEGATE_API_KEY", "TIDEGATE_API_KEY_SHA256", "TIDEGATE_ADMIN_KEY"}


@pytest.mark.parametrize("page", pages("zh"), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_timeout_is_called_so_in_chinese(page: Path) -> None:
    """Our word in English is clock; nobody says that in Chinese."""
    assert "时钟" not in page.read_text("utf-8")
