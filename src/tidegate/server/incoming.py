"""A request as it arrives, and what its head alone decides.

Everything here happens before any of the body is wanted: who calls, from which web page, to which route, and whether
two servers could disagree about where the request ends (RFC 9112 §11.2).
"""

import re
from hmac import compare_digest
from typing import TYPE_CHECKING, Protocol

import msgspec

from tidegate.access.keys import KEY_HEADERS
from tidegate.dialects.gemini import gemini_at, key_in
from tidegate.gateway.ids import IdSupply
from tidegate.server.form import FormReader
from tidegate.server.origin import check_origin
from tidegate.wire import errors
from tidegate.wire.forms import FILE

if TYPE_CHECKING:
    from tidegate.access.keys import Principal
    from tidegate.config.schema import Server as Settings
    from tidegate.dialects.dialect import Dialect
    from tidegate.gateway.snapshot import Snapshot
    from tidegate.server.app import Application

__all__ = [
    "Incoming",
    "Judge",
    "body_too_large",
    "not_kept_in_time",
    "offers_websocket",
    "request_id",
    "request_ids",
]

COLD_BODY_LIMIT = 64 * 1024
"""Largest body of a request that is not relayed: nothing there reads one, and nobody has shown a key yet."""

_SINGLE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"expect",
        b"origin",
        b"idempotency-key",
        b"sec-websocket-key",
        b"sec-websocket-version",
        *KEY_HEADERS,
    }
)
"""Headers of which a second one would leave open which counts."""

_UNUSUAL = frozenset(
    {
        b"x-request-id",
        b"transfer-encoding",
        b"origin",
        b"upgrade",
        b"content-encoding",
        b"expect",
    }
)
"""Headers that decide something and that few requests have: they are looked for all at once."""

_OTHER_KEYS = frozenset(KEY_HEADERS)

_LISTS = frozenset({b"anthropic-beta"})
"""Headers of which every line is passed on."""

_ITEMS = b"/v1/conversations"
"""What the paths begin with of cold requests that carry items, which may be long; so a key is asked for first."""

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)

request_ids = IdSupply(b"req_", 16)


class Peer(Protocol):
    """The other end of a connection."""

    client: str
    """Its address."""


class Incoming(msgspec.Struct):
    """A request that is being read, or that waits for its turn.

    The garbage collector has to see it: a refusal, once raised, refers to frames, and these to this.
    """

    url: bytes = b""
    headers: list[tuple[bytes, bytes]] = []
    """As they came, names in lower case; trailers are not among them."""
    method: bytes = b""
    """Empty until the head is complete."""
    version: str = "1.1"
    fields: dict[bytes, bytes] = {}
    """The headers by name; the last one counts."""
    body: bytes | bytearray = b""
    """One buffer, however many chunks it came in: an object for each would cost fifty times their bytes."""
    form: FormReader | None = None
    """Takes the body in place of `body`, on a route whose requests are forms."""
    held_since: float = 0.0
    """Loop time since which the client may not send, because the disk does not keep up; 0 while it may."""
    body_limit: int = 0
    head_bytes: int = 0
    """Size of the request line's target and the fields, trailers included; 0 while it need not be known."""
    body_bytes: int = 0
    wire_bytes: int = 0
    """Bytes of the reads that brought nothing but the present part, head or body, of this request."""
    begun_at: float = 0.0
    """Loop time at which the present part began."""
    keep_alive: bool = False
    expects_continue: bool = False
    dialect: "Dialect | None" = None
    """Set on a hot route, with `principal`."""
    principal: "Principal | None" = None
    origin: bytes = b""
    """The web origin that may read the answer."""
    request_id: bytes = b""
    websocket: bool = False
    """The client goes on with WebSocket, if its handshake is right."""
    refusal: errors.TidegateError | None = None
    """The answer, when the request is refused before it is complete."""

    @property
    def for_anthropic(self) -> bool:
        """A client of Anthropic's API asks, as far as can be seen."""
        dialect = self.dialect
        if dialect is not None:
            return dialect.name == "messages"
        path = self.url.partition(b"?")[0]
        return b"anthropic-version" in self.fields or (path + b"/").startswith(b"/v1/messages/")

    def measure_head(self) -> int:
        """`head_bytes`, counted now if it was not yet."""
        if not self.head_bytes:
            self.head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return self.head_bytes

    def __repr__(self) -> str:
        return f"<Incoming {self.request_id.decode('latin-1')}>"  # its head holds the client's key (P8)

    def let_go(self) -> None:
        """Nobody will answer it, or it is answered: what was uploaded is needed no more."""
        form, self.form = self.form, None
        if form is not None:
            form.release()


