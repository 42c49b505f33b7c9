"""What a request builds on: the turns before it, and items that it refers to."""

from functools import partial

import msgspec

from tidegate.dialects.responses.prompt import previous_not_found
from tidegate.dialects.responses.state import References
from tidegate.gateway.archive import RESPONSE, Archive
from tidegate.storage.records import ENDED, HistoryIncomplete, HistoryTooLarge, Ref, Tenant
from tidegate.storage.storage import Storage
from tidegate.wire.errors import InvalidRequest, NotFound

__all__ = ["History", "look_up"]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Earlier turns, and items that are referred to one by one."""

    items: list[bytes]
    """The items before its own, in order."""
    named: dict[str, bytes]
    """Items that it names, by id."""
    previous: Ref | None = None
    """The response that it goes on from."""
    conversation: Ref | None = None
    """The conversation that it belongs to."""
    taken: frozenset[str] = frozenset()
    """The ids of the items before its own."""
    seen: int = 0
    """Where what it adds to that begins to count: behind the items that it is asked with."""


async def look_up(storage: Storage, archive: Archive, references: References, tenant: Tenant) -> History:
    """Raises InvalidRequest and NotFound, each with the official text, where something is not there or not usable."""
    items: list[bytes] = []
    taken: frozenset[str] = frozenset()
    previous: Ref | None = None
    conversation: Ref | None = None
    seen = 0
    try:
        if references.previous is not None:
            previous, items, taken = await _turns(storage, archive, references.previous, tenant)
        elif references.conversation is not None:
            found = await storage.read_conversation(tenant, references.conversation)
            if found is None:
                raise NotFound(f"Conversation with id '{references.conversation}' not found.", param="conversation")
            conversation, items = found[0].ref, [item.content for item in found[1]]
            taken = frozenset(item.id for item in found[1])
            seen = found[1][-1].position + 1 if items else 0
    except HistoryIncomplete as hole:
        raise previous_not_found(hole.gone, hole.following) from None
    except HistoryTooLarge as error:
        raise InvalidRequest(
            f"The turns before this one cannot be sent along: {error}.",
            param="previous_response_id" if references.previous else "conversation",
            code="context_length_exceeded",
        ) from None
    named = await storage.find_items(tenant, references.items) if references.items else {}
    return History(
        items=items,
        named={name: item.content for name, item in named.items()},
        previous=previous,
        conversation=conversation,
        taken=taken,
        seen=seen,
    )


async def _turns(
    storage: Storage, archive: Archive, response_id: str, tenant: Tenant
) -> tuple[Ref, list[bytes], frozenset[str]]:
    """A response, all items up to its own, and their ids."""
    if not response_id.startswith(RESPONSE):
        raise previous_not_found(response_id)
    chain = await archive.patiently(partial(storage.read_chain, tenant, response_id))
    if chain is None:
        raise previous_not_found(response_id)
    if chain.links[-1].status not in ENDED:
        raise InvalidRequest(
            f"Previous response with id '{response_id}' is still in progress.",
            param="previous_response_id",
            code="previous_response_in_progress",
        )
    items = [item.content for item in chain.before]
    for link in chain.links:
        items += [item.content for item in link.items]
        if link.status == "failed" and not any(item.role == "output" for item in link.items):
            items += await archive.outputs_of_dead(tenant, link.ref.id)
    taken = frozenset(item.id for link in chain.links for item in link.items)
    return chain.ref, items, taken.union(item.id for item in chain.before)
