"""`tidegate config show`: every effective value, where it came from, and no secret."""

import pytest

from tidegate.config.automatic import automatic
from tidegate.config.load import load
from tidegate.config.origin import Shown, flatten
from tidegate.config.schema import Document

OPENAI = "sk-openai-canary0123456789abcdefg6789"
KEY = "canary1f7c03e5d24a68b7c1d0e2f3a4wxyz"
TEXT = """
[server]
port = "${PORT}"
host = "127.0.0.1"
[providers.openai]
timeouts = { first_event = "1m" }
proxy = "http://user:canary-password@proxy:3128"
[providers.lab]
base_url = "http://10.0.0.5:8000/v1/"
credentials = ["short-canary", "${OPENAI_API_KEY}"]
headers = { x-team = "canary-header-value" }
refuses = { chat = ["logprobs", "n"] }
[[keys]]
name = "app"
secret = "${APP_KEY}"
[models.fast]
targets = [
  { model = "openai/gpt-5.2", weight = 3 },
  { model = "lab/qwen3", timeouts = { idle = "5m" } },
]
[models.slow]
target = "fast"
[storage]
url = "postgresql://tide:canary-password@db/tidegate"
master_keys = ["canary2f7c03e5d24a68b7c1d0e2f3a4"]
[limits]
valkey = "redis://:canary-password@valkey:6379/0"
[prices."lab/*"]
input = 1.25
tiers = [{ over = 200000, input = 2.5 }]
"""
ENV = {"PORT": "81", "OPENAI_API_KEY": OPENAI, "APP_KEY": KEY, "TIDEGATE_DATA": "/data"}


def shown() -> dict[str, Shown]:
    lines = flatten(load(TEXT, "tidegate.toml", ENV, command_line={"server.host": "127.0.0.2"}))
    assert len({line.path for line in lines}) == len(lines)
    return {line.path: line for line in lines}


def test_each_value_knows_where_it_came_from() -> None:
    found = {
        path: (line.value, line.origin)
        for path, line in shown().items()
        if path
        in (
            "server.host",
            "server.port",
            "server.data_dir",
            "server.drain",
            "providers.openai.kind",
            "providers.openai.base_url",
            "providers.openai.credentials",
            "providers.openai.timeouts.first_event",
            "providers.openai.timeouts.idle",
            "providers.openai.timeouts.total",
            "providers.lab.base_url",
            "providers.lab.credentials",
            "providers.lab.refuses.chat",
            "keys[0].secret",
            "models.fast.targets[1].timeouts.idle",
            "models.slow.target",
        )
    }
    assert found == {
        "server.host": ('"127.0.0.2"', "command line"),
        "server.port": ("81", "tidegate.toml:3, environment PORT"),
        "server.data_dir": ('"/data"', "environment TIDEGATE_DATA"),
        "server.drain": ('"30s"', "default"),
        "providers.openai.kind": ('"openai"', "default"),
        "providers.openai.base_url": ('"https://api.openai.com/v1"', "default"),
        "providers.openai.credentials": ('["********6789"]', "environment OPENAI_API_KEY"),
        "providers.openai.timeouts.first_event": ('"1m"', "tidegate.toml:6"),
        "providers.openai.timeouts.idle": ('"30s"', "default"),
        "providers.openai.timeouts.total": ('"off" for streams, else "10m"', "default"),
        "providers.lab.base_url": ('"http://10.0.0.5:8000/v1"', "tidegate.toml:9"),
        "providers.lab.credentials": ('["********", "********6789"]', "tidegate.toml:10, environment OPENAI_API_KEY"),
        "providers.lab.refuses.chat": ('["logprobs", "n"]', "tidegate.toml:12"),
        "keys[0].secret": ('"********wxyz"', "tidegate.toml:15, environment APP_KEY"),
        "models.fast.targets[1].timeouts.idle": ('"5m"', "tidegate.toml:19"),
        "models.slow.target": ('"fast"', "tidegate.toml:22"),
    }


@pytest.mark.security("SEC-LOG-CONFIG")
def test_no_secret_is_shown() -> None:
    text = "\n".join(f"{line.path} = {line.value}" for line in shown().values())
    assert "canary" not in text
    assert '"http://********@proxy:3128"' in text


def test_every_section_is_shown() -> None:
    lines = shown()
    sections = {path.partition(".")[0].partition("[")[0] for path in lines}
    assert sections >= set(Document.__struct_fields__) - {"projects", "organizations"}, "of which there are none here"
    assert lines["storage.url"].value == '"postgresql://********@db/tidegate"'
    assert lines['prices."lab/*".tiers[0].input'].value == "2.5"


def test_without_a_file_the_variables_are_named() -> None:
    lines = {line.path: line for line in flatten(automatic({"GROQ_API_KEY": "k"}))}
    assert lines["providers.groq.credentials"].origin == "environment GROQ_API_KEY"
    assert lines["providers.groq.base_url"].origin == "default"
    assert lines["server.port"].origin == "default"
