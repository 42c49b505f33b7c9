"""Responses that later requests of one connection can build on, also when nothing is stored (protocol §1.9)."""

from collections.abc import Iterator

import msgspec

from tidegate.wire import jsonio

__all__ = ["Chains", "Link", "history"]

COUNT_LIMIT = 1024
"""Most responses that one connection can go back to."""

LINK_BYTES = 256
"""What a response takes beside its items."""


class Link:
    """One response: the items that it added to those of the response before it."""

    __slots__ = ("items", "lane", "previous", "response_id", "size", "users")

    def __init__(self, response_id: str, lane: str | None, previous: "Link | None", items: tuple[bytes, ...]) -> None:
        self.response_id = response_id
        self.lane = lane
        """The lane that it was made on."""
        self.previous = previous
        self.items = items
        self.size = sum(map(len, items)) + LINK_BYTES
        self.users = 0
        """Links that build on it, running requests that will, and its place among those that can be named."""


class _Named(msgspec.Struct, gc=False):
    id: str | None = None


_named = jsonio.decoder(_Named)


class Chains:
    """A tree of responses, as large as `limit` bytes. The one that was not named for longest has to go first; it stays
    in memory, and is counted, as long as another one builds on it."""

    __slots__ = ("_known", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self._known: dict[str, Link] = {}
        """By response id; the one named last comes last."""
        self._limit = limit
        self.size = 0

    def find(self, response_id: str) -> Link | None:
        """The response of that id, if it is still known."""
        link = self._known.pop(response_id, None)
        if link is not None:
            self._known[response_id] = link
        return link

    def hold(self, link: Link) -> None:
        """A request that runs builds on `link`; see :meth:`release`."""
        if link.users == 0:
            self.size += link.size
            if link.previous is not None:
                self.hold(link.previous)
        link.users += 1

    def release(self, link: Link | None) -> None:
        """One user less. What has none is gone, and with it whatever only served it."""
        while link is not None:
            link.users -= 1
            if link.users:
                return
            self.size -= link.size
            link = link.previous

    def add(self, link: Link) -> None:
        """From now on `link` can be named."""
        self.evict(link.response_id)
        self.hold(link)
        self._known[link.response_id] = link
        while self._known and (self.size > self._limit or len(self._known) > COUNT_LIMIT):
            self.evict(next(iter(self._known)))

    def evict(self, response_id: str) -> None:
        """It can be named no more."""
        self.release(self._known.pop(response_id, None))

    def item(self, item_id: str) -> bytes | None:
        """The item of that id in any response that is known, the newest first."""
        for link in reversed(self._known.values()):
            for item in link.items:
                if jsonio.decode(item, _named).id == item_id:
                    return item
        return None


def history(link: Link) -> list[bytes]:
    """All items up to the end of the response."""
    return [item for one in reversed(list(_back(link))) for item in one.items]


def _back(link: Link | None) -> Iterator[Link]:
    while link is not None:
        yield link
        link = link.previous
