"""The envelope in which clients carry a provider's reasoning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.dialects.envelope import KEY_BYTES, PREFIX, Envelopes, Opened, Sealer
from tidegate.wire.events import Seal

SEAL = Seal(kind="signature", data="c2lnbmF0dXJl", text="Let me think. 让我想想。", call_id="call_1", anchor="text")


def sealed(sealer: Sealer, seal: Seal = SEAL) -> str:
    return sealer.seal(seal, tenant="acme", provider="anthropic", model="claude")


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(bytes(range(KEY_BYTES)))


def test_what_is_sealed_comes_back_byte_for_byte(sealer: Sealer) -> None:
    assert sealer.open(sealed(sealer), tenant="acme") == Opened("anthropic", "claude", SEAL)


@given(st.text(), st.text())
def test_any_content_comes_back(data: str, text: str) -> None:
    sealer = Sealer(bytes(KEY_BYTES))
    seal = Seal(
        kind="redacted", data=data.encode("utf-8", "replace").decode(), text=text.encode("utf-8", "replace").decode()
    )
    opened = sealer.open(sealed(sealer, seal), tenant="acme")
    assert opened is not None
    assert opened.seal == seal


def test_only_who_it_is_for_opens_it_and_what_was_shown_is_for_nobody(sealer: Sealer) -> None:
    envelopes = Envelopes(sealer, "acme")
    shown = Seal(kind="shown", data="")
    mine, told = (envelopes.seal(seal, provider="anthropic", model="claude") for seal in (SEAL, shown))
    assert envelopes.open(mine, provider="anthropic") == SEAL
    assert envelopes.open(mine, provider="openai") is None
    for provider in ("anthropic", "openai"):
        assert envelopes.open(told, provider=provider) == shown
        assert Envelopes(sealer, "other").open(told, provider=provider) is None


def test_the_same_content_gives_the_same_text(sealer: Sealer) -> None:
    assert sealed(sealer) == sealed(sealer)
    assert sealed(sealer).startswith(PREFIX)


def test_nobody_reads_the_content_in_it(sealer: Sealer) -> None:
    assert "anthropic" not in sealed(sealer)
    assert SEAL.data not in sealed(sealer)


def test_another_tenant_gets_nothing(sealer: Sealer) -> None:
    assert sealer.open(sealed(sealer), tenant="other") is None


def test_another_key_opens_nothing(sealer: Sealer) -> None:
    assert Sealer(bytes(KEY_BYTES)).open(sealed(sealer), tenant="acme") is None


def test_every_change_is_noticed(sealer: Sealer) -> None:
    envelope = sealed(sealer)
    for place in range(len(PREFIX), len(envelope) - 1):
        other = "A" if envelope[place] != "A" else "B"
        assert sealer.open(envelope[:place] + other + envelope[place + 1 :], tenant="acme") is None
    assert sealer.open(envelope[:-8], tenant="acme") is None


@pytest.mark.parametrize(
    "text", ["", PREFIX, PREFIX + "é", PREFIX + "!!!!", "gAAAAA", PREFIX + "AAAA", PREFIX + "A" * 99]
)
def test_what_is_no_envelope_is_none(sealer: Sealer, text: str) -> None:
    assert sealer.open(text, tenant="acme") is None


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        Sealer(b"short")
