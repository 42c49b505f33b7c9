"""The house rules of imports, read from the source: which package may know which, and what pure code must not touch."""

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"

# A package imports only from rows above its own; packages of one row do not know each other.
RANKS: tuple[tuple[str, ...], ...] = (
    ("wire",),
    ("dialects",),
    ("providers", "routing"),
    ("config", "telemetry"),
    ("storage",),
    ("access", "streams", "upstream"),
    ("gateway",),
    ("server", "console"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(RANKS) for name in row}

PURE = frozenset({"wire", "dialects", "providers", "routing"})
# Time, ids, randomness and the outside world are arguments of pure code. `urllib.parse` stays allowed.
IMPURE = frozenset(
    {
        "asyncio",
        "concurrent",
        "datetime",
        "http",
        "importlib",
        "logging",
        "multiprocessing",
        "os",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "structlog",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
        "uuid",
        "uvloop",
    }
)

# Our own servers stand outside the ranks: providers in their own right, reached over a socket, which lean on none of the
# code that calls them.
SERVERS = {
    "sim": frozenset({"httptools", "msgspec", "uvloop"}),
    "local_audio": frozenset({"av", "espeakng_loader", "msgspec", "pocketsphinx", "starlette", "uvicorn"}),
}
SERVERS_MAY_KNOW = frozenset({"wire", "dialects"})
MAY_KNOW_SERVERS = ("tidegate.cli", "tidegate.__main__", "tidegate.server.app", "tidegate.server.compose")

OLDEST_PYTHON = (3, 11)

# Names that say nothing about what is inside, and so collect everything.
VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})


@dataclass(frozen=True)
class Import:
    """One imported name, written out from the top: `from ..wire import sse` is `tidegate.wire.sse`."""

    line: int
    name: str

    def is_inside(self, package: str) -> bool:
        """Whether the name is that package or module, or something in it."""
        return self.name == package or self.name.startswith(package + ".")


