"""Anthropic Messages (`POST /v1/messages`), as clients and as providers speak it."""

from tidegate.dialects.dialect import Endpoint, NothingPlain
from tidegate.dialects.messages.counting import CountBody, CountRequest, parse_count
from tidegate.dialects.messages.failures import error_body, error_type
from tidegate.dialects.messages.request import MessagesBody, MessagesRequest, parse_plain_request, parse_request
from tidegate.dialects.messages.upstream import MessagesUpstream
from tidegate.wire.errors import TidegateError

__all__ = [
    "CountBody",
    "CountTokensDialect",
    "MessagesBody",
    "MessagesDialect",
    "MessagesRequest",
    "MessagesUpstream",
    "error_body",
]

OVERLOADED = 529
"""Anthropic's own status for a service that is overloaded (protocol §5.3)."""


class _Anthropic(NothingPlain):
    """What the endpoints of this API have in common."""

    name: Endpoint = "messages"
    seals = True
    takes_form = False
    relayed: tuple[bytes, ...] = (b"anthropic-version", b"anthropic-beta")
    media_param = "messages"

    def error_status(self, error: TidegateError) -> int:
        return OVERLOADED if error_type(error) == "overloaded_error" else error.http_status

    def error_body(self, error: TidegateError, request_id: str) -> bytes:
        return error_body(error, request_id)


class MessagesDialect(_Anthropic):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    path = "/v1/messages"
    operation = ""
    estimates = False
    body_type = MessagesBody

    def parse_plain(self, body: bytes) -> MessagesRequest | None:
        return parse_plain_request(body)

    def parse(self, body: bytes) -> MessagesRequest:
        return parse_request(body)


class CountTokensDialect(_Anthropic):
    """How many tokens a prompt has (`POST /v1/messages/count_tokens`)."""

    path = "/v1/messages/count_tokens"
    operation = "/count_tokens"
    estimates = True
    body_type = CountBody

    def parse(self, body: bytes) -> CountRequest:
        return parse_count(body)
