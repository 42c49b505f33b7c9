"""The opening handshake of a WebSocket (RFC 6455 §4.2)."""

import base64
import binascii

from websockets.utils import accept_key

from tidegate.server.incoming import Incoming
from tidegate.wire.errors import InvalidRequest, WebSocketVersion

__all__ = ["accepted"]

KEY_BYTES = 16


def accepted(incoming: Incoming, date: bytes) -> bytes:
    """The head that opens the WebSocket. No extension is agreed on: compression would cost memory for each connection, and
    a small message of a client could grow without bound. Raises InvalidRequest and WebSocketVersion."""
    fields = incoming.fields
    version = fields.get(b"sec-websocket-version", b"")
    if version != b"13":
        raise WebSocketVersion("The header 'sec-websocket-version' must be 13 (RFC 6455 §4.1).")
    key = fields.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        raise InvalidRequest(
            "The header 'sec-websocket-key' must be 16 bytes in base64 (RFC 6455 §4.1).", code="invalid_websocket_key"
        )
    return (
        b"HTTP/1.1 101 Switching Protocols\r\n%bupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %b\r\nx-request-id: %b\r\n\r\n"
        % (date, accept_key(key.decode("ascii")).encode("ascii"), incoming.request_id)
    )


def _is_key(text: bytes) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False