class Judge:
    """Decides what the heads of one connection's requests decide.

    The next request of a connection mostly has the target, the host and the key of the last one. Those it remembers,
    for a request without anything unusual, and with its key in `authorization`, together with the snapshot that they were
    judged by; while that snapshot stands, the same bytes have the same answer.
    """

    __slots__ = (
        "_app",
        "_authorization",
        "_dialect",
        "_host",
        "_limit",
        "_peer",
        "_principal",
        "_settings",
        "_snapshot",
        "_url",
    )

    def __init__(self, app: "Application", settings: "Settings", peer: "Peer") -> None:
        self._app = app
        self._peer = peer
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self._url = self._host = self._authorization = b""
        self._dialect: Dialect | None = None
        self._principal: Principal | None = None
        self._limit = 0

    def decide(self, incoming: Incoming) -> bool:
        """Decide, and note it in `incoming`. Raises TidegateError. Returns whether nothing in the head was unusual: then it
        will be decided in the same way again while the snapshot stands."""
        headers = incoming.headers
        fields = incoming.fields = dict(headers)
        if len(fields) != len(headers):
            _refuse_repetition(headers)
            _join_lists(headers, fields)
        usual = _UNUSUAL.isdisjoint(fields)
        incoming.request_id = request_ids.take() if usual else request_id(fields.get(b"x-request-id"))
        settings = self._settings
        alike = usual and _OTHER_KEYS.isdisjoint(fields)
        if (
            alike
            and incoming.url == self._url
            and incoming.method == b"POST"
            and incoming.version == "1.1"
            and fields.get(b"host") == self._host
            # Without telling by the time it takes how much of a key was right.
            and compare_digest(fields.get(b"authorization", b""), self._authorization)
            and self._app.gateway.snapshot is self._snapshot
        ):
            incoming.dialect = self._dialect
            incoming.principal = self._principal
            limit: int = self._limit
        else:
            limit = self._decide_anew(incoming, fields, alike=alike)
        incoming.body_limit = limit
        length = fields.get(b"content-length")
        if length is not None and int(length) > limit:  # the parser has seen that it is a number of 64 bits
            raise body_too_large(incoming, settings)
        if not usual:
            _read_expectation(incoming, fields)
        return usual

    def _decide_anew(self, incoming: Incoming, fields: dict[bytes, bytes], *, alike: bool) -> int:
        """Returns the largest body that is taken."""
        snapshot = self._app.gateway.snapshot
        version = incoming.version
        if version not in ("1.1", "1.0"):
            raise errors.InvalidRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.", code="unsupported_http_version")
        url = incoming.url
        host = _read_target(incoming, fields.get(b"host"))
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
            # RFC 9112 §6.1: nobody knows where a body of another coding ends, and HTTP/1.0 knows no codings.
            raise errors.AmbiguousRequest("The only transfer coding accepted is 'chunked', in HTTP/1.1.")
        if self._app.hot:  # the admin API alone asks everybody for a key, so that no page can use it
            incoming.origin = check_origin(snapshot, host, fields.get(b"origin"))
        if offers_websocket(fields):
            self._decide_upgrade(incoming, fields)
            return 0
        encoding = fields.get(b"content-encoding")
        if encoding is not None and encoding.lower() not in (b"", b"identity"):
            raise errors.UnsupportedEncoding("Compressed request bodies are not accepted; send the body as it is.")
        dialect: Dialect | None = None
        google: Dialect | None = None
        if incoming.method == b"POST":
            dialect = self._app.hot.get(incoming.url.partition(b"?")[0])
            if dialect is None and self._app.hot:
                dialect = google = gemini_at(incoming.url)
        if dialect is None:
            if incoming.method == b"POST" and incoming.url.startswith(_ITEMS):
                self._app.gateway.authenticate(fields, client=self._peer.client, endpoint="responses")
                return self._settings.max_body
            return min(self._settings.max_body, COLD_BODY_LIMIT)
        incoming.dialect = dialect
        given = key_in(incoming.url) if google is not None else None
        incoming.principal = self._app.gateway.authenticate(
            fields, given, client=self._peer.client, endpoint=dialect.name
        )
        limit = int(self._settings.max_upload if dialect.takes_form else self._settings.max_body)
        # Targets are not compared in constant time: one that holds a key is not remembered. Nor is a key that expires: the
        # snapshot may change only some time after that.
        lasts = given is None and incoming.principal.expires_at is None
        if alike and lasts and version == "1.1" and url == incoming.url:
            self._snapshot = snapshot
            self._url = url
            self._host = host or b""
            self._authorization = fields.get(b"authorization", b"")
            self._dialect = dialect
            self._principal = incoming.principal
            self._limit = limit
        return limit

    def _decide_upgrade(self, incoming: Incoming, fields: dict[bytes, bytes]) -> None:
        """Who calls has to be known before the connection is given away."""
        if incoming.url.partition(b"?")[0] not in self._app.websockets or incoming.method != b"GET":
            raise errors.UpgradeRefused("WebSocket is not offered here; send the request as HTTP.")
        if incoming.version != "1.1":
            raise errors.UpgradeRefused("A WebSocket begins with a request in HTTP/1.1 (RFC 6455 §4.1).")
        if fields.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields:
            raise errors.AmbiguousRequest("The request that begins a WebSocket has no body.")
        self._app.gateway.authenticate(fields, client=self._peer.client, endpoint="responses")
        if self._app.gateway.refusing:
            raise errors.ShuttingDown("The gateway is shutting down; open the WebSocket again.")
        incoming.websocket = True