def module_name(path: Path) -> str:
    """The dotted name of a source file: `src/tidegate/wire/__init__.py` is `tidegate.wire`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import anywhere in a source, also inside functions and under TYPE_CHECKING.

    Raises SyntaxError, naming the module, for what the oldest supported Python cannot read.
    """
    for node in ast.walk(ast.parse(source, filename=module, feature_version=OLDEST_PYTHON)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")
                kept = len(package) - node.level + (1 if is_package else 0)
                base = ".".join([*package[:kept], *([base] if base else [])])
            for alias in node.names:
                yield Import(node.lineno, f"{base}.{alias.name}")
        elif isinstance(node, ast.Name) and node.id == "__import__":
            yield Import(node.lineno, "importlib.__import__")


def breaches(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a module breaks of the import rules, one sentence each; empty when it keeps them."""
    try:
        imports = list(read_imports(source, module, is_package=is_package))
    except SyntaxError as error:
        return [f"{module}, line {error.lineno}: no Python {'.'.join(map(str, OLDEST_PYTHON))}: {error.msg}"]
    found = []
    for imported in imports:
        reason = _objection(module, imported)
        if reason:
            found.append(f"{module}, line {imported.line}: imports {imported.name}: {reason}")
    return found


def _objection(module: str, imported: Import) -> str | None:
    package = _package(module)
    if package is None:
        if imported.is_inside("tidegate"):
            return "the top package is imported by all, so it imports none"
        return None
    if package not in SERVERS and package not in RANK:
        return f"package {package!r} has no rank; give it one in {Path(__file__).name}"
    if imported.is_inside("tidegate"):
        return _objection_within(module, package, imported)
    if package in PURE and any(imported.is_inside(name) for name in IMPURE):
        return f"{package} is pure: pass time, ids, randomness and input in as arguments"
    top = imported.name.partition(".")[0]
    if package in SERVERS and top not in sys.stdlib_module_names and top not in SERVERS[package]:
        return f"{package} uses only the standard library and {', '.join(sorted(SERVERS[package]))}"
    return None


def _objection_within(module: str, package: str, imported: Import) -> str | None:
    target = _package(imported.name)
    if target is None or target == package:
        return None
    if target in SERVERS:
        if any(module == known or module.startswith(known + ".") for known in MAY_KNOW_SERVERS):
            return None
        return f"only {', '.join(MAY_KNOW_SERVERS)} may know {target}; others reach it over a socket"
    if target not in RANK:
        return f"package {target!r} has no rank; give it one in {Path(__file__).name}"
    if package in SERVERS:
        if target in SERVERS_MAY_KNOW:
            return None
        return f"{package} imports only wire and dialects, so that it shares no fault with what calls it"
    if RANK[target] > RANK[package]:
        return f"imports run downward, and {target} stands above {package}"
    if RANK[target] == RANK[package]:
        return f"{package} and {target} are of one rank; let the caller bring them together"
    return None


def _package(name: str) -> str | None:
    """The package under `tidegate` that a name belongs to; None for the top package and its own names."""
    parts = name.split(".")
    if len(parts) < 2 or parts[1] == "*" or (parts[1].startswith("__") and parts[1] != "__main__"):
        return None
    return parts[1]


def vague_names(paths: list[Path]) -> list[str]:
    """The module paths whose file or folder has a name without a noun."""
    return [str(path) for path in paths if VAGUE_NAMES & {part.removesuffix(".py").strip("_") for part in path.parts}]


def source_files() -> list[Path]:
    """Every Python file of the package."""
    return sorted(SOURCE.rglob("*.py"))


# --- the tree as it stands ---------------------------------------------------------------------------------------


def test_every_module_keeps_the_import_rules() -> None:
    found = [
        breach
        for path in source_files()
        for breach in breaches(path.read_text("utf-8"), module_name(path), is_package=path.name == "__init__.py")
    ]
    assert source_files(), "no source found"
    assert not found, "\n" + "\n".join(found)


def test_every_third_party_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    declared = [*project["dependencies"], *(each for group in extras.values() for each in group)]
    names = [re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower() for requirement in declared]
    known = {name.replace("-", "_") for name in names} | set(sys.stdlib_module_names)
    found = [
        f"{module_name(path)}, line {imported.line}: {imported.name} is not among the dependencies of pyproject.toml"
        for path in source_files()
        for imported in read_imports(path.read_text("utf-8"), module_name(path), is_package=path.name == "__init__.py")
        if imported.name.partition(".")[0] not in known | {"tidegate"}
    ]
    assert not found, "\n" + "\n".join(found)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert vague_names([path.relative_to(SOURCE) for path in source_files()]) == []


# --- the rules themselves can fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("tidegate.wire.sse", "import time", "wire is pure"),
        ("tidegate.wire.sse", "from time import monotonic as now", "wire is pure"),
        ("tidegate.dialects.chat", "def f():\n    import asyncio", "line 2: imports asyncio: dialects is pure"),
        ("tidegate.routing.plan", "from urllib import request", "routing is pure"),
        ("tidegate.routing.plan", "from urllib.request import urlopen", "routing is pure"),
        ("tidegate.routing.plan", "import os.path", "routing is pure"),
        ("tidegate.providers.openai", "clock = __import__('time')", "providers is pure"),
        ("tidegate.providers.openai", "from importlib import import_module", "providers is pure"),
        (
            "tidegate.dialects.chat",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from datetime import datetime",
            "line 3: imports datetime.datetime: dialects is pure",
        ),
        ("tidegate.wire.sse", "from tidegate.dialects import chat", "dialects stands above wire"),
        ("tidegate.wire.sse", "from ..gateway.relay import Relay", "gateway stands above wire"),
        ("tidegate.wire.sse", "from .. import gateway", "gateway stands above wire"),
        ("tidegate.wire.sse", "from tidegate import gateway as g", "gateway stands above wire"),
        ("tidegate.wire.sse", "import tidegate.cli", "cli stands above wire"),
        ("tidegate.providers.openai", "import tidegate.routing.plan", "are of one rank"),
        ("tidegate.upstream.pool", "from tidegate.access import keys", "are of one rank"),
        ("tidegate.console", "from tidegate.server import app", "are of one rank"),
        ("tidegate.gateway.relay", "from tidegate.sim import server", "only tidegate.cli"),
        ("tidegate.server.lane", "from tidegate.sim import server", "only tidegate.cli"),
        ("tidegate.server.apples", "from tidegate.sim import server", "only tidegate.cli"),
        ("tidegate.sim.server", "from tidegate.providers import registry", "sim imports only wire and dialects"),
        ("tidegate.sim.server", "import starlette", "sim uses only the standard library"),
        ("tidegate.sim.server", "from tidegate.local_audio import engine", "only tidegate.cli"),
        ("tidegate.gateway.relay", "from tidegate.local_audio import engine", "only tidegate.cli"),
        (
            "tidegate.local_audio.app",
            "from tidegate.upstream import pool",
            "local_audio imports only wire and dialects",
        ),
        ("tidegate.local_audio.app", "import structlog", "local_audio uses only the standard library"),
        ("tidegate.gateway.relay", "from tidegate.extras import x", "'extras' has no rank"),
        ("tidegate.extras.x", "import json", "'extras' has no rank"),
        ("tidegate.cli", "def first[T](items: list[T]) -> T: ...", "no Python 3.11"),
        ("tidegate", "from tidegate.wire import sse", "the top package is imported by all"),
    ],
)
def test_a_breach_is_found_and_explained(module: str, source: str, complaint: str) -> None:
    [found] = breaches(source, module)
    assert complaint in found
    assert found.startswith(f"{module}, line ")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tidegate.wire.sse", "import json\nfrom collections.abc import Iterator\nimport msgspec"),
        ("tidegate.wire.sse", "from .errors import WireError\nfrom tidegate import __version__"),
        ("tidegate.wire.sse", "from urllib.parse import urlsplit\nimport timeit_like"),
        ("tidegate.dialects.chat", "from ..wire import sse"),
        ("tidegate.config.load", "from tidegate.providers import registry\nimport os, time"),
        ("tidegate.gateway.relay", "import asyncio\nfrom tidegate.upstream.pool import Pool"),
        ("tidegate.server.compose", "from tidegate.sim.server import serve\nfrom tidegate.gateway import relay"),
        ("tidegate.cli", "from tidegate.sim.server import serve\nfrom tidegate.config import load"),
        ("tidegate.__main__", "from tidegate.cli import main"),
        ("tidegate.sim.server", "import asyncio, uvloop, httptools\nfrom tidegate.wire import sse"),
        ("tidegate.server.compose", "from tidegate.local_audio import LocalAudio"),
        ("tidegate.local_audio.worker", "import av, socket\nfrom tidegate.wire import jsonio"),
    ],
)
def test_what_the_rules_allow_passes(module: str, source: str) -> None:
    assert breaches(source, module) == []


def test_relative_imports_count_from_the_package_they_stand_in() -> None:
    source = textwrap.dedent("""
        from . import sse
        from .sse import Frame
        from .. import gateway
    """)
    as_package = [each.name for each in read_imports(source, "tidegate.wire", is_package=True)]
    as_module = [each.name for each in read_imports(source, "tidegate.wire.errors")]
    assert as_package == as_module == ["tidegate.wire.sse", "tidegate.wire.sse.Frame", "tidegate.gateway"]


def test_vague_names_are_found_as_files_and_as_folders() -> None:
    paths = [Path("tidegate/wire/utils.py"), Path("tidegate/_helpers/x.py"), Path("tidegate/wire/common_prefix.py")]
    assert vague_names(paths) == ["tidegate/wire/utils.py", "tidegate/_helpers/x.py"]
