"""Anthropic Messages (`POST /v1/messages`), as clients and as providers speak it."""

from tidegate.dialects.dialect import EVENT_STREAM, Endpoint
from tidegate.dialects.messages.failures import error_body, error_type
from tidegate.dialects.messages.request import MessagesBody, MessagesRequest, parse_request
from tidegate.dialects.messages.upstream import MessagesUpstream
from tidegate.wire.errors import TidegateError

__all__ = ["MessagesBody", "MessagesDialect", "MessagesRequest", "MessagesUpstream", "error_body"]

OVERLOADED = 529
"""Anthropic's own status for a service that is overloaded (protocol §5.3)."""


class MessagesDialect:
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "messages"
    path = "/v1/messages"
    stream_type = EVENT_STREAM
    media_param = "messages"
    body_type = MessagesBody

    def parse(self, body: bytes) -> MessagesRequest:
        return parse_request(body)

    def error_status(self, error: TidegateError) -> int:
        return OVERLOADED if error_type(error) == "overloaded_error" else error.http_status

    def error_body(self, error: TidegateError, request_id: str) -> bytes:
        return error_body(error, request_id)
