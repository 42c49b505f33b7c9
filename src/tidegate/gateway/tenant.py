"""Whose data it is."""

from tidegate.access.keys import DEFAULT, Principal
from tidegate.storage.records import Tenant

__all__ = ["envelope_name", "tenant_of"]


def tenant_of(principal: Principal) -> Tenant:
    """The tenant that a caller belongs to: keys of one project share what they store."""
    return Tenant(principal.organization, principal.project)


def envelope_name(principal: Principal) -> str:
    """What the caller's tenant is called in reasoning envelopes. In the default organization it is the project alone, as
    it was before there were others; no name of ours holds a NUL."""
    if principal.organization == DEFAULT:
        return principal.project
    return f"{principal.organization}\0{principal.project}"
