"""OpenAI Responses (`POST /v1/responses`)."""

from tidegate.dialects.dialect import Endpoint, OpenAIErrors
from tidegate.dialects.responses.request import ResponsesBody, ResponsesRequest, parse_request

__all__ = ["ResponsesBody", "ResponsesDialect", "ResponsesRequest"]


class ResponsesDialect(OpenAIErrors):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "responses"
    path = "/v1/responses"
    seals = True
    media_param = "input"
    body_type = ResponsesBody

    def parse(self, body: bytes) -> ResponsesRequest:
        return parse_request(body)
