"""The envelope in which a client carries what only a provider can read (protocol §5.4).

Reasoning that a provider wants back (signatures, encrypted content) goes to the client inside an authenticated envelope
that only this gateway opens, only for the tenant that it was made for, and only for the provider that wrote it.
"""

import base64
import binascii
import zlib

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tidegate.wire.events import Seal

__all__ = ["KEY_BYTES", "PREFIX", "Envelopes", "Opened", "Sealer"]

KEY_BYTES = 64
"""Length of the key, in bytes: AES-SIV splits it into two keys of 256 bits (RFC 5297 §2.6)."""

PREFIX = "tgr1_"
"""How an envelope begins. The digit is the version of what follows."""

_LONGEST = 16 * 1024 * 1024
"""Most bytes of content that an envelope may unfold to."""


_SHARED = frozenset({"shown", "summary"})
"""Kinds of seals that are no provider's."""


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """What an envelope holds, and who it is for: the name of a provider in the configuration, and its model."""

    provider: str
    model: str
    seal: Seal


class _Content(msgspec.Struct, frozen=True, array_like=True):
    provider: str
    model: str
    kind: str
    data: str
    text: str
    call_id: str
    anchor: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


class Sealer:
    """Makes and opens envelopes with one key. AES-SIV is deterministic: the same content gives the same envelope, so that
    a conversation that is sent again is the same text again, which providers' prompt caches need; and no nonce can be used
    twice by mistake."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError for a key that is not `KEY_BYTES` long."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key of reasoning envelopes must have {KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESSIV(key)

    def seal(self, seal: Seal, *, tenant: str, provider: str, model: str) -> str:
        """The envelope, in letters that JSON, headers and URLs leave alone."""
        content = _Content(provider, model, seal.kind, seal.data, seal.text, seal.call_id, seal.anchor)
        packed = zlib.compress(_encode(content), 6)
        sealed = self._cipher.encrypt(packed, [PREFIX.encode(), tenant.encode()])
        return PREFIX + base64.urlsafe_b64encode(sealed).decode("ascii").rstrip("=")

    def open(self, envelope: str, *, tenant: str) -> Opened | None:
        """The content; None for what is no envelope of ours, damaged, or another tenant's."""
        if not envelope.startswith(PREFIX):
            return None
        text = envelope[len(PREFIX) :]
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            packed = self._cipher.decrypt(sealed, [PREFIX.encode(), tenant.encode()])
            inflate = zlib.decompressobj()
            plain = inflate.decompress(packed, _LONGEST)
            if not inflate.eof:
                return None
            content = _decode(plain)
            seal = msgspec.convert(
                {
                    "kind": content.kind,
                    "data": content.data,
                    "text": content.text,
                    "call_id": content.call_id,
                    "anchor": content.anchor,
                },
                Seal,
            )
        except (binascii.Error, ValueError, InvalidTag, zlib.error, msgspec.DecodeError):
            return None
        return Opened(content.provider, content.model, seal)


class Envelopes:
    """The envelopes of one tenant."""

    __slots__ = ("_sealer", "_tenant")

    def __init__(self, sealer: Sealer, tenant: str) -> None:
        self._sealer = sealer
        self._tenant = tenant

    def seal(self, seal: Seal, *, provider: str, model: str) -> str:
        """What a client gets of `seal`, which `provider` made."""
        return self._sealer.seal(seal, tenant=self._tenant, provider=provider, model=model)

    def open(self, envelope: str, *, provider: str) -> Seal | None:
        """What is in it, if it is this provider's, or nobody's; None for everything else."""
        opened = self.read(envelope)
        if opened is None or (opened.provider != provider and opened.seal.kind not in _SHARED):
            return None
        return opened.seal

    def read(self, envelope: str) -> Opened | None:
        """What is in it, and whose it is; None for what is no envelope of this tenant's."""
        return self._sealer.open(envelope, tenant=self._tenant)
