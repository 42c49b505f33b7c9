"""The locks pin everything by hash, agree with pyproject.toml and each other, and name no machine and no registry."""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("run", "build", "dev")
SHA256 = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# A URL, an index option, an absolute path, or a path out of the repository.
FOREIGN = re.compile(r"://|^\s*--(?!hash)|(?<![\w.])/\w|\.\./|\\(?!$)")


@dataclass(frozen=True)
class Pin:
    """One locked distribution and the number of its artifacts' hashes."""

    name: str
    version: str
    hashes: int


def read_pins(lock: str) -> list[Pin]:
    """The pins of a lock's text. Raises ValueError for a requirement that is not `name==version` with hashes."""
    pins = []
    for entry in lock.replace("\\\n", " ").splitlines():
        line = entry.split("#")[0].strip()
        if not line:
            continue
        requirement, *hashes = line.split("--hash=")
        matched = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*(;.*)?", requirement.strip())
        if not matched:
            raise ValueError(f"not a pinned requirement: {line[:80]!r}")
        if not hashes or any(not SHA256.fullmatch("--hash=" + each.strip()) for each in hashes):
            raise ValueError(f"no proper hash: {line[:80]!r}")
        pins.append(Pin(canonicalize_name(matched[1]), matched[2], len(hashes)))
    return pins


def foreign_lines(lock: str) -> list[str]:
    """The lines that hold an address, an index option or a path outside the repository."""
    return [line for line in lock.splitlines() if FOREIGN.search(line)]


def lock_text(name: str) -> str:
    """The text of one of the locks."""
    return (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")


def declared(lock: str) -> list[Requirement]:
    """What pyproject.toml asks of a lock."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups: dict[str, list[str | dict[str, str]]] = pyproject["dependency-groups"]
    wanted: dict[str, list[str]] = {
        "run": pyproject["project"]["dependencies"],
        "local-audio": [
            *pyproject["project"]["dependencies"],
            *pyproject["project"]["optional-dependencies"]["local-audio"],
        ],
        "build": [*pyproject["build-system"]["requires"], *(each for each in groups["build"] if isinstance(each, str))],
    }
    own = [each for each in groups["dev"] if isinstance(each, str)]
    wanted["dev"] = [*wanted["run"], *wanted["build"], *own]
    return [Requirement(each) for each in wanted[lock]]


@pytest.mark.security("SEC-SUPPLY-LOCKS")
@pytest.mark.parametrize("lock", [*LOCKS, "local-audio", "engine"])
def test_every_requirement_is_pinned_by_hash(lock: str) -> None:
    assert len(read_pins(lock_text(lock))) >= 5


@pytest.mark.parametrize("lock", [*LOCKS, "local-audio"])
def test_the_lock_satisfies_what_pyproject_asks_for(lock: str) -> None:
    pins = {pin.name: pin.version for pin in read_pins(lock_text(lock))}
    unmet = [
        f"{wanted}: locked is {pins.get(canonicalize_name(wanted.name), 'nothing')}"
        for wanted in declared(lock)
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"), prereleases=True)
    ]
    assert not unmet, "run `make lock`:\n" + "\n".join(unmet)


def test_the_locks_agree_where_they_overlap() -> None:
    dev = {(pin.name, pin.version) for pin in read_pins(lock_text("dev"))}
    for lock in ("run", "build"):
        astray = {(pin.name, pin.version) for pin in read_pins(lock_text(lock))} - dev
        assert not astray, f"in {lock}.txt but not in dev.txt; run `make lock`: {sorted(astray)}"


@pytest.mark.security("SEC-SUPPLY-LOCKS")
@pytest.mark.parametrize("lock", [*LOCKS, "local-audio", "engine"])
def test_the_lock_names_no_registry_and_no_path(lock: str) -> None:
    assert foreign_lines(lock_text(lock)) == []


def test_the_local_audio_engine_changes_nothing_that_is_locked_without_it() -> None:
    run = {(pin.name, pin.version) for pin in read_pins(lock_text("run"))}
    assert run <= {(pin.name, pin.version) for pin in read_pins(lock_text("local-audio"))}, "run `make lock`"


def test_no_lock_format_that_stores_addresses_is_present() -> None:
    stray = [
        path.name
        for pattern in ("uv.lock", "pylock*.toml", "poetry.lock", "Pipfile.lock")
        for path in ROOT.glob(pattern)
    ]
    assert not stray, f"{stray}: such locks hold a registry's address; only requirements/*.txt are committed"


HASH = "--hash=sha256:" + "0" * 64


def test_pins_are_read_with_markers_and_several_hashes() -> None:
    lock = f"Some_Pkg==1.2 ; sys_platform != 'win32' \\\n    {HASH} \\\n    {HASH}\n    # via\n    #   -c requirements/run.txt\n"
    assert read_pins(lock) == [Pin("some-pkg", "1.2", 2)]


@pytest.mark.parametrize(
    "lock",
    ["a==1\n", f"a>=1 \\\n    {HASH}\n", f"a @ file \\\n    {HASH}\n", "a==1 --hash=md5:00\n", "--index-url x\n"],
)
def test_a_loose_requirement_is_refused(lock: str) -> None:
    with pytest.raises(ValueError, match=r"not a pinned|no proper"):
        read_pins(lock)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url x",
        "a @ https" + "://host/a.whl",
        "    # via -r /srv/dev.in",
        "# from ../elsewhere.txt",
        "--find-links wheels",
        "# C:\\dev.in",
    ],
)
def test_an_address_or_a_path_is_found(line: str) -> None:
    assert foreign_lines(f"a==1 \\\n    {HASH}\n    # via -c requirements/run.txt\n{line}\n") == [line]


@pytest.mark.parametrize("place", ["scripts/clients", "bench/peers/portkey"])
def test_packages_for_node_are_locked_by_hash_and_without_addresses(place: str) -> None:
    folder = ROOT / place
    wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    text = (folder / "package-lock.json").read_text("utf-8")
    packages = json.loads(text)["packages"]
    assert packages.pop("")["dependencies"] == wanted
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    assert "resolved" not in text
    assert "://" not in text
