"""OpenAI Responses (`POST /v1/responses`)."""

from tidegate.dialects.dialect import Endpoint, OpenAIErrors
from tidegate.dialects.responses.compact import CompactBody, CompactRequest, parse_compact
from tidegate.dialects.responses.input_tokens import InputTokensBody, InputTokensRequest, parse_input_tokens
from tidegate.dialects.responses.request import ResponsesBody, ResponsesRequest, parse_plain_request, parse_request

__all__ = [
    "CompactBody",
    "CompactDialect",
    "InputTokensBody",
    "InputTokensDialect",
    "ResponsesBody",
    "ResponsesDialect",
    "ResponsesRequest",
]


class _Responses(OpenAIErrors):
    """What the endpoints of this API have in common."""

    name: Endpoint = "responses"
    seals = True
    media_param = "input"


class ResponsesDialect(_Responses):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    path = "/v1/responses"
    body_type = ResponsesBody

    def parse_plain(self, body: bytes) -> ResponsesRequest | None:
        return parse_plain_request(body)

    def parse(self, body: bytes) -> ResponsesRequest:
        return parse_request(body)


class InputTokensDialect(_Responses):
    """How many tokens a prompt has (`POST /v1/responses/input_tokens`)."""

    path = "/v1/responses/input_tokens"
    operation = "/input_tokens"
    estimates = True
    body_type = InputTokensBody

    def parse(self, body: bytes) -> InputTokensRequest:
        return parse_input_tokens(body)


class CompactDialect(_Responses):
    """A conversation made shorter (`POST /v1/responses/compact`)."""

    path = "/v1/responses/compact"
    operation = "/compact"
    body_type = CompactBody

    def parse(self, body: bytes) -> CompactRequest:
        return parse_compact(body)
