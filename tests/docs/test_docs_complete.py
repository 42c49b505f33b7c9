"""Whatever users meet stands in both languages: headers, metrics, log fields, error codes, commands, faults, endpoints."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import httpx
import pytest

from tests.docs.pages import LANGUAGES, READMES, ROOT, first_cells, read, section
from tests.support.running import SIM_ONLY, Running
from tidegate import cli
from tidegate.config.schema import Profile as ProfileName
from tidegate.config.schema import Server
from tidegate.dialects.profile import PROFILES
from tidegate.gateway import exchange
from tidegate.gateway.models import LIST_TIMEOUT_S
from tidegate.providers.record import LOCAL_CLOCKS, SILENT_REASONING_S, Clocks
from tidegate.server.openapi import document
from tidegate.sim import FAULTS, SCRIPTS, describe_options
from tidegate.storage.entry import UsageEntry
from tidegate.upstream.connection import HEADER_LIMIT
from tidegate.upstream.pool import IDLE_LIMIT_S
from tidegate.upstream.provider import MAX_CONNECTIONS
from tidegate.upstream.wheel import BUCKET_S
from tidegate.wire import errors
from tidegate.wire.sse import FRAME_LIMIT

SOURCE = ROOT / "src" / "tidegate"
each_language = pytest.mark.parametrize("language", LANGUAGES)

# Not ours to explain: every HTTP answer has them.
PLAIN_HTTP = {"date", "content-type", "content-length", "connection", "transfer-encoding"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the gateway; the simulator plays other people's errors."""
    for path in sorted(SOURCE.rglob("*.py")):
        if SOURCE / "sim" not in path.parents:
            yield path, ast.parse(path.read_text("utf-8"))


def strings(node: ast.AST) -> Iterator[str]:
    """Every literal text below a node."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant):
            if isinstance(inner.value, str):
                yield inner.value
            elif isinstance(inner.value, bytes):
                yield inner.value.decode("latin-1")


# --- error codes -------------------------------------------------------------------------------------------------


def error_classes(base: type[errors.TidegateError] = errors.TidegateError) -> Iterator[type[errors.TidegateError]]:
    """The error tree."""
    yield base
    for below in base.__subclasses__():
        yield from error_classes(below)


@functools.cache
def codes() -> frozenset[str]:
    """Every code of an error that the source can make: defaults of the classes, and codes given where one is raised.

    Codes are found as the argument `code`, as the third one of `validation.invalid`, and as the default of a parameter
    `code`.
    """
    found = {each.default_code for each in error_classes()} - {None}
    for _, module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Call):
                found.update(*(strings(keyword.value) for keyword in node.keywords if keyword.arg == "code"))
                called = node.func.id if isinstance(node.func, ast.Name) else ""
                if called == "invalid" and len(node.args) > 2:
                    found.update(strings(node.args[2]))
            elif isinstance(node, ast.FunctionDef):
                named = [*node.args.posonlyargs, *node.args.args]
                for argument, default in zip(reversed(named), reversed(node.args.defaults), strict=False):
                    if argument.arg == "code":
                        found.update(strings(default))
    return frozenset(code for code in found if code and re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", code))


def test_the_search_for_codes_finds_all_ways_to_give_one() -> None:
    assert {
        "forbidden",  # a class
        "host_not_allowed",  # an argument
        "upstream_refused",  # a choice within an argument
        "invalid_type",  # the third argument of `invalid`
        "invalid_value",  # the default of a parameter
    } <= codes()


@each_language
def test_every_error_code_is_documented(language: str) -> None:
    page = read(language, "errors.md")
    assert sorted(code for code in codes() if f"`{code}`" not in page) == []


@each_language
def test_no_error_code_is_documented_that_does_not_exist(language: str) -> None:
    rows = re.findall(r"^\| \d+ \|(?: `\w+` \|)? `(\w+)` \|", read(language, "errors.md"), re.MULTILINE)
    assert rows
    assert sorted(set(rows) - codes()) == []


@each_language
def test_every_error_class_stands_with_its_status(language: str) -> None:
    rows = re.findall(r"^\| (\d+) \|(?: `(\w+)` \|)? `(\w+)` \|", read(language, "errors.md"), re.MULTILINE)
    documented = {(int(status), code) for status, _, code in rows}
    for each in error_classes():
        if each.default_code and each is not errors.UpstreamFailed:
            assert (each.status, each.default_code) in documented, each


# --- headers -----------------------------------------------------------------------------------------------------


@functools.cache
def our_headers() -> frozenset[str]:
    """Every header that the source names as ours."""
    pattern = re.compile(r"(?<![\w/.-])tidegate-[a-z]+(?:-[a-z]+)*(?![\w/.])")
    packages = ("gateway", "server", "access", "dialects")
    return frozenset(
        name
        for path, module in sources()
        if path.relative_to(SOURCE).parts[0] in packages
        for text in strings(module)
        for name in pattern.findall(text)
    )


def test_the_search_for_headers_finds_requests_and_answers() -> None:
    assert {"tidegate-profile", "tidegate-timeout", "tidegate-deployment", "tidegate-attempts"} <= our_headers()


@each_language
def test_every_header_of_ours_is_documented(language: str) -> None:
    page = read(language, "headers.md")
    assert sorted(name for name in our_headers() if f"`{name}`" not in page) == []


KEYED = """
[server]
port = 0
cors_origins = ["https://chat.example.com"]
[providers.sim]
base_url = "{sim}"
[[keys]]
name = "app"
secret = "0123456789abcdef0123456789abcdef"
"""


@pytest.fixture(scope="module")
def answer_headers() -> set[str]:
    """The header names of answers of every kind."""
    key = {"authorization": "Bearer 0123456789abcdef0123456789abcdef"}
    page = {**key, "origin": "https://chat.example.com"}
    say: dict[str, Any] = {"model": "sim/echo", "input": "Hello"}
    names: set[str] = set()
    with Running(KEYED) as running, httpx.Client(base_url=running.origin, trust_env=False) as client:
        for answer in (
            client.post("/v1/responses", json=say, headers=key),
            client.post("/v1/responses", json={**say, "stream": True}, headers=page),
            client.post("/v1/responses", json={**say, "model": "sim/echo?usage=absent"}, headers=key),
            client.post("/v1/responses", json={**say, "model": "sim/echo?status=429&retry_after=7"}, headers=key),
            client.post("/v1/responses", json={**say, "model": "sim/echo?status=401"}, headers=key),
            client.post("/v1/responses", json=say),
            client.get("/v1/responses", headers=key),
            client.get("/v1/models", headers=page),
            client.options("/v1/responses", headers={**page, "access-control-request-method": "POST"}),
            client.get("/metrics"),
        ):
            names.update(name.lower() for name in answer.headers)
    return names


@each_language
def test_every_header_of_an_answer_is_documented(language: str, answer_headers: set[str]) -> None:
    page = read(language, "headers.md")
    unknown = {
        name
        for name in answer_headers - PLAIN_HTTP
        if f"`{name}`" not in page and not name.startswith("access-control-")
    }
    assert unknown == set()
    assert {"retry-after", "x-should-retry", "tidegate-usage", "www-authenticate", "allow"} <= answer_headers


# --- metrics and logs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The metrics after a request, of a gateway that keeps its answer."""
    kept = SIM_ONLY.replace("port = 0\n", f'port = 0\ndata_dir = "{tmp_path_factory.mktemp("data")}"\n')
    with Running(kept) as running, httpx.Client(base_url=running.origin, trust_env=False) as client:
        client.post("/v1/responses", json={"model": "sim/echo", "input": "Hello"})
        return client.get("/metrics").text


