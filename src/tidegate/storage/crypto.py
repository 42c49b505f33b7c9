"""Encryption at rest: content is sealed with AES-256-GCM under data keys, which are kept wrapped by a master key.

A data key never seals anything itself. Each run and conversation has its own key, derived from a data key, the kind and
number of the row and the names of its tenant; so random nonces stay far from their limit, and content that was moved to
another row or tenant does not open. The place of each piece within its run is authenticated as well.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidegate.config.secret import Secret
from tidegate.storage.records import StorageUnusable, Tenant
from tidegate.storage.statement import Sql, Work

__all__ = ["PLAIN", "Box", "Damaged", "Keyring", "MasterKey"]

PLAIN: Final = 0
"""The number that stands in rows which are not sealed."""

SHORTEST: Final = 32
"""Fewest characters of a master key: it is random, or it is none."""

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32

Kind = Literal["run", "conversation", "idempotency"]

_KEYS = Sql("SELECT number, master, wrapped FROM data_keys ORDER BY number")
_ADD_KEY = Sql("INSERT INTO data_keys (master, wrapped, created_at) VALUES (:master, :wrapped, {now}) RETURNING number")
_REWRAP = Sql("UPDATE data_keys SET master = :master, wrapped = :wrapped WHERE number = :number AND master = :former")


class Damaged(Exception):
    """Stored content does not open: it was changed or moved, or its key is missing."""


class MasterKey:
    """A key from the configuration. Its id is a digest that gives nothing away, so that rows can name it."""

    __slots__ = ("_aead", "id")

    def __init__(self, secret: Secret) -> None:
        """Raises StorageUnusable for one that is too short to be random."""
        text = secret.reveal()
        if len(text) < SHORTEST:
            raise StorageUnusable(
                f"The master key of the storage has {len(text)} characters; it needs at least {SHORTEST}: openssl rand -hex 32"
            )
        key = hashlib.sha512(b"tidegate storage master key\0" + text.encode()).digest()
        self._aead = AESGCM(key[:_KEY_BYTES])
        self.id = hashlib.sha256(b"tidegate storage master key id\0" + key[_KEY_BYTES:]).hexdigest()[:16]

    def wrap(self, data_key: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, data_key, self.id.encode())

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises Damaged."""
        try:
            return self._aead.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], self.id.encode())
        except InvalidTag:
            raise Damaged("a data key does not open with the master key that it names") from None


class Box:
    """Seals and opens the content of one run, conversation or record."""

    __slots__ = ("_aead", "number")

    def __init__(self, data_key: bytes, number: int, kind: Kind, row: int | str, tenant: Tenant) -> None:
        parts = (kind, str(row), tenant.organization, tenant.project)
        message = b"".join(b"%d:%b" % (len(part), part) for part in (each.encode() for each in parts))
        self._aead = AESGCM(hmac.digest(data_key, message, "sha256"))
        self.number = number

    def seal(self, content: bytes, place: str) -> bytes:
        """`place` says where in its row the content belongs."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, content, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises Damaged."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise Damaged(f"sealed content ({place}) was changed or moved") from None


class Keyring:
    """The master keys of the configuration, current one first, and the data keys that they open."""

    def __init__(self, masters: Sequence[MasterKey] = ()) -> None:
        self._masters = {master.id: master for master in masters}
        self._newest = masters[0] if masters else None
        self._data_keys: dict[int, bytes] = {}
        self.current = PLAIN
        """Number of the data key for new rows; PLAIN where nothing is encrypted."""

    def load(self) -> Work[None]:
        """Open all data keys, and make one where the current master key has none.

        Raises StorageUnusable when one cannot be opened: what it sealed would be lost without a word.
        """
        current = PLAIN
        for number, master_id, wrapped in (yield _KEYS()):
            master = self._masters.get(master_id)
            if master is None:
                raise StorageUnusable(
                    f"The database holds content sealed under the master key with the id {master_id}, which is not configured. "
                    + (
                        f"Configured: {', '.join(self._masters)}. Add the former key after the current one."
                        if self._masters
                        else "Configure the master key that was used before."
                    )
                )
            self._data_keys[number] = master.unwrap(bytes(wrapped))
            if master is self._newest:
                current = number
        if self._newest is not None and current == PLAIN:
            key = os.urandom(_KEY_BYTES)
            [(current,)] = yield _ADD_KEY(master=self._newest.id, wrapped=self._newest.wrap(key))
            self._data_keys[current] = key
        self.current = current

    def refresh(self) -> Work[None]:
        """Open data keys that other processes made since, as far as their master keys are known. Raises Damaged."""
        for number, master_id, wrapped in (yield _KEYS()):
            if number not in self._data_keys and master_id in self._masters:
                self._data_keys[number] = self._masters[master_id].unwrap(bytes(wrapped))

    def rewrap(self) -> Work[int]:
        """Wrap data keys of former master keys with the current one; how many there were. Content stays as it is."""
        newest = self._newest
        if newest is None:
            return 0
        former = [
            (number, master_id, self._masters[master_id].unwrap(bytes(wrapped)))
            for number, master_id, wrapped in (yield _KEYS())
            if master_id != newest.id and master_id in self._masters
        ]
        for number, master_id, key in former:
            yield _REWRAP(number=number, former=master_id, master=newest.id, wrapped=newest.wrap(key))
        return len(former)

    def box(self, number: int, kind: Kind, row: int | str, tenant: Tenant) -> Box | None:
        """What opens the rows of that data key; None for plain ones. Raises Damaged for a key that is not known."""
        if number == PLAIN:
            return None
        key = self._data_keys.get(number)
        if key is None:
            raise Damaged(f"content is sealed under data key {number}, which this process does not know")
        return Box(key, number, kind, row, tenant)
