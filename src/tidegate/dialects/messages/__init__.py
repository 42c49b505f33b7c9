"""Anthropic Messages (`POST /v1/messages`), as clients and as providers speak it."""

from tidegate.dialects.dialect import Endpoint
from tidegate.dialects.messages.failures import error_body
from tidegate.dialects.messages.request import MessagesBody, MessagesRequest, parse_request
from tidegate.dialects.messages.upstream import MessagesUpstream

__all__ = ["MessagesBody", "MessagesDialect", "MessagesRequest", "MessagesUpstream", "error_body"]


class MessagesDialect:
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "messages"
    path = "/v1/messages"
    body_type = MessagesBody

    def parse(self, body: bytes) -> MessagesRequest:
        return parse_request(body)
