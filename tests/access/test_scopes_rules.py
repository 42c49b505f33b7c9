"""Whose limits hold for a caller, from the configuration."""

from tidegate.access.keys import OPEN, KeyRing
from tidegate.config.limits import NO_LIMITS
from tidegate.config.load import load
from tidegate.config.schema import Config

SECRET = "key-0123456789abcdef0123456789abcd"


def config(text: str) -> Config:
    return load(text, "tidegate.toml", {})


def ring(text: str) -> KeyRing:
    found = config(text)
    return KeyRing(found.keys, projects=found.projects, organizations=found.organizations)


def test_a_key_counts_against_its_organization_its_project_and_itself() -> None:
    keys = ring(
        f"""
        [[keys]]
        name = "app"
        secret = "{SECRET}"
        project = "search"
        limits = {{ streams = 3 }}
        [projects.search]
        limits = {{ cost = {{ month = 10 }} }}
        end_user_limits = {{ requests = {{ day = 5 }} }}
        [projects.other]
        limits = {{ streams = 1 }}
        [organizations.default]
        limits = {{ tokens = {{ minute = 1_000 }} }}
        """
    )
    principal = keys.authenticate({b"authorization": f"Bearer {SECRET}".encode()})
    assert [(scope.level, scope.id) for scope in principal.scopes] == [
        ("organization", "default"),
        ("project", "default/search"),
        ("key", "app"),
    ]
    assert principal.scopes[1].limits.cost.month == 10.0
    assert principal.end_user_limits.requests.day == 5.0
    assert list(keys.principals) == [principal]


def test_a_project_may_be_named_with_its_organization() -> None:
    keys = ring(
        f"""
        [[keys]]
        name = "app"
        secret = "{SECRET}"
        [projects."default/default"]
        limits = {{ streams = 3 }}
        """
    )
    principal = keys.authenticate({b"authorization": f"Bearer {SECRET}".encode()})
    assert [scope.id for scope in principal.scopes] == ["default/default"]


def test_who_has_no_limits_has_no_scopes() -> None:
    keys = ring(f'[[keys]]\nname = "app"\nsecret = "{SECRET}"\n[projects.default]\nlimits = {{ requests = {{}} }}')
    principal = keys.authenticate({b"authorization": f"Bearer {SECRET}".encode()})
    assert principal.scopes == ()
    assert principal.end_user_limits is NO_LIMITS


def test_in_open_mode_the_project_default_has_limits_too() -> None:
    keys = ring("[projects.default]\nlimits = { streams = 3 }")
    assert keys.open
    assert [scope.id for scope in keys.authenticate({}).scopes] == ["default/default"]
    assert ring("").authenticate({}) is OPEN
