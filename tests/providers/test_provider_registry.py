"""Every provider record is complete, plausible, documented in both languages, and usable as its example says."""

import importlib
import pkgutil
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import tidegate.providers
from tests.support.extras import skip_if_it_needs_absent_packages
from tidegate.config.load import load
from tidegate.providers.record import PATHS, Provider
from tidegate.providers.registry import REGISTRY, get

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECORDS = list(REGISTRY.values())
KEY = "sk-0123456789abcdefghijklmnopqrstuvwxyz"

each_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
each_language = pytest.mark.parametrize("language", ["en", "zh"])


def test_every_record_in_the_package_is_registered_once() -> None:
    found: list[Provider] = []
    for module in pkgutil.iter_modules(tidegate.providers.__path__):
        members = vars(importlib.import_module(f"tidegate.providers.{module.name}")).values()
        found.extend(member for member in members if isinstance(member, Provider))
    assert sorted({record.kind for record in found}) == sorted(REGISTRY)
    assert len({id(record) for record in found}) == len(REGISTRY)


def test_the_kinds_that_are_promised_are_there() -> None:
    promised = (
        "openai anthropic openai-compatible openrouter deepseek groq mistral together fireworks xai moonshot dashscope zhipu "
        "siliconflow ollama vllm llamacpp sglang lmstudio transformers sim"
    )
    assert set(promised.split()) <= set(REGISTRY)


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        get("nothing")


@each_record
def test_a_kind_can_stand_as_a_name_in_a_model(record: Provider) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*", record.kind)
    assert record.title.strip() == record.title != ""


@each_record
def test_remote_addresses_are_encrypted_and_end_without_a_slash(record: Provider) -> None:
    for address in filter(None, (record.base_url, *record.regions)):
        parts = urlsplit(address)
        assert parts.hostname
        assert parts.scheme == ("http" if record.local_ports else "https")
        assert not address.endswith("/")
        assert (parts.query, parts.fragment, parts.username) == ("", "", None)


@each_record
def test_a_local_engine_is_found_on_the_port_of_its_address(record: Provider) -> None:
    if record.local_ports:
        assert urlsplit(record.base_url).port in record.local_ports


@each_record
def test_an_address_is_missing_only_where_another_source_is_sure(record: Provider) -> None:
    assert record.base_url or record.embedded or record.kind in ("openai-compatible", "azure-openai")


@each_record
def test_credentials_come_from_plausible_variables(record: Provider) -> None:
    for name in (*record.env, *record.base_url_env):
        assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*_(API_KEY|API_TOKEN|BASE_URL)", name)
    assert bool(record.env) or not record.needs_credential


def test_no_two_providers_share_a_variable() -> None:
    names = [name for record in RECORDS for name in record.env]
    assert len(names) == len(set(names))


@each_record
def test_endpoints_have_paths_and_refusals_belong_to_endpoints(record: Provider) -> None:
    assert record.speaks
    assert set(record.speaks) <= set(record.paths)
    assert set(record.refuses) <= set(record.speaks)
    for endpoint, path in record.paths.items():
        assert path == PATHS[endpoint] or path.startswith("/")
    for endpoint, members in record.refuses.items():
        assert all(re.fullmatch(r"[a-z_]+", member) for member in members)
        needed = {"model", "input", "messages", "prompt", "stream", "temperature", "top_p"}
        assert not members & ({"file", "model"} if endpoint in ("transcription", "translation") else needed)


@each_record
@each_language
def test_the_documentation_names_what_the_record_says(record: Provider, language: str) -> None:
    text = (DOCS / language / "providers.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| [`{record.kind}`](#{record.kind}) |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == record.title
    assert record.base_url in cells[2]
    assert re.findall(r"`([^`]+)`", cells[3]) == list(record.env)
    assert cells[4].split(", ") == list(record.speaks)
    section = _section(text, record.kind)
    for endpoint, members in record.refuses.items():
        line = next(line for line in section.splitlines() if line.startswith(f"- {endpoint}"))
        assert re.findall(r"`([^`]+)`", line) == sorted(members)


@each_record
@each_language
def test_the_example_of_the_documentation_loads(record: Provider, language: str) -> None:
    section = _section((DOCS / language / "providers.md").read_text(encoding="utf-8"), record.kind)
    block = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert block
    skip_if_it_needs_absent_packages(block[1])
    config = load(block[1], "tidegate.toml", dict.fromkeys(record.env, KEY))
    (provider,) = config.providers.values()
    assert provider.kind == record.kind
    if record.needs_credential:
        assert provider.credentials[0].reveal() == KEY
    if record.base_url and "base_url" in tomllib.loads(block[1])["providers"].get(record.kind, {}):
        assert provider.record().base_url in (record.base_url, *record.regions)


def _section(text: str, kind: str) -> str:
    return text.split(f"\n## {kind}\n")[1].split("\n## ")[0]
