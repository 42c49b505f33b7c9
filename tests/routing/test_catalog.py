"""Names and deployments, without a network."""

import time
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.routing.balance import Candidate
from tidegate.routing.catalog import Alias, Catalog, Deployment, Target
from tidegate.wire.errors import ModelNotFound

LISTINGS: dict[str, list[str] | None] = {
    "openai": ["gpt-5.2", "shared"],
    "lab": ["openai/gpt-oss-20b", "Qwen/Qwen3-8B", "shared", "own"],
    "proxy": None,
}


def names(catalog: Catalog, name: str, draw: float = 0.0) -> list[str]:
    return [step.name for step in catalog.plan(name, draw)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-5.2", "openai/gpt-5.2"),
        ("shared", "openai/shared"),
        ("openai/gpt-5.2", "openai/gpt-5.2"),
        ("Qwen/Qwen3-8B", "lab/Qwen/Qwen3-8B"),
        ("lab/Qwen/Qwen3-8B", "lab/Qwen/Qwen3-8B"),
        # The prefix is a provider, but only another one is known to have the whole id.
        ("openai/gpt-oss-20b", "lab/openai/gpt-oss-20b"),
        ("lab/openai/gpt-oss-20b", "lab/openai/gpt-oss-20b"),
        # Nobody is known to have it: the prefix decides, and the provider's own 404 is reported.
        ("openai/gpt-9", "openai/gpt-9"),
        ("proxy/a/b/c", "proxy/a/b/c"),
        ("who-knows", "proxy/who-knows"),
    ],
)
def test_resolution(name: str, found: str) -> None:
    assert names(Catalog({}, LISTINGS), name) == [found]


def test_a_prefix_wins_where_its_provider_may_have_the_rest() -> None:
    listings: dict[str, list[str] | None] = {"openai": None, "lab": ["openai/gpt-oss-20b"]}
    assert names(Catalog({}, listings), "openai/gpt-oss-20b") == ["openai/gpt-oss-20b"]
    both: dict[str, list[str] | None] = {"openai": ["gpt-oss-20b"], "lab": ["openai/gpt-oss-20b"]}
    assert names(Catalog({}, both), "openai/gpt-oss-20b") == ["openai/gpt-oss-20b"]


def test_of_several_providers_one_that_is_able_is_taken() -> None:
    catalog = Catalog({}, LISTINGS)
    assert [step.name for step in catalog.plan("shared", 0.0, frozenset({"lab"}))] == ["lab/shared"]


@pytest.mark.parametrize("name", ["nobody/has", "/gpt-5.2", "openai/", "/"])
def test_what_leads_nowhere_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        Catalog({}, LISTINGS).plan(name, 0.0)
    assert f"'{name}'" in caught.value.message
    assert caught.value.param == "model"


def test_near_names_are_told_and_without_any_the_providers() -> None:
    catalog = Catalog({"fast": Alias((Target("gpt-5.2"),))}, {"openai": ["gpt-5.2"], "lab": ["own"]})
    for asked, near in (("fsat", "fast"), ("gpt-5.1", "gpt-5.2"), ("opnai/gpt-5.2", "openai/gpt-5.2")):
        with pytest.raises(ModelNotFound, match=f"Did you mean.*'{near}'"):
            catalog.plan(asked, 0.0)
    with pytest.raises(ModelNotFound, match="'openai/…', 'lab/…'"):
        catalog.plan("zzzzzzzzzzzzzz", 0.0)


def test_an_alias_comes_first_and_its_fallbacks_in_order() -> None:
    catalog = Catalog({"shared": Alias((Target("lab/own"),), ("openai/gpt-5.2", "shared-too"))}, LISTINGS)
    assert names(catalog, "shared") == ["lab/own", "openai/gpt-5.2", "proxy/shared-too"]
    first = catalog.plan("shared", 0.0)[0]
    assert (first.alias, first.position) == ("shared", 0)


