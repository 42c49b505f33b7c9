"""What can be known of the container files without an engine: they name what exists, pin their base and expose nothing."""

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.config.load import load
from tidegate.config.schema import Server
from tidegate.config.units import Duration
from tidegate.server.drain import MARGIN_S

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def arguments(keyword: str) -> list[str]:
    """The arguments of every instruction of one kind."""
    return [argument for name, argument in instructions(DOCKERFILE) if name == keyword]


def copied() -> list[str]:
    """Every path that the Dockerfile takes from the build context."""
    return [
        source
        for argument in arguments("COPY")
        if not argument.startswith("--from")
        for source in argument.split()[:-1]
    ]


def compose_service() -> dict[str, Any]:
    """The one service of compose.yaml."""
    document = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    service: dict[str, Any] = document["services"]["tidegate"]
    return service


def test_every_copied_path_exists_and_is_let_through_by_dockerignore() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), f"COPY {source}: no such file"
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), f"COPY {source}: kept out by .dockerignore"


def test_the_wheel_can_be_built_from_what_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"pyproject.toml", "src", project["readme"], *project["license-files"]} <= set(copied())


@pytest.mark.security("SEC-SUPPLY-IMAGE")
def test_the_base_image_is_one_pinned_slim_tag_that_the_package_supports() -> None:
    [base] = {argument.split()[0] for argument in arguments("FROM")}
    matched = re.fullmatch(r"python:3\.(\d+)-slim-\w+", base)
    assert matched
    assert int(matched[1]) >= 11


@pytest.mark.security("SEC-SUPPLY-LOCKS")
def test_everything_is_installed_from_the_hash_locks() -> None:
    installs = [line for argument in arguments("RUN") for line in argument.split("&&") if "pip install" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line, line


@pytest.mark.security("SEC-SUPPLY-IMAGE")
def test_the_image_runs_as_an_ordinary_user_with_its_data_in_a_volume() -> None:
    assert arguments("USER") == ["10001:10001"]
    assert arguments("VOLUME") == ["/data"]
    assert "TIDEGATE_DATA=/data" in arguments("ENV")[-1].split()
    assert arguments("EXPOSE") == ["8080"]
    assert "/healthz" in arguments("HEALTHCHECK")[0]


@pytest.mark.security("SEC-API8-BIND")
def test_compose_publishes_on_loopback_only_and_insists_on_a_key() -> None:
    service = compose_service()
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert service["environment"]["TIDEGATE_KEY"].startswith("${TIDEGATE_KEY:?")
    assert service["read_only"] is True


def units_in_docs(language: str) -> list[str]:
    """What stands in code blocks of the page on deployment, of units and of Kubernetes."""
    page = (ROOT / "docs" / language / "deployment.md").read_text("utf-8")
    return re.findall(r"^```(?:ini|yaml)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


@pytest.mark.fault("FAULT-SIGTERM")
def test_whoever_stops_the_gateway_waits_for_its_grace_before_it_kills() -> None:
    server = Server()
    least = server.drain_delay + server.drain + MARGIN_S
    unit = (ROOT / "deploy/tidegate.service").read_text("utf-8")
    [timeout] = re.findall(r"^TimeoutStopSec=(.*)$", unit, re.MULTILINE)
    assert Duration.parse(timeout) >= least
    assert Duration.parse(compose_service()["stop_grace_period"]) >= least
    assert not arguments("STOPSIGNAL")  # SIGTERM is the engine's own
    configured = load((ROOT / "deploy/tidegate.toml").read_text("utf-8"), "tidegate.toml", {}).server
    assert (configured.drain_delay, configured.drain) == (server.drain_delay, server.drain)


@pytest.mark.fault("FAULT-SIGTERM")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_units_in_the_documentation_are_those_of_the_repository(language: str) -> None:
    service, pod, socket = units_in_docs(language)
    assert service == (ROOT / "deploy/tidegate.service").read_text("utf-8")
    assert socket == (ROOT / "deploy/tidegate.socket").read_text("utf-8")
    spec = yaml.safe_load(pod)["template"]["spec"]
    probe = spec["containers"][0]["readinessProbe"]
    page = (ROOT / "docs" / language / "deployment.md").read_text("utf-8")
    [delay] = re.findall(r'`server\.drain_delay = "(\w+)"`', page)
    assert spec["terminationGracePeriodSeconds"] >= Duration.parse(delay) + Server().drain + MARGIN_S
    assert Duration.parse(delay) > probe["periodSeconds"] * (probe["failureThreshold"] + 1)


def test_compose_mounts_what_exists() -> None:
    mounts = [each.split(":")[0] for each in compose_service()["volumes"]]
    files = [mount for mount in mounts if mount.startswith("./")]
    assert files
    for mount in files:
        assert (ROOT / mount).is_file(), f"{mount}: no such file"


def test_the_env_example_names_every_variable_of_the_mounted_configuration() -> None:
    example = (ROOT / "deploy/env.example").read_text("utf-8")
    offered = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    text = (ROOT / "deploy/tidegate.toml").read_text("utf-8")
    tomllib.loads(text)
    assert set(re.findall(r"\$\{(\w+)", text)) | {"TIDEGATE_KEY"} == offered


@pytest.mark.parametrize(
    ("dockerfile", "expected"),
    [
        ("FROM a\n", [("FROM", "a")]),
        ("# FROM a\nRUN a \\\n    # why\n    && b\n", [("RUN", "a      && b")]),
    ],
)
def test_instructions_are_read_as_docker_reads_them(dockerfile: str, expected: list[tuple[str, str]]) -> None:
    assert instructions(dockerfile) == expected