def _refuse_repetition(headers: list[tuple[bytes, bytes]]) -> None:
    seen = set()
    for name, _ in headers:
        if name in seen and name in _SINGLE:
            raise errors.AmbiguousRequest(f"The header '{name.decode('ascii')}' is there more than once.")
        seen.add(name)


def _join_lists(headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> None:
    """Headers that are lists mean the same in one line and in several (RFC 9110 §5.3)."""
    for name in _LISTS & fields.keys():
        fields[name] = b",".join(value for key, value in headers if key == name)


def _read_expectation(incoming: Incoming, fields: dict[bytes, bytes]) -> None:
    expect = fields.get(b"expect")
    if expect is not None and incoming.version == "1.1":  # RFC 9110 §10.1.1: in HTTP/1.0 there is no such header
        if expect.lower() != b"100-continue":
            raise errors.ExpectationFailed("The only expectation that can be met is '100-continue'.")
        incoming.expects_continue = True


def request_id(given: bytes | None) -> bytes:
    """The client's own id if it is fit for headers and logs, else a new one."""
    if given is not None and _SANE_REQUEST_ID.fullmatch(given):
        return given
    return request_ids.take()


def offers_websocket(fields: dict[bytes, bytes]) -> bool:
    """Whether the client wants to go on with WebSocket (RFC 6455 §4.2.1)."""
    upgrade = fields.get(b"upgrade")
    connection = fields.get(b"connection", b"")
    return upgrade is not None and b"websocket" in upgrade.lower() and b"upgrade" in connection.lower()


def body_too_large(incoming: Incoming, settings: "Settings") -> errors.BodyTooLarge:
    limit = int(incoming.body_limit)
    if incoming.dialect is not None and incoming.dialect.takes_form:
        return errors.BodyTooLarge(f"The upload is larger than {limit} bytes (server.max_upload).", param=FILE)
    if limit == settings.max_body:
        return errors.BodyTooLarge(f"The request body is larger than {limit} bytes (server.max_body).")
    return errors.BodyTooLarge(f"The request body is larger than the {limit} bytes that this path takes.")


def not_kept_in_time(settings: "Settings") -> errors.InsufficientStorage:
    return errors.InsufficientStorage(
        f"The disk did not take the upload within {settings.body_timeout:g} s (server.body_timeout)."
    )


def _read_target(incoming: Incoming, host: bytes | None) -> bytes | None:
    """The host that is meant; `incoming.url` becomes a path. Only HTTP/1.0 may name none (RFC 9112 §3.2)."""
    if host is None and incoming.version == "1.1":
        raise errors.InvalidRequest("The header 'host' is missing (RFC 9112 §3.2).", code="missing_host")
    if host is not None and not _HOST.fullmatch(host):
        raise errors.InvalidRequest("The header 'host' is no host name (RFC 9112 §3.2).", code="invalid_host")
    url = incoming.url
    if url.startswith(b"/"):
        return host
    if incoming.method == b"CONNECT":
        raise errors.MethodNotAllowed("This is no proxy: CONNECT is not offered.", "GET, HEAD, POST, OPTIONS")
    if url == b"*" and incoming.method == b"OPTIONS":
        return host
    absolute = _ABSOLUTE.fullmatch(url)
    if absolute is None or not _HOST.fullmatch(absolute[1]):
        raise errors.InvalidRequest("The request target is no path (RFC 9112 §3.2.1).", code="invalid_target")
    if host is not None and host.lower() != absolute[1].lower():
        # RFC 9112 §3.2.2 lets the target win over the header; a server in front of us may have taken the other one.
        raise errors.AmbiguousRequest("The request target names another host than the header 'host'.")
    path = absolute[2]
    incoming.url = path if path.startswith(b"/") else b"/" + path
    return absolute[1]