def test_a_deployment_is_planned_once() -> None:
    catalog = Catalog(
        {"a": Alias((Target("lab/own"),), ("own", "lab/own", "b")), "b": Alias((Target("own"),))}, LISTINGS
    )
    assert names(catalog, "a") == ["lab/own"]


def test_the_draw_falls_on_targets_by_weight() -> None:
    catalog = Catalog({"a": Alias((Target("lab/x", 1), Target("lab/y", 0), Target("lab/z", 3)))}, LISTINGS)
    drawn = [names(catalog, "a", draw)[0] for draw in (0.0, 0.2499, 0.25, 0.5, 0.9999)]
    assert drawn == ["lab/x", "lab/x", "lab/z", "lab/z", "lab/z"]
    assert catalog.plan("a", 0.9)[0].position == 2


@given(weights=st.lists(st.integers(0, 5), min_size=1, max_size=4), draw=st.floats(0, 1, exclude_max=True))
def test_a_target_without_weight_is_never_drawn(weights: list[int], draw: float) -> None:
    catalog = Catalog(
        {"a": Alias(tuple(Target(f"lab/{at}", weight) for at, weight in enumerate(weights)))}, {"lab": None}
    )
    position = catalog.plan("a", draw)[0].position
    assert weights[position] > 0 or not any(weights)


def test_an_alias_inside_another_draws_from_a_whole_range_of_its_own() -> None:
    half = Alias((Target("lab/x"), Target("lab/y")))
    catalog = Catalog({"outer": Alias((Target("inner"), Target("lab/z"))), "inner": half}, {"lab": None})
    seen = Counter(names(catalog, "outer", at / 1000)[0] for at in range(1000))
    assert seen == {"lab/x": 250, "lab/y": 250, "lab/z": 500}
    behind = Catalog({"outer": Alias((Target("lab/a"), Target("lab/b")), ("inner",)), "inner": half}, {"lab": None})
    pairs = Counter(tuple(names(behind, "outer", at / 1000)) for at in range(1000))
    assert set(pairs.values()) == {250}
    assert len(pairs) == 4


@pytest.mark.alone
def test_a_near_miss_among_hundreds_of_names_is_found_without_holding_up_others() -> None:
    catalog = Catalog({}, {"router": [f"vendor{at % 40}/some-model-name-{at}-instruct" for at in range(600)]})
    started = time.perf_counter()
    with pytest.raises(ModelNotFound, match="vendor7/some-model-name-7-instruct"):
        catalog.plan("vendr7/some-model-nme-7-instruct", 0.0)
    assert time.perf_counter() - started < 0.05  # about 5 ms; comparing all of them took 140


class Standing:
    """A view in which some deployments are not fit, and others are busy."""

    def __init__(
        self, *unfit: str, running: dict[str, int] | None = None, prices: dict[str, float] | None = None
    ) -> None:
        self._unfit = unfit
        self._running = running or {}
        self._prices = prices or {}

    def fit(self, deployment: Deployment) -> bool:
        return deployment.name not in self._unfit

    def candidate(self, deployment: Deployment, target: Target) -> Candidate:
        name = deployment.name
        running = self._running.get(name, 0)
        return Candidate(name, target.weight, fit=self.fit(deployment), running=running, price=target.price)

    def price(self, deployment: Deployment) -> float | None:
        return self._prices.get(deployment.name)


THREE = Alias((Target("lab/x"), Target("lab/y"), Target("lab/z")), ("lab/spare", "lab/last"))


def planned(alias: Alias, view: Standing | None = None, draw: float = 0.0, sticky: str = "") -> list[str]:
    catalog = Catalog({"a": alias}, {"lab": None})
    return [step.model for step in catalog.plan("a", draw, view=view, sticky=sticky)]


