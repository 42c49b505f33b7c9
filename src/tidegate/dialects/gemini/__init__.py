"""Google Gemini (`POST /v1beta/models/{model}:generateContent`, and `:streamGenerateContent`)."""

from urllib.parse import parse_qs, unquote

from tidegate.dialects.dialect import Endpoint, NothingPlain
from tidegate.dialects.gemini.answer import error_body
from tidegate.dialects.gemini.counting import GeminiCountBody, GeminiCountRequest, parse_count
from tidegate.dialects.gemini.embeddings import GeminiEmbeddingsRequest, parse_embeddings
from tidegate.dialects.gemini.request import GeminiRequest, parse_plain_request, parse_request
from tidegate.dialects.gemini.schema import GeminiBody
from tidegate.dialects.gemini.upstream import GeminiUpstream
from tidegate.wire.errors import AmbiguousRequest, TidegateError

__all__ = [
    "GeminiAddress",
    "GeminiBody",
    "GeminiCountBody",
    "GeminiCounting",
    "GeminiDialect",
    "GeminiRequest",
    "GeminiUpstream",
    "error_body",
    "gemini_at",
    "has_key",
    "key_in",
]


class GeminiDialect(NothingPlain):
    """See :class:`tidegate.dialects.dialect.Dialect`."""

    name: Endpoint = "gemini"
    path = "/v1beta/models/{model}:{method}"
    operation = ""
    estimates = False
    seals = False
    takes_form = False
    relayed: tuple[bytes, ...] = ()
    media_param = "contents"
    body_type = GeminiBody

    def parse(self, body: bytes, *, model: str = "", stream: bool = False, alt: str = "sse") -> GeminiRequest:
        """`model`, `stream` and `alt` stand in the address: `{model}`, the method, and the query; `alt` is empty where it
        has none, and the stream is one JSON array then."""
        return parse_request(body, model=model, stream=stream, alt=alt)

    def error_status(self, error: TidegateError) -> int:
        return error.http_status

    def error_body(self, error: TidegateError, request_id: str) -> bytes:
        return error_body(error)


class GeminiAddress(GeminiDialect):
    """The dialect at one address: the model, and whether and how the answer streams, stand there and not in the body."""

    def __init__(self, path: str, *, model: str, stream: bool, alt: str) -> None:
        self.path = path
        self._model = model
        self._stream = stream
        self._alt = alt

    def parse_plain(self, body: bytes) -> GeminiRequest | None:
        return parse_plain_request(body, model=self._model, stream=self._stream, alt=self._alt)

    def parse(self, body: bytes, **_: object) -> GeminiRequest:
        return parse_request(body, model=self._model, stream=self._stream, alt=self._alt)


class GeminiEmbeddings(GeminiDialect):
    """Embeddings at one address."""

    name: Endpoint = "embeddings"

    def __init__(self, path: str, *, model: str, many: bool) -> None:
        self.path = path
        self._model = model
        self._many = many

    def parse(self, body: bytes, **_: object) -> GeminiEmbeddingsRequest:  # type: ignore[override]
        return parse_embeddings(body, model=self._model, many=self._many)


class GeminiCounting(GeminiDialect):
    """How many tokens a prompt has, at one address."""

    operation = ":countTokens"
    estimates = True
    seals = True
    body_type = GeminiCountBody  # type: ignore[assignment]

    def __init__(self, path: str, *, model: str) -> None:
        self.path = path
        self._model = model

    def parse(self, body: bytes, **_: object) -> GeminiCountRequest:  # type: ignore[override]
        return parse_count(body, model=self._model)


_METHODS = {"generateContent": False, "streamGenerateContent": True}
_EMBEDDING = {"embedContent": False, "batchEmbedContents": True}
_COUNTING = "countTokens"
METHODS = (*_METHODS, *_EMBEDDING, _COUNTING)
"""What can be asked of a model."""
_PREFIXES = ("/v1beta/models/", "/v1/models/")


def gemini_at(target: bytes) -> GeminiAddress | GeminiEmbeddings | GeminiCounting | None:
    """The dialect at a request target, if it is one of this API; `alt` is read from the query (`alt=sse`, or none)."""
    path, _, query = target.decode("latin-1").partition("?")
    named, colon, method = path.rpartition(":")
    if not colon or (method not in _METHODS and method not in _EMBEDDING and method != _COUNTING):
        return None
    for prefix in _PREFIXES:
        if named.startswith(prefix) and len(named) > len(prefix):
            model = unquote(named.removeprefix(prefix))
            if method in _EMBEDDING:
                return GeminiEmbeddings(path, model=model, many=_EMBEDDING[method])
            if method == _COUNTING:
                return GeminiCounting(path, model=model)
            alt = parse_qs(query).get("alt", [""])[-1]
            if alt:
                path = f"{path}?alt={alt}"
            return GeminiAddress(path, model=model, stream=_METHODS[method], alt=alt)
    return None


def key_in(target: bytes) -> bytes | None:
    """The API key that this API's clients may put into the query (`?key=`). Raises AmbiguousRequest for more than one."""
    found = _keys_in(target)
    if len(found) > 1:
        raise AmbiguousRequest("The query parameter 'key' is there more than once.")
    return found[0].encode("latin-1") if found else None


def has_key(target: bytes) -> bool:
    """Whether there is a key in the query."""
    return bool(_keys_in(target))


def _keys_in(target: bytes) -> list[str]:
    # Any bytes may be written there, and each has a character in Latin-1.
    return parse_qs(target.partition(b"?")[2].decode("latin-1"), encoding="latin-1").get("key", [])