@each_language
def test_every_metric_is_documented_with_its_kind_and_labels(language: str, metrics: str) -> None:
    page = section(read(language, "metrics-and-logs.md"), "Metrics" if language == "en" else "指标")
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE))
    assert len(kinds) > 5
    for name, kind in kinds.items():
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}` | {kind} |")), "")
        assert row, f"{name}, a {kind}"
        sample = re.search(rf"^{name}(?:_bucket)?{{([^}}]*)}}", metrics, re.MULTILINE)
        labels = set(re.findall(r'(\w+)="', sample[1])) - {"le"} if sample else set()
        assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == labels, name
    assert {name for name in first_cells(page) if name.startswith("tidegate_")} == set(kinds)


@each_language
def test_every_field_of_the_request_line_is_documented(language: str) -> None:
    page = read(language, "metrics-and-logs.md")
    assert sorted(set(UsageEntry.__struct_fields__) - first_cells(page)) == []


@each_language
def test_every_ending_is_documented(language: str) -> None:
    documented = (UsageEntry.__doc__ or "") + (SOURCE / "storage" / "entry.py").read_text("utf-8")
    listed = re.search(r'"""([a-z_, ]+ or [a-z_]+)\."""', documented)
    assert listed
    endings = set(re.split(r", | or ", listed[1]))
    assert endings <= first_cells(read(language, "metrics-and-logs.md"))


@functools.cache
def log_events() -> frozenset[str]:
    """Every event that the gateway logs: the first argument of `….info("…")` and its like, and of the local audio
    engine's `_note`, which is one of them."""
    levels = {"debug", "info", "warning", "error", "exception", "critical", "_note"}
    found = set()
    for _, module in sources():
        for node in ast.walk(module):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            is_level = isinstance(node.func, ast.Attribute) and node.func.attr in levels
            is_alias = isinstance(node.func, ast.Name) and node.func.id == "report"
            if (is_level or is_alias) and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return frozenset(found)


@each_language
def test_every_log_event_is_documented(language: str) -> None:
    assert {"reloaded", "reload_refused", "model_list_unavailable", "exchange_failed"} <= log_events()
    page = section(read(language, "metrics-and-logs.md"), {"en": "Other lines", "zh": "其他日志"}[language])
    assert sorted(first_cells(page)) == sorted(log_events())


# --- command line ------------------------------------------------------------------------------------------------


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its whole name."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, f"{path} {name}")
    else:
        yield path, command


@each_language
def test_every_command_and_option_is_documented(language: str) -> None:
    page = read(language, "cli.md")
    for path, command in commands(cli.main, "tidegate"):
        options = {
            option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts
        }
        assert first_cells(section(page, f"`{path}`")) >= options, path
    described = set(re.findall(r"^### `([^`]+)`", page, re.MULTILINE))
    assert described == {path for path, _ in commands(cli.main, "tidegate")}


@each_language
def test_no_option_is_documented_that_does_not_exist(language: str) -> None:
    known = {option for _, each in commands(cli.main, "") for parameter in each.params for option in parameter.opts}
    assert {name for name in first_cells(read(language, "cli.md")) if name.startswith("-")} <= known


# --- simulator, profiles, endpoints, limits ----------------------------------------------------------------------


@each_language
def test_every_script_option_and_fault_of_the_simulator_is_documented(language: str) -> None:
    scripts, options, faults = (
        {"en": name, "zh": chinese}[language]
        for name, chinese in (("Scripts", "脚本"), ("Options", "选项"), ("Faults", "故障"))
    )
    page = read(language, "sim.md")
    assert first_cells(section(page, scripts)) == {name for name, script in SCRIPTS.items() if script.listed}
    assert first_cells(section(page, options)) == set(describe_options())
    assert first_cells(section(page, faults)) == set(FAULTS)


@each_language
def test_every_profile_is_documented(language: str) -> None:
    assert first_cells(read(language, "profiles.md")) == set(PROFILES) == set(get_args(ProfileName))


@each_language
def test_the_readme_lists_every_endpoint(language: str) -> None:
    listed = first_cells(READMES[language].read_text("utf-8"))
    described = {
        f"{method.upper()} {path}" for path, operations in document()["paths"].items() for method in operations
    }
    assert {name for name in listed if re.match(r"[A-Z]+ /", name)} == described | {"GET /openapi.json"}


@each_language
def test_clocks_and_caps_are_those_of_the_code(language: str) -> None:
    second, minute = (" s", " min") if language == "en" else (" 秒", " 分钟")
    rows = {
        name: line
        for line in read(language, "timeouts.md").splitlines()
        for name in re.findall(r"^\| (`\w+`|[^|]+?) \|", line)
    }
    clocks = Clocks()
    for name, value, local in (
        ("connect", clocks.connect, None),
        ("first_event", clocks.first_event, LOCAL_CLOCKS.first_event),
        ("idle", clocks.idle, LOCAL_CLOCKS.idle),
        ("send_stall", clocks.send_stall, None),
    ):
        default = rows[f"`{name}`"].split("|")[3]
        assert f"{value:g}{second}" in default
        assert local is None or f"{local / 60:g}{minute}" in default
    assert clocks.total is None
    assert clocks.total_unstreamed is not None
    assert f"{clocks.total_unstreamed / 60:g}{minute}" in rows["`total`"]
    page = read(language, "timeouts.md")
    server = Server()
    for name in ("header_timeout", "body_timeout", "keep_alive", "stream_ping", "drain"):
        assert f"| {getattr(server, name):g}{second} | `server.{name}` |" in page
    mebibyte = 1024 * 1024
    assert f"| {server.max_body // mebibyte} MiB | `server.max_body` |" in page
    assert f"| {server.max_header_bytes // 1024} KiB | `server.max_header_bytes` |" in page
    for text in (
        f"{SILENT_REASONING_S / 60:g} {'minutes' if language == 'en' else '分钟'}",
        f"| {FRAME_LIMIT // mebibyte} MiB |",
        f"| {exchange.ANSWER_LIMIT // mebibyte} MiB |",
        f"| {exchange.ERROR_LIMIT // mebibyte} MiB |",
        f"| {HEADER_LIMIT // 1024} KiB |",
        f"| {MAX_CONNECTIONS} |",
        f"| {LIST_TIMEOUT_S:g}{second} |",
        f"| {IDLE_LIMIT_S:g}{second} |",
    ):
        assert text in page
    assert BUCKET_S == 0.25
    assert ("quarter of a second" if language == "en" else "0.25 秒") in page
