"""Forms with a file, as a client writes them, byte by byte under the test's control."""

import hashlib
from typing import Any

from tests.support.running import Running

__all__ = ["BOUNDARY", "TRANSCRIPTIONS", "TRANSLATIONS", "echo_of", "form", "noise", "open_files", "spools", "upload"]

BOUNDARY = "tide-7MA4YWxkTrZu0gW"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, the same each time."""
    block = hashlib.shake_256(seed.to_bytes(4, "big")).digest(min(size, 1 << 16))
    return b"".join(at.to_bytes(8, "big") + block[8:] for at in range(size // len(block) + 1))[:size] if size else b""


def form(
    data: bytes | None = b"sound",
    *fields: tuple[str, str],
    name: str = "speech.mp3",
    kind: str = "audio/mpeg",
    model: str | None = "sim/echo",
    **more: str,
) -> bytes:
    """The body of a form: `model`, further fields, and the file last."""
    every = [*([("model", model)] if model is not None else []), *fields, *more.items()]
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in every]
    body = "".join(parts).encode()
    if data is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        body += head.encode() + (f"Content-Type: {kind}\r\n" if kind else "").encode() + b"\r\n" + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def upload(
    body: bytes, *headers: str, path: str = TRANSCRIPTIONS, length: int | None = None, chunked: bool = False
) -> bytes:
    """The request with that body. `length` announces more than there is; `chunked` leaves the framing to the caller."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def echo_of(data: bytes, name: str = "speech.mp3") -> str:
    """What the simulator's `echo` hears in a file that reaches it whole."""
    return f"{name} {len(data)} {hashlib.sha256(data).hexdigest()}"


def spools(gateway: Running) -> Any:
    """Where the uploads of a running gateway wait."""
    app: Any = gateway.server.config.app
    return app.spools


def open_files(gateway: Running) -> int:
    """How many uploads it keeps."""
    return gateway.call(lambda: len(spools(gateway).open))
