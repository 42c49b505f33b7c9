"""Google Gemini (`POST /v1beta/models/{model}:generateContent`, and `:streamGenerateContent`)."""

from tidegate.dialects.dialect import Endpoint
from tidegate.dialects.gemini.address import Address, read_address
from tidegate.dialects.gemini.answer import error_body
from tidegate.dialects.gemini.request import GeminiRequest, parse_request
from tidegate.dialects.gemini.schema import GeminiBody
from tidegate.dialects.gemini.upstream import GeminiUpstream
from tidegate.wire.errors import TidegateError

__all__ = ["Address", "GeminiBody", "GeminiDialect", "GeminiRequest", "GeminiUpstream", "error_body", "read_address"]


class GeminiDialect:
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "gemini"
    path = "/v1beta/models/{model}:{method}"
    body_type = GeminiBody

    def parse(self, body: bytes, *, model: str = "", stream: bool = False, alt: str = "sse") -> GeminiRequest:
        """`model`, `stream` and `alt` stand in the address: `{model}`, the method, and the query; `alt` is empty where it
        has none, and the stream is one JSON array then."""
        return parse_request(body, model=model, stream=stream, alt=alt)

    def error_status(self, error: TidegateError) -> int:
        return error.http_status

    def error_body(self, error: TidegateError, request_id: str) -> bytes:
        return error_body(error)
