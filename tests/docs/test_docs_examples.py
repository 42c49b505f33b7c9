"""Every example does what the page says: configuration loads, commands and programs run against a live gateway."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from _pytest.mark.structures import ParameterSet

from tests.docs.pages import DOCS, LANGUAGES, Block, all_pages, blocks
from tests.support.extras import skip_if_it_needs_absent_packages
from tests.support.running import Running
from tidegate.config.load import load

PRINTED = "http://127.0.0.1:8080"
KEY = "9b1f7c03e5d24a68b7c1d0e2f3a45967"
SECONDS = 30

LIKE_NO_FILE = """
[server]
port = 0
data_dir = "{data}"
[defaults]
model = "sim/demo"
[providers.sim]
base_url = "{sim}"
"""

ALL = [block for page in all_pages() for block in blocks(page)]
TOML = [block for block in ALL if block.language == "toml" and not block.excused]
# Both languages have the same code (see test_docs_pages), so each example is run once.
RUNNABLE = list({(block.code, block.mark): block for block in reversed(ALL) if block.expected is not None}.values())


def calls_the_gateway(block: Block) -> bool:
    """Whether a reader would run this block as it stands to get an answer."""
    shell = block.language == "sh" and block.code.startswith("curl")
    return PRINTED in block.code and (shell or block.language in ("python", "js"))


def manages(block: Block) -> bool:
    """Whether it makes or changes what is managed."""
    return "TIDEGATE_ADMIN_KEY" in block.code or block.code.startswith("tidegate ")


def by_place(chosen: list[Block]) -> list[ParameterSet]:
    """The blocks as parameters of a test, each named by its place."""
    return [pytest.param(block, id=block.where) for block in chosen]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway as `make run` starts it on a machine without any provider."""
    folder = tmp_path_factory.mktemp("data")
    with Running(LIKE_NO_FILE.replace("{data}", str(folder))) as running:
        yield running


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """Another one, in which keys may be made, and an owner's key: examples may revoke the first one."""
    folder = tmp_path_factory.mktemp("managed")
    with Running(LIKE_NO_FILE.replace("{data}", str(folder))) as running:
        first = {"authorization": f"Bearer {running.announcement.admin_key}"}
        new = {"name": "reader", "role": "owner"}
        made = httpx.post(f"{running.origin}/admin/v1/admins", json=new, headers=first, trust_env=False)
        yield running, made.json()["key"]


@pytest.mark.parametrize("block", by_place(TOML))
def test_every_configuration_example_loads(block: Block) -> None:
    skip_if_it_needs_absent_packages(block.code)
    names = re.findall(r"\$\{(\w+)", block.code)
    environment = {name: "ab" * 32 if name.endswith("SHA256") else KEY + name.lower() for name in names}
    load(block.code, "tidegate.toml", environment, read=lambda _: "text")


def test_every_example_that_calls_the_gateway_is_run_or_says_why_not() -> None:
    silent = [block.where for block in ALL if calls_the_gateway(block) and not (block.expected or block.excused)]
    assert silent == []
    assert len(RUNNABLE) > 12


@pytest.mark.parametrize("block", by_place([block for block in RUNNABLE if manages(block)]))
def test_every_example_of_managing_runs_and_gives_what_is_promised(block: Block, managed: tuple[Running, str]) -> None:
    assert block.expected is not None
    gateway, key = managed
    folder = gateway.server._parts.config.server.data_dir
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUTF8": "1",
        "NO_PROXY": "*",
        "TIDEGATE_DATA": folder,
        "TIDEGATE_ADMIN_KEY": key,
    }
    code = f"set -e\n{block.code.replace(PRINTED, gateway.origin)}"
    done = subprocess.run(
        ["sh", "-c", code],
        capture_output=True,
        timeout=SECONDS,
        env=environment,
        check=False,
        encoding="utf-8",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert block.expected in done.stdout


@pytest.mark.parametrize("block", by_place([block for block in RUNNABLE if not manages(block)]))
def test_every_example_runs_and_gives_what_is_promised(block: Block, live: Running, tmp_path: Path) -> None:
    """In a folder of its own, where it may leave files."""
    assert block.expected is not None
    assert PRINTED in block.code
    code = block.code.replace(PRINTED, live.origin)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONUTF8": "1",
        "NO_PROXY": "*",
        "TIDEGATE_API_KEY": KEY,
    }
    command = ["sh", "-c", code] if block.language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, timeout=SECONDS, env=environment, check=False, encoding="utf-8", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert block.expected in done.stdout


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_error_of_the_page_is_the_one_that_the_gateway_gives(language: str, live: Running) -> None:
    answer = httpx.post(f"{live.url}/responses", json={"input": "Hello", "temperature": 3}, trust_env=False)
    [example] = [block for block in blocks(DOCS / language / "errors.md") if block.language == "json"]
    assert answer.status_code == 400
    assert answer.json() == json.loads(example.code)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_order_of_events_on_the_page_is_that_of_a_stream(language: str, live: Running) -> None:
    [shown] = [block for block in blocks(DOCS / language / "streaming.md") if block.language == "text"]
    asked = {"model": "sim/echo", "input": "Hello", "stream": True}
    answer = httpx.post(f"{live.url}/responses", json=asked, trust_env=False)
    events = re.findall(r"^event: (.+)$", answer.text, re.MULTILINE)
    assert events == re.findall(r"^event: (\S+)", shown.code, re.MULTILINE)
    numbers = re.findall(r'"sequence_number":(\d+)', answer.text)
    assert numbers == re.findall(r"(\d+)$", shown.code, re.MULTILINE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_broken_streams_of_the_page_have_the_shape_of_real_ones(language: str, live: Running) -> None:
    examples = [
        json.loads(block.code) for block in blocks(DOCS / language / "streaming.md") if block.language == "json"
    ]
    asked = {"model": "sim/echo?fault=cut", "stream": True}
    said: dict[str, object] = {"input": "Hello", "messages": [{"role": "user", "content": "Hello"}]}
    real = []
    for path, member in (("responses", "input"), ("chat/completions", "messages")):
        answer = httpx.post(f"{live.url}/{path}", json={**asked, member: said[member]}, trust_env=False)
        real.append(json.loads(re.findall(r"^data: (.+)$", answer.text, re.MULTILINE)[-1]))
    failed, frame = examples
    for shown, ending in ((failed, real[0]["response"]), (frame, real[1])):
        assert {name: ending[name] for name in shown} | {"error": {}} == shown | {"error": {}}
        assert {**ending["error"], "message": ""} == {**shown["error"], "message": ""}
    assert real[0]["response"]["error"]["message"].startswith("upstream_broken: ")
    assert failed["error"]["message"].startswith("upstream_broken: ")
