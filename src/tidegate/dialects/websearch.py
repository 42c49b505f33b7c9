"""A search of the web that the provider runs itself: the one hosted tool that most APIs have, in no dialect.

Responses has `web_search` (and `web_search_preview`), chat `web_search_options`, Anthropic `web_search_…` with a date, and
Google `googleSearch`. A model that is offered a search may do without: a provider that has none is not told of it.
"""

from collections.abc import Iterable

import msgspec

from tidegate.dialects.codec import Losses
from tidegate.dialects.leftovers import Leftovers
from tidegate.wire import jsonio
from tidegate.wire.items import CanonicalRequest, HostedTool, Tool, ToolChoice

__all__ = ["CALL", "FORCED", "WebSearch", "forced_search", "is_web_search", "read_web_search"]

CALL = "web_search_call"
"""The type of the item that a search is in an answer. Another provider's is of no use to a model: what was found stands in
the words behind it."""

FORCED = ToolChoice(mode="function", names=("web_search",))
"""The choice that forces a search; a function of this name takes its place."""

_GOOGLE = ("googleSearch", "googleSearchRetrieval")
_FILTERS = frozenset({"timeRangeFilter", "searchTypes", "excludeDomains", "blockingConfidence"})
"""Google's own limits of what is searched."""


class _Filters(msgspec.Struct):
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None


class _Options(msgspec.Struct):
    filters: _Filters | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    user_location: jsonio.Members | None = None
    search_context_size: str | None = None
    max_uses: int | None = None


_options = jsonio.decoder(_Options)
_members = jsonio.decoder(jsonio.Members)

_LOCATION = frozenset({"approximate", "city", "country", "region", "timezone", "type"})
_READ = frozenset({*_Options.__struct_fields__, "type", "name"})


class WebSearch(msgspec.Struct, kw_only=True):
    """What a client asks of a search."""

    allowed_domains: list[str] = []
    blocked_domains: list[str] = []
    user_location: dict[str, msgspec.Raw] | None = None
    """`city`, `region`, `country` and `timezone`, and the type `approximate`."""
    search_context_size: str = ""
    max_uses: int | None = None
    at: str = "tools[]."
    """Where the client has its options, and `domains_at` its lists of domains."""
    domains_at: str = "tools[]."
    left: Leftovers
    """The client's own names of options that nobody else has."""

    def put_domains(self, members: dict[str, object], losses: Losses, why: str) -> None:
        """For an API that takes one list of domains only; `why` says so."""
        if self.allowed_domains:
            members["allowed_domains"] = self.allowed_domains
        if self.blocked_domains and self.allowed_domains:
            losses.refuse(self.domains_at + "blocked_domains", why)
        elif self.blocked_domains:
            members["blocked_domains"] = self.blocked_domains

    def tell(self, losses: Losses, lacking: Iterable[str] = (), *, domains: bool = True) -> None:
        """What is lost where these options are `lacking`, and no list of `domains` can be had."""
        if not domains:
            for name in ("allowed_domains", "blocked_domains"):
                if getattr(self, name):
                    losses.refuse(self.domains_at + name, "Its search takes no list of domains.")
        for name in lacking:
            if getattr(self, name):
                losses.hint(self.at + name)
        for name in self.left.hints:
            losses.hint(name)
        for name in self.left.refused:
            losses.refuse(name, "Only Google's search has that.")


def is_web_search(tool: HostedTool) -> bool:
    return tool.type.startswith(("web_search", "google_search")) or tool.type in _GOOGLE


def read_web_search(tool: HostedTool) -> WebSearch | None:
    """The search that `tool` is, in whatever dialect; None for any other tool. What cannot be read of it is no option."""
    if not is_web_search(tool):
        return None
    left = Leftovers()
    value, at = tool.value, "tools[]."
    if tool.type == "web_search_options":
        at = f"{tool.type}."
    elif tool.type in _GOOGLE:
        at = f"tools[].{tool.type}."
        value = jsonio.members(value)[tool.type]
    try:
        members = jsonio.decode(value, _members)
        given = jsonio.decode(value, _options)
    except (jsonio.InvalidJSON, jsonio.SchemaMismatch):
        left.hint(at.removesuffix("."))
        return WebSearch(left=left)
    said = ((name, one) for name, one in members.items() if (name, bytes(one)) != ("external_web_access", b"true"))
    left.read(said, _READ, _FILTERS, at)
    _read_within(members, "filters", _Filters.__struct_fields__, left, at)
    _read_within(members, "user_location", _LOCATION, left, at)
    filters = given.filters or _Filters(given.allowed_domains, given.blocked_domains)
    return WebSearch(
        allowed_domains=filters.allowed_domains or [],
        blocked_domains=filters.blocked_domains or [],
        user_location=_location(given.user_location),
        search_context_size=given.search_context_size or "",
        max_uses=given.max_uses,
        at=at,
        domains_at=f"{at}filters." if given.filters is not None else at,
        left=left,
    )


def forced_search(request: CanonicalRequest) -> HostedTool | None:
    """The search, where that is the tool that must be called."""
    if request.tool_choice != FORCED:
        return None
    if any(isinstance(tool, Tool) and tool.name in FORCED.names for tool in request.tools):
        return None
    return next((tool for tool in request.tools if isinstance(tool, HostedTool) and is_web_search(tool)), None)


def _read_within(members: jsonio.Members, name: str, known: Iterable[str], left: Leftovers, at: str) -> None:
    value = members.get(name, jsonio.NULL)
    if not jsonio.is_null(value):
        left.read(jsonio.members(value).items(), frozenset(known), at=f"{at}{name}.")


def _location(given: jsonio.Members | None) -> dict[str, msgspec.Raw] | None:
    """Chat has the place one level deeper."""
    if not given:
        return None
    inner = given.get("approximate", jsonio.NULL)
    place = jsonio.members(inner) if bytes(inner)[:1] == b"{" else given
    said = {name: one for name, one in place.items() if name != "type" and not jsonio.is_null(one)}
    return {"type": jsonio.raw("approximate"), **said}
