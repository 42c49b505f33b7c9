"""The documentation tells the truth: tables from the schema, examples that load, both languages complete."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.support.extras import skip_if_it_needs_absent_packages
from tidegate.config.jsonschema import json_schema
from tidegate.config.load import OVERRIDES, load
from tidegate.config.problem import ConfigInvalid
from tidegate.config.reference import BEGIN, END, Row, rows, tables
from tidegate.config.schema import Profile

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEY = "9b1f7c03e5d24a68b7c1d0e2f3a45967"
LANGUAGES = ("en", "zh")
PAGES = [(language, name) for language in LANGUAGES for name in ("configuration.md", "providers.md")]
EXAMPLES = [
    pytest.param(block, id=f"{language}-{name}-{number}")
    for language, name in PAGES
    for number, block in enumerate(
        re.findall(r"```toml\n(.*?)```", (DOCS / language / name).read_text(encoding="utf-8"), re.DOTALL)
    )
]
WORDS = {"en": {}, "zh": {"required": "必填", "unset": "未设置"}}  # type: dict[str, dict[str, str]]


def page(language: str, name: str = "configuration.md") -> str:
    return (DOCS / language / name).read_text(encoding="utf-8")


def environment(text: str) -> dict[str, str]:
    """A value for each variable that an example takes: a digest, or a key of its own."""
    names = re.findall(r"\$\{(\w+)", text)
    return {name: "ab" * 32 if name.endswith("SHA256") else KEY + name.lower() for name in names}


def test_the_english_tables_are_those_of_the_schema() -> None:
    text = page("en")
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()
    assert written == tables().strip(), "paste the output of `python -m tidegate.config.reference`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_stands_under_its_table_with_its_default(language: str) -> None:
    text = page(language)
    for row in rows():
        section = text.split(f"\n### `{row.section}`\n")[1].split("\n### ")[0]
        line = next(line for line in section.splitlines() if line.startswith(f"| `{row.key}` |"))
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert cells[2] == WORDS[language].get(row.default, row.default), row
        assert len(cells[3]) > 5, row


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_key_is_documented_that_does_not_exist(language: str) -> None:
    known = {(row.section, row.key) for row in rows()}
    section = ""
    for line in page(language).splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ").strip("`")
        match = re.match(r"\| `(\w+)` \|", line)
        if match and section.startswith("["):
            assert (section, match[1]) in known


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.section}{row.key}")
def test_every_key_has_a_meaning_that_is_a_sentence(row: Row) -> None:
    assert re.match(r"[A-Z`]", row.meaning)
    assert row.meaning.endswith(".")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_variable_and_profile_is_documented(language: str) -> None:
    for name in (*OVERRIDES, "TIDEGATE_CONFIG", "TIDEGATE_KEY"):
        assert f"| `{name}` |" in page(language)
    for profile in get_args(Profile):
        assert f"| `{profile}` |" in page(language)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_loads_and_fits_the_json_schema(text: str) -> None:
    skip_if_it_needs_absent_packages(text)
    provided = environment(text)
    read = lambda name: "key" if name.endswith(".keys") else "certificate"  # noqa: E731
    config = load(text, "tidegate.toml", provided, read=read)
    assert config.providers
    assert faults(tomllib.loads(text)) == []


def test_the_pages_have_the_same_examples() -> None:
    for name in ("configuration.md", "providers.md"):
        blocks = [re.findall(r"```\w+\n.*?```", page(language, name), re.DOTALL) for language in LANGUAGES]
        assert blocks[0] == blocks[1]


def test_the_error_list_of_the_page_is_what_the_loader_prints() -> None:
    shown = re.search(r"```text\n(.*?)```", page("en"), re.DOTALL)
    assert shown
    text = (
        "\n" * 8
        + '[providers.lab]\nbase_url = "http://h/v1"\ntimeouts = { idel = 1 }\n\n\n[[keys]]\nname = "a"\nsecret = "x"'
    )
    with pytest.raises(ConfigInvalid) as caught:
        load(text, "tidegate.toml", {})
    assert caught.value.render() == shown[1].strip()


@pytest.mark.parametrize(
    "text",
    [
        "[server]\nprot = 1",
        "[server]\nport = 70000",
        '[server]\ndrain = "soon"',
        '[server]\nmax_body = "big"',
        '[defaults]\nprofile = "x"',
        '[providers.lab]\nspeaks = ["x"]',
        '[providers.lab]\nrefuses = { x = ["n"] }',
        "[[keys]]\nname = 'a'",
        "[other]",
    ],
)
def test_the_json_schema_refuses_what_the_loader_refuses(text: str) -> None:
    assert faults(tomllib.loads(text))
    with pytest.raises(ConfigInvalid):
        load(text, "t", {})


def test_the_json_schema_takes_references_in_place_of_numbers() -> None:
    text = '[server]\nport = "${PORT}"\ndrain = "${D:-5s}"\nallow_open = "${A}"\nmax_body = "${B}"'
    assert faults(tomllib.loads(text)) == []


def test_every_key_is_described_in_the_json_schema() -> None:
    for name, definition in json_schema()["$defs"].items():
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def faults(value: object) -> list[str]:
    """What the JSON schema has against a document: as much of the standard as our schema uses."""
    schema = json_schema()
    return list(_faults(value, schema, schema, "$"))


def _faults(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> list[str]:
    if "$ref" in schema:
        return _faults(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
    if "anyOf" in schema:
        attempts = [_faults(value, option, root, path) for option in schema["anyOf"]]
        return [] if any(not attempt for attempt in attempts) else attempts[0]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: not one of {schema['enum']}"]
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    if not isinstance(value, types[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return [f"{path}: not of type {schema['type']}"]
    found: list[str] = []
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{path}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, member in value.items():
            if "propertyNames" in schema:
                found += _faults(name, schema["propertyNames"], root, f"{path}.{name}")
            further = properties.get(name, schema["additionalProperties"])
            found += (
                [f"{path}.{name}: unknown"] if further is False else _faults(member, further, root, f"{path}.{name}")
            )
    elif isinstance(value, list):
        for number, member in enumerate(value):
            found += _faults(member, schema["items"], root, f"{path}[{number}]")
    elif isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{path}: not of the form")
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            found.append(f"{path}: too short or too long")
    elif not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{path}: out of range")
    return found
