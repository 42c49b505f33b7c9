"""The documentation as data: pages, headings, links, and blocks of code with the comment above them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
LANGUAGES: Final = ("en", "zh")
READMES: Final = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}

_FENCE = re.compile(r"^( *)```([a-z]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- ([^\n]*?) -->\n\Z")


class Block(msgspec.Struct, frozen=True):
    """A fenced block of code. `mark` is the comment right above it."""

    page: Path
    line: int
    language: str
    code: str
    mark: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def expected(self) -> str | None:
        """What its output must hold, when it is to be run."""
        return self.mark.removeprefix("run: ") if self.mark.startswith("run: ") else None

    @property
    def excused(self) -> bool:
        """Whether the page says why it is not run or loaded."""
        return self.mark.startswith(("not run: ", "not Tidegate's"))


def pages(language: str) -> list[Path]:
    """The README and every page of one language."""
    return [READMES[language], *sorted((DOCS / language).rglob("*.md"))]


def all_pages() -> list[Path]:
    """Every page that people read, in both languages."""
    return [
        *(page for language in LANGUAGES for page in pages(language)),
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
    ]


def read(language: str, name: str) -> str:
    """The text of one page of `docs/`."""
    return (DOCS / language / name).read_text("utf-8")


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    for match in _FENCE.finditer(text):
        mark = _MARK.search(text, 0, match.start())
        indent = match[1]
        code = re.sub(rf"^{indent}", "", match[3], flags=re.MULTILINE)
        yield Block(page, text.count("\n", 0, match.start()) + 1, match[2], code, mark[1] if mark else "")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", page.read_text("utf-8"))


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    return [(len(match[1]), match[2]) for match in re.finditer(r"^(#+) (.+)$", prose(page), re.MULTILINE)]


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub and its like make of the headings."""
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _, text in headings(page)}


def links(page: Path) -> list[str]:
    """The targets of all links in the prose."""
    return re.findall(r"\]\(([^()\s]+)\)", prose(page))


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of any level. Raises IndexError when the heading is not there."""
    return re.split(r"\n#+ ", text.split(f"# {heading}\n", 1)[1], maxsplit=1)[0]


def first_cells(text: str) -> set[str]:
    """Every name in backticks in the first column of a table; several may share a cell."""
    cells = re.findall(r"^\|([^|\n]*)\|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
