"""What one connection remembers, held against a model that counts anew each time."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tidegate.gateway.chains import COUNT_LIMIT, LINK_BYTES, Chains, Link, history


def item(text: str) -> bytes:
    return b'{"id":"%b"}' % text.encode()


def test_the_history_is_all_that_came_before_in_order() -> None:
    chains = Chains(10_000)
    link: Link | None = None
    for number in range(5):
        link = Link(f"resp_{number}", None, link, (item(f"q{number}"), item(f"a{number}")))
        chains.add(link)
    assert link is not None
    assert history(link) == [item(f"{who}{number}") for number in range(5) for who in "qa"]
    middle = chains.find("resp_2")
    assert middle is not None
    assert len(history(middle)) == 6


def test_the_one_not_named_for_longest_goes_first() -> None:
    chains = Chains(3 * (LINK_BYTES + 100))
    for name in "abc":
        chains.add(Link(name, None, None, (b"x" * 100,)))
    assert chains.find("a") is not None
    chains.add(Link("d", None, None, (b"x" * 100,)))
    assert [name for name in "abcd" if chains.find(name)] == ["a", "c", "d"]


def test_what_is_too_large_by_itself_is_not_remembered() -> None:
    chains = Chains(1000)
    chains.add(Link("a", None, None, (b"x" * 2000,)))
    assert chains.find("a") is None
    assert chains.size == 0


def test_what_others_build_on_is_counted_as_long_as_they_do() -> None:
    chains = Chains(100_000)
    root = Link("root", None, None, (b"x" * 1000,))
    chains.add(root)
    leaf = Link("leaf", None, root, (b"y" * 10,))
    chains.add(leaf)
    chains.evict("root")
    assert chains.find("root") is None
    assert history(leaf) == [b"x" * 1000, b"y" * 10]
    assert chains.size == root.size + leaf.size
    chains.evict("leaf")
    assert chains.size == 0


def test_a_running_request_keeps_what_it_builds_on() -> None:
    chains = Chains(100_000)
    root = Link("root", None, None, (b"x",))
    chains.add(root)
    chains.hold(root)
    chains.evict("root")
    assert chains.size == root.size
    chains.add(Link("leaf", None, root, (b"y",)))
    chains.release(root)
    assert chains.size == root.size + LINK_BYTES + 1


def test_their_number_is_limited() -> None:
    chains = Chains(10**9)
    for number in range(COUNT_LIMIT + 10):
        chains.add(Link(f"resp_{number}", None, None, ()))
    assert chains.find("resp_9") is None
    assert chains.find("resp_10") is not None


def test_an_item_is_found_in_the_newest_response_that_has_it() -> None:
    chains = Chains(10_000)
    chains.add(Link("a", None, None, (b'{"id":"msg_1","n":1}', b'{"no":"id"}')))
    chains.add(Link("b", None, None, (b'{"id":"msg_1","n":2}',)))
    assert chains.item("msg_1") == b'{"id":"msg_1","n":2}'
    assert chains.item("msg_2") is None


class ChainsAgainstModel(RuleBasedStateMachine):
    """Sizes are those of the links that can be reached, whatever happened in between."""

    @initialize(limit=st.integers(LINK_BYTES, 20 * LINK_BYTES))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.chains = Chains(limit)
        self.known: dict[str, Link] = {}
        self.held: list[Link] = []
        self.number = 0

    @rule(size=st.integers(0, 600), on=st.integers(0, 5))
    def add(self, size: int, on: int) -> None:
        """A turn: it holds what it builds on while it runs."""
        self.number += 1
        names = list(self.known)
        previous = self.known[names[on % len(names)]] if names and on else None
        if previous is not None:
            self.chains.hold(previous)
        link = Link(f"resp_{self.number}", None, previous, (b"x" * size,))
        self.chains.add(link)
        self.chains.release(previous)
        self.known[link.response_id] = link
        self.forget_what_went()

    @rule(which=st.integers(0, 10))
    def hold(self, which: int) -> None:
        if self.known:
            link = list(self.known.values())[which % len(self.known)]
            self.chains.hold(link)
            self.held.append(link)

    @rule()
    def release(self) -> None:
        if self.held:
            self.chains.release(self.held.pop())

    @rule(which=st.integers(0, 10))
    def evict(self, which: int) -> None:
        if self.known:
            name = list(self.known)[which % len(self.known)]
            self.chains.evict(name)
            del self.known[name]
            assert self.chains.find(name) is None

    def forget_what_went(self) -> None:
        self.known = {name: link for name, link in self.known.items() if self.chains.find(name) is link}

    @invariant()
    def sizes_add_up(self) -> None:
        if not hasattr(self, "chains"):
            return
        reached: set[Link] = set()
        for start in (*self.known.values(), *self.held):
            link: Link | None = start
            while link is not None:
                reached.add(link)
                link = link.previous
        assert self.chains.size == sum(link.size for link in reached)
        assert self.chains.size <= self.limit or not self.known or self.held


ChainsAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_sizes = ChainsAgainstModel.TestCase
