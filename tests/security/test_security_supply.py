"""What is installed is what was looked at: pinned, above every version with a published hole, and running nothing by itself."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.test_docs import committed_files
from tests.test_locks import LOCKS, ROOT, lock_text, read_pins

FLOORS = {
    "starlette": "1.0.1",  # CVE-2026-48710: Host rewrites the path
    "python-multipart": "0.0.31",  # CVE-2026-42561, CVE-2026-40347: endless parts
    "h11": "0.16",  # CVE-2025-43859: lenient chunks
    "aiohttp": "3.13.4",  # CVE-2026-34516
    "cryptography": "44.0.1",  # CVE-2024-12797
    "jinja2": "3.1.6",  # CVE-2025-27516
    "urllib3": "2.6.0",  # CVE-2025-66418: chains of codings
}
"""The first version without the hole, of what systems of this kind stand on; what is not locked has none."""


@pytest.mark.security("SEC-SUPPLY-FLOORS")
@pytest.mark.parametrize("lock", LOCKS)
def test_nothing_is_locked_below_the_first_version_without_a_known_hole(lock: str) -> None:
    pins = {pin.name: Version(pin.version) for pin in read_pins(lock_text(lock))}
    old = {name: str(pins[name]) for name, floor in FLOORS.items() if name in pins and pins[name] < Version(floor)}
    assert not old


@pytest.mark.security("SEC-SUPPLY-FLOORS")
@pytest.mark.parametrize("name", ["starlette", "python-multipart"])
def test_whoever_installs_without_the_lock_gets_no_older_one_either(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    asked = [one for one in map(Requirement, wanted) if canonicalize_name(one.name) == name]
    assert asked
    for requirement in asked:
        floor = Version(FLOORS[name])
        older = f"{floor.release[0]}.{floor.release[1]}.{floor.release[2] - 1}"
        assert not requirement.specifier.contains(older)


@pytest.mark.security("SEC-SUPPLY-HOOKS")
def test_installing_and_starting_python_runs_nothing_of_ours() -> None:
    """No `.pth` file, no build hook, no `setup.py`: the payload of March 2026 ran from one when any interpreter began."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["build-system"] == {"requires": ["hatchling>=1.27"], "build-backend": "hatchling.build"}
    assert set(project["tool"]["hatch"]) == {"build"}
    assert set(project["tool"]["hatch"]["build"]) == {"targets"}
    assert not {"hooks", "force-include", "shared-data"} & set(project["tool"]["hatch"]["build"]["targets"]["wheel"])
    assert project["project"]["scripts"] == {"tidegate": "tidegate.cli:main"}
    assert not {"entry-points", "gui-scripts"} & set(project["project"])
    listed = [path.relative_to(ROOT).as_posix() for path in committed_files()]
    assert listed
    odd = [name for name in listed if name.endswith((".pth", ".pyc", ".so", ".whl", ".exe")) or Path(name).name in ("setup.py", "setup.cfg", "sitecustomize.py", "usercustomize.py", "conftest.pyc")]  # fmt: skip
    assert not odd