def test_the_other_targets_come_before_the_fallbacks() -> None:
    assert planned(THREE) == ["x", "y", "z", "spare", "last"]
    assert planned(THREE, draw=0.99)[0] == "z"
    assert sorted(planned(THREE, draw=0.99)[:3]) == ["x", "y", "z"]


def test_what_is_not_fit_comes_last_even_behind_fallbacks() -> None:
    assert planned(THREE, Standing("lab/x", "lab/spare")) == ["y", "z", "last", "x", "spare"]
    everything = Standing("lab/x", "lab/y", "lab/z", "lab/spare", "lab/last")
    assert sorted(planned(THREE, everything)) == ["last", "spare", "x", "y", "z"]


def test_an_alias_follows_its_strategy() -> None:
    busy = Standing(running={"lab/x": 3, "lab/y": 1, "lab/z": 2})
    assert planned(msgspec.structs.replace(THREE, strategy="least-busy"), busy)[:3] == ["y", "z", "x"]
    assert planned(THREE, busy)[:3] == ["x", "y", "z"]


def test_the_cheapest_target_is_asked_first() -> None:
    priced = (Target("lab/x"), Target("lab/y", price=3.0), Target("lab/z", price=2.0))
    assert planned(Alias(priced, ("lab/spare",), "cheapest")) == ["z", "y", "x", "spare"]
    assert planned(Alias(priced, (), "cheapest"), Standing()) == ["z", "y", "x"]


def test_what_a_deployment_costs_stands_in_for_a_price_of_the_target_and_unknown_is_not_cheap() -> None:
    plain = Alias((Target("lab/x"), Target("lab/y"), Target("lab/z")), (), "cheapest")
    for draw in (0.0, 0.4, 0.99):
        assert planned(plain, Standing(prices={"lab/x": 0.5, "lab/z": 0.0}), draw) == ["z", "x", "y"]
        assert planned(plain, Standing("lab/z", prices={"lab/x": 0.5, "lab/z": 0.0}), draw) == ["x", "y", "z"]
    own = Alias((Target("lab/x", price=9.0), Target("lab/y")), (), "cheapest")
    assert planned(own, Standing(prices={"lab/x": 0.0, "lab/y": 1.0})) == ["y", "x"]


def test_a_sticky_key_decides_where_the_alias_lets_it() -> None:
    firsts = {planned(THREE, draw=draw, sticky="key")[0] for draw in (0.0, 0.4, 0.9)}
    assert len(firsts) == 1
    loose = msgspec.structs.replace(THREE, sticky=False)
    assert {planned(loose, draw=draw, sticky="key")[0] for draw in (0.0, 0.4, 0.9)} == {"x", "y", "z"}


def test_every_planned_target_says_where_in_the_alias_it_stands() -> None:
    catalog = Catalog({"a": THREE}, {"lab": None})
    assert [(step.alias, step.position) for step in catalog.plan("a", 0.0)] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
        ("", -1),
        ("", -1),
    ]


def test_a_target_that_leads_nowhere_is_left_out_unless_all_do() -> None:
    listings: dict[str, list[str] | None] = {"lab": ["own"]}
    half = Catalog({"a": Alias((Target("gone"), Target("own")))}, listings)
    assert [step.name for step in half.plan("a", 0.0)] == ["lab/own"]
    with pytest.raises(ModelNotFound, match="'gone'"):
        Catalog({"a": Alias((Target("gone"), Target("lost")))}, listings).plan("a", 0.0)


def test_a_plan_is_drawn_where_an_alias_on_its_way_has_several_targets() -> None:
    aliases = {
        "a": THREE,
        "one": Alias((Target("lab/x"),), ("lab/y",)),
        "b": Alias((Target("a"),)),
        "c": Alias((Target("lab/x"),), ("b",)),
    }
    catalog = Catalog(aliases, {"lab": None})
    assert [name for name in (*aliases, "lab/x", "nobody") if catalog.draws(name)] == ["a", "b", "c"]
