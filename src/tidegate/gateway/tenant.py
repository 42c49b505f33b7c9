"""Whose data it is."""

from tidegate.access.keys import Principal
from tidegate.storage.records import Tenant

__all__ = ["tenant_of"]


def tenant_of(principal: Principal) -> Tenant:
    """The tenant that a caller belongs to: keys of one project share what they store."""
    return Tenant("default", principal.project)
