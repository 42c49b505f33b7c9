"""Whatever a document holds, loading it ends with a snapshot or with a list of problems, never with a crash."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.config.load import build, load
from tidegate.config.origin import flatten
from tidegate.config.problem import ConfigInvalid, Problem
from tidegate.config.schema import Config

CANARY = "canary5f8e2d7a1b9c4e6f3a0d8b7c2e1f"
MEMBERS = """
    host port drain max_body cors_origins model models profile kind base_url credentials headers proxy timeouts idle total
    speaks chat paths refuses name secret targets target weight fallback level openai lab x
"""

names = st.sampled_from(MEMBERS.split())
scalars = st.one_of(
    st.sampled_from(["", "off", "1s", "openai", "lab/x", "http://h/v1", "chat", "a\r\nb", "ollama", "中"]),
    st.sampled_from(["${CANARY}", "${NOT_SET}", "${", "${NOT_SET:-1}", "$${", "${1}"]),
    st.integers(-2, 10**12),
    st.floats(),
    st.booleans(),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)
tables = st.dictionaries(names, values, max_size=6)
documents = st.fixed_dictionaries(
    {},
    optional={
        "server": tables | values,
        "defaults": tables,
        "providers": st.dictionaries(names, tables | values, max_size=3),
        "keys": st.lists(tables | values, max_size=3),
        "models": st.dictionaries(names, tables | values, max_size=3),
        "logging": tables,
        "x": values,
    },
)
anything = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(raw: dict[str, Any] | str) -> Config | tuple[Problem, ...]:
    """The snapshot or the problems; any other exception fails the test."""
    env = {"CANARY": CANARY}
    try:
        if isinstance(raw, str):
            return load(raw, "t.toml", env)
        return build(raw, "t.toml", env, place=lambda path: f"t.toml:{len(path)}", command_line={})
    except ConfigInvalid as invalid:
        return invalid.problems


@anything
@given(documents)
def test_any_document_is_a_snapshot_or_a_list_of_problems(raw: dict[str, Any]) -> None:
    result = outcome(raw)
    if isinstance(result, Config):
        assert flatten(result)
    else:
        assert result
        assert all(problem.message and problem.path for problem in result)
        assert all(CANARY not in problem.render("t.toml") for problem in result)


@anything
@given(st.text(alphabet="[]{}=\"'#.\n abc123$", max_size=60))
def test_any_text_is_a_snapshot_or_a_list_of_problems(text: str) -> None:
    result = outcome(text)
    if not isinstance(result, Config):
        assert all(problem.line is None or 1 <= problem.line <= text.count("\n") + 1 for problem in result)
